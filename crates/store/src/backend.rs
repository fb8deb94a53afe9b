//! What the store needs of an ordered key-value engine.

use std::collections::BTreeMap;

use crate::Error;

/// Pairs of key and value, as a scan gives them.
pub type Pairs<'a> = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> + 'a>;

/// Changes that become visible, and survive a crash of the process, together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    /// Sets a key.
    pub fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// What the batch does to `key`: nothing, or sets or removes it.
    pub fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes.get(key).map(Option::as_deref)
    }

    /// The changes with keys in `from..to`, in key order.
    pub fn range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes
            .range::<[u8], _>((
                std::ops::Bound::Included(from),
                std::ops::Bound::Excluded(to),
            ))
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// The changes in key order.
    pub fn into_changes(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.changes.into_iter()
    }
}

/// An ordered key-value engine with atomic batches.
pub trait Backend: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// All pairs with keys in `from..to`, in key order.
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Pairs<'a>;

    /// Applies a batch atomically.
    fn commit(&self, batch: Batch) -> Result<(), Error>;

    /// Writes what is in memory to the files, as an orderly stop does.
    fn flush(&self) -> Result<(), Error>;

    /// Bytes on disk, where there is a disk.
    fn size(&self) -> u64;
}
