//! The node's critical services: which run, which are down and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::parameters::Parameters;
use crate::state::Reason;

/// Id of the database's service, whose failure has a reason of its own.
pub const DATABASE: &str = "database";
/// Id of the service that is critical only when its parameter says so.
pub const AUTHENTICATION: &str = "authentication-service";

/// The critical services of a node: those whose units say so (`Critical=`) and,
/// where its parameter says so, the authentication service; of these the ones
/// that exist there and are activated.
pub fn critical_services(
    units: &BTreeSet<String>,
    activated: &BTreeSet<String>,
    parameters: &Parameters,
) -> BTreeSet<String> {
    let mut all = units.clone();
    if parameters.monitor_authentication {
        all.insert(AUTHENTICATION.into());
    }
    all.intersection(activated).cloned().collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Health {
    running: BTreeSet<String>,
    /// Critical services that do not run, and since when.
    down: BTreeMap<String, Duration>,
    healthy_since: Option<Duration>,
    critical: BTreeSet<String>,
}

impl Health {
    /// Nothing is known to run yet.
    pub(crate) fn new(critical: BTreeSet<String>, now: Duration) -> Self {
        let mut health = Self {
            running: BTreeSet::new(),
            down: BTreeMap::new(),
            healthy_since: None,
            critical: BTreeSet::new(),
        };
        health.expect(critical, now);
        health
    }

    /// Takes a new set of critical services.
    pub(crate) fn expect(&mut self, critical: BTreeSet<String>, now: Duration) {
        let running = &self.running;
        self.down.retain(|id, _| critical.contains(id));
        for id in critical.iter().filter(|id| !running.contains(*id)) {
            self.down.entry(id.clone()).or_insert(now);
        }
        self.critical = critical;
        self.judge(now);
    }

    /// A service was seen to run or not.
    pub(crate) fn observe(&mut self, id: String, running: bool, now: Duration) {
        if running {
            self.down.remove(&id);
            self.running.insert(id);
        } else {
            self.running.remove(&id);
            if self.critical.contains(&id) {
                self.down.entry(id).or_insert(now);
            }
        }
        self.judge(now);
    }

    /// Services are being started: what is down has its full time again.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.down.values_mut().for_each(|since| *since = now);
    }

    fn judge(&mut self, now: Duration) {
        self.healthy_since = match self.down.is_empty() {
            true => self.healthy_since.or(Some(now)),
            false => None,
        };
    }

    pub(crate) fn healthy(&self) -> bool {
        self.down.is_empty()
    }

    /// For how long all critical services have run.
    pub(crate) fn healthy_for(&self, now: Duration) -> Duration {
        self.healthy_since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// The reason to give the node up, when a service has been down for `delay`.
    pub(crate) fn sick(&self, now: Duration, delay: Duration) -> Option<Reason> {
        let long = |since: &&Duration| now.saturating_sub(**since) >= delay;
        if self.down.get(DATABASE).as_ref().is_some_and(long) {
            Some(Reason::DatabaseFailure)
        } else {
            let sick = self.down.values().any(|since| long(&since));
            sick.then_some(Reason::CriticalServicesDown)
        }
    }

    /// For how long a critical service has been down.
    pub(crate) fn down_for(&self, now: Duration) -> Option<Duration> {
        let first = self.down.values().min()?;
        Some(now.saturating_sub(*first))
    }

    /// Critical services that are down, in words.
    pub(crate) fn words(&self) -> String {
        let ids: Vec<&str> = self.down.keys().map(String::as_str).collect();
        ids.join(", ")
    }

    /// Each critical service and whether it runs.
    pub(crate) fn services(&self) -> BTreeMap<String, bool> {
        let all = self.critical.iter();
        all.map(|id| (id.clone(), !self.down.contains_key(id)))
            .collect()
    }

    pub(crate) fn critical(&self) -> &BTreeSet<String> {
        &self.critical
    }

    /// What a manual failover stops: the critical services but for the
    /// database, without which the node could not be managed.
    pub(crate) fn stoppable(&self) -> BTreeSet<String> {
        let all = self.critical.iter();
        all.filter(|id| *id != DATABASE).cloned().collect()
    }

    /// Whether nothing that can be stopped runs.
    pub(crate) fn stopped(&self) -> bool {
        self.stoppable().iter().all(|id| self.down.contains_key(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).into()).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn critical_is_what_is_activated() {
        let units = set(&[DATABASE, "xmpp-router", "sip-proxy"]);
        let activated = set(&[DATABASE, "xmpp-router", AUTHENTICATION]);
        let mut parameters = Parameters::default();
        let critical = critical_services(&units, &activated, &parameters);
        assert_eq!(critical, set(&[DATABASE, "xmpp-router"]));
        parameters.monitor_authentication = true;
        let critical = critical_services(&units, &activated, &parameters);
        assert_eq!(critical, activated);
    }

    #[test]
    fn a_restart_within_the_delay_is_no_failure() {
        let mut health = Health::new(set(&["xmpp-router"]), Duration::ZERO);
        health.observe("xmpp-router".into(), true, Duration::ZERO);
        for second in [10, 20] {
            health.observe("xmpp-router".into(), false, second * SECOND);
            assert_eq!(health.sick((second + 8) * SECOND, 9 * SECOND), None);
            health.observe("xmpp-router".into(), true, (second + 8) * SECOND);
        }
        assert!(health.healthy());
        assert_eq!(health.healthy_for(60 * SECOND), 32 * SECOND);
    }

    #[test]
    fn the_database_has_a_reason_of_its_own() {
        let mut health = Health::new(set(&[DATABASE, "xmpp-router"]), Duration::ZERO);
        health.observe("xmpp-router".into(), false, Duration::ZERO);
        let delay = 90 * SECOND;
        assert_eq!(health.sick(delay, delay), Some(Reason::DatabaseFailure));
        health.observe(DATABASE.into(), true, delay);
        let reason = health.sick(delay, delay);
        assert_eq!(reason, Some(Reason::CriticalServicesDown));
        assert_eq!(health.words(), "xmpp-router");
    }

    #[test]
    fn what_no_longer_counts_is_not_down() {
        let mut health = Health::new(set(&["sip-proxy"]), Duration::ZERO);
        health.expect(set(&[]), SECOND);
        assert!(health.healthy());
        health.expect(set(&["sip-proxy"]), 5 * SECOND);
        assert_eq!(health.sick(13 * SECOND, 9 * SECOND), None);
    }
}
