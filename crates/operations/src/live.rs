//! The supervisor and the database of this node behind the actions.

use std::path::PathBuf;

use authentication::derive_keys;
use database::tables::{
    ApplicationUser, BlockItem, EndUser, EnterpriseParameter, OfflineMessage, ProcessNode,
    RedundancyGroup, RosterItem, ServiceParameter, VCard,
};
use database::{
    Access, Comparison, Database, Mended, Mending, Promotion, REPLICATION_TIMEOUT, Transaction,
    Versioned, VotersChange,
};
use redundancy::{Group, Groups};
use server_recovery_manager::{Entry, Verb};
use service::Paths;
use supervisor::{Activation, Client, View};
use tonic::Code;

use crate::error::{Error, Kind, Result};
use crate::logs::LOG_FOLDER;
use crate::ports::{
    Assignment, NetworkChange, NodeRecord, PUBLISHER, Recovery, Replication, ReplicationNode,
    ScramKeys, Service, ServiceKind, State, Storage, Supervision, Topology, UserChange, UserRecord,
};
use crate::repair::{REPLICATOR, timeout_seconds};
use crate::replication::meaning;
use crate::users::changed_meanwhile;
use crate::{Host, Operations};

impl Operations {
    /// The actions over this node's own supervisor and database, as far as the
    /// two admit this process. Does not wait for them: an action that finds
    /// one away says so.
    pub fn live(paths: Paths, access: Access) -> Self {
        // A test moves the logs as it moves the other folders.
        let logs = std::env::var_os("SIGNALBOX_LOGS")
            .map_or_else(|| PathBuf::from(LOG_FOLDER), PathBuf::from);
        let supervisor = Client::connect(&paths.supervisor_socket());
        let database = Database::open(&paths, access);
        let recovery = server_recovery_manager::Client::open(&paths);
        Self::new(
            paths,
            Host::default(),
            logs,
            Box::new(Supervisor(supervisor)),
            Box::new(Store(database)),
            Box::new(Manager(recovery)),
            derive,
        )
    }
}

fn derive(password: &str, iterations: u32) -> std::result::Result<(ScramKeys, ScramKeys), String> {
    let keys = derive_keys(password, iterations).map_err(|error| error.to_string())?;
    Ok((from_row(keys.sha1), from_row(keys.sha256)))
}

struct Supervisor(Client);

fn kind(status: &tonic::Status) -> Kind {
    match status.code() {
        Code::NotFound => Kind::NotFound,
        Code::FailedPrecondition | Code::Aborted => Kind::Refused,
        Code::PermissionDenied => Kind::Forbidden,
        Code::InvalidArgument => Kind::Invalid,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Kind::Unavailable,
        _ => Kind::Failed,
    }
}

fn refused(status: &tonic::Status) -> Error {
    let kind = kind(status);
    if kind == Kind::Unavailable {
        return Error::new(
            kind,
            format!(
                "the supervisor does not answer ({}). It restarts by itself; try again in some \
                 seconds, and see \"file tail activelog journal/system.log\" if it stays away",
                status.message()
            ),
        );
    }
    Error::new(kind, status.message())
}

fn service(view: View) -> Service {
    Service {
        id: view.id,
        compat: view.compat,
        name: view.name,
        kind: if view.kind == "feature" {
            ServiceKind::Feature
        } else {
            ServiceKind::Network
        },
        group: view.group,
        state: match view.state {
            supervisor::State::Started => State::Started,
            supervisor::State::Starting => State::Starting,
            supervisor::State::Stopped => State::Stopped,
            supervisor::State::Stopping => State::Stopping,
            supervisor::State::NotRunning => State::NotRunning,
        },
        activated: view.activated,
        reason: view.reason,
        started_at: view.started_at,
        up_seconds: view.up_seconds,
        restarts: view.restarts,
        critical: view.critical,
        auto_restart: view.auto_restart,
    }
}

#[tonic::async_trait]
impl Supervision for Supervisor {
    async fn services(&self) -> Result<Vec<Service>> {
        let views = self.0.list().await.map_err(|status| refused(&status))?;
        Ok(views.into_iter().map(service).collect())
    }

    async fn activate(&self, ids: &[String], with_dependencies: bool) -> Result<Vec<String>> {
        match self.0.activate(ids, with_dependencies).await {
            Ok(Activation::Done(_)) => Ok(Vec::new()),
            Ok(Activation::Missing(missing)) => Ok(missing),
            Err(status) => Err(refused(&status)),
        }
    }

