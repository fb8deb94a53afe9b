//! The recovery manager's alarms.

use std::time::Duration;

use crate::event::{Action, Arbiter, Verdict};
use crate::machine::Machine;
use crate::state::{Reason, Standing, State};
use crate::table;

/// Users were moved, or are being moved.
pub(crate) const FAILOVER: &str = "SRMFailover";
/// The group is in failed mode.
pub(crate) const FAILED: &str = "SRMFailed";
/// Failovers came too often.
pub(crate) const HOLD: &str = "SRMFailoverHold";
/// The peer is silent, and its users were not taken over.
pub(crate) const SILENT: &str = "SRMPeerSilent";
/// Critical services of this node are down.
pub(crate) const SERVICES: &str = "SRMCriticalServicesDown";
/// The peer is heard but does not hear this node.
pub(crate) const DEAF: &str = "SRMPeerDoesNotHear";

/// What a service that was killed has to come back before it is an alarm.
const RESTART: Duration = Duration::from_secs(5);

/// How urgent an alarm is: the same degrees as in `service`, on which a crate
/// without I/O does not depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is lost, somebody should look.
    Warning,
    /// Something does not work.
    Error,
    /// People are affected now.
    Critical,
}

/// An alarm as it is to be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its name.
    pub id: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// What happened and what to do.
    pub text: String,
}

impl Machine {
    /// Raises and clears what has changed.
    pub(crate) fn alarm(&mut self, actions: &mut Vec<Action>) {
        let alarms = self.alarms();
        let ids = [FAILOVER, FAILED, HOLD, SILENT, SERVICES, DEAF];
        for id in ids {
            match alarms.iter().find(|alarm| alarm.id == id) {
                None if self.raised.remove(id).is_some() => actions.push(Action::Clear(id)),
                None => {}
                Some(alarm) => {
                    let before = self.raised.insert(id, alarm.text.clone());
                    if before.as_ref() != Some(&alarm.text) {
                        actions.push(Action::Raise(alarm.clone()));
                    }
                }
            }
        }
    }

    /// The alarms that are to stand.
    fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let mut raise = |id, severity, text: String| {
            alarms.push(Alarm { id, severity, text });
        };
        let peer = self.node.peer();
        let Standing { state, reason } = self.standing();
        let row = table::explain(Some(self.standing()), self.peer_standing());
        let words = row.map_or_else(String::new, |row| {
            let mut sentences = vec![row.cause];
            sentences.extend(row.advice);
            format!(" {}", sentences.join(" "))
        });
        let text = format!("{} is {}.{words}", self.node, self.standing());
        match state {
            State::RunningInFailedMode => raise(FAILED, Severity::Critical, text),
            State::FailingOver | State::TakingOver => {
                raise(FAILOVER, Severity::Error, text);
            }
            _ if state.is_backup() || state.is_failed_over() => {
                let by_hand = reason == Reason::OnAdminRequest;
                let severity = if by_hand {
                    Severity::Warning
                } else {
                    Severity::Error
                };
                raise(FAILOVER, severity, text);
            }
            _ => {}
        }
        if self.held() {
            let text = "Three failovers within an hour: users are not moved by themselves for the \
                        next hour, or until the next failover, fallback or recovery by hand. Find \
                        out what fails again and again.";
            raise(HOLD, Severity::Critical, text.into());
        }
        if self.settings.enabled && self.lost() && !state.is_backup() {
            let said = match (self.verdict(), self.settings.arbiter) {
                (Some(Verdict::Denied), _) => {
                    "a third node hears it, so the link between the two is cut"
                }
                (Some(Verdict::Confirmed), Arbiter::ThirdNode) => "a third node misses it, too",
                (Some(Verdict::Confirmed), Arbiter::KnownHosts) => "other hosts are reached",
                (Some(Verdict::Isolated), _) => {
                    "nobody else answers, so this node may be the one that is cut off"
                }
                (None, _) => "nobody has answered about it yet",
            };
            let text = format!("{peer} is silent; {said}. Check {peer} and the network.");
            raise(SILENT, Severity::Error, text);
        }
        let timeout = self.settings.parameters.keepalive_timeout;
        if let Some(heard) = self.heard()
            && Duration::from_millis(heard.silent) >= timeout
        {
            let text = format!(
                "{peer} is heard but does not hear this node: messages to it are lost. Check the \
                 network between the two."
            );
            raise(DEAF, Severity::Error, text);
        }
        alarms.extend(self.services_down());
        alarms
    }

    /// Critical services have been down for longer than a restart takes, while
    /// they are to run.
    fn services_down(&self) -> Option<Alarm> {
        let serves = matches!(
            self.standing().state,
            State::Normal | State::BackupActivated | State::RunningInBackupMode
        );
        let long = self.health.down_for(self.clock.now())? >= RESTART;
        (self.settings.enabled && serves && long).then(|| Alarm {
            id: SERVICES,
            severity: Severity::Critical,
            text: format!(
                "Critical services of {} are down ({}); people who are at home here may not be \
                 able to sign in. If that lasts for {} s, {} takes its users over. Start them with \
                 \"utils service start\".",
                self.node,
                self.health.words(),
                self.settings.parameters.critical_service_delay.as_secs(),
                self.node.peer(),
            ),
        })
    }
}
