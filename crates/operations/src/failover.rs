//! Failover inside redundancy groups: their state, requests to the recovery
//! managers, the event history.

use std::time::Duration;

use server_recovery_manager::{Entry, Status, Verb};

use crate::Operations;
use crate::action::{Action, Caller, actions};
use crate::error::{Error, Result};

/// The state from which a recovery leads out.
const FAILED: &str = "Running in Failed Mode";
/// How long a recovery is watched, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);

impl Operations {
    /// The state of a redundancy group, by its name or that of one of its nodes,
    /// as that node sees it if it answers; of this node's own when none is named.
    pub async fn ha_status(&self, caller: &Caller, name: Option<&str>) -> Result<Status> {
        let work = self.recovery().status(name);
        caller
            .does(&actions::HA_STATUS, name.unwrap_or_default(), work)
            .await
    }

    /// Moves a node's users to its peer and stops its critical services.
    /// Answers when it has begun.
    pub async fn ha_failover(&self, caller: &Caller, node: &str) -> Result<()> {
        self.ask(caller, &actions::HA_FAILOVER, Verb::Failover, node)
            .await
    }

    /// Starts a node's critical services and moves its users back to it.
    /// Answers when it has begun.
    pub async fn ha_fallback(&self, caller: &Caller, node: &str) -> Result<()> {
        self.ask(caller, &actions::HA_FALLBACK, Verb::Fallback, node)
            .await
    }

    async fn ask(&self, caller: &Caller, action: &Action, verb: Verb, subject: &str) -> Result<()> {
        let work = self.recovery().act(verb, subject, &caller.user);
        caller.does(action, subject, work).await
    }

    /// Leads a group out of failed mode: the recovery managers of both nodes
    /// start anew. `begun` is told when they do; answers when the group is out
    /// of failed mode.
    pub async fn ha_recover(
        &self,
        caller: &Caller,
        group: &str,
        begun: &(dyn Fn() + Send + Sync),
    ) -> Result<Status> {
        let work = async {
            let recovery = self.recovery();
            recovery.act(Verb::Recover, group, &caller.user).await?;
            begun();
            let watched = async {
                loop {
                    // While they start, they do not answer.
                    if let Ok(status) = recovery.status(Some(group)).await
                        && status.nodes.iter().all(|node| node.state != FAILED)
                    {
                        return status;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            };
            let out = tokio::time::timeout(PATIENCE, watched).await;
            out.map_err(|_| {
                Error::failed(format!(
                    "{group} is still in failed mode after {} s; see \"utils ha history\", and \
                     reboot the nodes if it does not help",
                    PATIENCE.as_secs()
                ))
            })
        };
        caller.does(&actions::HA_RECOVER, group, work).await
    }

    /// The event history of a node, the oldest entry first; of this one when
    /// none is named.
    pub async fn ha_history(&self, caller: &Caller, node: Option<&str>) -> Result<Vec<Entry>> {
        let work = self.recovery().history(node);
        caller
            .does(&actions::HA_HISTORY, node.unwrap_or_default(), work)
            .await
    }
}
