//! A supervisor and a database in memory, for tests of the faces.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use database::{Comparison, Mended, Mending, Promotion, TableComparison, VotersChange};
use redundancy::{Group, Groups};
use server_recovery_manager::{Entry, Status, Verb};
use service::Paths;

use crate::error::{Error, Result};
use crate::ports::{
    Assignment, NetworkChange, NodeRecord, Recovery, Replication, ReplicationNode, ScramKeys,
    Service, ServiceKind, State, Storage, Supervision, Topology, UserChange, UserRecord,
};
use crate::repair::{REPLICATOR, timeout_seconds};
use crate::users::changed_meanwhile;
#[cfg(test)]
use crate::{Caller, Level};
use crate::{Host, Operations};

/// What the fakes hold and what was asked of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Fakes(Arc<Mutex<World>>);

/// The contents of the fakes.
#[derive(Debug, Default)]
pub struct World {
    /// The services.
    pub services: Vec<Service>,
    /// Ids of the services that stop with the service of that id, and do not
    /// start with it.
    pub stops_with: BTreeMap<String, Vec<String>>,
    /// Services that an activation needs besides.
    pub missing: Vec<String>,
    /// Every command to the supervisor, in words.
    pub commands: Vec<String>,
    /// Rows of each transaction.
    pub batches: Vec<usize>,
    /// What somebody else does to the users just before the next transaction.
    pub meanwhile: Vec<UserChange>,
    /// The users.
    pub users: BTreeMap<String, UserRecord>,
    /// Argon2id hashes of the application users.
    pub application_users: BTreeMap<String, String>,
    /// The nodes of the cluster.
    pub nodes: Vec<NodeRecord>,
    /// Their groups.
    pub groups: Groups,
    /// The nodes as replication sees them.
    pub replication: Vec<ReplicationNode>,
    /// Parameters, by service and name; those of the cluster have no service.
    pub parameters: BTreeMap<(String, String), String>,
    /// State of the redundancy groups.
    pub high_availability: Vec<Status>,
    /// The event history.
    pub history: Vec<Entry>,
    /// The tables of nodes beside the publisher's; a node that is not there
    /// does not answer.
    pub comparisons: BTreeMap<String, Comparison>,
    /// Why the voters are not changed; empty when they are.
    pub voters_refusal: String,
    /// What a promotion of this node means.
    pub promotion: Promotion,
    /// What every call answers, when it is to fail.
    pub fault: Option<Error>,
}

/// A service that is up.
pub fn service(id: &str, compat: &str, kind: ServiceKind) -> Service {
    Service {
        id: id.into(),
        compat: compat.into(),
        name: compat.trim_start_matches("Cisco ").into(),
        kind,
        group: "IM and Presence".into(),
        state: State::Started,
        activated: true,
        reason: String::new(),
        started_at: Some(1_767_000_000),
        up_seconds: Some(61),
        restarts: 0,
        critical: false,
        auto_restart: true,
    }
}

/// Somebody who may do everything.
#[cfg(test)]
pub(crate) fn administrator() -> Caller {
    Caller {
        user: "admin".into(),
        level: Level::Administer,
        face: "test",
        origin: String::new(),
    }
}

/// A user without keys, whose home is that node.
pub fn user_at(name: &str, node: &str) -> UserRecord {
    UserRecord {
        user: name.into(),
        name: String::new(),
        mail: String::new(),
        enabled: true,
        node: node.into(),
        scram_sha1: None,
        scram_sha256: None,
    }
}

/// A node of the cluster that has joined.
pub fn node(name: &str, publisher: bool) -> NodeRecord {
    NodeRecord {
        name: name.into(),
        domain: "example.org".into(),
        address: String::new(),
        publisher,
        product: "imp".into(),
        joined: true,
    }
}

/// A node that answers, in that state of replication.
pub fn replication_node(name: &str, state: u8) -> ReplicationNode {
    ReplicationNode {
        name: name.into(),
        address: String::new(),
        role: "subscriber".into(),
        votes: false,
        state,
        reason: String::new(),
        lag_entries: 0,
        lag_seconds: 0,
        reachable: true,
        ping: None,
        version: "1.0".into(),
    }
}

