//! One console sets up at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};

use crate::file;
use crate::system::Place;

/// The lock of set-up; its file says which terminal holds it.
pub(crate) struct Lock {
    file: File,
    held: bool,
}

impl Lock {
    /// The lock of a node, not held yet.
    pub(crate) fn open(place: &Place) -> anyhow::Result<Self> {
        let path = place.path("run/signalbox/console.lock");
        if let Some(folder) = path.parent() {
            file::folder_of(folder, 0o755)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self { file, held: false })
    }

    /// Takes the lock for the terminal of that name; or tells who has it.
    pub(crate) fn take(&mut self, name: &str) -> Result<(), String> {
        match self.file.try_lock() {
            Ok(()) => {
                self.held = true;
                let _ = self.file.set_len(0);
                let _ = self.file.rewind();
                let _ = self.file.write_all(name.as_bytes());
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(self.holder()),
            Err(TryLockError::Error(error)) => Err(error.to_string()),
        }
    }

    /// Leaves the lock to others.
    pub(crate) fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            let _ = self.file.set_len(0);
            let _ = self.file.unlock();
        }
    }

    /// Whether this console holds it.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Who else holds it.
    pub(crate) fn elsewhere(&mut self) -> Option<String> {
        if self.held {
            return None;
        }
        match self.file.try_lock_shared() {
            Ok(()) => {
                let _ = self.file.unlock();
                None
            }
            Err(_) => Some(self.holder()),
        }
    }

    fn holder(&mut self) -> String {
        let mut name = String::new();
        let _ = self.file.rewind();
        let _ = self.file.read_to_string(&mut name);
        if name.is_empty() {
            "another console".into()
        } else {
            format!("the console {name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(folder.path());
        let (mut one, mut two) = (Lock::open(&place).unwrap(), Lock::open(&place).unwrap());
        assert_eq!(one.take("ttyS0"), Ok(()));
        assert_eq!(two.take("tty1"), Err("the console ttyS0".into()));
        assert_eq!(two.elsewhere(), Some("the console ttyS0".into()));
        assert_eq!(one.elsewhere(), None);
        one.release();
        assert_eq!(two.elsewhere(), None);
        assert_eq!(two.take("tty1"), Ok(()));
    }
}
