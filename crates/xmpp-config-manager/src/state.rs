//! What is set, what the components run with, and what follows. No I/O.

use std::collections::BTreeMap;

use crate::declared::{DECLARED, Declared, declared};

type Values = BTreeMap<String, String>;

/// Something that must be restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Id of the service.
    pub service: String,
    /// Parameters that changed since it was started.
    pub parameters: Vec<String>,
    /// Seconds since the Unix epoch when it came up.
    pub since: i64,
}

impl Notice {
    /// The notice as a sentence.
    pub fn text(&self) -> String {
        let names = self.parameters.join(", ");
        let (noun, verb) = if self.parameters.len() == 1 {
            ("parameter", "has")
        } else {
            ("parameters", "have")
        };
        format!(
            "{} must be restarted: {noun} {names} {verb} changed since it was started.",
            self.service
        )
    }
}

/// Settings against what runs.
#[derive(Clone, Debug, Default)]
pub struct State {
    set: BTreeMap<String, Values>,
    running: BTreeMap<String, Values>,
    since: BTreeMap<String, i64>,
}

impl State {
    /// A setting was changed, or with `None` removed. Tells whether the
    /// component's own view changes by it at once.
    pub fn set(&mut self, service: &str, name: &str, value: Option<&str>) -> bool {
        let values = self.set.entry(service.into()).or_default();
        let old = match value {
            Some(value) => values.insert(name.into(), value.into()),
            None => values.remove(name),
        };
        old.as_deref() != value
    }

    /// Forgets every setting of the services but those named; for a snapshot.
    pub fn replace(&mut self, settings: impl IntoIterator<Item = (String, String, String)>) {
        // Identity of the node does not come from the table of settings.
        let identity: Vec<_> = DECLARED
            .iter()
            .filter(|known| known.is_identity())
            .filter_map(|known| {
                let value = self.set.get(known.service)?.get(known.definition.name)?;
                Some((known, value.clone()))
            })
            .collect();
        self.set.clear();
        for (known, value) in identity {
            self.set(known.service, known.definition.name, Some(&value));
        }
        for (service, name, value) in settings {
            self.set(&service, &name, Some(&value));
        }
    }

    /// A component was started with these values.
    pub fn started(&mut self, component: &str, values: Values) {
        self.running.insert(component.into(), values);
    }

    /// A component ended: what it ran with is of no importance any more.
    pub fn ended(&mut self, component: &str) {
        self.running.remove(component);
    }

    /// The value that counts for a parameter: as set, or its default.
    pub fn value(&self, parameter: &Declared) -> &str {
        self.set
            .get(parameter.service)
            .and_then(|values| values.get(parameter.definition.name))
            .map_or(parameter.definition.default, String::as_str)
    }

    /// Whether a parameter is set.
    pub fn is_set(&self, parameter: &Declared) -> bool {
        self.set
            .get(parameter.service)
            .is_some_and(|values| values.contains_key(parameter.definition.name))
    }

    /// What a component runs with, if it told.
    pub fn running(&self, parameter: &Declared) -> Option<&str> {
        self.running
            .get(parameter.service)?
            .get(parameter.definition.name)
            .map(String::as_str)
    }

    /// What must be restarted now. A notice keeps the time at which it came
    /// up, and is gone when the service was started with what is set.
    pub fn notices(&mut self, now: i64) -> Vec<Notice> {
        let mut pending: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (component, values) in &self.running {
            for (name, value) in values {
                let Some(parameter) =
                    declared(component, name).filter(|known| known.applies_by_restart())
                else {
                    continue;
                };
                if self.value(parameter) != value {
                    pending
                        .entry(component.clone())
                        .or_default()
                        .push(name.clone());
                }
            }
        }
        self.since
            .retain(|service, _| pending.contains_key(service));
        pending
            .into_iter()
            .map(|(service, parameters)| Notice {
                since: *self.since.entry(service.clone()).or_insert(now),
                service,
                parameters,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran_with(domain: &str) -> Values {
        BTreeMap::from([("domain".into(), domain.into())])
    }

    #[test]
    fn a_notice_lasts_until_the_service_was_restarted() {
        let mut state = State::default();
        state.set("xmpp-router", "domain", Some("a.example"));
        state.started("xmpp-router", ran_with("a.example"));
        assert_eq!(state.notices(1), []);
        state.set("xmpp-router", "domain", Some("b.example"));
        let notices = state.notices(2);
        assert_eq!(notices.len(), 1);
        assert_eq!(
            notices[0].text(),
            "xmpp-router must be restarted: parameter domain has changed since it was started."
        );
        // It keeps its time, goes while the service is down, and stays away
        // when it was started with what is set.
        assert_eq!(state.notices(9)[0].since, 2);
        state.ended("xmpp-router");
        assert_eq!(state.notices(10), []);
        state.started("xmpp-router", ran_with("b.example"));
        assert_eq!(state.notices(11), []);
    }

    #[test]
    fn what_the_node_is_outlives_a_snapshot_of_the_settings() {
        let mut state = State::default();
        state.set("xmpp-router", "domain", Some("a.example"));
        state.set("xmpp-router", "node", Some("new"));
        state.set("xmpp-connection-manager", "Threads", Some("2"));
        let mut running = ran_with("a.example");
        running.insert("node".into(), "old".into());
        state.started("xmpp-router", running);
        let threads = BTreeMap::from([("Threads".into(), "2".into())]);
        state.started("xmpp-connection-manager", threads);
        state.replace([]);
        let notices = state.notices(1);
        let texts: Vec<_> = notices.iter().map(Notice::text).collect();
        assert_eq!(
            texts,
            [
                "xmpp-connection-manager must be restarted: parameter Threads has changed since \
                 it was started.",
                "xmpp-router must be restarted: parameter node has changed since it was started."
            ]
        );
    }

    #[test]
    fn a_change_taken_back_needs_no_restart_and_hot_ones_never_do() {
        let mut state = State::default();
        state.set("xmpp-router", "domain", Some("a.example"));
        let mut running = ran_with("a.example");
        running.insert("RosterItems".into(), "1000".into());
        state.started("xmpp-router", running);
        assert!(state.set("xmpp-router", "RosterItems", Some("5")));
        assert!(!state.set("xmpp-router", "RosterItems", Some("5")));
        assert_eq!(state.notices(1), []);
        state.set("xmpp-router", "domain", Some("b.example"));
        assert_eq!(state.notices(1).len(), 1);
        state.set("xmpp-router", "domain", Some("a.example"));
        assert_eq!(state.notices(1), []);
    }

    #[test]
    fn every_parameter_is_declared_once() {
        for (index, parameter) in DECLARED.iter().enumerate() {
            let found = declared(parameter.service, parameter.definition.name).unwrap();
            assert_eq!(found, &DECLARED[index]);
            let same = DECLARED.iter().filter(|other| {
                (other.service, other.definition.name)
                    == (parameter.service, parameter.definition.name)
            });
            assert_eq!(same.count(), 1, "{parameter:?}");
        }
    }
}