impl World {
    fn commit(&mut self, changes: Vec<UserChange>) -> Result<()> {
        let mut users = self.users.clone();
        for change in changes {
            match change {
                UserChange::Insert(user) => {
                    if users.contains_key(&user.user) {
                        return Err(changed_meanwhile(&format!("there is {}", user.user)));
                    }
                    users.insert(user.user.clone(), user);
                }
                UserChange::Replace { old, new } => {
                    let mut new = new;
                    let found = users.get(&old.user).cloned();
                    new.node = found
                        .as_ref()
                        .map_or_else(String::new, |it| it.node.clone());
                    let node = new.node.clone();
                    if found
                        != Some(UserRecord {
                            node,
                            ..*old.clone()
                        })
                    {
                        return Err(changed_meanwhile(&format!("{} is another", old.user)));
                    }
                    users.insert(new.user.clone(), new);
                }
                UserChange::Delete(name) => {
                    users.remove(&name);
                }
            }
        }
        self.users = users;
        Ok(())
    }
}

impl Fakes {
    /// What they hold.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The actions over these fakes, for a node whose files are below `root`.
    pub fn operations(&self, root: &Path) -> Operations {
        Operations::new(
            Paths::below(root),
            Host::below(root),
            root.join("logs"),
            Box::new(self.clone()),
            Box::new(self.clone()),
            Box::new(self.clone()),
            derive,
        )
    }

    fn ask(&self, command: String) -> Result<MutexGuard<'_, World>> {
        let mut world = self.world();
        world.commands.push(command);
        match &world.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(world),
        }
    }

    fn turn(&self, command: &str, id: &str, state: State, reason: &str) -> Result<()> {
        let mut world = self.ask(format!("{command} {id}"))?;
        if let Some(service) = world.services.iter_mut().find(|one| one.id == id) {
            service.state = state;
            reason.clone_into(&mut service.reason);
        }
        Ok(())
    }
}

fn derive(password: &str, iterations: u32) -> std::result::Result<(ScramKeys, ScramKeys), String> {
    let keys = ScramKeys {
        salt: String::new(),
        iterations,
        stored_key: password.len().to_string(),
        server_key: String::new(),
    };
    Ok((keys.clone(), keys))
}

#[tonic::async_trait]
impl Supervision for Fakes {
    async fn services(&self) -> Result<Vec<Service>> {
        Ok(self.ask("list".into())?.services.clone())
    }

    async fn activate(&self, ids: &[String], with_dependencies: bool) -> Result<Vec<String>> {
        let missing = self
            .ask(format!("activate {}", ids.join(" ")))?
            .missing
            .clone();
        if with_dependencies || missing.is_empty() {
            for id in ids.iter().chain(&missing) {
                self.turn("activated", id, State::Started, "")?;
            }
            return Ok(Vec::new());
        }
        Ok(missing)
    }

    async fn deactivate(&self, id: &str) -> Result<()> {
        self.turn("deactivate", id, State::Stopped, "Service Not Activated")
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.turn("start", id, State::Started, "")
    }

    async fn stop(&self, id: &str) -> Result<()> {
        self.turn("stop", id, State::Stopped, "Commanded Out of Service")?;
        let mut world = self.world();
        let with = world.stops_with.get(id).cloned().unwrap_or_default();
        let compat = world.services.iter().find(|one| one.id == id);
        let compat = compat.map_or_else(String::new, |one| one.compat.clone());
        for one in &mut world.services {
            if with.contains(&one.id) {
                one.state = State::Stopped;
                one.reason = format!(
                    "Commanded Out of Service: stopped with {compat}; start it with \
                     \"utils service start {}\"",
                    one.compat
                );
            }
        }
        Ok(())
    }

    async fn restart(&self, id: &str) -> Result<()> {
        self.turn("restart", id, State::Started, "")
    }

    async fn auto_restart(&self, id: &str, on: bool) -> Result<()> {
        let mut world = self.ask(format!("auto-restart {id} {on}"))?;
        if let Some(service) = world.services.iter_mut().find(|one| one.id == id) {
            service.auto_restart = on;
        }
        Ok(())
    }

    async fn reboot(&self) -> Result<()> {
        self.ask("reboot".into()).map(drop)
    }

