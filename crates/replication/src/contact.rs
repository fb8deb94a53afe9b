//! When a node that leads was heard last.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The time of the last word. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact(Arc<Mutex<Option<Instant>>>);

impl Contact {
    /// The node that leads was heard now.
    pub(crate) fn heard(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago that was; none before the first word.
    pub(crate) fn ago(&self) -> Option<Duration> {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.map(|at| at.elapsed())
    }
}