    async fn deactivate(&self, id: &str) -> Result<()> {
        let done = self.0.deactivate(&[id.to_owned()], false).await;
        done.map(drop).map_err(|status| refused(&status))
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.0.start(id).await.map_err(|status| refused(&status))
    }

    async fn stop(&self, id: &str) -> Result<()> {
        let done = self.0.stop(id).await;
        done.map(drop).map_err(|status| refused(&status))
    }

    async fn restart(&self, id: &str) -> Result<()> {
        let done = self.0.restart(id).await;
        done.map(drop).map_err(|status| refused(&status))
    }

    async fn auto_restart(&self, id: &str, on: bool) -> Result<()> {
        let done = self.0.auto_restart(id, on).await;
        done.map_err(|status| refused(&status))
    }

    async fn reboot(&self) -> Result<()> {
        self.0.reboot().await.map_err(|status| refused(&status))
    }

    async fn power_off(&self) -> Result<()> {
        self.0.power_off().await.map_err(|status| refused(&status))
    }

    async fn set_timezone(&self, zone: &str) -> Result<()> {
        let done = self.0.set_timezone(zone).await;
        done.map_err(|status| refused(&status))
    }

    async fn set_network(&self, change: &NetworkChange) -> Result<()> {
        let mut wanted = supervisor::NetworkChange::default();
        match change {
            NetworkChange::Address {
                address,
                prefix,
                gateway,
            } => {
                wanted.address = Some(format!("{address}/{prefix}"));
                wanted.gateway = Some(gateway.to_string());
                wanted.dhcp = Some(false);
            }
            NetworkChange::Gateway { gateway } => wanted.gateway = Some(gateway.to_string()),
            NetworkChange::Dns { servers } => {
                wanted.dns = Some(servers.iter().map(ToString::to_string).collect());
            }
            NetworkChange::Domain { domain } => wanted.domain = Some(domain.clone()),
            NetworkChange::Hostname { name } => wanted.hostname = Some(name.clone()),
            NetworkChange::Mtu { mtu } => wanted.mtu = Some(u32::from(*mtu)),
            NetworkChange::Dhcp => wanted.dhcp = Some(true),
        }
        let done = self.0.set_network(wanted).await;
        done.map_err(|status| refused(&status))
    }
}

struct Manager(server_recovery_manager::Client);

/// Another node's manager that does not answer is named by this node's.
fn unanswered(status: &tonic::Status) -> Error {
    let message = status.message();
    match kind(status) {
        Kind::Unavailable if !message.starts_with("the recovery manager of") => {
            Error::unavailable(format!(
                "the recovery manager of this node does not answer ({message}). It restarts by \
                 itself; try again in some seconds, or on the group's other node"
            ))
        }
        kind => Error::new(kind, message),
    }
}

#[tonic::async_trait]
impl Recovery for Manager {
    async fn status(&self, name: Option<&str>) -> Result<server_recovery_manager::Status> {
        let status = self.0.status(name).await;
        status.map_err(|status| unanswered(&status))
    }

    async fn act(&self, verb: Verb, subject: &str, caller: &str) -> Result<()> {
        let done = self.0.act(verb, subject, caller).await;
        done.map_err(|status| unanswered(&status))
    }

    async fn history(&self, node: Option<&str>) -> Result<Vec<Entry>> {
        let entries = self.0.history(node).await;
        entries.map_err(|status| unanswered(&status))
    }
}

struct Store(Database);

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        let kind = match error {
            database::Error::Invalid(_) => Kind::Invalid,
            database::Error::Exists(_) | database::Error::Changed(_) => Kind::Refused,
            database::Error::Unavailable(_) => Kind::Unavailable,
            database::Error::Damaged(_) => Kind::Failed,
            database::Error::Forbidden(_) => Kind::Forbidden,
        };
        Self::new(kind, error.to_string())
    }
}

fn from_row(keys: database::tables::ScramKeys) -> ScramKeys {
    ScramKeys {
        salt: keys.salt,
        iterations: keys.iterations,
        stored_key: keys.stored_key,
        server_key: keys.server_key,
    }
}

fn to_row(keys: ScramKeys) -> database::tables::ScramKeys {
    database::tables::ScramKeys {
        salt: keys.salt,
        iterations: keys.iterations,
        stored_key: keys.stored_key,
        server_key: keys.server_key,
    }
}

fn record(row: EndUser) -> UserRecord {
    UserRecord {
        user: row.user,
        name: row.name,
        mail: row.mail,
        enabled: row.enabled,
        node: row.node,
        scram_sha1: row.scram_sha1.map(from_row),
        scram_sha256: row.scram_sha256.map(from_row),
    }
}