    async fn power_off(&self) -> Result<()> {
        self.ask("power off".into()).map(drop)
    }

    async fn set_timezone(&self, zone: &str) -> Result<()> {
        self.ask(format!("timezone {zone}")).map(drop)
    }

    async fn set_network(&self, change: &NetworkChange) -> Result<()> {
        self.ask(format!("network {change:?}")).map(drop)
    }
}

#[tonic::async_trait]
impl Recovery for Fakes {
    async fn status(&self, name: Option<&str>) -> Result<Status> {
        let world = self.ask(format!("ha status {}", name.unwrap_or("own")))?;
        let mut groups = world.high_availability.iter();
        let found = groups.find(|one| {
            let nodes = one.nodes.iter().map(|node| node.name.as_str());
            let mut names = nodes.chain([one.group.as_str()]);
            name.is_none_or(|name| names.any(|one| one == name))
        });
        found
            .cloned()
            .ok_or_else(|| Error::not_found("there is no such group"))
    }

    async fn act(&self, verb: Verb, subject: &str, caller: &str) -> Result<()> {
        let mut world = self.ask(format!("ha {verb:?} {subject} by {caller}"))?;
        let mut nodes = world.high_availability.iter().flat_map(|one| &one.nodes);
        if verb != Verb::Recover && !nodes.any(|node| node.name == subject) {
            return Err(Error::not_found("there is no such node"));
        }
        for node in world
            .high_availability
            .iter_mut()
            .flat_map(|group| &mut group.nodes)
        {
            if verb == Verb::Recover {
                node.state = "Normal".into();
                node.reason = "Normal".into();
            } else if node.name == subject {
                node.reason = "On Admin Request".into();
                node.state = match verb {
                    Verb::Failover => "Failing Over".into(),
                    _ => "Taking Back".into(),
                };
            }
        }
        Ok(())
    }

    async fn history(&self, node: Option<&str>) -> Result<Vec<Entry>> {
        let world = self.ask(format!("ha history {}", node.unwrap_or("own")))?;
        Ok(world.history.clone())
    }
}

#[tonic::async_trait]
impl Storage for Fakes {
    async fn users(&self) -> Result<Vec<UserRecord>> {
        Ok(self.ask("users".into())?.users.values().cloned().collect())
    }

    async fn user(&self, name: &str) -> Result<Option<UserRecord>> {
        Ok(self.ask(format!("user {name}"))?.users.get(name).cloned())
    }

    async fn commit_users(&self, changes: Vec<UserChange>) -> Result<()> {
        let mut world = self.ask("commit".into())?;
        world.batches.push(changes.len());
        let meanwhile = std::mem::take(&mut world.meanwhile);
        world.commit(meanwhile)?;
        world.commit(changes)
    }

    async fn application_user(&self, name: &str) -> Result<Option<String>> {
        let world = self.ask(format!("application user {name}"))?;
        Ok(world.application_users.get(name).cloned())
    }

    async fn parameter(&self, service: &str, name: &str) -> Result<Option<String>> {
        let world = self.ask(format!("parameter {service} {name}"))?;
        let key = (service.to_owned(), name.to_owned());
        Ok(world.parameters.get(&key).cloned())
    }

    async fn set_parameter(&self, service: &str, name: &str, value: Option<&str>) -> Result<()> {
        let mut world = self.ask(format!("set {service} {name} {}", value.unwrap_or("back")))?;
        let key = (service.to_owned(), name.to_owned());
        match value {
            Some(value) => world.parameters.insert(key, value.into()),
            None => world.parameters.remove(&key),
        };
        Ok(())
    }

    async fn enterprise_parameter(&self, name: &str) -> Result<Option<String>> {
        self.parameter("", name).await
    }

    async fn set_enterprise_parameter(&self, name: &str, value: &str) -> Result<()> {
        let mut world = self.ask(format!("set {name} {value}"))?;
        let key = (String::new(), name.to_owned());
        world.parameters.insert(key, value.into());
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        Ok(self.ask("nodes".into())?.nodes.clone())
    }

    async fn groups(&self) -> Result<Groups> {
        Ok(self.ask("groups".into())?.groups.clone())
    }

