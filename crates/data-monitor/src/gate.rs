//! The decision: what was seen and the time go in, what to tell comes out.

use std::time::Duration;

use service::{Role, Severity};

/// Waiting for so long is worth an alarm.
const PATIENCE: Duration = Duration::from_secs(60);
/// Replication may be other than good for so long once the gate is open:
/// lag under load is no loss.
const LOSS: Duration = Duration::from_secs(30);

/// Parameters of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether services wait at all.
    pub enabled: bool,
    /// After so long the publisher's gate opens all the same.
    pub limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            limit: Duration::from_secs(1200),
        }
    }
}

/// Replication of this node, as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// Nothing is known, for this reason.
    Unknown(String),
    /// The database answers.
    Known {
        /// State 0 to 4; 2 is good.
        state: u8,
        /// Entries this node is behind.
        lag_entries: u64,
        /// Why the state is what it is.
        reason: String,
    },
}

impl Replication {
    fn good(&self) -> bool {
        matches!(self, Self::Known { state: 2, .. })
    }

    fn words(&self) -> String {
        match self {
            Self::Unknown(reason) => reason.clone(),
            Self::Known {
                state,
                lag_entries,
                reason,
            } => {
                let entries = if *lag_entries == 1 {
                    "entry"
                } else {
                    "entries"
                };
                let words = format!("replication state {state}, lag {lag_entries} {entries}");
                if reason.is_empty() {
                    words
                } else {
                    format!("{words}: {reason}")
                }
            }
        }
    }
}

/// How far the sync agent is with call control's users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncAgent {
    /// It has finished, or there is no call control cluster to sync with.
    Complete,
    /// It is at work.
    Running,
}

/// An alarm that is to be raised now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Its name.
    pub id: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// What happened and what to do.
    pub text: String,
}

/// Names of the gate's alarms. One that a [`Step`] does not raise is cleared.
pub(crate) const ALARMS: [&str; 3] = [WAITS, AT_LIMIT, LOST];
const WAITS: &str = "DataMonitorWaiting";
const AT_LIMIT: &str = "DataMonitorTimeLimitReached";
const LOST: &str = "DBReplicationFailure";

/// What to tell after a look at the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether the gate is open.
    pub open: bool,
    /// The status sentence.
    pub status: String,
    /// The alarms as they are to be.
    pub alarms: Vec<Raised>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Open { at_limit: bool },
}

/// The gate of one node.
#[derive(Clone, Debug)]
pub struct Gate {
    publisher: bool,
    since: Duration,
    phase: Phase,
    /// Since when replication is other than good, once the gate is open.
    lost_since: Option<Duration>,
}

impl Gate {
    /// A closed gate. `now` is on any clock that only grows.
    pub fn new(role: Role, now: Duration) -> Self {
        Self {
            publisher: role == Role::Publisher,
            since: now,
            phase: Phase::Waiting,
            lost_since: None,
        }
    }

    /// Takes a look at the node at `now`.
    pub fn step(
        &mut self,
        settings: &Settings,
        replication: &Replication,
        agent: SyncAgent,
        now: Duration,
    ) -> Step {
        // A subscriber's users come by replication; only the publisher syncs.
        let synced = !self.publisher || agent == SyncAgent::Complete;
        let good = replication.good() && synced;
        if self.phase == Phase::Waiting {
            let at_limit = self.publisher && now.saturating_sub(self.since) >= settings.limit;
            if good || !settings.enabled || at_limit {
                self.phase = Phase::Open {
                    at_limit: at_limit && !good && settings.enabled,
                };
            }
        }
        match self.phase {
            Phase::Waiting => self.waiting(settings, replication, synced, now),
            Phase::Open { at_limit } => {
                let at_limit = at_limit && !good;
                self.phase = Phase::Open { at_limit };
                self.open(settings, replication, synced, at_limit, now)
            }
        }
    }

    fn waiting(
        &self,
        settings: &Settings,
        replication: &Replication,
        synced: bool,
        now: Duration,
    ) -> Step {
        let waited = now.saturating_sub(self.since);
        let mut status = missing(replication, synced);
        let mut alarms = Vec::new();
        if waited >= PATIENCE {
            let text = format!(
                "Services can remain in STARTING: {status}. \"utils dbreplication status\" tells \
                 more."
            );
            alarms.push(raised(WAITS, Severity::Warning, text));
        }
        if self.publisher {
            // Whole minutes, so that the sentence does not change all the time.
            let left = settings.limit.saturating_sub(waited).as_secs().div_ceil(60);
            status.push_str(&format!("; opens in {left} min at the latest"));
        }
        Step {
            open: false,
            status,
            alarms,
        }
    }

