//! What the replication log holds: transactions, and how they ended.

use serde::{Deserialize, Serialize};

/// What an operation does.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    prost::Enumeration,
    Serialize,
    Deserialize,
)]
#[repr(i32)]
pub enum Action {
    /// Nothing; a value that only a newer version writes reads as this.
    Unspecified = 0,
    /// Sets a row, new or not.
    Put = 1,
    /// Sets a row that must not be there yet.
    Insert = 2,
    /// Removes a row, there or not.
    Delete = 3,
    /// Demands that the row's revision is `revision`; 0 means no row.
    Require = 4,
    /// Removes every row of the table.
    Clear = 5,
    /// Demands that the row is there.
    RequireRow = 6,
    /// Removes every row whose key begins with `key`.
    DeletePrefix = 7,
}

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message, Serialize, Deserialize)]
pub struct Operation {
    /// What it does.
    #[prost(enumeration = "Action", tag = "1")]
    pub action: i32,
    /// The table.
    #[prost(string, tag = "2")]
    pub table: String,
    /// The row's key (see [`crate::key`]), or its first columns.
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
    /// The row's content.
    #[prost(bytes = "vec", tag = "4")]
    pub row: Vec<u8>,
    /// Version of the schema that the content was written under.
    #[prost(uint32, tag = "5")]
    pub version: u32,
    /// The revision that [`Action::Require`] demands.
    #[prost(uint64, tag = "6")]
    pub revision: u64,
}

/// Operations that happen all or not at all.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message, Serialize, Deserialize)]
pub struct Transaction {
    /// The steps, in order.
    #[prost(message, repeated, tag = "1")]
    pub operations: Vec<Operation>,
}

/// One entry of the log: transactions that were waiting at the same time.
/// They share one write to disk and are judged one by one.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message, Serialize, Deserialize)]
pub struct Command {
    /// The transactions, in order.
    #[prost(message, repeated, tag = "1")]
    pub transactions: Vec<Transaction>,
}

/// Why a transaction changed nothing. The same on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    /// An insert found a row.
    Exists {
        /// The table.
        table: String,
        /// The row's key.
        key: Vec<u8>,
    },
    /// A required revision is not the row's.
    Changed {
        /// The table.
        table: String,
        /// The row's key.
        key: Vec<u8>,
        /// The revision that was required.
        required: u64,
        /// The row's revision; 0 when there is no row.
        found: u64,
    },
    /// A required row is not there.
    Missing {
        /// The table.
        table: String,
        /// The row's key.
        key: Vec<u8>,
    },
    /// An operation that this version does not know.
    Unknown {
        /// The operation's number.
        action: i32,
    },
}

/// How a transaction ended: its revision, or why it changed nothing.
pub type Outcome = Result<u64, Rejection>;
