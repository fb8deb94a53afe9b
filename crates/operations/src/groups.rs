//! Presence redundancy groups: which nodes stand in for each other.

use redundancy::{Change, Group, Groups, Refusal};
use serde::Serialize;

use crate::Operations;
use crate::action::{Action, Caller, actions};
use crate::error::{Error, Kind, Result};
use crate::ports::{NodeRecord, Topology};

/// A group with its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// What an administrator says of it.
    pub description: String,
    /// Its nodes, the first one first.
    pub nodes: Vec<GroupNode>,
    /// Whether each of its nodes takes the other's users over.
    pub high_availability: bool,
}

/// A node of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupNode {
    /// Its host name.
    pub name: String,
    /// Whether it has joined the cluster.
    pub joined: bool,
    /// Users whose home it is.
    pub users: usize,
}

/// A group to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewGroup {
    /// Its name.
    pub name: String,
    /// What an administrator says of it; may be empty.
    pub description: String,
    /// Its first node.
    pub first: String,
    /// Its second node, if any.
    pub second: Option<String>,
}

/// A refusal of the rules, as an administrator gets it.
pub(crate) fn refused(refusal: Refusal) -> Error {
    Error::refused(refusal.0)
}

impl Operations {
    /// Every group, by name.
    pub async fn groups(&self, caller: &Caller) -> Result<Vec<GroupView>> {
        let work = async {
            let groups = self.storage().groups().await?;
            self.group_views(groups.iter()).await
        };
        caller.does(&actions::GROUPS_LIST, "", work).await
    }

    /// One group.
    pub async fn group(&self, caller: &Caller, name: &str) -> Result<GroupView> {
        let work = async {
            let groups = self.storage().groups().await?;
            self.group_view(&groups, name).await
        };
        caller.does(&actions::GROUPS_LIST, name, work).await
    }

    /// Makes a group. Its nodes leave the groups that they are in, which end
    /// when they are left empty.
    pub async fn add_group(&self, caller: &Caller, new: NewGroup) -> Result<GroupView> {
        let name = new.name.clone();
        self.regroup(caller, &actions::GROUPS_ADD, &name, &name, |groups| {
            let second = new.second.as_deref();
            let made = groups.create(&new.name, &new.description, &new.first, second);
            made.map_err(refused)
        })
        .await
    }

    /// Changes a group. A node that it loses gets a group of its own.
    pub async fn change_group(
        &self,
        caller: &Caller,
        name: &str,
        change: Change,
    ) -> Result<GroupView> {
        let later = change.name.clone().unwrap_or_else(|| name.into());
        self.regroup(caller, &actions::GROUPS_CHANGE, name, &later, |groups| {
            groups.get(name).map_err(not_found)?;
            groups.change(name, &change).map_err(refused)
        })
        .await
    }

    /// Ends a group; each of its nodes gets a group of its own. Answers those.
    pub async fn delete_group(&self, caller: &Caller, name: &str) -> Result<Vec<GroupView>> {
        let work = async {
            let groups = self.storage().groups().await?;
            let old = groups.get(name).map_err(not_found)?.clone();
            let next = groups.delete(name).map_err(refused)?;
            self.write_groups(&groups, &next).await?;
            self.group_views(old.nodes().filter_map(|node| next.of(node)))
                .await
        };
        caller.does(&actions::GROUPS_DELETE, name, work).await
    }

    async fn regroup(
        &self,
        caller: &Caller,
        action: &Action,
        subject: &str,
        later: &str,
        change: impl FnOnce(&Groups) -> Result<Groups>,
    ) -> Result<GroupView> {
        let work = async {
            let groups = self.storage().groups().await?;
            let next = change(&groups)?;
            let group = next.get(later).map_err(not_found)?;
            self.check_nodes(group).await?;
            self.write_groups(&groups, &next).await?;
            self.group_view(&next, later).await
        };
        caller.does(action, subject, work).await
    }

    pub(crate) async fn write_groups(&self, from: &Groups, to: &Groups) -> Result<()> {
        let change = Topology {
            groups: from.edits(to),
            ..Topology::default()
        };
        self.storage().change_topology(change).await
    }

    /// Whether a group's nodes are there, and of one version as far as it is
    /// known.
    async fn check_nodes(&self, group: &Group) -> Result<()> {
        let nodes = self.storage().nodes().await?;
        for name in group.nodes() {
            find_node(&nodes, name)?;
        }
        let replication = self.storage().replication().await?;
        let version = |name: &str| {
            let node = replication.nodes.iter().find(|node| node.name == name)?;
            Some(node.version.as_str()).filter(|version| !version.is_empty())
        };
        let versions: Vec<_> = group.nodes().filter_map(version).collect();
        if let [first, second] = versions[..]
            && first != second
        {
            return Err(Error::refused(format!(
                "the nodes of a group have the same version, and {} has {first}, {} has {second}. \
                 Upgrade the older one first",
                group.first,
                group.second.as_deref().unwrap_or_default()
            )));
        }
        Ok(())
    }

