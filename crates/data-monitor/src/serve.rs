//! The gate as a service.

use std::path::Path;
use std::time::{Duration, Instant};

use database::{Access, Database, Status};
use service::{Context, Role, introspect};
use sync_agent::Progress;

use crate::gate::{ALARMS, Gate, Replication, SyncAgent};
use crate::settings::settings;

/// The service that judges replication.
const REPLICATOR: &str = "database-replicator";
/// How often to look while services wait.
const WAITING: Duration = Duration::from_millis(250);
/// How often to look once the gate is open.
const OPEN: Duration = Duration::from_secs(3);
/// A database that does not answer for so long does not answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Asked for at each look while waiting, so that systemd's own time limit
/// never ends a synchronisation that goes on well.
const MORE_TIME: Duration = Duration::from_secs(60);

/// A publisher that was not heard for so many seconds is away.
const SILENCE: u64 = 5;

/// Runs the gate.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let node = ctx.node()?;
    let database = Database::open(ctx.paths(), Access::Settings);
    let parameters = database.parameters(ctx.id());
    let heartbeat = ctx.heartbeat("gate");
    let begin = Instant::now();
    let mut gate = Gate::new(node.role, Duration::ZERO);
    let mut open = false;
    // What has finished once has finished: a restart of the agent later is
    // nothing to wait for.
    let mut agent = SyncAgent::Running(String::new());
    loop {
        let replication = replication(&database, open, &ctx).await;
        heartbeat.tick();
        if node.role == Role::Publisher && agent != SyncAgent::Complete {
            agent = match sync_agent::progress(ctx.paths()).await {
                Progress::Complete => SyncAgent::Complete,
                Progress::Running(why) => SyncAgent::Running(why),
            };
        }
        let settings = settings(&parameters);
        let step = gate.step(&settings, &replication, &agent, begin.elapsed());
        heartbeat.tick();
        for id in ALARMS {
            match step.alarms.iter().find(|alarm| alarm.id == id) {
                Some(alarm) => ctx.alarms().raise(id, alarm.severity, &alarm.text),
                None => ctx.alarms().clear(id),
            }
        }
        if step.open && !open {
            open = true;
            ctx.ready(&step.status);
        } else {
            ctx.status(&step.status);
        }
        if !open {
            ctx.extend_timeout(MORE_TIME);
        }
        tokio::select! {
            () = ctx.stopping() => return Ok(()),
            () = tokio::time::sleep(if open { OPEN } else { WAITING }) => {}
        }
    }
}

/// Whether nothing is wrong but that the publisher is away, on a node that was
/// good before. That it is good is noted for the next start, with the node's
/// number: a node that is reset begins anew.
fn orphaned(status: &Status, folder: &Path) -> bool {
    let note = folder.join("good");
    let noted = std::fs::read_to_string(&note).ok();
    let good_before = noted.as_deref() == Some(status.node.to_string().as_str());
    if status.state == 2 && !good_before {
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&note, status.node.to_string()));
        if let Err(error) = written {
            // Only the next start without a publisher would miss it.
            tracing::warn!(%error, "It was not noted that replication is good.");
        }
    }
    let sound = [
        &status.fault,
        &status.refused,
        &status.stopped,
        &status.superseded,
    ]
    .iter()
    .all(|problem| problem.is_empty())
        && status.mismatched.is_empty();
    let away = !status.heard || status.silent_seconds > SILENCE;
    good_before && sound && away
}

/// State of replication. The unit is ordered behind the replicator's, but a
/// replicator that dies at its start does not hold the gate's start up, or the
/// time limit would never come; so while it is closed the gate looks itself
/// whether the replicator serves.
async fn replication(database: &Database, open: bool, ctx: &Context) -> Replication {
    let paths = ctx.paths();
    let status = tokio::time::timeout(ANSWER, database.status()).await;
    if !open && matches!(&status, Ok(Ok(status)) if status.state == 2) {
        match introspect::health(paths, REPLICATOR).await {
            Ok(health) if health.ready => {}
            Ok(_) => return Replication::Unknown(format!("{REPLICATOR} is starting")),
            Err(_) => return Replication::Unknown(format!("{REPLICATOR} does not run")),
        }
    }
    match status {
        Ok(Ok(status)) => Replication::Known {
            state: status.state,
            lag_entries: status.lag_entries,
            orphaned: orphaned(&status, &paths.state(ctx.id())),
            reason: status.reason,
        },
        Ok(Err(error)) => Replication::Unknown(format!("the database does not answer: {error}")),
        Err(_) => Replication::Unknown(format!(
            "the database does not answer in {} s",
            ANSWER.as_secs()
        )),
    }
}
