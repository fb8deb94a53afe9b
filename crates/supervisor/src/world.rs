//! What systemd tells of the node's units, at one moment.

use std::collections::{BTreeMap, BTreeSet};

/// `ActiveState` of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Activity {
    Active,
    Activating,
    Deactivating,
    Failed,
    #[default]
    Inactive,
}

impl Activity {
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "active" | "reloading" | "refreshing" => Self::Active,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            "failed" => Self::Failed,
            _ => Self::Inactive,
        }
    }
}

/// What a queued job is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    Start,
    Stop,
    Restart,
    Other,
}

impl JobKind {
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "start" | "verify-active" => Self::Start,
            "stop" => Self::Stop,
            "restart" | "try-restart" => Self::Restart,
            _ => Self::Other,
        }
    }
}

/// A job in systemd's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) kind: JobKind,
    /// Whether it runs; otherwise it waits for other jobs.
    pub(crate) running: bool,
}

/// The properties of one unit that matter here. Times are microseconds as
/// systemd counts them; 0 is never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Whether the unit file was found and is in order.
    pub(crate) loaded: bool,
    pub(crate) active: Activity,
    /// `SubState`, such as `auto-restart`.
    pub(crate) sub: String,
    /// `Result` of the last run, such as `success`, `exit-code`, `watchdog`.
    pub(crate) result: String,
    /// `ExecMainCode`: how the last process ended, as in `siginfo_t`.
    pub(crate) code: i32,
    /// `ExecMainStatus`: exit status or signal.
    pub(crate) status: i32,
    /// `StatusText`: the service's own words.
    pub(crate) text: String,
    pub(crate) restarts: u32,
    /// Whether the conditions held at the last start.
    pub(crate) condition: bool,
    /// Wall clock, of becoming active.
    pub(crate) active_since: u64,
    /// Monotonic clock, of becoming active.
    pub(crate) active_since_monotonic: u64,
    /// Monotonic clock, of the last start of the inactive state.
    pub(crate) inactive_since_monotonic: u64,
    pub(crate) after: Vec<String>,
    pub(crate) requires: Vec<String>,
    /// Units that stop when this one is stopped.
    pub(crate) stops_with: Vec<String>,
    /// Units with which this one stops.
    pub(crate) part_of: Vec<String>,
}

/// Everything that the pure parts look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct World {
    /// By unit name.
    pub(crate) units: BTreeMap<String, Unit>,
    /// By unit name.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// Ids of the feature services that are activated.
    pub(crate) activated: BTreeSet<String>,
    /// Ids of the services that do not come back by themselves.
    pub(crate) stays_down: BTreeSet<String>,
    /// Ids of services whose start systemd gave up because a unit that they
    /// require failed.
    pub(crate) given_up: BTreeSet<String>,
    /// Ids of services that the recovery manager stopped and that were not
    /// started since.
    pub(crate) suspended: BTreeSet<String>,
}

impl World {
    pub(crate) fn unit(&self, id: &str) -> Option<&Unit> {
        self.units.get(&format!("{id}.service"))
    }

    pub(crate) fn job(&self, id: &str) -> Option<Job> {
        self.jobs.get(&format!("{id}.service")).copied()
    }
}

/// The service id of a unit name; none for other kinds of unit.
pub(crate) fn id_of(unit: &str) -> Option<&str> {
    unit.strip_suffix(".service")
}