    async fn group_view(&self, groups: &Groups, name: &str) -> Result<GroupView> {
        let group = groups.get(name).map_err(not_found)?;
        let views = self.group_views(std::iter::once(group)).await?;
        let view = views.into_iter().next();
        view.ok_or_else(|| Error::failed(format!("group {name} was not read")))
    }

    async fn group_views<'a>(
        &self,
        groups: impl Iterator<Item = &'a Group>,
    ) -> Result<Vec<GroupView>> {
        let nodes = self.storage().nodes().await?;
        let users = self.storage().users().await?;
        let of = |node: &str| GroupNode {
            name: node.into(),
            joined: nodes.iter().any(|one| one.name == node && one.joined),
            users: users.iter().filter(|user| user.node == node).count(),
        };
        let views = groups.map(|group| GroupView {
            name: group.name.clone(),
            description: group.description.clone(),
            nodes: group.nodes().map(of).collect(),
            high_availability: group.high_availability,
        });
        Ok(views.collect())
    }
}

pub(crate) fn not_found(refusal: Refusal) -> Error {
    Error::not_found(refusal.0)
}

/// A node of the cluster, by its name.
pub(crate) fn find_node<'a>(nodes: &'a [NodeRecord], name: &str) -> Result<&'a NodeRecord> {
    nodes.iter().find(|node| node.name == name).ok_or_else(|| {
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        Error::new(
            Kind::NotFound,
            format!(
                "the cluster has no node {name:?}; its nodes are: {}",
                names.join(", ")
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::fakes::{Fakes, administrator, node, replication_node, user_at};

    use super::*;

    fn new(name: &str, first: &str, second: Option<&str>) -> NewGroup {
        NewGroup {
            name: name.into(),
            description: "North".into(),
            first: first.into(),
            second: second.map(Into::into),
        }
    }

    #[tokio::test]
    async fn groups_are_made_changed_shown_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let fakes = Fakes::default();
        let operations = fakes.operations(folder.path());
        let admin = administrator();
        {
            let mut world = fakes.world();
            world.nodes = vec![node("n1", true), node("n2", false), node("n3", false)];
            world.replication = ["n1", "n2", "n3"]
                .map(|name| replication_node(name, 2))
                .into();
            world.replication[2].version = "2.0".into();
            let alone = |name: &str| Group::of(name, name);
            world.groups = Groups::new(vec![alone("n1"), alone("n2"), alone("n3")]);
            let alice = user_at("alice", "n2");
            world.users.insert(alice.user.clone(), alice);
        }

        let error = operations.add_group(&admin, new("a b", "n1", None)).await;
        assert!(error.unwrap_err().message.contains("may not have ' '"));
        let error = operations
            .add_group(&admin, new("a", "n1", Some("n4")))
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
        assert!(error.message.contains("n1, n2, n3"), "{error}");
        let error = operations
            .add_group(&admin, new("a", "n1", Some("n3")))
            .await;
        let error = error.unwrap_err();
        assert!(error.message.contains("n1 has 1.0, n3 has 2.0"), "{error}");
        assert_eq!(operations.groups(&admin).await.unwrap().len(), 3);

        let made = operations
            .add_group(&admin, new("a", "n1", Some("n2")))
            .await;
        let made = made.unwrap();
        assert_eq!((made.nodes[1].users, made.nodes[0].users), (1, 0));
        assert_eq!(operations.group(&admin, "a").await.unwrap(), made);
        let names: Vec<_> = operations.groups(&admin).await.unwrap();
        let names: Vec<_> = names.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["a", "n3"]);

        let change = Change {
            name: Some("b".into()),
            ..Change::default()
        };
        let error = operations.change_group(&admin, "x", change.clone()).await;
        assert_eq!(error.unwrap_err().kind, Kind::NotFound);
        let changed = operations.change_group(&admin, "a", change).await.unwrap();
        assert_eq!((&*changed.name, &*changed.description), ("b", "North"));
        let left = operations.delete_group(&admin, "b").await.unwrap();
        let left: Vec<_> = left.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(left, ["n1", "n2"]);
        let error = operations.delete_group(&admin, "n3").await.unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
    }
}
