//! Who serves whom: users belong to homes, homes are served by nodes.

use std::collections::{BTreeMap, HashMap};

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Host name.
    pub name: Box<str>,
    /// Number in the replication log; 0 while it has not joined.
    pub number: u64,
    /// Address that people's clients reach it at.
    pub address: Box<str>,
    /// Whether users without a home belong to it.
    pub publisher: bool,
    /// The node that takes its users over when it fails, by name; `None` while
    /// its redundancy group has no high availability.
    pub stand_in: Option<Box<str>>,
}

/// Who serves a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// This node.
    Here,
    /// The node with that number.
    There(u64),
    /// Nobody that is known.
    Nobody,
}

/// Nodes, what each says it serves, and where users are at home.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    own: Box<str>,
    nodes: Vec<Node>,
    /// Homes that a node says it serves, with epochs. A node that has said
    /// nothing serves its own in epoch 0; but this one, if another one stands
    /// in for it, serves nobody until it is told: the other one may do so.
    claims: HashMap<Box<str>, BTreeMap<Box<str>, u64>>,
    /// Homes that users have; the first stands for none.
    homes: Vec<Box<str>>,
    /// Who serves each of them now.
    servers: Vec<Server>,
    /// Each user's place in `homes`.
    users: HashMap<Box<str>, u16>,
}

impl Cluster {
    /// Takes the nodes over. Those that left lose their claims.
    pub(crate) fn set_nodes(&mut self, own: &str, nodes: Vec<Node>) {
        if let Some(claims) = self.claims.remove(&self.own) {
            self.claims.insert(own.into(), claims);
        }
        self.own = own.into();
        let there = |name: &str| name == own || nodes.iter().any(|node| &*node.name == name);
        self.claims.retain(|name, _| there(name));
        self.nodes = nodes;
        self.judge();
    }

    /// A node says what it serves.
    pub(crate) fn set_claims(&mut self, node: &str, homes: BTreeMap<Box<str>, u64>) {
        if self.nodes.iter().any(|known| &*known.name == node) {
            self.claims.insert(node.into(), homes);
            self.judge();
        }
    }

    /// This node serves other homes than before.
    pub(crate) fn set_own_claims(&mut self, homes: BTreeMap<Box<str>, u64>) {
        // They may be known before the table of nodes is.
        let own = self.own.clone();
        self.claims.insert(own, homes);
        self.judge();
    }

    /// What this node serves, for others to hear.
    pub(crate) fn own_claims(&self) -> Vec<(String, u64)> {
        match self.claims.get(&self.own) {
            Some(claims) => claims
                .iter()
                .map(|(home, epoch)| (home.to_string(), *epoch))
                .collect(),
            None if self.waits_for_word() => Vec::new(),
            None => vec![(self.own.to_string(), 0)],
        }
    }

    /// Whether only the recovery manager can say what this node serves.
    fn waits_for_word(&self) -> bool {
        let own = self.nodes.iter().find(|node| node.name == self.own);
        own.is_some_and(|own| own.stand_in.is_some())
    }

