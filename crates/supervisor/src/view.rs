//! From what systemd tells to the states and reasons that people read.

use std::fmt;

use catalogue::{Catalogue, Kind, Service};

use crate::world::{Activity, Job, JobKind, Unit, World, id_of};

/// State of a service, in the words that scripts parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It serves.
    Started,
    /// It is on its way, or waits for what it needs.
    Starting,
    /// It is down, because it is not activated or was stopped.
    Stopped,
    /// It is on its way down.
    Stopping,
    /// It failed, or its unit is not there.
    NotRunning,
}

impl State {
    /// The word that scripts parse.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Starting => "STARTING",
            Self::Stopped => "STOPPED",
            Self::Stopping => "STOPPING",
            Self::NotRunning => "NOTRUNNING",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A service as administration sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Id: the unit's name without `.service`.
    pub id: String,
    /// The name that scripts use.
    pub compat: String,
    /// Plain name.
    pub name: String,
    /// `network` or `feature`.
    pub kind: String,
    /// Group on the pages.
    pub group: String,
    /// State now.
    pub state: State,
    /// Whether it runs with the node; always so for network services.
    pub activated: bool,
    /// Why it waits or is down; empty when there is nothing to say.
    pub reason: String,
    /// When it was started, in seconds since the Unix epoch.
    pub started_at: Option<i64>,
    /// Seconds since it was started.
    pub up_seconds: Option<u64>,
    /// Restarts that nobody asked for, since the node or the supervisor
    /// started.
    pub restarts: u32,
    /// Whether people are affected at once when it is down.
    pub critical: bool,
    /// Whether it comes back by itself when it dies.
    pub auto_restart: bool,
}

/// What the words say when a feature service is not activated.
pub(crate) const NOT_ACTIVATED: &str = "Service Not Activated";
/// What the words say when somebody stopped a service.
pub(crate) const COMMANDED: &str = "Commanded Out of Service";
/// `Result` of a unit whose mark kept it from starting again.
const HELD: &str = "exec-condition";
/// How long before a unit its parts stop at most, in microseconds: their
/// `TimeoutStopSec=` one after the other.
const STOPPED_TOGETHER: u64 = 60_000_000;

/// Whether a service is to run on this node.
pub(crate) fn activated(service: &Service, world: &World) -> bool {
    service.kind == Kind::Network || world.activated.contains(&service.id)
}

/// State of one service.
pub(crate) fn state(service: &Service, world: &World) -> State {
    let Some(unit) = world.unit(&service.id).filter(|unit| unit.loaded) else {
        return State::NotRunning;
    };
    // A queued job is the truth about what comes; STARTING while it waits is
    // not in the unit's own state.
    match (unit.active, world.job(&service.id).map(|job| job.kind)) {
        (_, Some(JobKind::Stop)) | (Activity::Deactivating, _) => State::Stopping,
        (Activity::Active, Some(JobKind::Restart)) => State::Stopping,
        (Activity::Active, _) => State::Started,
        (Activity::Activating, _) | (_, Some(JobKind::Start | JobKind::Restart)) => State::Starting,
        (Activity::Failed, _) => State::NotRunning,
        (Activity::Inactive, _) if !activated(service, world) => State::Stopped,
        (Activity::Inactive, _) if unit.result == "success" && unit.condition => State::Stopped,
        // Down, though nobody asked for it.
        (Activity::Inactive, _) if unit.inactive_since_monotonic > 0 => State::NotRunning,
        (Activity::Inactive, _) => State::Stopped,
    }
}

/// Why a service waits or is down.
pub(crate) fn reason(service: &Service, catalogue: &Catalogue, world: &World) -> String {
    let Some(unit) = world.unit(&service.id).filter(|unit| unit.loaded) else {
        return "its unit is not installed or not valid".into();
    };
    match state(service, world) {
        State::Started => String::new(),
        State::Stopping => match world.job(&service.id) {
            Some(Job { running: false, .. }) => "waits for services that stop first".into(),
            _ => "stops".into(),
        },
        State::Starting => starting(service, unit, world),
        State::Stopped if !activated(service, world) => NOT_ACTIVATED.into(),
        State::Stopped | State::NotRunning => down(service, unit, catalogue, world),
    }
}

fn starting(service: &Service, unit: &Unit, world: &World) -> String {
    if unit.active == Activity::Activating {
        if unit.sub.starts_with("auto-restart") {
            return format!("{}; starts again by itself", ended(unit));
        }
        return if unit.text.is_empty() {
            "starts".into()
        } else {
            unit.text.clone()
        };
    }
    waits_for(&service.unit(), world)
}

/// The chain of units that a queued start waits for, down to the one that
/// really is at work, with that one's own words.
fn waits_for(unit: &str, world: &World) -> String {
    let mut chain: Vec<&str> = Vec::new();
    let mut at = unit;
    while let Some(next) = blocker(at, unit, &chain, world) {
        chain.push(next);
        let runs = world.jobs.get(next).is_none_or(|job| job.running);
        if runs {
            break;
        }
        at = next;
    }
    let Some(last) = chain.last() else {
        return "is next to start".into();
    };
    let name = |unit: &str| id_of(unit).unwrap_or(unit).to_owned();
    let mut words = format!("waits for {}", name(last));
    if chain.len() > 1 {
        let through: Vec<_> = chain[..chain.len() - 1].iter().map(|u| name(u)).collect();
        words.push_str(&format!(" (by way of {})", through.join(", ")));
    }
    if let Some(unit) = world.units.get(*last) {
        if unit.sub.starts_with("auto-restart") {
            words.push_str(&format!(": it {}, starts again by itself", ended(unit)));
        } else if !unit.text.is_empty() {
            words.push_str(&format!(": {}", unit.text));
        }
    }
    words
}