    fn open(
        &mut self,
        settings: &Settings,
        replication: &Replication,
        synced: bool,
        at_limit: bool,
        now: Duration,
    ) -> Step {
        let mut alarms = Vec::new();
        if at_limit {
            let text = format!(
                "Services were started at the time limit of {} s though {}. What they show may \
                 be out of date.",
                settings.limit.as_secs(),
                missing(replication, synced)
            );
            alarms.push(raised(AT_LIMIT, Severity::Error, text));
        }
        if replication.good() {
            self.lost_since = None;
        } else {
            let since = *self.lost_since.get_or_insert(now);
            if now.saturating_sub(since) >= LOSS {
                let text = format!(
                    "Replication of this node is not good: {}. Services go on with what is here.",
                    replication.words()
                );
                alarms.push(raised(LOST, Severity::Error, text));
            }
        }
        let status = if replication.good() && synced {
            "Open: replication is good.".into()
        } else if settings.enabled {
            format!("Open, but {}.", missing(replication, synced))
        } else {
            format!(
                "Open, disabled by parameter: {}.",
                missing(replication, synced)
            )
        };
        Step {
            open: true,
            status,
            alarms,
        }
    }
}

fn raised(id: &'static str, severity: Severity, text: String) -> Raised {
    Raised { id, severity, text }
}

/// What keeps the gate closed, or would.
fn missing(replication: &Replication, synced: bool) -> String {
    let agent = "the sync agent has not finished";
    match (replication.good(), synced) {
        (true, _) => agent.into(),
        (false, true) => replication.words(),
        (false, false) => format!("{}, and {agent}", replication.words()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(state: u8, lag_entries: u64) -> Replication {
        Replication::Known {
            state,
            lag_entries,
            reason: String::new(),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ids(step: &Step) -> Vec<&str> {
        step.alarms.iter().map(|alarm| alarm.id).collect()
    }

    fn gate(role: Role) -> Gate {
        Gate::new(role, at(1000))
    }

    const S: Settings = Settings {
        enabled: true,
        limit: Duration::from_secs(1200),
    };
    use SyncAgent::{Complete, Running};

    #[test]
    fn the_publisher_opens_when_replication_and_the_sync_agent_are_done() {
        let mut gate = gate(Role::Publisher);
        let step = gate.step(&S, &known(1, 120), Complete, at(1000));
        assert!(!step.open);
        assert_eq!(
            step.status,
            "replication state 1, lag 120 entries; opens in 20 min at the latest"
        );
        let step = gate.step(&S, &known(2, 1), Running, at(1001));
        assert!(!step.open);
        assert!(step.status.starts_with("the sync agent has not finished"));
        let step = gate.step(&S, &known(2, 0), Complete, at(1002));
        assert!(step.open && step.alarms.is_empty());
    }

    #[test]
    fn the_publisher_opens_at_the_limit_with_an_alarm_until_all_is_good() {
        let mut gate = gate(Role::Publisher);
        let unknown = Replication::Unknown("no socket".into());
        assert!(!gate.step(&S, &unknown, Running, at(2199)).open);
        let step = gate.step(&S, &unknown, Running, at(2200));
        assert!(step.open);
        assert_eq!(ids(&step), [AT_LIMIT]);
        let text = &step.alarms[0].text;
        assert!(text.contains("no socket, and the sync agent"), "{text}");
        let step = gate.step(&S, &known(2, 0), Running, at(2210));
        assert_eq!(ids(&step), [AT_LIMIT]);
        let step = gate.step(&S, &known(2, 0), Complete, at(2220));
        assert_eq!(ids(&step), [""; 0]);
        // The limit is past for good; what is lost later is another alarm.
        let step = gate.step(&S, &known(4, 0), Complete, at(2230));
        assert!(step.open && step.alarms.is_empty());
    }

    #[test]
    fn a_subscriber_waits_for_itself_alone_and_without_limit() {
        let mut gate = gate(Role::Subscriber);
        let step = gate.step(&S, &known(1, 1), Running, at(90_000));
        assert!(!step.open);
        assert_eq!(step.status, "replication state 1, lag 1 entry");
        assert_eq!(ids(&step), [WAITS]);
        assert!(gate.step(&S, &known(2, 0), Running, at(90_001)).open);
    }

    #[test]
    fn waiting_is_an_alarm_only_after_a_while() {
        let mut gate = gate(Role::Publisher);
        let step = gate.step(&S, &known(0, 0), Complete, at(1059));
        assert_eq!(ids(&step), [""; 0]);
        let step = gate.step(&S, &known(0, 0), Complete, at(1060));
        assert_eq!(ids(&step), [WAITS]);
    }

    #[test]
    fn once_open_it_stays_open_and_a_loss_is_an_alarm() {
        let mut gate = gate(Role::Subscriber);
        assert!(gate.step(&S, &known(2, 0), Complete, at(1000)).open);
        let step = gate.step(&S, &known(1, 500), Complete, at(1010));
        assert!(step.open && step.alarms.is_empty());
        let step = gate.step(&S, &known(3, 500), Complete, at(1040));
        assert!(step.open);
        assert_eq!(ids(&step), [LOST]);
        let step = gate.step(&S, &known(2, 0), Complete, at(1041));
        assert!(step.open && step.alarms.is_empty());
        // A new loss has its own time.
        let step = gate.step(&S, &known(1, 500), Complete, at(1050));
        assert!(step.alarms.is_empty());
    }

    #[test]
    fn disabled_it_opens_at_once_and_says_so() {
        let settings = Settings {
            enabled: false,
            ..S
        };
        let mut gate = gate(Role::Subscriber);
        let step = gate.step(&settings, &known(0, 0), Complete, at(1000));
        assert!(step.open && step.alarms.is_empty());
        assert!(step.status.contains("disabled by parameter"));
    }
}
