//! The nodes of the cluster: who belongs to it, who is added and removed.

use std::net::IpAddr;

use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Kind, Result};
use crate::groups::refused;
use crate::network;
use crate::ports::{Assignment, NetworkChange, NodeRecord, Topology};

/// Most nodes of a cluster: a publisher and five subscribers, in pairs.
pub const MOST_NODES: usize = 6;

/// Users who are assigned in one transaction.
const BATCH: usize = 500;
/// How often somebody else may be faster.
const REFUSALS: usize = 20;

/// The nodes of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// The nodes, the publisher first.
    pub nodes: Vec<NodeRecord>,
}

/// A node to add, as it was typed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewNode {
    /// Kind of node.
    pub product: String,
    /// Host name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Domain of the host name.
    pub domain: String,
    /// Redundancy group; none to have one chosen.
    pub group: Option<String>,
}

/// A node that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Added {
    /// The node.
    #[serde(flatten)]
    pub node: NodeRecord,
    /// Its redundancy group.
    pub group: String,
}

/// What the removal of a node did or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// The node.
    #[serde(flatten)]
    pub node: NodeRecord,
    /// Its redundancy group.
    pub group: Option<String>,
    /// Whether that had high availability, which ends.
    pub high_availability: bool,
    /// Users whose home it is, who lose it.
    pub users: usize,
    /// Whether every node votes, and too few are left for that: the publisher
    /// votes alone then.
    pub voters_end: bool,
}

impl Operations {
    /// The nodes of the cluster.
    pub async fn cluster(&self, caller: &Caller) -> Result<Cluster> {
        let work = async {
            let mut nodes = self.storage().nodes().await?;
            nodes.sort_by_key(|node| (!node.publisher, node.name.clone()));
            Ok(Cluster { nodes })
        };
        caller.does(&actions::CLUSTER_SHOW, "", work).await
    }

    /// Adds a subscriber, which may join from then on. It is in the redundancy
    /// group that `new` names, otherwise in the first one with one node,
    /// otherwise in a new one.
    pub async fn add_subscriber(&self, caller: &Caller, new: &NewNode) -> Result<Added> {
        let work = async {
            let record = subscriber(new)?;
            let nodes = self.storage().nodes().await?;
            if nodes.len() >= MOST_NODES {
                return Err(Error::refused(format!(
                    "the cluster has {MOST_NODES} nodes, and no more are possible. Remove one first"
                )));
            }
            if let Some(same) = nodes.iter().find(|node| node.address == record.address) {
                return Err(Error::refused(format!(
                    "node {} has the address {} already. Give the new node another address, or \
                     remove {0} first",
                    same.name, same.address
                )));
            }
            let groups = self.storage().groups().await?;
            let wanted = new.group.as_deref();
            let next = groups.join(&record.name, wanted).map_err(refused)?;
            let change = Topology {
                add: Some(record.clone()),
                groups: groups.edits(&next),
                ..Topology::default()
            };
            self.storage().change_topology(change).await?;
            let group = next.of(&record.name).map(|group| group.name.clone());
            Ok(Added {
                node: record,
                group: group.unwrap_or_default(),
            })
        };
        caller.does(&actions::CLUSTER_ADD, &new.name, work).await
    }

    /// What the removal of a subscriber would do; nothing is changed.
    pub async fn removal(&self, caller: &Caller, name: &str) -> Result<Removal> {
        caller.may(&actions::CLUSTER_REMOVE)?;
        let nodes = self.storage().nodes().await?;
        let Some(record) = nodes.into_iter().find(|node| node.name == name) else {
            return Err(Error::not_found(format!(
                "the cluster has no node {name:?}; \"show network cluster\" lists its nodes"
            )));
        };
        if record.publisher {
            return Err(Error::refused(format!(
                "{name} is the publisher; a cluster is not without one"
            )));
        }
        let voters = self.who_votes().await?;
        voters.may_go(name)?;
        let groups = self.storage().groups().await?;
        let group = groups.of(name).cloned();
        let users = self.at_home(name).await?.len();
        Ok(Removal {
            node: record,
            high_availability: group.as_ref().is_some_and(|group| group.high_availability),
            group: group.map(|group| group.name),
            users,
            voters_end: voters.end_without(name),
        })
    }

    /// Removes a subscriber from the cluster: it gets no changes any more, and
    /// is refused when it comes back. It leaves its redundancy group, which
    /// has no high availability then, and its users have no home until they
    /// are assigned another: the publisher serves them.
    pub async fn remove_subscriber(&self, caller: &Caller, name: &str) -> Result<Removal> {
        let work = async {
            let removal = self.removal(caller, name).await?;
            let groups = self.storage().groups().await?;
            let change = Topology {
                remove: Some(name.into()),
                groups: groups.edits(&groups.leave(name)),
                ..Topology::default()
            };
            self.storage().change_topology(change).await?;
            // The node first: whoever assigns users must not choose it again.
            let users = self.unassign_all(name).await.map_err(|error| {
                Error::new(
                    error.kind,
                    format!(
                        "{name} was removed, but not all of its users have lost it as their home: \
                         {error}"
                    ),
                )
            })?;
            Ok(Removal { users, ..removal })
        };
        caller.does(&actions::CLUSTER_REMOVE, name, work).await
    }

    /// The users whose home is that node.
    async fn at_home(&self, node: &str) -> Result<Vec<String>> {
        let users = self.storage().users().await?.into_iter();
        let users = users.filter(|user| user.node == node);
        Ok(users.map(|user| user.user).collect())
    }

