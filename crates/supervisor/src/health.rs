//! Restarts that nobody asked for: counted, told apart from crash loops, and
//! turned into alarms. Time comes in with each call.

use std::collections::BTreeMap;
use std::time::Duration;

use catalogue::{Catalogue, Service};
use service::Severity;

use crate::rules::Call;
use crate::view::{State, activated, ended, reason, state};
use crate::world::{Activity, Unit, World};

/// So many restarts within [`WINDOW`] are a crash loop.
const LOOP: usize = 5;
const WINDOW: Duration = Duration::from_secs(300);
/// A service that has served for so long is well again.
const WELL: Duration = Duration::from_secs(45);
/// A service that dies again and again is down even in such moments of life.
const MOMENT: Duration = Duration::from_secs(10);
/// A service may be down for so long before it is an alarm.
const GRACE: Duration = Duration::from_secs(30);

/// Ours, and no services of the catalogue: they are neither shown nor turned,
/// only told of when they die again and again. What each does is in words.
pub(crate) const COMPANIONS: [(&str, &str); 1] = [(
    "signalbox-administration",
    "carries out administrators' commands",
)];

/// An alarm as it is to be now; none clears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AlarmChange {
    pub(crate) id: &'static str,
    pub(crate) severity: Severity,
    pub(crate) text: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct History {
    /// systemd's own count at the last look.
    counted: u32,
    /// All restarts since the supervisor knows the service.
    total: u32,
    /// When the latest restarts were seen, at most [`LOOP`].
    recent: Vec<Duration>,
    /// Since when it has served.
    well_since: Option<Duration>,
    /// Since when it should serve and does not.
    down_since: Option<Duration>,
    looping: bool,
}

/// What is remembered of each service, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    histories: BTreeMap<String, History>,
}

impl Health {
    /// Restarts of a service that nobody asked for.
    pub(crate) fn restarts(&self, id: &str) -> u32 {
        self.histories.get(id).map_or(0, |history| history.total)
    }

    /// Takes notice of the world at `now`, on any clock that only grows.
    /// Returns the calls that let services recover and the alarms as they are
    /// to be.
    pub(crate) fn step(
        &mut self,
        catalogue: &Catalogue,
        world: &World,
        now: Duration,
    ) -> (Vec<Call>, Vec<AlarmChange>) {
        let mut calls = Vec::new();
        let mut loops = Vec::new();
        let mut critical = Vec::new();
        let mut other = Vec::new();
        for service in catalogue.in_start_order() {
            let history = self.histories.entry(service.id.clone()).or_default();
            calls.extend(history.step(service, world, now));
            calls.extend(start_again(service, world));
            let why = || {
                let reason = reason(service, catalogue, world);
                let words = if reason.is_empty() {
                    "runs again"
                } else {
                    &reason
                };
                format!("{} ({}): {words}", service.compat, service.id)
            };
            if history.looping {
                loops.push(why());
            }
            if history.down_since.is_some_and(|since| now - since >= GRACE) {
                if service.critical {
                    critical.push(why());
                } else {
                    other.push(why());
                }
            }
        }
        for (id, what) in COMPANIONS {
            let Some(unit) = world.unit(id) else {
                continue;
            };
            let history = self.histories.entry(id.into()).or_default();
            history.follow(unit, now);
            if history.looping {
                let how = match unit.active {
                    Activity::Active => "runs again".into(),
                    _ => ended(unit),
                };
                loops.push(format!("{id} ({what}): {how}"));
            }
        }
        let alarm = |id, severity, services: Vec<String>, words: &str| AlarmChange {
            id,
            severity,
            text: (!services.is_empty()).then(|| format!("{words} {}.", services.join("; "))),
        };
        let alarms = vec![
            alarm(
                "ServiceCrashLoop",
                Severity::Error,
                loops,
                "Services die again and again, look at their logs:",
            ),
            alarm(
                "CriticalServiceDown",
                Severity::Critical,
                critical,
                "Critical services are down:",
            ),
            alarm("ServiceDown", Severity::Error, other, "Services are down:"),
        ];
        (calls, alarms)
    }
}

impl History {
    fn step(&mut self, service: &Service, world: &World, now: Duration) -> Option<Call> {
        let unit = world.unit(&service.id)?;
        let well = self.follow(unit, now);
        if !activated(service, world) {
            self.looping = false;
        }
        self.note_down(service, world, now);
        (well && unit.restarts > 0).then(|| Call::ResetFailed(service.unit()))
    }

    /// Counts restarts and judges whether they are a loop; answers whether the
    /// unit is well.
    fn follow(&mut self, unit: &Unit, now: Duration) -> bool {
        // systemd's count begins anew with each start by command and each
        // reset.
        let new = if unit.restarts >= self.counted {
            unit.restarts - self.counted
        } else {
            unit.restarts
        };
        self.counted = unit.restarts;
        self.total = self.total.saturating_add(new);
        for _ in 0..(new as usize).min(LOOP) {
            self.recent.push(now);
        }
        let excess = self.recent.len().saturating_sub(LOOP);
        self.recent.drain(..excess);
        if self.recent.len() == LOOP && now - self.recent[0] < WINDOW {
            self.looping = true;
        }
        let serves = unit.active == Activity::Active;
        if !serves || new > 0 {
            self.well_since = None;
        }
        if serves {
            self.well_since.get_or_insert(now);
        }
        let well = self.well_since.is_some_and(|since| now - since >= WELL);
        if well {
            self.looping = false;
        }
        well
    }

    fn note_down(&mut self, service: &Service, world: &World, now: Duration) {
        let unit = world.unit(&service.id);
        let down = match state(service, world) {
            State::NotRunning => true,
            // Between two attempts; while it only waits for others it is not
            // its own fault.
            State::Starting => unit.is_some_and(|unit| unit.sub.starts_with("auto-restart")),
            // Between two deaths the service may look well for a moment.
            State::Started => {
                self.looping && self.well_since.is_none_or(|since| now - since < MOMENT)
            }
            State::Stopped | State::Stopping => false,
        };
        if down && activated(service, world) {
            self.down_since.get_or_insert(now);
        } else if state(service, world) != State::Starting || !self.looping {
            self.down_since = None;
        }
    }
}

/// systemd gives a queued start up for good when a unit that it requires
/// fails. Once that unit serves, start again.
fn start_again(service: &Service, world: &World) -> Option<Call> {
    let unit = world.unit(&service.id)?;
    let serves = |name: &String| {
        world
            .units
            .get(name)
            .is_none_or(|unit| unit.active == Activity::Active)
    };
    let due = world.given_up.contains(&service.id)
        && activated(service, world)
        && unit.active == Activity::Inactive
        && world.job(&service.id).is_none()
        && unit.requires.iter().all(serves);
    due.then(|| Call::Start(service.unit()))
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
