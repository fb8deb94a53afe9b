//! Replication of one node, stopped by an administrator until it is started
//! again: a file that holds the reason, so that a restart changes nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Whether replication is stopped here, and why. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    file: PathBuf,
    reason: Arc<RwLock<Option<String>>>,
}

impl Pause {
    pub(crate) fn load(folder: &Path) -> Self {
        let file = folder.join("stopped");
        let reason = fs::read_to_string(&file).ok();
        Self {
            file,
            reason: Arc::new(RwLock::new(reason)),
        }
    }

    /// Why replication is stopped; none while it is not.
    pub(crate) fn reason(&self) -> Option<String> {
        let reason = self.reason.read().unwrap_or_else(PoisonError::into_inner);
        reason.clone()
    }

    /// Stops it, also over a restart.
    pub(crate) fn stop(&self, reason: &str) -> io::Result<()> {
        let new = self.file.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(reason.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        self.set(Some(reason.into()));
        Ok(())
    }

    /// Starts it again; answers whether it was stopped.
    pub(crate) fn end(&self) -> io::Result<bool> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(self.set(None).is_some())
    }

    fn set(&self, reason: Option<String>) -> Option<String> {
        let mut now = self.reason.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, reason)
    }
}
