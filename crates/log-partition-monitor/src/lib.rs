//! Watches the log partition and purges the oldest logs before it is full.
//!
//! Above the low water mark it warns; above the high one it purges, oldest
//! first, until the low mark is reached. Our own log files it removes itself;
//! the journal belongs to root, so it leaves a request for the unit
//! `signalbox-journal-vacuum`. [`watch`](Watcher::step) decides, [`serve`]
//! looks and acts.

mod files;
mod serve;
mod settings;
mod watcher;

pub use serve::serve;
pub use settings::{PARAMETERS, check};
pub use watcher::{Log, Marks, Owner, Purge, Raised, Step, Usage, Watcher};
