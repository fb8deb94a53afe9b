//! What the machine wants to know of its node: the group and its parameters
//! from the database, services from the supervisor, the state of replication.

use std::collections::BTreeMap;
use std::time::Duration;

use database::tables::{ProcessNode, RedundancyGroup, ServiceParameter};
use database::{Database, Watch};
use supervisor::{Client, State};
use tokio::sync::mpsc;

use crate::driver::Input;
use crate::group::{Group, Known, Place, Seen, Services};

/// How often the services are looked at.
const SERVICES: Duration = Duration::from_secs(1);
/// How often the state of replication is.
const REPLICATION: Duration = Duration::from_secs(2);
/// Who does not answer for so long does not answer.
const ANSWER: Duration = Duration::from_secs(3);

/// The services of the node now.
pub(crate) async fn services(supervisor: &Client) -> Option<Services> {
    let listed = tokio::time::timeout(ANSWER, supervisor.list()).await;
    let views = match listed {
        Ok(Ok(views)) => views,
        Ok(Err(status)) => {
            tracing::debug!(%status, "The supervisor does not tell the services.");
            return None;
        }
        Err(_) => return None,
    };
    let seen = views.into_iter().map(|view| {
        let seen = Seen {
            critical: view.critical,
            activated: view.activated,
            running: view.state == State::Started,
        };
        (view.id, seen)
    });
    Some(Services(seen.collect()))
}

/// Follows the services until the driver ends.
pub(crate) async fn follow_services(supervisor: Client, inputs: mpsc::Sender<Input>) {
    let mut clock = tokio::time::interval(SERVICES);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !inputs.is_closed() {
        clock.tick().await;
        if let Some(services) = services(&supervisor).await
            && inputs.send(Input::Services(services)).await.is_err()
        {
            return;
        }
    }
}

/// Follows the state of replication until the driver ends. A database that does
/// not answer is in state 4.
pub(crate) async fn follow_replication(database: Database, inputs: mpsc::Sender<Input>) {
    let mut clock = tokio::time::interval(REPLICATION);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    while !inputs.is_closed() {
        clock.tick().await;
        let status = tokio::time::timeout(ANSWER, database.status()).await;
        let state = match status {
            Ok(Ok(status)) => status.state,
            _ => 4,
        };
        if last != Some(state) && inputs.send(Input::Replication(state)).await.is_err() {
            return;
        }
        last = Some(state);
    }
}

/// The tables that matter here, as they are.
pub(crate) struct Tables {
    nodes: Watch<ProcessNode>,
    groups: Watch<RedundancyGroup>,
    parameters: Watch<ServiceParameter>,
    own_parameters: Watch<ServiceParameter>,
    known: Parts,
}

#[derive(Default)]
struct Parts {
    nodes: Option<BTreeMap<String, Place>>,
    groups: Option<BTreeMap<String, Group>>,
    parameters: Option<BTreeMap<String, String>>,
    own_parameters: Option<BTreeMap<String, String>>,
}

impl Tables {
    /// Begins to watch; the parameters that matter are those of `service`, for
    /// the cluster and for this node.
    pub(crate) fn watch(database: &Database, service: &str, node: &str) -> Self {
        let own = format!("{service}@{node}");
        Self {
            nodes: database.watch(&[]),
            groups: database.watch(&[]),
            parameters: database.watch(&[service]),
            own_parameters: database.watch(&[&own]),
            known: Parts::default(),
        }
    }

    /// What is known after the next change; not before all of it is known.
    pub(crate) async fn next(&mut self) -> Known {
        loop {
            let Parts {
                nodes,
                groups,
                parameters,
                own_parameters,
            } = &mut self.known;
            tokio::select! {
                event = self.nodes.next() => event.apply(nodes.get_or_insert_default(), |row| {
                    let replica = row.replica.unsigned_abs();
                    (row.name, Place { address: row.address, replica })
                }),
                event = self.groups.next() => event.apply(groups.get_or_insert_default(), |row| {
                    (row.name.clone(), Group::from(row))
                }),
                event = self.parameters.next() => event.apply(parameters.get_or_insert_default(), |row| {
                    (row.name, row.value)
                }),
                event = self.own_parameters.next() => event.apply(own_parameters.get_or_insert_default(), |row| {
                    (row.name, row.value)
                }),
            }
            if let (Some(nodes), Some(groups), Some(parameters), Some(own)) =
                (nodes, groups, parameters, own_parameters)
            {
                let all = parameters.iter().chain(own.iter());
                return Known {
                    nodes: nodes.clone(),
                    groups: groups.values().cloned().collect(),
                    parameters: all
                        .map(|(name, value)| (name.clone(), value.clone()))
                        .collect(),
                };
            }
        }
    }
}

impl From<RedundancyGroup> for Group {
    fn from(row: RedundancyGroup) -> Self {
        Self {
            name: row.name,
            first: row.first,
            second: row.second,
            high_availability: row.high_availability,
        }
    }
}
