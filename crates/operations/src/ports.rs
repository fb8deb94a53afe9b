//! What the actions need from other services, as small traits: the supervisor,
//! the database and the recovery manager stand behind them on a node, fakes in
//! tests.

use database::{Comparison, Mended, Mending, Promotion, VotersChange};
use redundancy::{Edit, Groups};
use serde::{Deserialize, Serialize};

use server_recovery_manager::{Entry, Status, Verb};

use crate::error::Result;

/// State of a service, in the words that scripts parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// It serves.
    Started,
    /// It is on its way, or waits for what it needs.
    Starting,
    /// It is down.
    Stopped,
    /// It is on its way down.
    Stopping,
    /// It is not there: its unit is not installed, or it failed.
    NotRunning,
}

impl State {
    /// The word that scripts parse.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Starting => "STARTING",
            Self::Stopped => "STOPPED",
            Self::Stopping => "STOPPING",
            Self::NotRunning => "NOTRUNNING",
        }
    }

    /// Whether it stays so by itself.
    pub fn settled(self) -> bool {
        !matches!(self, Self::Starting | Self::Stopping)
    }
}

/// Network services run by themselves; feature services when activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// Starts with the node, is never activated or deactivated.
    Network,
    /// Does nothing until an administrator activates it.
    Feature,
}

/// A service as the supervisor knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Id, the unit's name.
    pub id: String,
    /// The name that scripts use.
    pub compat: String,
    /// The plain name.
    pub name: String,
    /// Network or feature.
    pub kind: ServiceKind,
    /// Group on the pages.
    pub group: String,
    /// State now.
    pub state: State,
    /// Whether it runs with the node (always so for network services).
    pub activated: bool,
    /// Why it waits, or why it is down; empty when there is nothing to say.
    pub reason: String,
    /// When it was started, seconds since the Unix epoch.
    pub started_at: Option<i64>,
    /// Seconds since it was started.
    pub up_seconds: Option<u64>,
    /// Restarts that nobody asked for.
    pub restarts: u32,
    /// Whether failover depends on it.
    pub critical: bool,
    /// Whether it comes back by itself when it dies.
    pub auto_restart: bool,
}

/// A change of the node's network settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "setting")]
pub enum NetworkChange {
    /// Address with prefix length, and the gateway.
    Address {
        /// The new address.
        address: std::net::IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// The gateway.
        gateway: std::net::IpAddr,
    },
    /// Only the gateway.
    Gateway {
        /// The gateway.
        gateway: std::net::IpAddr,
    },
    /// Name servers, first one first.
    Dns {
        /// The servers.
        servers: Vec<std::net::IpAddr>,
    },
    /// Search domain.
    Domain {
        /// The domain.
        domain: String,
    },
    /// Host name.
    Hostname {
        /// The name.
        name: String,
    },
    /// Largest packet.
    Mtu {
        /// Bytes.
        mtu: u16,
    },
    /// Address by DHCP.
    Dhcp,
}

/// Stored keys of one SCRAM mechanism, base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramKeys {
    /// Salt.
    pub salt: String,
    /// Iteration count.
    pub iterations: u32,
    /// Stored key.
    pub stored_key: String,
    /// Server key.
    pub server_key: String,
}

/// A user with the keys that sign-in is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Name, the local part of the JID.
    pub user: String,
    /// Display name.
    pub name: String,
    /// Mail address.
    pub mail: String,
    /// Whether the user may sign in.
    pub enabled: bool,
    /// Home node; empty while none is assigned. Only [`Storage::assign`]
    /// changes it.
    pub node: String,
    /// Keys for SCRAM-SHA-1.
    pub scram_sha1: Option<ScramKeys>,
    /// Keys for SCRAM-SHA-256.
    pub scram_sha256: Option<ScramKeys>,
}

/// One write to the user table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// Adds a user; fails if there is one of the name.
    Insert(UserRecord),
    /// Replaces a user as read before; fails if they are not the same now.
    Replace {
        /// As read.
        old: Box<UserRecord>,
        /// As it shall be; of the same name.
        new: UserRecord,
    },
    /// Removes.
    Delete(String),
}

/// A user who gets another home node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assignment {
    /// The user's name.
    pub user: String,
    /// Home node until now; empty for none.
    pub from: String,
    /// The new one; empty for none.
    pub to: String,
}

/// A change of which nodes there are and how they are grouped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// A node that is added.
    pub add: Option<NodeRecord>,
    /// Name of a node that is removed.
    pub remove: Option<String>,
    /// What becomes of the groups; they must still be as they were read.
    pub groups: Vec<Edit>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeRecord {
    /// Host name.
    pub name: String,
    /// Domain of the host name.
    pub domain: String,
    /// Address.
    pub address: String,
    /// Whether it is the publisher; otherwise it is a subscriber.
    pub publisher: bool,
    /// Kind of node.
    pub product: String,
    /// Whether it has joined; otherwise it was only added.
    pub joined: bool,
}

/// A node as replication sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicationNode {
    /// Host name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Publisher, the one that takes changes, or subscriber.
    pub role: String,
    /// Whether it votes.
    pub votes: bool,
    /// State 0 to 4.
    pub state: u8,
    /// Why the state is what it is.
    pub reason: String,
    /// Entries it is behind.
    pub lag_entries: u64,
    /// Seconds it is behind.
    pub lag_seconds: u64,
    /// Whether it answers.
    pub reachable: bool,
    /// How long it took to answer, in milliseconds; none for this node itself
    /// and for one that does not answer.
    pub ping: Option<f64>,
    /// Version of its software; empty when it is not known.
    pub version: String,
}

