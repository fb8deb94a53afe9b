//! Replication: its state, the start gate's switch, the real-time stores.

use std::path::PathBuf;
use std::time::Duration;

use datastore::{Reader, Stats, Towards};
use futures::future::join_all;
use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};
use crate::ports::Replication;

/// The start gate, and its parameter that says whether it waits for
/// replication.
const MONITOR: (&str, &str) = ("data-monitor", "Replication Sync Monitor");

/// The real-time stores of an IM and presence node.
const DATASTORES: [&str; 4] = [
    "login-datastore",
    "presence-datastore",
    "route-datastore",
    "sip-registration-datastore",
];

/// How long a real-time store may take to write and read a row.
const TEST: Duration = Duration::from_secs(3);

/// Has a real-time store of `node` write and read a row, and asks for its
/// figures.
async fn test(node: &str, id: &str, socket: PathBuf) -> Datastore {
    let mut seen = Datastore {
        service: id.into(),
        node: node.into(),
        passed: false,
        status: String::new(),
        rows: 0,
        replication: None,
    };
    let store = Reader::connect(&socket);
    let tested = async { tokio::try_join!(store.self_test(), store.stats()) };
    match tokio::time::timeout(TEST, tested).await {
        Ok(Ok((test, stats))) => {
            seen.passed = test.passed;
            seen.rows = own_rows(&stats);
            seen.replication = replicated(&stats);
            seen.status = match test.passed {
                true => format!("wrote and read a row in {} us", test.microseconds),
                false => test.reason,
            };
        }
        Ok(Err(status)) => seen.status = format!("does not answer: {}", status.message()),
        Err(_) => seen.status = format!("does not answer in {} s", TEST.as_secs()),
    }
    seen
}

fn own_rows(stats: &Stats) -> u64 {
    let own = stats.owners.iter().filter(|owner| !owner.copied);
    own.map(|owner| owner.rows).sum()
}

fn replicated(stats: &Stats) -> Option<Replicated> {
    let seen = stats.replication.as_ref()?;
    let following = seen.state() == Towards::Following;
    let state = match seen.state() {
        Towards::Connecting => "not connected",
        Towards::Copying => "copying",
        Towards::Following if seen.connected && seen.complete => "good",
        Towards::Following => "sent, not received",
    };
    Some(Replicated {
        peer: seen.peer.clone(),
        state: state.into(),
        good: following && seen.connected && seen.complete,
        lag: seen.lag,
        lag_ms: seen.lag_ms,
        copies: seen.copies,
        complete: seen.complete,
        silent_ms: seen.silent_ms,
        refused: seen.refused,
    })
}

/// What the sentence for a state is.
pub fn meaning(state: u8) -> &'static str {
    match state {
        0 => "Initializing, or not started",
        1 => "Copying; the node is not complete yet",
        2 => "Good",
        3 => "Mismatched",
        _ => "Failed",
    }
}

/// A real-time store, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Datastore {
    /// Id of the service.
    pub service: String,
    /// Node it runs on.
    pub node: String,
    /// Whether it serves.
    pub passed: bool,
    /// What it says, or why it does not answer.
    pub status: String,
    /// Rows that were written on this node.
    pub rows: u64,
    /// How equal it is with the store of the other node of its redundancy
    /// group; `None` without one.
    pub replication: Option<Replicated>,
}

/// How a real-time store and that of the other node of its redundancy group
/// are kept equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replicated {
    /// Name of the other node.
    pub peer: String,
    /// "good", "copying", "not connected", or "sent, not received".
    pub state: String,
    /// Whether each has what the other wrote, but for what is on its way.
    pub good: bool,
    /// Groups of changes that the other node has not confirmed.
    pub lag: u64,
    /// Milliseconds since the oldest of these happened.
    pub lag_ms: u64,
    /// Rows here that were written on the other node.
    pub copies: u64,
    /// Whether these are all that it has.
    pub complete: bool,
    /// Milliseconds since it last sent something.
    pub silent_ms: Option<u64>,
    /// Rows of it that were not taken, in all.
    pub refused: u64,
}

/// Whether the start gate waits for replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Monitor {
    /// Whether it waits.
    pub enabled: bool,
}

impl Operations {
    /// The state of replication.
    pub async fn replication(&self, caller: &Caller) -> Result<Replication> {
        caller
            .does(
                &actions::REPLICATION_STATUS,
                "",
                self.storage().replication(),
            )
            .await
    }

    /// Has each real-time store of this node write a row, read it and remove
    /// it, and tells how equal it is with that of the other node of the group.
    pub async fn datastores(&self, caller: &Caller) -> Result<Vec<Datastore>> {
        let work = async {
            let node = self
                .node()
                .map_err(|error| Error::unavailable(error.to_string()))?;
            let asked = DATASTORES.map(|id| {
                let socket = self.paths().datastore_socket(id);
                test(&node.name, id, socket)
            });
            Ok(join_all(asked).await)
        };
        caller.does(&actions::DATASTORE_STATUS, "", work).await
    }

    /// Whether the start gate waits for replication.
    pub async fn replication_monitor(&self, caller: &Caller) -> Result<Monitor> {
        let work = async {
            let value = self.storage().parameter(MONITOR.0, MONITOR.1).await?;
            Ok(Monitor {
                enabled: value.is_none_or(|value| value != "false"),
            })
        };
        caller
            .does(&actions::REPLICATION_MONITOR_SHOW, "", work)
            .await
    }

    /// Chooses whether the start gate waits for replication.
    pub async fn set_replication_monitor(&self, caller: &Caller, enabled: bool) -> Result<Monitor> {
        let value = if enabled { "true" } else { "false" };
        let work = async {
            self.storage()
                .set_parameter(MONITOR.0, MONITOR.1, Some(value))
                .await?;
            Ok(Monitor { enabled })
        };
        caller
            .does(&actions::REPLICATION_MONITOR_SET, value, work)
            .await
    }
}
