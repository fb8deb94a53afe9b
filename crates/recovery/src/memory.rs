//! What a manager must not forget.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ownership::{Node, Ownership};

/// What outlives the manager's process and the node's power. It is on the disk
/// before anything is done or said that rests on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Memory {
    /// Counts the starts of the manager.
    pub incarnation: u64,
    /// Identity of the boot in which this was written.
    pub boot: String,
    /// The peer's highest incarnation that was heard.
    pub peer_incarnation: u64,
    /// What is known of the owners of the first and the second node's users.
    pub ownership: [Ownership; 2],
    /// Whether this node's users were moved away by an administrator.
    pub manual: bool,
    /// Counts the recoveries that administrators asked for.
    pub recovery: u64,
    /// For how long each failover of late still counts.
    pub failovers: Vec<Duration>,
    /// For how long nothing is to move by itself.
    pub hold: Option<Duration>,
}

impl Memory {
    /// The memory of a manager that never ran.
    pub fn first(boot: &str) -> Self {
        Self {
            incarnation: 0,
            boot: boot.into(),
            peer_incarnation: 0,
            ownership: Node::BOTH.map(Ownership::first),
            manual: false,
            recovery: 0,
            failovers: Vec::new(),
            hold: None,
        }
    }
}
