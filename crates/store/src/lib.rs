//! The node's embedded store: rows in key order, changed by transactions.
//!
//! The store is the queryable replica of what the replication log says. Each
//! [`Command`] of the log is applied in one atomic batch together with its
//! position, so that after a crash the log tells exactly what is missing. The
//! store is *not* the durable truth: after a power cut it may be older than
//! the log, or damaged, and is then replayed or rebuilt.
//!
//! Every row carries a checksum over its key and content, and every table a
//! digest that is kept up to date with each change. A row that fails its
//! checksum is an error, never an answer.

mod backend;
mod command;
mod digest;
mod error;
pub mod key;
mod memory;
mod record;
mod sled_backend;
mod store;

pub use backend::{Backend, Batch, Pairs};
pub use command::{Action, Command, Operation, Outcome, Rejection, Transaction};
pub use digest::Digest;
pub use error::Error;
pub use memory::MemoryBackend;
pub use record::{Change, Event, Row};
pub use sled_backend::SledBackend;
pub use store::{
    CheckReport, Contents, Difference, Entry, HistoryLimits, Position, Store, TableContents,
    TableDigest, TableRows, difference,
};
