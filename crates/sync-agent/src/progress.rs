//! What the gate wants to know of the sync agent.

use service::{Context, Paths, introspect};

/// The agent's unit.
const ID: &str = "sync-agent";
/// Class and name of the counter that says whether it has finished.
const COUNTER: (&str, &str) = ("Cisco Sync Agent", "SyncComplete");

/// How far the sync agent of a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has finished, or has nothing to take over from call control.
    Complete,
    /// It has not, and why.
    Running(String),
}

/// Says that the agent has finished.
pub(crate) fn tell_complete(context: &Context) {
    context.perf().counter(COUNTER.0, "", COUNTER.1).set(1);
}

/// Asks this node's sync agent how far it is.
pub async fn progress(paths: &Paths) -> Progress {
    let Ok(health) = introspect::health(paths, ID).await else {
        return Progress::Running(format!("{ID} does not run"));
    };
    let counters = introspect::perf(paths, ID).await.unwrap_or_default();
    let complete = counters
        .iter()
        .any(|counter| (&*counter.class, &*counter.name) == COUNTER && counter.value == 1);
    if health.ready && complete {
        Progress::Complete
    } else if health.status.is_empty() {
        Progress::Running(format!("{ID} is starting"))
    } else {
        Progress::Running(health.status)
    }
}
