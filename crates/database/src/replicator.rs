//! The replicator: looks at the node's database, checks that rows and digests
//! agree, judges the state of replication, and orders a rebuild where they do
//! not.

use std::time::{Duration, Instant};

use service::{Context, Severity};

use crate::judge::{Judge, state};
use crate::tables::{self, ProcessNode};
use crate::{Access, Database, Error, Order, REPLICATION_TIMEOUT, Report};

/// How often the database is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The same, until it has answered once.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// Seconds between two checks of all rows, unless `CheckInterval` is set.
const CHECK: u64 = 900;
const CLASS: &str = "Number of Replicates Created and State of Replication";

/// Runs the replicator until it is told to stop.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let database = Database::open(context.paths(), Access::Maintenance);
    let parameters = database.parameters(context.id());
    let heartbeat = context.heartbeat("replicator");
    let mut judge = Judge::default();
    let origin = Instant::now();
    let mut last_check = Instant::now();
    let mut ready = false;
    loop {
        heartbeat.tick();
        let interval = Duration::from_secs(parameters.get("CheckInterval", CHECK).max(10));
        if last_check.elapsed() >= interval {
            last_check = Instant::now();
            if let Err(error) = check(&context, &database, &mut judge).await {
                tracing::warn!(%error, "The rows could not be checked.");
            }
        }
        let (name, default) = REPLICATION_TIMEOUT;
        let patience = parameters.get(name, default.parse().unwrap_or_default());
        let patience = Duration::from_secs(patience);
        match look(&database, &mut judge, patience, origin.elapsed()).await {
            Ok((report, stopped)) => {
                tell(&context, &report, &stopped);
                let status = format!("Replication state {}: {}.", report.state, report.reason);
                if std::mem::replace(&mut ready, true) {
                    context.status(&status);
                } else {
                    context.ready(&status);
                }
            }
            Err(error) => context.status(&format!("Waits for the database: {error}")),
        }
        tokio::select! {
            () = context.stopping() => return Ok(()),
            // Others wait for the first judgement.
            () = tokio::time::sleep(if ready { LOOK } else { FIRST_LOOK }) => {}
        }
    }
}

/// Looks at the node once and tells the database the judgement; answers it,
/// and why replication is stopped, empty while it is not.
async fn look(
    database: &Database,
    judge: &mut Judge,
    patience: Duration,
    now: Duration,
) -> Result<(Report, String), Error> {
    let seen = database.status().await?;
    let nodes = if seen.complete {
        database.list::<ProcessNode>(&[]).await?
    } else {
        Vec::new()
    };
    let expected: Vec<_> = nodes
        .into_iter()
        // One that was added and has not joined is not missed.
        .filter(|node| node.replica != 0)
        // Nor is one that has another log, such as a publisher that was lost.
        .filter(|node| !seen.elsewhere.contains(&node.replica.unsigned_abs()))
        .map(|node| (node.replica.unsigned_abs(), node.name, node.address))
        .collect();
    let report = judge.judge(&seen, &expected, patience, now);
    database.report(report.clone()).await?;
    Ok((report, seen.stopped))
}

/// Has all rows compared with their checksums and digests, and a replica that
/// fails rebuilt.
async fn check(context: &Context, database: &Database, judge: &mut Judge) -> Result<(), Error> {
    let found = database.check().await?;
    let problem = found.problems.first().cloned();
    judge.checked(found.problems);
    match problem {
        None => context.alarms().clear("DBReplicationTableOutofSync"),
        Some(problem) => {
            let text = format!("{problem}. The replica is rebuilt from snapshot and log.");
            context
                .alarms()
                .raise("DBReplicationTableOutofSync", Severity::Critical, &text);
            database.order(Order::Rebuild, &problem).await?;
            // The database checks everything again when it starts.
            judge.checked(Vec::new());
        }
    }
    Ok(())
}

fn tell(context: &Context, report: &Report, stopped: &str) {
    const STOPPED: &str = "DBReplicationStopped";
    if stopped.is_empty() {
        context.alarms().clear(STOPPED);
    } else {
        let text = format!(
            "Replication of this node was stopped: {stopped}. What is stored here gets older; \
             \"utils dbreplication repair\" or \"reset\" starts it again."
        );
        context.alarms().raise(STOPPED, Severity::Warning, &text);
    }
    let count = |name: &str, value: i64| {
        context
            .perf()
            .counter(CLASS, "ReplicateCount", name)
            .set(value)
    };
    count(
        "Number of Replicates Created",
        i64::try_from(tables::ALL.len()).unwrap_or(i64::MAX),
    );
    count("Replicate_State", report.state.into());
    if report.state >= state::MISMATCH {
        let text = format!("Replication state {}: {}.", report.state, report.reason);
        context
            .alarms()
            .raise("DBReplicationFailure", Severity::Critical, &text);
    } else if report.state == state::GOOD {
        context.alarms().clear("DBReplicationFailure");
    }
}
