//! The decision: what was seen and the time go in, what to tell comes out.

use std::time::Duration;

use service::{Role, Severity};

/// Waiting for so long is worth an alarm.
const PATIENCE: Duration = Duration::from_secs(60);
/// A node that was good before waits for its publisher for so long.
const ALONE_AFTER: Duration = Duration::from_secs(30);
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
    /// Whether a node that was good before opens although its publisher is
    /// away.
    pub without_publisher: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            limit: Duration::from_secs(1200),
            without_publisher: true,
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
        /// Whether all that is wrong is that no publisher is there, and this
        /// node was good before.
        orphaned: bool,
    },
}

impl Replication {
    fn good(&self) -> bool {
        matches!(self, Self::Known { state: 2, .. })
    }

    fn orphaned(&self) -> bool {
        matches!(self, Self::Known { orphaned: true, .. })
    }

    fn words(&self) -> String {
        match self {
            Self::Unknown(reason) => reason.clone(),
            Self::Known {
                state,
                lag_entries,
                reason,
                ..
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

/// How far the sync agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncAgent {
    /// It has finished, or there is no call control cluster to sync with.
    Complete,
    /// It has not, and why.
    Running(String),
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
pub(crate) const ALARMS: [&str; 4] = [WAITS, AT_LIMIT, ALONE, LOST];
const WAITS: &str = "DataMonitorWaiting";
const AT_LIMIT: &str = "DataMonitorTimeLimitReached";
const ALONE: &str = "DataMonitorWithoutPublisher";
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
    Open {
        /// Why it is open although not all was good; none since all was.
        early: Option<Early>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Early {
    /// The time limit was reached.
    AtLimit,
    /// The publisher was away.
    Alone,
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
        agent: &SyncAgent,
        now: Duration,
    ) -> Step {
        // A subscriber's users come by replication; only the publisher syncs.
        let agent = match agent {
            SyncAgent::Running(why) if self.publisher => Some(why.as_str()),
            _ => None,
        };
        let good = replication.good() && agent.is_none();
        if self.phase == Phase::Waiting {
            let at_limit = self.publisher && now.saturating_sub(self.since) >= settings.limit;
            // Who was set up as the publisher may follow another one by now.
            let alone = settings.without_publisher
                && replication.orphaned()
                && now.saturating_sub(self.since) >= ALONE_AFTER;
            if good || !settings.enabled {
                self.phase = Phase::Open { early: None };
            } else if at_limit {
                let early = Some(Early::AtLimit);
                self.phase = Phase::Open { early };
            } else if alone {
                let early = Some(Early::Alone);
                self.phase = Phase::Open { early };
            }
        }
        match self.phase {
            Phase::Waiting => self.waiting(settings, replication, agent, now),
            Phase::Open { early } => {
                let early = early.filter(|_| !good);
                self.phase = Phase::Open { early };
                self.open(settings, replication, agent, early, now)
            }
        }
    }

    fn waiting(
        &self,
        settings: &Settings,
        replication: &Replication,
        agent: Option<&str>,
        now: Duration,
    ) -> Step {
        let waited = now.saturating_sub(self.since);
        let mut status = missing(replication, agent);
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
        agent: Option<&str>,
        early: Option<Early>,
        now: Duration,
    ) -> Step {
        let mut alarms = Vec::new();
        if early == Some(Early::Alone) {
            let text = format!(
                "Services were started without the publisher, since this node was complete before: \
                 {}. What they show may be out of date, and nothing can be changed.",
                missing(replication, agent)
            );
            alarms.push(raised(ALONE, Severity::Error, text));
        }
        if early == Some(Early::AtLimit) {
            let text = format!(
                "Services were started at the time limit of {} s though {}. What they show may \
                 be out of date.",
                settings.limit.as_secs(),
                missing(replication, agent)
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
        let status = if replication.good() && agent.is_none() {
            "Open: replication is good.".into()
        } else if settings.enabled {
            format!("Open, but {}.", missing(replication, agent))
        } else {
            format!(
                "Open, disabled by parameter: {}.",
                missing(replication, agent)
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

/// What keeps the gate closed, or would. `agent`: why the sync agent has not
/// finished, if it has not.
fn missing(replication: &Replication, agent: Option<&str>) -> String {
    let unfinished = agent.map(|why| match why {
        "" => "the sync agent has not finished".to_owned(),
        why => format!(
            "the sync agent has not finished ({})",
            why.trim_end_matches('.')
        ),
    });
    match (replication.good(), unfinished) {
        (true, unfinished) => unfinished.unwrap_or_default(),
        (false, None) => replication.words(),
        (false, Some(unfinished)) => format!("{}, and {unfinished}", replication.words()),
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
            orphaned: false,
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
        without_publisher: true,
    };
    const COMPLETE: &SyncAgent = &SyncAgent::Complete;

    fn running() -> SyncAgent {
        SyncAgent::Running("Waits for the database.".into())
    }

    #[test]
    fn the_publisher_opens_when_replication_and_the_sync_agent_are_done() {
        let mut gate = gate(Role::Publisher);
        let step = gate.step(&S, &known(1, 120), COMPLETE, at(1000));
        assert!(!step.open);
        assert_eq!(
            step.status,
            "replication state 1, lag 120 entries; opens in 20 min at the latest"
        );
        let step = gate.step(&S, &known(2, 1), &running(), at(1001));
        assert!(!step.open);
        assert_eq!(
            step.status,
            "the sync agent has not finished (Waits for the database); opens in 20 min at the latest"
        );
        let step = gate.step(&S, &known(2, 0), COMPLETE, at(1002));
        assert!(step.open && step.alarms.is_empty());
    }

    #[test]
    fn the_publisher_opens_at_the_limit_with_an_alarm_until_all_is_good() {
        let mut gate = gate(Role::Publisher);
        let unknown = Replication::Unknown("no socket".into());
        assert!(!gate.step(&S, &unknown, &running(), at(2199)).open);
        let step = gate.step(&S, &unknown, &running(), at(2200));
        assert!(step.open);
        assert_eq!(ids(&step), [AT_LIMIT]);
        let text = &step.alarms[0].text;
        assert!(text.contains("no socket, and the sync agent"), "{text}");
        let step = gate.step(&S, &known(2, 0), &running(), at(2210));
        assert_eq!(ids(&step), [AT_LIMIT]);
        let step = gate.step(&S, &known(2, 0), COMPLETE, at(2220));
        assert_eq!(ids(&step), [""; 0]);
        // The limit is past for good; what is lost later is another alarm.
        let step = gate.step(&S, &known(4, 0), COMPLETE, at(2230));
        assert!(step.open && step.alarms.is_empty());
    }

    #[test]
    fn a_subscriber_waits_for_itself_alone_and_without_limit() {
        let mut gate = gate(Role::Subscriber);
        let step = gate.step(&S, &known(1, 1), &running(), at(90_000));
        assert!(!step.open);
        assert_eq!(step.status, "replication state 1, lag 1 entry");
        assert_eq!(ids(&step), [WAITS]);
        assert!(gate.step(&S, &known(2, 0), &running(), at(90_001)).open);
    }

    #[test]
    fn a_subscriber_that_was_good_opens_without_its_publisher_and_says_so() {
        let away = |orphaned| Replication::Known {
            state: 1,
            lag_entries: 0,
            reason: "no word from the publisher".into(),
            orphaned,
        };
        let mut new = gate(Role::Subscriber);
        assert!(!new.step(&S, &away(false), COMPLETE, at(90_000)).open);
        let mut before = gate(Role::Subscriber);
        assert!(!before.step(&S, &away(true), COMPLETE, at(1029)).open);
        let strict = Settings {
            without_publisher: false,
            ..S
        };
        assert!(!before.step(&strict, &away(true), COMPLETE, at(1030)).open);
        let step = before.step(&S, &away(true), COMPLETE, at(1030));
        assert!(step.open);
        assert_eq!(ids(&step), [ALONE]);
        assert!(step.alarms[0].text.contains("no word from the publisher"));
        let step = before.step(&S, &known(2, 0), COMPLETE, at(1040));
        assert!(step.open && step.alarms.is_empty());
        // So does the node that was set up as the publisher, where another one leads.
        let mut first = gate(Role::Publisher);
        assert!(!first.step(&S, &away(true), COMPLETE, at(1029)).open);
        let step = first.step(&S, &away(true), COMPLETE, at(1030));
        assert_eq!((step.open, ids(&step)), (true, vec![ALONE]));
    }

    #[test]
    fn waiting_is_an_alarm_only_after_a_while() {
        let mut gate = gate(Role::Publisher);
        let step = gate.step(&S, &known(0, 0), COMPLETE, at(1059));
        assert_eq!(ids(&step), [""; 0]);
        let step = gate.step(&S, &known(0, 0), COMPLETE, at(1060));
        assert_eq!(ids(&step), [WAITS]);
    }

    #[test]
    fn once_open_it_stays_open_and_a_loss_is_an_alarm() {
        let mut gate = gate(Role::Subscriber);
        assert!(gate.step(&S, &known(2, 0), COMPLETE, at(1000)).open);
        let step = gate.step(&S, &known(1, 500), COMPLETE, at(1010));
        assert!(step.open && step.alarms.is_empty());
        let step = gate.step(&S, &known(3, 500), COMPLETE, at(1040));
        assert!(step.open);
        assert_eq!(ids(&step), [LOST]);
        let step = gate.step(&S, &known(2, 0), COMPLETE, at(1041));
        assert!(step.open && step.alarms.is_empty());
        // A new loss has its own time.
        let step = gate.step(&S, &known(1, 500), COMPLETE, at(1050));
        assert!(step.alarms.is_empty());
    }

    #[test]
    fn disabled_it_opens_at_once_and_says_so() {
        let settings = Settings {
            enabled: false,
            ..S
        };
        let mut gate = gate(Role::Subscriber);
        let step = gate.step(&settings, &known(0, 0), COMPLETE, at(1000));
        assert!(step.open && step.alarms.is_empty());
        assert!(step.status.contains("disabled by parameter"));
    }
}