    async fn change_topology(&self, change: Topology) -> Result<()> {
        let mut world = self.ask("change topology".into())?;
        let changed = || Error::refused("the groups changed meanwhile; run it again");
        let mut groups: Vec<Group> = world.groups.iter().cloned().collect();
        for edit in change.groups {
            let name = edit.old.as_ref().or(edit.new.as_ref());
            let name = name.map(|group| group.name.clone()).unwrap_or_default();
            if groups.iter().find(|group| group.name == name) != edit.old.as_ref() {
                return Err(changed());
            }
            groups.retain(|group| group.name != name);
            groups.extend(edit.new);
        }
        if let Some(node) = change.add {
            if world.nodes.iter().any(|known| known.name == node.name) {
                return Err(Error::refused(format!(
                    "there is a node {} already",
                    node.name
                )));
            }
            world.nodes.push(node);
        }
        if let Some(name) = change.remove {
            world.nodes.retain(|node| node.name != name);
        }
        world.groups = Groups::new(groups);
        Ok(())
    }

    async fn assign(&self, users: &[Assignment]) -> Result<()> {
        let mut world = self.ask(format!("assign {}", users.len()))?;
        let mut next = world.users.clone();
        for one in users {
            match next.get_mut(&one.user) {
                Some(user) if user.node == one.from => user.node.clone_from(&one.to),
                _ => return Err(changed_meanwhile(&one.user)),
            }
        }
        world.users = next;
        Ok(())
    }

    async fn compare(&self, node: &str, tables: &[&str], rows: bool) -> Result<Comparison> {
        let world = self.ask(format!("compare {node} {tables:?} {rows}"))?;
        let found = world.comparisons.get(node).cloned();
        let away = || Error::unavailable(format!("node {node} cannot be reached"));
        let mut found = found.ok_or_else(away)?;
        let wanted =
            |table: &TableComparison| tables.is_empty() || tables.contains(&table.table.as_str());
        found.tables.retain(wanted);
        for table in &mut found.tables {
            table.counts = table.counts.filter(|_| rows);
        }
        Ok(found)
    }

    async fn promote(&self, carry_out: bool, reason: &str) -> Result<Promotion> {
        let word = if carry_out { "promote" } else { "promotion" };
        let mut said = self.ask(format!("{word} for {reason}"))?.promotion.clone();
        if carry_out && said.refusal.is_empty() {
            said.text = "Promoted.".into();
        }
        Ok(said)
    }

    async fn set_voters(&self, all: bool, carry_out: bool, reason: &str) -> Result<VotersChange> {
        let mut world = self.ask(format!("voters {all} {carry_out} for {reason}"))?;
        let mut said = VotersChange {
            refusal: world.voters_refusal.clone(),
            ..VotersChange::default()
        };
        if carry_out && said.refusal.is_empty() {
            for node in &mut world.replication {
                node.votes = all || node.leads();
            }
            said.text = "Done.".into();
        }
        Ok(said)
    }

    async fn mend(
        &self,
        mending: Mending,
        node: &str,
        tables: &[&str],
        reason: &str,
    ) -> Result<Mended> {
        let mut world = self.ask(format!("{mending:?} {node} {tables:?} for {reason}"))?;
        let away = || Error::unavailable(format!("node {node} cannot be reached"));
        let found = world.comparisons.get_mut(node).ok_or_else(away)?;
        let mut done = Mended {
            text: format!("{mending:?} done."),
            ..Mended::default()
        };
        for table in &mut found.tables {
            if tables.is_empty() || tables.contains(&table.table.as_str()) {
                table.equal = true;
                done.tables.push(table.table.clone());
            }
        }
        Ok(done)
    }

    async fn replication(&self) -> Result<Replication> {
        let (name, _) = database::REPLICATION_TIMEOUT;
        let timeout = self.parameter(REPLICATOR, name).await?;
        let nodes = self.ask("replication".into())?.replication.clone();
        Ok(Replication {
            timeout: timeout_seconds(timeout),
            state: 2,
            meaning: "Good".into(),
            reason: String::new(),
            lag_entries: 0,
            lag_seconds: 0,
            role: "leader".into(),
            applied: 17,
            tables: vec!["end_user".into()],
            nodes,
        })
    }
}
