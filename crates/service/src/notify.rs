//! Messages to the service manager (`sd_notify`). Without `NOTIFY_SOCKET`, in
//! tests and by hand, they go nowhere.

use std::time::Duration;

use libsystemd::daemon::{self, NotifyState};

pub(crate) fn send(states: &[NotifyState]) {
    if let Err(error) = daemon::notify(false, states) {
        tracing::warn!(%error, "The service manager could not be told of a change of state.");
    }
}

/// Half of `WATCHDOG_USEC`, the interval at which to ping; none when the unit
/// has no watchdog.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    daemon::watchdog_enabled(false).map(|limit| limit / 2)
}