    /// The other nodes that have joined.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|node| node.name != self.own && node.number != 0)
    }

    /// This node's number; 0 before it is known.
    pub(crate) fn own_number(&self) -> u64 {
        self.nodes
            .iter()
            .find(|node| node.name == self.own)
            .map_or(0, |node| node.number)
    }

    pub(crate) fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.iter().find(|node| node.number == number)
    }

    /// Notes where a user is at home.
    pub(crate) fn set_user(&mut self, user: &str, home: Option<&str>) {
        let place = self.place(home);
        if let Some(known) = self.users.get_mut(user) {
            *known = place;
        } else {
            self.users.insert(user.into(), place);
        }
    }

    /// Forgets a user.
    pub(crate) fn remove_user(&mut self, user: &str) {
        self.users.remove(user);
    }

    /// Takes all users and their homes over.
    pub(crate) fn set_users(&mut self, users: Vec<(Box<str>, Option<Box<str>>)>) {
        self.users.clear();
        for (user, home) in users {
            let place = self.place(home.as_deref());
            self.users.insert(user, place);
        }
    }

    fn place(&mut self, home: Option<&str>) -> u16 {
        if self.homes.is_empty() {
            self.homes.push(Box::default());
            self.servers.push(self.judge_home(""));
        }
        let home = home.unwrap_or_default();
        let at = match self.homes.iter().position(|known| &**known == home) {
            Some(at) => at,
            None => {
                self.homes.push(home.into());
                self.servers.push(self.judge_home(home));
                self.homes.len() - 1
            }
        };
        // A cluster has six nodes.
        u16::try_from(at).unwrap_or_default()
    }

    /// Who serves a user; `None` when no such user is known.
    pub(crate) fn server_of(&self, user: &str) -> Option<Server> {
        if self.nodes.is_empty() {
            return Some(Server::Here);
        }
        let place = self.users.get(user)?;
        self.servers.get(usize::from(*place)).copied()
    }

    /// The node that a user is at home at.
    pub(crate) fn home_of(&self, user: &str) -> Option<&Node> {
        let place = self.users.get(user)?;
        self.node_of(self.homes.get(usize::from(*place))?)
    }

    /// The other one of the two nodes that serve a user, this being one of
    /// them: who is not served here is served there, or will be.
    pub(crate) fn stand_in(&self, user: &str) -> Option<&Node> {
        let home = self.home_of(user)?;
        let other = home.stand_in.as_deref()?;
        match (home.name == self.own, *other == *self.own) {
            (true, false) => self.nodes.iter().find(|node| &*node.name == other),
            (false, true) => Some(home),
            _ => None,
        }
    }

    /// Whether another node takes a node's users over when it fails.
    pub(crate) fn is_covered(&self, number: u64) -> bool {
        self.node(number)
            .is_some_and(|node| node.stand_in.is_some())
    }

    /// Whether this node serves a user, or the user is not known.
    pub(crate) fn serves(&self, user: &str) -> bool {
        matches!(self.server_of(user), None | Some(Server::Here))
    }

    /// Who serves each home now, to compare with later.
    pub(crate) fn servers(&self) -> Vec<Server> {
        self.servers.clone()
    }

    fn judge(&mut self) {
        self.servers = self
            .homes
            .iter()
            .map(|home| self.judge_home(home))
            .collect();
    }

    /// The node that is a home. A home that is no node of the cluster is none,
    /// and who has none is at home at the publisher.
    fn node_of(&self, home: &str) -> Option<&Node> {
        let named = self.nodes.iter().find(|node| &*node.name == home);
        named.or_else(|| self.nodes.iter().find(|node| node.publisher))
    }

    /// The claim of the highest epoch wins, and between equals that of the
    /// home itself.
    fn judge_home(&self, home: &str) -> Server {
        let Some(home) = self.node_of(home) else {
            return Server::Here;
        };
        let claims = self.nodes.iter().filter_map(|node| {
            let at_home = node.name == home.name;
            let epoch = match self.claims.get(&node.name) {
                Some(claims) => *claims.get(&home.name)?,
                None if node.name == self.own && self.waits_for_word() => return None,
                None if at_home => 0,
                None => return None,
            };
            Some(((epoch, at_home), node))
        });
        match claims.max_by_key(|(rank, _)| *rank) {
            None => Server::Nobody,
            Some((_, node)) if node.name == self.own => Server::Here,
            Some((_, node)) => Server::There(node.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, number: u64) -> Node {
        Node {
            name: name.into(),
            number,
            address: format!("192.0.2.{number}").into(),
            publisher: number == 1,
            stand_in: None,
        }
    }

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        let nodes = vec![node("one", 1), node("two", 2), node("three", 3)];
        cluster.set_nodes("one", nodes);
        for (user, home) in [
            ("alice", Some("one")),
            ("bob", Some("two")),
            ("carol", None),
            ("dave", Some("gone")),
        ] {
            cluster.set_user(user, home);
        }
        cluster
    }

    fn claims(claims: &[(&str, u64)]) -> BTreeMap<Box<str>, u64> {
        let each = claims.iter();
        each.map(|(home, epoch)| ((*home).into(), *epoch)).collect()
    }

    #[test]
    fn users_are_served_at_home_and_without_one_by_the_publisher() {
        let cluster = cluster();
        let server = |user| cluster.server_of(user);
        assert_eq!(server("alice"), Some(Server::Here));
        assert_eq!(server("bob"), Some(Server::There(2)));
        assert_eq!(server("carol"), Some(Server::Here));
        assert_eq!(server("dave"), Some(Server::Here));
        assert_eq!(server("nobody"), None);
        assert_eq!(Cluster::default().server_of("bob"), Some(Server::Here));
    }

    #[test]
    fn the_highest_epoch_wins() {
        let mut cluster = cluster();
        assert_eq!(cluster.own_claims(), [("one".to_owned(), 0)]);
        cluster.set_claims("one", claims(&[("one", 1), ("two", 3)]));
        assert_eq!(cluster.server_of("bob"), Some(Server::Here));
        cluster.set_claims("two", claims(&[("two", 2)]));
        assert_eq!(cluster.server_of("bob"), Some(Server::Here));
        cluster.set_claims("two", claims(&[("two", 4), ("one", 4)]));
        assert_eq!(cluster.server_of("bob"), Some(Server::There(2)));
        assert_eq!(cluster.server_of("alice"), Some(Server::There(2)));
        // Who claims nothing serves nobody, not even at home.
        cluster.set_claims("two", claims(&[]));
        cluster.set_claims("one", claims(&[("one", 1)]));
        assert_eq!(cluster.server_of("bob"), Some(Server::Nobody));
        // A stranger's word counts for nothing.
        cluster.set_claims("four", claims(&[("two", 9)]));
        assert_eq!(cluster.server_of("bob"), Some(Server::Nobody));
        // A node that leaves takes its claims along.
        cluster.set_claims("two", claims(&[("one", 9)]));
        assert_eq!(cluster.server_of("alice"), Some(Server::There(2)));
        cluster.set_nodes("one", vec![node("one", 1), node("three", 3)]);
        assert_eq!(cluster.server_of("alice"), Some(Server::Here));
        assert_eq!(cluster.server_of("bob"), Some(Server::Here));
    }

    #[test]
    fn who_has_a_stand_in_serves_nobody_until_it_is_told() {
        let mut cluster = Cluster::default();
        let one = Node {
            stand_in: Some("two".into()),
            ..node("one", 1)
        };
        cluster.set_nodes("one", vec![one, node("two", 2)]);
        cluster.set_user("alice", Some("one"));
        cluster.set_user("bob", Some("two"));
        assert_eq!(cluster.server_of("alice"), Some(Server::Nobody));
        assert_eq!(cluster.server_of("bob"), Some(Server::There(2)));
        assert_eq!(cluster.own_claims(), []);
        cluster.set_own_claims(claims(&[("one", 1)]));
        assert_eq!(cluster.server_of("alice"), Some(Server::Here));
    }

    #[test]
    fn between_equals_the_home_serves() {
        let mut cluster = cluster();
        cluster.set_claims("three", claims(&[("two", 0)]));
        assert_eq!(cluster.server_of("bob"), Some(Server::There(2)));
    }
}
