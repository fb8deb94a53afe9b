//! The monitor as a service.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use database::{Access, Database, Parameters};
use service::Context;

use crate::files;
use crate::settings::wanted;
use crate::watcher::{ALARMS, Marks, Watcher};

const LOGS: &str = "/var/log";
const OURS: &str = "/var/log/signalbox";
const JOURNAL: &str = "/var/log/journal";
const DATA: &str = "/var/lib";
/// How often to look. A look is one system call.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs the monitor.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let database = Database::open(ctx.paths(), Access::Settings);
    let parameters = database.parameters(ctx.id());
    let request = ctx.paths().runtime(ctx.id()).join("journal-keep");
    let heartbeat = ctx.heartbeat("partition");
    let counter = |name| ctx.perf().counter("Partition", "Common", name);
    let (percent, used, total) = (
        counter("% Used"),
        counter("Used Mbytes"),
        counter("Total Mbytes"),
    );
    let mut watcher = Watcher::default();
    let mut refused = None;
    loop {
        let partition = files::usage(Path::new(LOGS)).context("cannot look at /var/log")?;
        let data = files::usage(Path::new(DATA)).context("cannot look at /var/lib")?;
        let marks = marks(&parameters, &mut refused);
        let step = watcher.step(&marks, partition, data, SystemTime::now(), || {
            files::logs(Path::new(OURS), Path::new(JOURNAL))
        });
        let megabytes = |bytes: u64| i64::try_from(bytes / 1_048_576).unwrap_or(i64::MAX);
        percent.set(i64::try_from(partition.percent()).unwrap_or(100));
        used.set(megabytes(partition.used()));
        total.set(megabytes(partition.total));
        for id in ALARMS {
            match step.alarms.iter().find(|alarm| alarm.id == id) {
                Some(alarm) => ctx.alarms().raise(id, alarm.severity, &alarm.text),
                None => ctx.alarms().clear(id),
            }
        }
        if let Some(purge) = step.purge {
            let removed = files::remove(&purge.files);
            if let Some(keep) = purge.journal {
                files::ask_for_journal(&request, keep)
                    .context("cannot ask for a smaller journal")?;
            }
            tracing::warn!(
                bytes = purge.bytes,
                files = removed,
                journal = ?purge.journal,
                "The oldest logs were purged."
            );
        }
        if ctx.is_ready() {
            ctx.status(&step.status);
        } else {
            ctx.ready(&step.status);
        }
        heartbeat.tick();
        tokio::select! {
            () = ctx.stopping() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// The marks from the parameters; ones that contradict each other are refused
/// as a whole, and told once.
fn marks(parameters: &Parameters, refused: &mut Option<Marks>) -> Marks {
    let default = Marks::default();
    let wanted = wanted(|name, default| parameters.get(name, default));
    match wanted.check() {
        Ok(marks) => {
            *refused = None;
            marks
        }
        Err(problem) => {
            if *refused != Some(wanted) {
                tracing::error!("The water marks are not used: {problem}.");
                *refused = Some(wanted);
            }
            default
        }
    }
}
