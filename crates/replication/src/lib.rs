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
//! The publisher is the only voter; subscribers are learners, which follow it
//! and answer reads. Three nodes or more may each have a vote instead, and
//! elect another one when the publisher is lost ([`Voting`]). Nodes reach each other by [`Peers`] and answer by
//! [`Responder`]; a node that is a cluster of its own has [`Alone`]. A write is
//! answered when a learner or a majority has it, too ([`Acknowledgement`]); a read on the
//! publisher may see it a moment earlier.

mod acknowledge;
mod contact;
mod disk;
mod epoch;
mod error;
mod log;
mod machine;
mod membership;
mod name;
mod network;
mod node;
mod pause;
mod peers;
mod place;
mod recovery;
mod responder;
mod rpc;
mod snapshot;
#[cfg(test)]
mod suite_tests;
mod types;
mod voters;

pub use acknowledge::Acknowledgement;
pub use disk::{Disk, Folder, Output};
pub use epoch::{Epoch, Epochs, Heard};
pub use error::CommitError;
pub use log::{Log, LogError};
pub use machine::{Digests, Machine, Replica};
pub use name::number;
pub use network::{Alone, Network};
pub use node::{Counts, Facts, Node, NodeMember, Options};
pub use peers::{Line, Peers};
pub use place::{Hold, PlaceError};
pub use recovery::{Finding, OpenError, Recovery};
pub use responder::{LARGEST_MESSAGE, Responder};
pub use rpc::replication_server::ReplicationServer;
pub use snapshot::{SnapshotFile, Snapshots};
pub use types::{Config, Entry, LogId, Raft, Response, SnapshotMeta, StoredMembership, Vote};
pub use voters::{Expected, LEAST_VOTERS, Voting};
