//! The consensus engine's own test suite over our storage.

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::log::Log;
use crate::machine::Machine;
use crate::node::Options;
use crate::recovery::open;
use crate::types::{Config, StorageError, StorageIOError};

struct Builder;

impl StoreBuilder<Config, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError> {
        let failed = |error: std::io::Error| StorageError::from(StorageIOError::read(&error));
        let folder = tempfile::tempdir().map_err(failed)?;
        let mut options = Options::new(1, folder.path().into());
        options.cache = 1 << 20;
        let opened = open(&options).map_err(|error| failed(std::io::Error::other(error)))?;
        let machine = Machine::new(opened.replica.into(), opened.snapshots);
        Ok((folder, opened.log, machine))
    }
}

#[test]
fn log_and_machine_pass_the_engine_s_suite() {
    Suite::test_all(Builder).unwrap();
}
