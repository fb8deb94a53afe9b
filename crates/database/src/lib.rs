//! The node's configuration database: typed tables, transactions and a change
//! feed.
//!
//! Services use [`Database`], a client of the `database` service of their own
//! node. Reads are answered by the node's own replica; a transaction is
//! answered when it is durable. Rows are types that implement [`Table`]; those
//! there are lie in [`tables`].

mod access;
mod client;
mod cluster;
#[cfg(test)]
mod cluster_tests;
mod engine;
mod error;
mod feed;
mod forward;
mod judge;
pub mod layer_monitor;
mod mend;
mod neighbours;
mod parameters;
mod promotion;
mod register;
pub mod replicator;
mod rpc;
mod schema;
mod serve;
mod server;
mod status;
mod table;
pub mod tables;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod transfer;
mod voters;
#[cfg(test)]
mod voters_tests;
mod watch;

pub use access::Access;
pub use client::{Database, Versioned};
pub use error::Error;
pub use parameters::{PARAMETERS, Parameter, Parameters, REPLICATION_TIMEOUT};
/// Fewer nodes elect nobody.
pub use replication::LEAST_VOTERS;
pub use schema::{Column, Encoded, Invalid, Kind, Migration, Schema};
pub use serve::serve;
pub use status::{
    CheckReport, Comparison, Digests, Imported, Member, Mended, Mending, Order, OtherNode,
    Promotion, Report, RowCounts, Statistics, Status, TableComparison, TableStatistics,
    VotersChange,
};
pub use table::{Key, Revision, Table};
pub use transaction::Transaction;
pub use watch::{Watch, WatchEvent};
