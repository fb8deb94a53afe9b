//! The support bundle: everything that helps to understand a node, without
//! secrets.

use serde::Serialize;

use crate::action::{Caller, actions};
use crate::error::Result;
use crate::host::{Machine, Status};
use crate::monitoring::{Counters, RaisedAlarm};
use crate::network::{INTERFACE, Network};
use crate::ports::Replication;
use crate::replication::Datastore;
use crate::services::ServiceList;
use crate::{Level, Operations};

/// A part of the bundle: what was found, or why not. One part that fails does
/// not cost the others.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part<T> {
    /// What was found.
    Found(T),
    /// Why there is nothing.
    Missing(String),
}

impl<T> From<Result<T>> for Part<T> {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(found) => Self::Found(found),
            Err(error) => Self::Missing(error.message),
        }
    }
}

/// The bundle.
#[derive(Clone, Debug, Serialize)]
pub struct Tech {
    /// What the node knows about itself.
    pub node: Part<service::Node>,
    /// The machine.
    pub machine: Machine,
    /// Its state.
    pub status: Part<Status>,
    /// The network settings.
    pub network: Part<Network>,
    /// The services.
    pub services: Part<ServiceList>,
    /// Replication.
    pub replication: Part<Replication>,
    /// The real-time stores.
    pub datastores: Part<Vec<Datastore>>,
    /// The alarms.
    pub alarms: Part<Vec<RaisedAlarm>>,
    /// The counters.
    pub counters: Part<Counters>,
    /// The newest lines of the journal.
    pub log: Part<Vec<String>>,
}

/// Lines of the journal in the bundle.
const LOG_LINES: usize = 200;

impl Operations {
    /// Collects the support bundle.
    pub async fn tech(&self, caller: &Caller) -> Result<Tech> {
        caller.may(&actions::TECH)?;
        // The parts are read for the bundle; the caller's own level was
        // checked for the whole.
        let reader = Caller {
            level: Level::Administer,
            ..caller.clone()
        };
        let work = async {
            let node = self
                .node()
                .map_err(|error| crate::Error::unavailable(error.to_string()));
            Ok(Tech {
                node: node.into(),
                machine: self.host().machine(),
                status: self.status(&reader).await.into(),
                network: self.network(&reader, INTERFACE).await.into(),
                services: self.services(&reader).await.into(),
                replication: self.replication(&reader).await.into(),
                datastores: self.datastores(&reader).await.into(),
                alarms: self.gather_alarms().await.into(),
                counters: self.gather_counters().await.into(),
                log: self
                    .log(&reader, "journal/system.log", Some(LOG_LINES))
                    .await
                    .map(|log| log.lines)
                    .into(),
            })
        };
        caller.does(&actions::TECH, "", work).await
    }
}