impl ReplicationNode {
    /// Whether it takes changes.
    pub fn leads(&self) -> bool {
        self.role == PUBLISHER
    }
}

/// The role of the node that takes changes.
pub(crate) const PUBLISHER: &str = "publisher";

/// State of replication, as this node sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replication {
    /// State 0 to 4 of this node.
    pub state: u8,
    /// What the state means.
    pub meaning: String,
    /// Why the state is what it is; empty when there is nothing to say.
    pub reason: String,
    /// Entries this node is behind.
    pub lag_entries: u64,
    /// Seconds this node is behind.
    pub lag_seconds: u64,
    /// Publisher or subscriber.
    pub role: String,
    /// Newest entry applied here.
    pub applied: u64,
    /// Tables in the store.
    pub tables: Vec<String>,
    /// How long it may be behind before it has failed, in seconds.
    pub timeout: u64,
    /// The nodes of the cluster.
    pub nodes: Vec<ReplicationNode>,
}

/// What the supervisor does for the actions.
#[tonic::async_trait]
pub trait Supervision: Send + Sync {
    /// Every service of this node, in catalogue order.
    async fn services(&self) -> Result<Vec<Service>>;
    /// Activates services. Without `with_dependencies`, answers the ids that
    /// must be activated too and changes nothing when there are any.
    async fn activate(&self, ids: &[String], with_dependencies: bool) -> Result<Vec<String>>;
    /// Deactivates a service.
    async fn deactivate(&self, id: &str) -> Result<()>;
    /// Begins to start a service.
    async fn start(&self, id: &str) -> Result<()>;
    /// Begins to stop a service.
    async fn stop(&self, id: &str) -> Result<()>;
    /// Begins to restart a service.
    async fn restart(&self, id: &str) -> Result<()>;
    /// Chooses whether a service comes back by itself.
    async fn auto_restart(&self, id: &str, on: bool) -> Result<()>;
    /// Restarts the machine.
    async fn reboot(&self) -> Result<()>;
    /// Shuts the machine down.
    async fn power_off(&self) -> Result<()>;
    /// Sets the time zone.
    async fn set_timezone(&self, zone: &str) -> Result<()>;
    /// Changes the network settings.
    async fn set_network(&self, change: &NetworkChange) -> Result<()>;
}

/// What the database does for the actions.
#[tonic::async_trait]
pub trait Storage: Send + Sync {
    /// Every user, by name.
    async fn users(&self) -> Result<Vec<UserRecord>>;
    /// One user.
    async fn user(&self, name: &str) -> Result<Option<UserRecord>>;
    /// Commits all of the changes or none. What somebody else did meanwhile
    /// is not undone: then it is refused.
    async fn commit_users(&self, changes: Vec<UserChange>) -> Result<()>;
    /// The Argon2id hash (PHC string) of an application user.
    async fn application_user(&self, name: &str) -> Result<Option<String>>;
    /// A parameter of a service; none while it has its default.
    async fn parameter(&self, service: &str, name: &str) -> Result<Option<String>>;
    /// Sets a parameter of a service; without a value it has its default again.
    async fn set_parameter(&self, service: &str, name: &str, value: Option<&str>) -> Result<()>;
    /// A parameter of the whole cluster; none while it has its default.
    async fn enterprise_parameter(&self, name: &str) -> Result<Option<String>>;
    /// Sets a parameter of the whole cluster.
    async fn set_enterprise_parameter(&self, name: &str, value: &str) -> Result<()>;
    /// The nodes of the cluster.
    async fn nodes(&self) -> Result<Vec<NodeRecord>>;
    /// The presence redundancy groups.
    async fn groups(&self) -> Result<Groups>;
    /// Changes nodes and groups at once. Fails if there is a node of the name
    /// of one that is added, or somebody else changed the groups meanwhile.
    async fn change_topology(&self, change: Topology) -> Result<()>;
    /// Gives users another home, all of them or none: it is refused when one
    /// of them is not where it was, or not there any more.
    async fn assign(&self, users: &[Assignment]) -> Result<()>;
    /// The state of replication.
    async fn replication(&self) -> Result<Replication>;
    /// Compares tables of a node (none: all) with the publisher's; where `rows`,
    /// counts the rows that differ.
    async fn compare(&self, node: &str, tables: &[&str], rows: bool) -> Result<Comparison>;
    /// What the promotion of this node means; where `carry_out`, has it done.
    async fn promote(&self, carry_out: bool, reason: &str) -> Result<Promotion>;
    /// Whether all nodes may vote, or one; where `carry_out`, has it done.
    async fn set_voters(&self, all: bool, carry_out: bool, reason: &str) -> Result<VotersChange>;
    /// Has a node's replica brought in order, or stopped.
    async fn mend(
        &self,
        mending: Mending,
        node: &str,
        tables: &[&str],
        reason: &str,
    ) -> Result<Mended>;
}

/// What the recovery manager does for the actions.
#[tonic::async_trait]
pub trait Recovery: Send + Sync {
    /// The state of a redundancy group, by its name or that of one of its nodes;
    /// of the own one when none is named.
    async fn status(&self, name: Option<&str>) -> Result<Status>;
    /// Has it done; answers when it has begun.
    async fn act(&self, verb: Verb, subject: &str, caller: &str) -> Result<()>;
    /// The event history of a node; of this one when none is named.
    async fn history(&self, node: Option<&str>) -> Result<Vec<Entry>>;
}

/// Derives the stored keys of a password: SCRAM-SHA-1, then SCRAM-SHA-256.
/// Costly on purpose, by the number of iterations; the error says what is
/// wrong with the password.
pub type DeriveKeys =
    fn(password: &str, iterations: u32) -> std::result::Result<(ScramKeys, ScramKeys), String>;
