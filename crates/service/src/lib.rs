//! What every service has: readiness, watchdog, stop, log, counters, alarms.
//!
//! A service is an async function that takes a [`Context`]. [`run`] prepares
//! the log, the stop signals, the watchdog and the control socket, calls the
//! function, and turns its result into the exit status that systemd sees.

mod alarms;
mod context;
mod control;
mod heartbeat;
mod node;
mod notify;
mod paths;
mod perf;
mod run;
pub mod uds;
mod watchdog;

pub use alarms::{Alarm, Alarms, Severity};
pub use context::Context;
pub use control::{Health, introspect};
pub use heartbeat::Heartbeat;
pub use node::{Node, NodeError, Role};
pub use paths::Paths;
pub use perf::{Counter, Perf, Sample};
pub use run::{EXIT_NOT_CONFIGURED, NotConfigured, run};
pub use watchdog::Watchdog;
