//! Settings of services: typed, with defaults, always up to date.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use parameter::{Definition, Values as Allowed};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::tables::{EnterpriseParameter, ServiceParameter};
use crate::{Database, Table};

/// How long replication may be behind before it has failed: the parameter's
/// name and its default, in seconds.
pub const REPLICATION_TIMEOUT: (&str, &str) = ("ReplicationTimeout", "300");

/// The parameters of the database's own services, each with its service.
pub const PARAMETERS: [(&str, Definition); 3] = [
    (
        "database-replicator",
        Definition::new(
            REPLICATION_TIMEOUT.0,
            REPLICATION_TIMEOUT.1,
            Allowed::Number(300, 3600, "s"),
            "Time without the publisher, or behind it, after which replication counts as failed \
             (state 4).",
        ),
    ),
    (
        "database-replicator",
        Definition::new(
            "CheckInterval",
            "900",
            Allowed::Number(10, 86_400, "s"),
            "Time between two checks of all rows.",
        ),
    ),
    (
        "database-layer-monitor",
        Definition::new(
            "MaintenanceTime",
            "2",
            Allowed::Number(0, 23, "hour"),
            "Hour of the night at which maintenance runs, in the node's own time.",
        ),
    ),
];

/// A type that a parameter's text can be read as.
pub trait Parameter: FromStr + Send {}

impl<T: FromStr + Send> Parameter for T {}

type Values = BTreeMap<String, String>;

/// The settings of a service, kept up to date by a watch of their own.
///
/// Until the first answer of the database, every setting has its default: wait
/// for [`Parameters::loaded`] before the first use.
#[derive(Clone, Debug)]
pub struct Parameters {
    owner: Arc<str>,
    values: watch::Receiver<Option<Values>>,
    /// Ends the watch with the last clone.
    _guard: Arc<DropGuard>,
}

impl Parameters {
    pub(crate) fn of_service(database: &Database, service: &str) -> Self {
        Self::start::<ServiceParameter>(database, &[service], service, |row| (row.name, row.value))
    }

    pub(crate) fn of_enterprise(database: &Database) -> Self {
        Self::start::<EnterpriseParameter>(database, &[], "enterprise", |row| (row.name, row.value))
    }

    fn start<T: Table>(
        database: &Database,
        prefix: &[&str],
        owner: &str,
        pair: fn(T) -> (String, String),
    ) -> Self {
        let (sender, values) = watch::channel(None::<Values>);
        let stop = CancellationToken::new();
        let guard = Arc::new(stop.clone().drop_guard());
        let mut rows = database.watch::<T>(prefix);
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = stop.cancelled() => return,
                    event = rows.next() => event,
                };
                sender.send_modify(|values: &mut Option<Values>| {
                    event.apply(values.get_or_insert_default(), pair);
                });
            }
        });
        Self {
            owner: owner.into(),
            values,
            _guard: guard,
        }
    }

    /// Waits until the database has answered once.
    pub async fn loaded(&self) {
        let mut values = self.values.clone();
        // Fails only when the watch ended, which it does with the last clone.
        let _ = values.wait_for(Option::is_some).await;
    }

    /// The setting of that name, or `default` when it is not set or its text
    /// is not of that type.
    pub fn get<T: Parameter>(&self, name: &str, default: T) -> T {
        let values = self.values.borrow();
        let Some(text) = values.as_ref().and_then(|values| values.get(name)) else {
            return default;
        };
        text.parse().unwrap_or_else(|_| {
            tracing::warn!(owner = %self.owner, parameter = name, value = text, "The parameter's value is not of its type; its default is used.");
            default
        })
    }

    /// Waits until a setting changes. The first answer of the database counts
    /// as a change.
    pub async fn changed(&mut self) {
        let _ = self.values.changed().await;
    }
}
