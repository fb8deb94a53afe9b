//! Replication: its state, the start gate's switch, the real-time stores.

use std::path::PathBuf;
use std::time::Duration;

use datastore::Reader;
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

/// Whether a real-time store writes and reads, and a sentence on it.
async fn test(socket: PathBuf) -> (bool, String) {
    let store = Reader::connect(&socket);
    let tested = async { tokio::try_join!(store.self_test(), store.stats()) };
    match tokio::time::timeout(TEST, tested).await {
        Ok(Ok((test, _))) if !test.passed => (false, test.reason),
        Ok(Ok((test, stats))) => {
            let text = format!(
                "wrote and read a row in {} us; {} rows",
                test.microseconds, stats.rows
            );
            (true, text)
        }
        Ok(Err(status)) => (false, format!("does not answer: {}", status.message())),
        Err(_) => {
            let text = format!("does not answer in {} s", TEST.as_secs());
            (false, text)
        }
    }
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
    /// it.
    pub async fn datastores(&self, caller: &Caller) -> Result<Vec<Datastore>> {
        let work = async {
            let node = self
                .node()
                .map_err(|error| Error::unavailable(error.to_string()))?;
            let asked = DATASTORES.map(|id| test(self.paths().datastore_socket(id)));
            let replies = join_all(asked).await;
            Ok(DATASTORES
                .iter()
                .zip(replies)
                .map(|(id, (passed, status))| Datastore {
                    service: (*id).into(),
                    node: node.name.clone(),
                    passed,
                    status,
                })
                .collect())
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
