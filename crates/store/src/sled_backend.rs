//! The store's engine on disk: sled.

use std::path::Path;
use std::time::Duration;

use crate::backend::Pairs;
use crate::{Backend, Batch, Error};

/// How often and how long a locked store is waited for.
const LOCK_TRIES: u32 = 400;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A [`Backend`] in a folder, by sled.
///
/// Measured of sled 0.34: its flush does not wait for the disk, so a power cut
/// can lose or tear what it wrote. The store above it is a replica for that
/// reason, and checks everything when it is opened.
#[derive(Debug)]
pub struct SledBackend {
    engine: sled::Db,
    /// All of the store is in one tree: a batch on one tree is atomic.
    tree: sled::Tree,
}

impl SledBackend {
    /// Opens or makes the store in `folder`. `cache` bounds the memory that
    /// cached pages take, in bytes.
    pub fn open(folder: &Path, cache: u64) -> Result<Self, Error> {
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(cache)
            .flush_every_ms(Some(1000));
        let mut waited = 0;
        let engine = loop {
            match config.open() {
                // sled's own threads hold the lock a moment longer than the
                // value that was dropped.
                Err(error) if is_locked(&error) && waited < LOCK_TRIES => {
                    waited += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                opened => break opened.map_err(|error| opening(folder, error))?,
            }
        };
        let tree = engine
            .open_tree("signalbox")
            .map_err(|error| opening(folder, error))?;
        Ok(Self { engine, tree })
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("lock"))
}

/// What an error at opening means. The store can be rebuilt, so whatever the
/// files themselves can be the cause of is held to be damage: sled has many
/// words for it.
fn opening(folder: &Path, error: sled::Error) -> Error {
    use std::io::ErrorKind;
    let locked = is_locked(&error);
    match error {
        sled::Error::Io(error)
            if locked
                || matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied
                        | ErrorKind::StorageFull
                        | ErrorKind::QuotaExceeded
                        | ErrorKind::ReadOnlyFilesystem
                        | ErrorKind::WouldBlock
                ) =>
        {
            Error::Io(format!("{}: {error}", folder.display()))
        }
        other => Error::Corrupt(format!("{}: {other}", folder.display())),
    }
}

impl Backend for SledBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.tree.get(key)?.map(|value| value.to_vec()))
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Pairs<'a> {
        let pairs = self.tree.range(from.to_vec()..to.to_vec());
        Box::new(pairs.map(|pair| {
            let (key, value) = pair?;
            Ok((key.to_vec(), value.to_vec()))
        }))
    }

    fn commit(&self, batch: Batch) -> Result<(), Error> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        Ok(self.tree.apply_batch(changes)?)
    }

    fn flush(&self) -> Result<(), Error> {
        self.engine.flush()?;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.engine.size_on_disk().unwrap_or(0)
    }
}
