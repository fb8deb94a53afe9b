//! Running a service function under systemd.

use std::process::ExitCode;
use std::time::Duration;

use libsystemd::daemon::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::{Context, Paths, control, heartbeat, notify};

/// Exit status of a service that cannot run until it is configured
/// (`EX_CONFIG` of sysexits). Units list it in `RestartPreventExitStatus=`, so
/// that it is not retried.
pub const EXIT_NOT_CONFIGURED: u8 = 78;

/// What is logged, unless `SIGNALBOX_LOG` says otherwise. The consensus engine
/// tells at each heartbeat that a node is away; who is away is the database's
/// to say, once.
const FILTER: &str = "info,openraft=warn,openraft::replication=off,\
                      openraft::engine::handler::replication_handler=off";

/// Returned by a service that refuses to start until it is configured; the
/// text says what to configure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotConfigured(pub String);

/// Runs `serve` as the service `id` until it ends or SIGTERM comes, and
/// returns the exit status of the process.
///
/// The runtime must be a tokio runtime with I/O and time enabled.
pub async fn run<F>(id: &str, serve: impl FnOnce(Context) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    init_log();
    let context = Context::new(id, Paths::from_environment());
    let outcome = tokio::select! {
        result = serve(context.clone()) => result,
        result = attend(&context) => result,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line with the whole chain of causes, for the journal and
            // for the unit's status.
            let reason = format!("{error:#}");
            tracing::error!("{reason}");
            notify::send(&[NotifyState::Status(reason)]);
            if error.is::<crate::NotConfigured>() {
                ExitCode::from(EXIT_NOT_CONFIGURED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The chores beside the service: control socket, watchdog, stop signals.
/// Ends only on failure; an orderly stop is the service's own to end.
async fn attend(context: &Context) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let control = tokio::spawn(control::serve(context.clone()));
    let watchdog = watchdog(context);
    tokio::pin!(control, watchdog);
    let mut control_ended = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => stop(context),
            _ = interrupt.recv() => stop(context),
            () = &mut watchdog => {}
            ended = &mut control, if !control_ended => {
                control_ended = true;
                ended??;
            }
        }
    }
}

fn stop(context: &Context) {
    if !context.stop_token().is_cancelled() {
        notify::send(&[NotifyState::Stopping]);
        tracing::info!("Stopping.");
        context.stop();
    }
}

/// Feeds systemd's watchdog while every heartbeat ticks.
async fn watchdog(context: &Context) {
    let Some(interval) = notify::watchdog_interval() else {
        return std::future::pending().await;
    };
    let mut clock = tokio::time::interval(interval.min(Duration::from_secs(3)));
    loop {
        clock.tick().await;
        if context.feeds_itself() {
            return std::future::pending().await;
        }
        match context.heartbeats().stalled(heartbeat::LIMIT) {
            None => notify::send(&[NotifyState::Watchdog]),
            Some(name) => {
                tracing::error!(
                    heartbeat = name,
                    "A main loop does not move; the watchdog waits."
                );
            }
        }
    }
}

/// Logs to the journal when systemd runs us, else to standard error.
fn init_log() {
    let filter =
        || EnvFilter::try_from_env("SIGNALBOX_LOG").unwrap_or_else(|_| EnvFilter::new(FILTER));
    let journal = std::env::var_os("JOURNAL_STREAM")
        .and_then(|_| tracing_journald::layer().ok())
        .map(|layer| layer.with_filter(filter()));
    let plain = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_filter(filter())
    });
    // A second initialisation, in tests, keeps the first subscriber.
    let _ = tracing_subscriber::registry()
        .with(journal)
        .with(plain)
        .try_init();
}
