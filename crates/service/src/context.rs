//! What a service function is given.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libsystemd::daemon::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::heartbeat::Heartbeats;
use crate::{Alarms, Heartbeat, Node, NodeError, Paths, Perf, Watchdog, notify};

/// The surroundings of a running service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    paths: Paths,
    perf: Perf,
    alarms: Alarms,
    stop: CancellationToken,
    heartbeats: Heartbeats,
    /// Whether the service feeds the watchdog itself.
    feeds: AtomicBool,
    ready: AtomicBool,
    status: Mutex<String>,
    started: Instant,
}

impl Context {
    /// A context of its own: what [`crate::run`] makes for a unit, and a test
    /// for a service that it runs in process.
    pub fn new(id: &str, paths: Paths) -> Self {
        Self(Arc::new(Inner {
            id: id.into(),
            paths,
            perf: Perf::default(),
            alarms: Alarms::default(),
            stop: CancellationToken::new(),
            heartbeats: Heartbeats::new(),
            feeds: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            status: Mutex::default(),
            started: Instant::now(),
        }))
    }

    /// The service's id, which is its unit's name without `.service`.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Where things are on this node.
    pub fn paths(&self) -> &Paths {
        &self.0.paths
    }

    /// Reads what the node knows about itself.
    pub fn node(&self) -> Result<Node, NodeError> {
        Node::load(&self.0.paths)
    }

    /// The service's counters.
    pub fn perf(&self) -> &Perf {
        &self.0.perf
    }

    /// The service's alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.0.alarms
    }

    /// Says that the service serves now; its unit becomes active.
    pub fn ready(&self, status: &str) {
        self.0.ready.store(true, Ordering::Relaxed);
        self.set_status(status);
        notify::send(&[NotifyState::Ready, NotifyState::Status(status.into())]);
        tracing::info!("{status}");
    }

    /// Changes the status sentence that `systemctl status` and our own faces
    /// show.
    pub fn status(&self, status: &str) {
        if self.set_status(status) {
            notify::send(&[NotifyState::Status(status.into())]);
        }
    }

    /// Asks for more time to start or stop, for work that is going on well.
    pub fn extend_timeout(&self, by: Duration) {
        let microseconds = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        notify::send(&[NotifyState::Other(format!(
            "EXTEND_TIMEOUT_USEC={microseconds}"
        ))]);
    }

    fn set_status(&self, status: &str) -> bool {
        let mut now = self.0.status.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *now != status;
        if changed {
            status.clone_into(&mut now);
        }
        changed
    }

    /// The status sentence.
    pub fn current_status(&self) -> String {
        self.0
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether [`Context::ready`] was called.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// Time since the service was started.
    pub fn up(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Completes when the service is to stop.
    pub async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// The token behind [`Context::stopping`], for tasks that own their wait.
    pub fn stop_token(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Begins the stop, as SIGTERM does.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Puts a main loop under the watchdog: while the returned handle lives,
    /// the loop must tick at least every five seconds.
    pub fn heartbeat(&self, name: &str) -> Heartbeat {
        self.0.heartbeats.register(name)
    }

    /// Has the service feed systemd's watchdog itself from now on, for one that
    /// must be killed sooner after a stall than heartbeats can tell.
    pub fn watchdog(&self) -> Watchdog {
        self.0.feeds.store(true, Ordering::Relaxed);
        Watchdog::new()
    }

    pub(crate) fn feeds_itself(&self) -> bool {
        self.0.feeds.load(Ordering::Relaxed)
    }

    pub(crate) fn heartbeats(&self) -> &Heartbeats {
        &self.0.heartbeats
    }
}