    /// Takes their home from all users of a node; answers how many there were.
    async fn unassign_all(&self, node: &str) -> Result<usize> {
        let mut done = 0;
        let mut refusals = 0;
        loop {
            let users = self.at_home(node).await?;
            if users.is_empty() {
                return Ok(done);
            }
            for batch in users.chunks(BATCH) {
                let change: Vec<_> = batch.iter().map(|user| unassigned(user, node)).collect();
                match self.storage().assign(&change).await {
                    Ok(()) => done += batch.len(),
                    // Somebody changed one of them meanwhile; read again.
                    Err(error) if error.kind == Kind::Refused && refusals < REFUSALS => {
                        refusals += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn unassigned(user: &str, node: &str) -> Assignment {
    Assignment {
        user: user.into(),
        from: node.into(),
        to: String::new(),
    }
}

/// A subscriber as it was typed in, checked.
fn subscriber(new: &NewNode) -> Result<NodeRecord> {
    let NewNode {
        product,
        name,
        address,
        domain,
        ..
    } = new;
    if product != "imp" {
        return Err(Error::invalid(format!(
            "{product:?} is no kind of node that this version knows; give imp"
        )));
    }
    let NetworkChange::Hostname { name } = network::hostname_change(name)? else {
        return Err(Error::failed("the host name was not read as one"));
    };
    let NetworkChange::Domain { domain } = network::domain_change(domain)? else {
        return Err(Error::failed("the domain was not read as one"));
    };
    let address: IpAddr = address
        .parse()
        .ok()
        .filter(|address: &IpAddr| !address.is_unspecified() && !address.is_loopback())
        .ok_or_else(|| {
            Error::invalid(format!(
                "{address:?} is not an address of a node, such as 192.0.2.12"
            ))
        })?;
    Ok(NodeRecord {
        name,
        domain,
        address: address.to_string(),
        publisher: false,
        product: product.clone(),
        joined: false,
    })
}

#[cfg(test)]
mod tests {
    use redundancy::{Group, Groups};

    use crate::fakes::{Fakes, administrator, user_at};

    use super::*;

    fn new(name: &str, last: u8) -> NewNode {
        NewNode {
            product: "imp".into(),
            name: name.into(),
            address: format!("192.0.2.{last}"),
            domain: "example.org".into(),
            group: None,
        }
    }

    /// A cluster of one node, which is the publisher.
    fn cluster(folder: &tempfile::TempDir) -> (Fakes, Operations) {
        let fakes = Fakes::default();
        let publisher = NodeRecord {
            publisher: true,
            ..subscriber(&new("alpha", 11)).unwrap()
        };
        fakes.world().nodes = vec![publisher];
        fakes.world().groups = Groups::new(vec![Group::of(redundancy::DEFAULT, "alpha")]);
        let operations = fakes.operations(folder.path());
        (fakes, operations)
    }

    #[tokio::test]
    async fn a_node_that_is_added_is_in_a_group_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (fakes, operations) = cluster(&folder);
        let admin = administrator();
        let add = |new: NewNode| {
            let (operations, admin) = (&operations, &admin);
            async move { operations.add_subscriber(admin, &new).await }
        };
        assert_eq!(add(new("beta", 12)).await.unwrap().group, "DefaultCluster");
        let full = NewNode {
            group: Some("DefaultCluster".into()),
            ..new("gamma", 13)
        };
        let error = add(full).await.unwrap_err();
        assert!(error.message.contains("its two nodes already"), "{error}");
        assert_eq!(add(new("gamma", 13)).await.unwrap().group, "gamma");
        let error = add(new("gamma", 14)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
        let nodes: Vec<_> = fakes.world().groups.iter().cloned().collect();
        assert_eq!(nodes.len(), 2, "{nodes:?}");
    }

    #[tokio::test]
    async fn a_node_that_is_removed_leaves_its_group_and_its_users_have_no_home() {
        let folder = tempfile::tempdir().unwrap();
        let (fakes, operations) = cluster(&folder);
        let admin = administrator();
        let added = operations.add_subscriber(&admin, &new("beta", 12)).await;
        added.unwrap();
        let groups = fakes.world().groups.clone();
        fakes.world().groups = groups.switch("DefaultCluster", true).unwrap();
        for number in 0..1201 {
            let home = if number == 0 { "alpha" } else { "beta" };
            let user = user_at(&format!("u{number}"), home);
            fakes.world().users.insert(user.user.clone(), user);
        }
        let before = operations.removal(&admin, "beta").await.unwrap();
        assert_eq!((before.users, before.high_availability), (1200, true));
        assert_eq!(fakes.world().nodes.len(), 2);
        fakes.world().commands.clear();
        let after = operations.remove_subscriber(&admin, "beta").await.unwrap();
        assert_eq!(after, before);
        {
            let world = fakes.world();
            let changes = world.commands.iter();
            let changes: Vec<_> = changes
                .filter(|it| it.starts_with("assign") || it.starts_with("change"))
                .collect();
            assert_eq!(
                changes,
                ["change topology", "assign 500", "assign 500", "assign 200"]
            );
            assert_eq!(
                world.groups,
                Groups::new(vec![Group::of(redundancy::DEFAULT, "alpha")])
            );
            let homes = world.users.values().filter(|user| user.node.is_empty());
            assert_eq!(homes.count(), 1200);
        }
        let error = operations.removal(&admin, "alpha").await.unwrap_err();
        assert!(error.message.contains("is the publisher"), "{error}");
    }
}