fn row(record: UserRecord) -> EndUser {
    EndUser {
        user: record.user,
        name: record.name,
        mail: record.mail,
        enabled: record.enabled,
        node: record.node,
        scram_sha1: record.scram_sha1.map(to_row),
        scram_sha256: record.scram_sha256.map(to_row),
    }
}

fn group(row: RedundancyGroup) -> Group {
    Group {
        name: row.name,
        description: row.description,
        first: row.first,
        second: row.second,
        high_availability: row.high_availability,
    }
}

fn group_row(group: Group) -> RedundancyGroup {
    RedundancyGroup {
        name: group.name,
        description: group.description,
        first: group.first,
        second: group.second,
        high_availability: group.high_availability,
    }
}

fn node_row(node: NodeRecord) -> ProcessNode {
    ProcessNode {
        name: node.name,
        domain: node.domain,
        address: node.address,
        role: if node.publisher {
            "publisher".into()
        } else {
            "subscriber".into()
        },
        product: node.product,
        replica: 0,
    }
}

fn groups_changed(text: &str) -> Error {
    Error::refused(format!(
        "the groups changed meanwhile: {text}. See \"groups list\", then run it again"
    ))
}

/// How often a change of users is built again when a row changed between its
/// reading and the change, as assigning a home does.
const ATTEMPTS: usize = 5;

impl Store {
    /// A user's row, which must still be as it was read but for the home.
    async fn unchanged(&self, old: &UserRecord) -> Result<Versioned<EndUser>> {
        let found = self.0.get_versioned::<EndUser>(&[&old.user]).await?;
        let found = found.ok_or_else(|| changed_meanwhile(&format!("{} was deleted", old.user)))?;
        let read = UserRecord {
            node: found.row.node.clone(),
            ..old.clone()
        };
        if record(found.row.clone()) != read {
            return Err(changed_meanwhile(&format!("{} was changed", old.user)));
        }
        Ok(found)
    }

    async fn users_transaction(&self, changes: &[UserChange]) -> Result<Transaction> {
        let mut transaction = Transaction::new();
        for change in changes {
            transaction = match change {
                UserChange::Insert(record) => transaction.insert(&row(record.clone()))?,
                UserChange::Replace { old, new } => {
                    let found = self.unchanged(old).await?;
                    let new = EndUser {
                        node: found.row.node,
                        ..row(new.clone())
                    };
                    transaction
                        .require_revision::<EndUser>(&[&old.user], found.revision)
                        .put(&new)?
                }
                UserChange::Delete(name) => transaction.and(without(name)),
            };
        }
        Ok(transaction)
    }
}

/// Deletes a user with all that belongs to them: a later user of the same
/// name must not inherit contacts or messages.
fn without(name: &str) -> Transaction {
    Transaction::new()
        .delete::<EndUser>(&[name])
        .delete_all::<VCard>(&[name])
        .delete_all::<RosterItem>(&[name])
        .delete_all::<BlockItem>(&[name])
        .delete_all::<OfflineMessage>(&[name])
}

#[tonic::async_trait]
impl Storage for Store {
    async fn users(&self) -> Result<Vec<UserRecord>> {
        let rows = self.0.list::<EndUser>(&[]).await?;
        Ok(rows.into_iter().map(record).collect())
    }

    async fn user(&self, name: &str) -> Result<Option<UserRecord>> {
        Ok(self.0.get::<EndUser>(&[name]).await?.map(record))
    }