/// The unit that holds a queued start back: one that it is ordered after and
/// that has a job of its own. One at work is named before one that waits.
fn blocker<'a>(unit: &str, first: &str, seen: &[&str], world: &'a World) -> Option<&'a str> {
    let after = &world.units.get(unit)?.after;
    let mut waiting = None;
    for name in after {
        if seen.contains(&name.as_str()) || name == first {
            continue;
        }
        let job = world.jobs.get(name);
        let busy = world
            .units
            .get(name)
            .is_some_and(|unit| unit.active == Activity::Activating);
        match job {
            Some(job) if job.running => return Some(name),
            Some(_) => {
                waiting.get_or_insert(name);
            }
            None if busy => return Some(name),
            None => {}
        }
    }
    waiting.map(String::as_str)
}

fn down(service: &Service, unit: &Unit, catalogue: &Catalogue, world: &World) -> String {
    let command = format!("utils service start {}", service.compat);
    if world.given_up.contains(&service.id) {
        let broken = unit.requires.iter().find(|name| {
            world
                .units
                .get(*name)
                .is_some_and(|required| required.active != Activity::Active)
        });
        return match broken {
            Some(name) => format!(
                "could not start because {} did not; it starts when that one serves",
                id_of(name).unwrap_or(name)
            ),
            None => "could not start because a service it requires did not".into(),
        };
    }
    if unit.inactive_since_monotonic == 0 && unit.active == Activity::Inactive {
        return "was not started yet".into();
    }
    if unit.result == HELD {
        return format!("died; automatic restart is disabled, start it with \"{command}\"");
    }
    if unit.active == Activity::Failed || unit.result != "success" {
        let mut words = ended(unit);
        if unit.code == EXITED && unit.status == i32::from(service::EXIT_NOT_CONFIGURED) {
            words = "is not configured".into();
        }
        if !unit.text.is_empty() {
            words.push_str(&format!(": {}", unit.text));
        }
        return words;
    }
    if !unit.condition {
        return "the node is not set up".into();
    }
    if world.suspended.contains(&service.id) {
        return format!(
            "{COMMANDED}: the node was failed over; \"utils ha fallback\" starts it again"
        );
    }
    for whole in &unit.part_of {
        let Some(other) = world.units.get(whole) else {
            continue;
        };
        let gap = other
            .inactive_since_monotonic
            .checked_sub(unit.inactive_since_monotonic);
        if gap.is_some_and(|gap| gap < STOPPED_TOGETHER) {
            let name = id_of(whole).unwrap_or(whole);
            let name = catalogue.get(name).map_or(name, |whole| &whole.compat);
            return format!("{COMMANDED}: stopped with {name}; start it with \"{command}\"");
        }
    }
    COMMANDED.into()
}

/// `CLD_EXITED` of `siginfo_t`; the other ways to end are signals.
const EXITED: i32 = 1;

/// How the last process ended.
pub(crate) fn ended(unit: &Unit) -> String {
    let how = match unit.result.as_str() {
        "watchdog" => "hung and was killed".into(),
        "timeout" => "did not start or stop in time and was killed".into(),
        "oom-kill" => "ran out of memory".into(),
        "start-limit-hit" => "was started too often".into(),
        "resources" => "could not be started for lack of resources".into(),
        _ => String::new(),
    };
    if !how.is_empty() {
        return how;
    }
    match (unit.code, unit.status) {
        (0, _) => "ended".into(),
        (EXITED, status) => format!("ended with status {status}"),
        (_, signal) => format!("was killed by {}", signal_name(signal)),
    }
}

fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

/// Every service of this node, in start order. `monotonic` is now, on the
/// clock of `Unit::active_since_monotonic`; `restarts` counts by id.
pub(crate) fn views(
    catalogue: &Catalogue,
    world: &World,
    monotonic: u64,
    restarts: impl Fn(&str) -> u32,
) -> Vec<View> {
    let view = |service: &Service| {
        let unit = world.unit(&service.id);
        let state = state(service, world);
        let runs =
            unit.filter(|unit| unit.active == Activity::Active && unit.active_since_monotonic > 0);
        let micros = |unit: &Unit| i64::try_from(unit.active_since / 1_000_000).ok();
        View {
            id: service.id.clone(),
            compat: service.compat.clone(),
            name: service.name.clone(),
            kind: service.kind.to_string(),
            group: service.group.clone(),
            state,
            activated: activated(service, world),
            reason: reason(service, catalogue, world),
            started_at: runs.and_then(micros),
            up_seconds: runs
                .map(|unit| monotonic.saturating_sub(unit.active_since_monotonic) / 1_000_000),
            restarts: restarts(&service.id),
            critical: service.critical,
            auto_restart: !world.stays_down.contains(&service.id),
        }
    };
    catalogue.in_start_order().map(view).collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
