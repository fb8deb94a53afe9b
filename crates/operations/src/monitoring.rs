//! Counters and alarms of the running services, from their control sockets.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde::Serialize;
use service::introspect;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};

/// The counters of a class may be split over services; a query takes at most
/// this many classes or counters, as scripts expect.
pub const QUERY_LIMIT: usize = 5;

/// One counter now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Counter {
    /// Class, such as `Cisco XCP CM`.
    pub class: String,
    /// Instance; empty where the class has only one.
    pub instance: String,
    /// Name.
    pub counter: String,
    /// Value.
    pub value: i64,
}

/// Counters of the running services.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    /// In order of class, instance and name.
    pub counters: Vec<Counter>,
    /// Services that did not answer, with the reason.
    pub silent: BTreeMap<String, String>,
}

/// An alarm that is raised now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RaisedAlarm {
    /// The service that raised it.
    pub service: String,
    /// Name, such as `CriticalServiceDown`.
    pub id: String,
    /// `warning`, `error` or `critical`.
    pub severity: String,
    /// What happened and what to do.
    pub text: String,
    /// When, seconds since the Unix epoch.
    pub since: u64,
}

impl Operations {
    fn running(&self) -> Result<Vec<String>> {
        self.paths().running().map_err(|error| {
            Error::unavailable(format!(
                "the services' sockets cannot be listed: {error}. Is the node set up and running?"
            ))
        })
    }

    /// Every counter of every running service.
    pub async fn counters(&self, caller: &Caller) -> Result<Counters> {
        caller
            .does(&actions::PERF, "", self.gather_counters())
            .await
    }

    pub(crate) async fn gather_counters(&self) -> Result<Counters> {
        let ids = self.running()?;
        let replies = join_all(ids.iter().map(|id| introspect::perf(self.paths(), id))).await;
        let mut found = Counters::default();
        for (id, reply) in ids.into_iter().zip(replies) {
            match reply {
                Ok(samples) => found
                    .counters
                    .extend(samples.into_iter().map(|sample| Counter {
                        class: sample.class,
                        instance: sample.instance,
                        counter: sample.name,
                        value: sample.value,
                    })),
                Err(status) => {
                    found.silent.insert(id, status.message().to_owned());
                }
            }
        }
        found.counters.sort();
        Ok(found)
    }

    /// The counters of up to five classes, class by class. A class that no
    /// running service has is an error that names those there are.
    pub async fn query_classes(
        &self,
        caller: &Caller,
        classes: &[String],
    ) -> Result<Vec<(String, Vec<Counter>)>> {
        let subject = classes.join(", ");
        let work = async {
            if classes.is_empty() || classes.len() > QUERY_LIMIT {
                return Err(Error::invalid(format!(
                    "give one to {QUERY_LIMIT} class names, each in double quotes"
                )));
            }
            let all = self.gather_counters().await?;
            classes
                .iter()
                .map(|class| {
                    let found: Vec<_> = all
                        .counters
                        .iter()
                        .filter(|counter| counter.class.eq_ignore_ascii_case(class))
                        .cloned()
                        .collect();
                    match found.first() {
                        Some(first) => Ok((first.class.clone(), found)),
                        None => Err(Error::not_found(format!(
                            "no running service has counters of the class {class:?}. \"show perf \
                             list classes\" shows those there are"
                        ))),
                    }
                })
                .collect()
        };
        caller.does(&actions::PERF, &subject, work).await
    }

    /// The alarms that are raised now, most urgent first.
    pub async fn alarms(&self, caller: &Caller) -> Result<Vec<RaisedAlarm>> {
        caller
            .does(&actions::ALARMS, "", self.gather_alarms())
            .await
    }

    pub(crate) async fn gather_alarms(&self) -> Result<Vec<RaisedAlarm>> {
        let ids = self.running()?;
        let replies = join_all(ids.iter().map(|id| introspect::alarms(self.paths(), id))).await;
        let mut alarms: Vec<_> = ids
            .into_iter()
            .zip(replies)
            .flat_map(|(id, reply)| {
                // A service that does not answer shows in the service list.
                reply
                    .unwrap_or_default()
                    .into_iter()
                    .map(move |alarm| (id.clone(), alarm))
            })
            .collect();
        alarms.sort_by(|(_, a), (_, b)| {
            (b.severity, a.since, &a.id).cmp(&(a.severity, b.since, &b.id))
        });
        Ok(alarms
            .into_iter()
            .map(|(service, alarm)| RaisedAlarm {
                service,
                id: alarm.id,
                severity: alarm.severity.to_string(),
                text: alarm.text,
                since: alarm
                    .since
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |since| since.as_secs()),
            })
            .collect())
    }
}
