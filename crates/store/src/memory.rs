//! The store's engine without a disk: for tests, and as the reference that
//! the engine with a disk is compared with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use crate::backend::Pairs;
use crate::{Backend, Batch, Error};

/// A [`Backend`] in memory.
#[derive(Debug, Default)]
pub struct MemoryBackend(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Backend for MemoryBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let pairs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(pairs.get(key).cloned())
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Pairs<'a> {
        let pairs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<_> = pairs
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
            .map(|(key, value)| Ok((key.clone(), value.clone())))
            .collect();
        Box::new(found.into_iter())
    }

    fn commit(&self, batch: Batch) -> Result<(), Error> {
        let mut pairs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch.into_changes() {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }
}
