//! The watchdog in a service's own hands.

use std::time::Duration;

use libsystemd::daemon::NotifyState;

use crate::notify;

/// Systemd's watchdog, fed by the one loop that must never stall.
///
/// Heartbeats allow a loop several seconds before they stop the feeding, and
/// the unit's own time is added to that. Here the time from a stall to the kill
/// is the limit and no more. Without systemd, in tests, it does nothing.
#[derive(Debug)]
pub struct Watchdog(());

impl Watchdog {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// Says that the loop runs.
    pub fn feed(&self) {
        notify::send(&[NotifyState::Watchdog]);
    }

    /// Changes the time after which systemd kills the service when it is not
    /// fed.
    pub fn limit(&self, limit: Duration) {
        let microseconds = limit.as_micros();
        notify::send(&[NotifyState::Other(format!("WATCHDOG_USEC={microseconds}"))]);
    }
}