    async fn commit_users(&self, changes: Vec<UserChange>) -> Result<()> {
        let mut attempt = 1;
        loop {
            let transaction = self.users_transaction(&changes).await?;
            match self.0.transact(transaction).await {
                Ok(_) => return Ok(()),
                // Whether it concerns this change is seen by reading again.
                Err(database::Error::Changed(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(database::Error::Exists(text) | database::Error::Changed(text)) => {
                    return Err(changed_meanwhile(&text));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn application_user(&self, name: &str) -> Result<Option<String>> {
        let row = self.0.get::<ApplicationUser>(&[name]).await?;
        Ok(row.filter(|row| row.enabled).map(|row| row.password))
    }

    async fn parameter(&self, service: &str, name: &str) -> Result<Option<String>> {
        let row = self.0.get::<ServiceParameter>(&[service, name]).await?;
        Ok(row.map(|row| row.value))
    }

    async fn set_parameter(&self, service: &str, name: &str, value: Option<&str>) -> Result<()> {
        let change = match value {
            Some(value) => Transaction::new().put(&ServiceParameter {
                service: service.into(),
                name: name.into(),
                value: value.into(),
            })?,
            None => Transaction::new().delete::<ServiceParameter>(&[service, name]),
        };
        self.0.transact(change).await?;
        Ok(())
    }

    async fn enterprise_parameter(&self, name: &str) -> Result<Option<String>> {
        let row = self.0.get::<EnterpriseParameter>(&[name]).await?;
        Ok(row.map(|row| row.value))
    }

    async fn set_enterprise_parameter(&self, name: &str, value: &str) -> Result<()> {
        let row = EnterpriseParameter {
            name: name.into(),
            value: value.into(),
        };
        self.0.transact(Transaction::new().put(&row)?).await?;
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        let rows = self.0.list::<ProcessNode>(&[]).await?;
        let nodes = rows.into_iter().map(|row| NodeRecord {
            publisher: row.role == "publisher",
            joined: row.replica != 0,
            name: row.name,
            domain: row.domain,
            address: row.address,
            product: row.product,
        });
        Ok(nodes.collect())
    }

    async fn groups(&self) -> Result<Groups> {
        let rows = self.0.list::<RedundancyGroup>(&[]).await?;
        Ok(Groups::new(rows.into_iter().map(group).collect()))
    }

    async fn change_topology(&self, change: Topology) -> Result<()> {
        let mut transaction = Transaction::new();
        if let Some(node) = change.add {
            transaction = transaction.insert(&node_row(node))?;
        }
        if let Some(name) = change.remove {
            transaction = transaction.delete::<ProcessNode>(&[&name]);
        }
        for edit in change.groups {
            if let Some(old) = edit.old {
                let found = self
                    .0
                    .get_versioned::<RedundancyGroup>(&[&old.name])
                    .await?;
                let found = found.filter(|found| found.row == group_row(old.clone()));
                let found = found.ok_or_else(|| groups_changed(&old.name))?;
                let key = [old.name.as_str()];
                transaction = transaction.require_revision::<RedundancyGroup>(&key, found.revision);
                transaction = match edit.new {
                    Some(new) => transaction.put(&group_row(new))?,
                    None => transaction.delete::<RedundancyGroup>(&key),
                };
            } else if let Some(new) = edit.new {
                transaction = transaction.insert(&group_row(new))?;
            }
        }
        match self.0.transact(transaction).await {
            Ok(_) => Ok(()),
            Err(database::Error::Changed(text)) => Err(groups_changed(&text)),
            Err(error) => Err(error.into()),
        }
    }

    async fn assign(&self, users: &[Assignment]) -> Result<()> {
        let change = users.iter().fold(Transaction::new(), |change, one| {
            change.set_column::<EndUser>(&[&one.user], "node", &one.from, &one.to)
        });
        match self.0.transact(change).await {
            Ok(_) => Ok(()),
            Err(database::Error::Changed(text)) => Err(changed_meanwhile(&text)),
            Err(error) => Err(error.into()),
        }
    }

    async fn compare(&self, node: &str, tables: &[&str], rows: bool) -> Result<Comparison> {
        Ok(self.0.compare(node, tables, rows).await?)
    }

    async fn promote(&self, carry_out: bool, reason: &str) -> Result<Promotion> {
        Ok(self.0.promote(carry_out, reason).await?)
    }

    async fn set_voters(&self, all: bool, carry_out: bool, reason: &str) -> Result<VotersChange> {
        Ok(self.0.set_voters(all, carry_out, reason).await?)
    }

    async fn mend(
        &self,
        mending: Mending,
        node: &str,
        tables: &[&str],
        reason: &str,
    ) -> Result<Mended> {
        Ok(self.0.mend(mending, node, tables, reason).await?)
    }

    async fn replication(&self) -> Result<Replication> {
        let status = self.0.status().await?;
        let tables = self.0.digests().await?.tables;
        let timeout = REPLICATION_TIMEOUT.0;
        let timeout = match status.complete {
            true => self.parameter(REPLICATOR, timeout).await?,
            // A node whose tables are not there yet.
            false => None,
        };
        Ok(Replication {
            timeout: timeout_seconds(timeout),
            state: status.state,
            meaning: meaning(status.state).into(),
            reason: status.reason,
            lag_entries: status.lag_entries,
            lag_seconds: status.lag_seconds,
            role: status.role,
            applied: status.applied,
            tables: tables.into_iter().map(|table| table.table).collect(),
            nodes: status
                .members
                .into_iter()
                .map(|member| ReplicationNode {
                    name: member.name,
                    address: member.address,
                    role: if member.leads {
                        PUBLISHER.into()
                    } else {
                        "subscriber".into()
                    },
                    votes: member.voter,
                    state: member.state,
                    reason: member.reason,
                    lag_entries: member.lag_entries,
                    lag_seconds: member.lag_seconds,
                    reachable: member.reachable,
                    // Microseconds are far below what a float holds exactly.
                    ping: (member.reachable && member.node != status.node)
                        .then_some(member.ping_micros as f64 / 1000.0),
                    version: member.version,
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use database::testing::TestDatabase;

    use super::*;

    #[tokio::test]
    async fn a_home_that_is_assigned_meanwhile_stays_and_is_in_nobody_s_way() {
        let database = TestDatabase::start().await.unwrap();
        let store = Store(database.client());
        let alice = UserRecord {
            user: "alice".into(),
            name: "Alice".into(),
            mail: String::new(),
            enabled: true,
            node: String::new(),
            scram_sha1: None,
            scram_sha256: None,
        };
        let inserted = vec![UserChange::Insert(alice.clone())];
        store.commit_users(inserted).await.unwrap();
        let home = |from: &str, to: &str| Assignment {
            user: "alice".into(),
            from: from.into(),
            to: to.into(),
        };
        store.assign(&[home("", "alpha")]).await.unwrap();
        let replaced = UserChange::Replace {
            old: alice.clone().into(),
            new: UserRecord {
                name: "Second".into(),
                ..alice.clone()
            },
        };
        store.commit_users(vec![replaced]).await.unwrap();
        let found = store.user("alice").await.unwrap().unwrap();
        assert_eq!((&*found.name, &*found.node), ("Second", "alpha"));
        let error = store.assign(&[home("", "beta")]).await.unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
    }

    #[tokio::test]
    async fn groups_that_somebody_else_changed_are_not_overwritten() {
        let database = TestDatabase::start().await.unwrap();
        let store = Store(database.client());
        let change = |to: &Groups, from: &Groups| Topology {
            groups: from.edits(to),
            ..Topology::default()
        };
        let none = Groups::default();
        let first = none.join("n1", None).unwrap();
        store.change_topology(change(&first, &none)).await.unwrap();
        let two = first.join("n2", None).unwrap();
        let other = first.join("n3", None).unwrap();
        store.change_topology(change(&two, &first)).await.unwrap();
        let error = store.change_topology(change(&other, &first)).await;
        let error = error.unwrap_err();
        assert!(error.message.contains("run it again"), "{error}");
        assert_eq!(store.groups().await.unwrap(), two);
        let three = two.join("n3", None).unwrap();
        store.change_topology(change(&three, &two)).await.unwrap();
        let ended = three.leave("n3").leave("n1");
        store.change_topology(change(&ended, &three)).await.unwrap();
        assert_eq!(store.groups().await.unwrap(), ended);
    }

    #[tokio::test]
    async fn what_somebody_else_did_to_a_user_is_not_undone() {
        let database = TestDatabase::start().await.unwrap();
        let store = Store(database.client());
        let alice = UserRecord {
            user: "alice".into(),
            name: "Alice".into(),
            mail: String::new(),
            enabled: true,
            node: String::new(),
            scram_sha1: None,
            scram_sha256: None,
        };
        let named = |name: &str| UserRecord {
            name: name.into(),
            ..alice.clone()
        };
        let replace = |old: &UserRecord, new: &UserRecord| {
            let (old, new) = (old.clone().into(), new.clone());
            store.commit_users(vec![UserChange::Replace { old, new }])
        };
        let insert =
            |record: &UserRecord| store.commit_users(vec![UserChange::Insert(record.clone())]);

        insert(&alice).await.unwrap();
        let error = insert(&named("Other")).await.unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
        assert!(error.message.contains("run it again"), "{error}");
        assert_eq!(store.user("alice").await.unwrap().unwrap().name, "Alice");

        replace(&alice, &named("Second")).await.unwrap();
        let error = replace(&alice, &named("Third")).await.unwrap_err();
        assert!(error.message.contains("alice was changed"), "{error}");
        assert_eq!(store.user("alice").await.unwrap().unwrap().name, "Second");

        let delete = vec![UserChange::Delete("alice".into())];
        store.commit_users(delete).await.unwrap();
        let error = replace(&named("Second"), &alice).await.unwrap_err();
        assert!(error.message.contains("alice was deleted"), "{error}");
        assert_eq!(store.user("alice").await.unwrap(), None);
    }
}
