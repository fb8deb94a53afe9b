//! The Raft log that keeps every node's store equal.
//!
//! The log, the vote and the committed position lie in a redb file and are
//! the durable truth: an entry is on disk before it counts. The [`store`] is
//! the replica that the log is applied to. Snapshots are files under a digest;
//! the log is kept from the older of the last two snapshots on, so that either
//! can be damaged and nothing is lost.
//!
//! [`Node`] joins them: it opens what is there, repairs what is damaged from
//! what is not and says so, and commits transactions, all that wait at a time
//! with one write to disk.
//!
//! One voter makes a cluster of its own today. Everything below the network
//! ([`Alone`]) is written for more: members, learners, snapshots taken over.

mod disk;
mod log;
mod machine;
mod network;
mod node;
mod recovery;
mod snapshot;
#[cfg(test)]
mod suite_tests;
mod types;

pub use disk::{Disk, Folder, Output};
pub use log::{Log, LogError};
pub use machine::{Machine, Replica};
pub use network::Alone;
pub use node::{CommitError, Counts, Facts, Node, NodeMember, Options};
pub use recovery::{Finding, OpenError, Recovery};
pub use snapshot::{SnapshotFile, Snapshots};
pub use types::{Config, Entry, LogId, Raft, Response, SnapshotMeta, StoredMembership, Vote};
