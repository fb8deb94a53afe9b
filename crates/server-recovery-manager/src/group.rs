//! The node's redundancy group, as the database has it.

use std::collections::{BTreeMap, BTreeSet};

use recovery::{Arbiter, Invalid, Node, Parameters, Settings, critical_services};
use serde::{Deserialize, Serialize};

/// Where a node of the cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Its address.
    pub(crate) address: String,
    /// Its number in the replication log, which its certificate has as well; 0
    /// while it has not joined.
    pub(crate) replica: u64,
}

/// A redundancy group: one node or two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) first: String,
    pub(crate) second: Option<String>,
    pub(crate) high_availability: bool,
}

impl Group {
    /// Its nodes, the first one first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.first.as_str()).chain(self.second.as_deref())
    }

    fn has(&self, node: &str) -> bool {
        self.nodes().any(|one| one == node)
    }
}

/// What the database tells that matters here. It is kept on the disk as well,
/// since the manager must go on while the database is down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The nodes of the cluster by name.
    pub(crate) nodes: BTreeMap<String, Place>,
    pub(crate) groups: Vec<Group>,
    /// The manager's parameters on this node, as texts.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// What one node needs to know of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Name of this node.
    pub(crate) own: String,
    /// The group it is in.
    pub(crate) group: Group,
    /// Every group.
    pub(crate) groups: Vec<Group>,
    /// The nodes of the cluster by name.
    pub(crate) nodes: BTreeMap<String, Place>,
    pub(crate) parameters: Parameters,
    /// What is wrong with the parameters; then those from before hold.
    pub(crate) invalid: Option<Invalid>,
}

impl View {
    /// The view of node `own`. Parameters that cannot be used are left as they
    /// were `before`.
    pub(crate) fn new(own: &str, known: &Known, before: &Parameters) -> Self {
        let group = known.groups.iter().find(|group| group.has(own));
        // A node that is in no group yet is alone.
        let group = group.cloned().unwrap_or_else(|| Group {
            name: own.into(),
            first: own.into(),
            second: None,
            high_availability: false,
        });
        let (parameters, invalid) =
            match Parameters::read(|name| known.parameters.get(name).cloned()) {
                Ok(parameters) => (parameters, None),
                Err(invalid) => (before.clone(), Some(invalid)),
            };
        Self {
            own: own.into(),
            group,
            groups: known.groups.clone(),
            nodes: known.nodes.clone(),
            parameters,
            invalid,
        }
    }

    /// This node's place in its group.
    pub(crate) fn place(&self) -> Node {
        match self.group.first == self.own {
            true => Node::One,
            false => Node::Two,
        }
    }

    /// The node at that place of the group.
    pub(crate) fn home(&self, place: Node) -> Option<&str> {
        self.group.nodes().nth(place.index())
    }

    /// The names of both.
    pub(crate) fn homes(&self) -> [Option<String>; 2] {
        Node::BOTH.map(|place| self.home(place).map(str::to_owned))
    }

    /// The other node of the group.
    pub(crate) fn peer(&self) -> Option<&str> {
        self.home(self.place().peer())
    }

    /// The name of the node of that number, which its certificate has.
    pub(crate) fn name_of(&self, replica: u64) -> Option<&str> {
        let mut nodes = self.nodes.iter();
        let found = nodes.find(|(_, place)| place.replica == replica && replica != 0);
        found.map(|(name, _)| name.as_str())
    }

    /// Nodes of other groups that have joined the cluster.
    pub(crate) fn thirds(&self) -> impl Iterator<Item = &str> {
        let joined = self.nodes.iter().filter(|(_, place)| place.replica != 0);
        let others = joined.filter(|(name, _)| !self.group.has(name));
        others.map(|(name, _)| name.as_str())
    }

    /// Whether this node and its peer stand in for each other.
    pub(crate) fn enabled(&self) -> bool {
        self.group.high_availability && self.peer().is_some()
    }

    /// What the machine is set to.
    pub(crate) fn settings(&self, services: &Services) -> Settings {
        let arbiter = match self.thirds().next() {
            Some(_) => Arbiter::ThirdNode,
            None => Arbiter::KnownHosts,
        };
        Settings {
            enabled: self.enabled(),
            arbiter,
            parameters: self.parameters.clone(),
            critical: services.critical(&self.parameters),
        }
    }
}

/// A service as the supervisor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether its unit says that it is critical.
    pub(crate) critical: bool,
    /// Whether it is to run on this node.
    pub(crate) activated: bool,
    /// Whether it serves.
    pub(crate) running: bool,
}

/// The services of the node, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Services(pub(crate) BTreeMap<String, Seen>);

impl Services {
    /// What must be assumed while nobody tells: the two services without which
    /// no node serves anybody, and neither is known to run.
    pub(crate) fn unknown() -> Self {
        let down = Seen {
            critical: true,
            activated: true,
            running: false,
        };
        let ids = [recovery::DATABASE, "xmpp-router"];
        Self(ids.map(|id| (id.to_owned(), down)).into())
    }

    fn ids(&self, which: impl Fn(&Seen) -> bool) -> BTreeSet<String> {
        let found = self.0.iter().filter(|(_, seen)| which(seen));
        found.map(|(id, _)| id.clone()).collect()
    }

    /// Those on which failover depends.
    pub(crate) fn critical(&self, parameters: &Parameters) -> BTreeSet<String> {
        let units = self.ids(|seen| seen.critical);
        let activated = self.ids(|seen| seen.activated);
        critical_services(&units, &activated, parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn known() -> Known {
        let place = |number: u64| Place {
            address: format!("192.0.2.{number}"),
            replica: number,
        };
        let nodes = (1..=3).map(|number| (format!("node{number}"), place(number)));
        Known {
            nodes: nodes.collect(),
            groups: vec![
                Group {
                    name: "DefaultCluster".into(),
                    first: "node1".into(),
                    second: Some("node2".into()),
                    high_availability: true,
                },
                Group {
                    name: "other".into(),
                    first: "node3".into(),
                    second: None,
                    high_availability: true,
                },
            ],
            parameters: BTreeMap::new(),
        }
    }

    fn view(own: &str, known: &Known) -> View {
        View::new(own, known, &Parameters::default())
    }

    #[test]
    fn each_node_knows_its_place() {
        let known = known();
        let two = view("node2", &known);
        assert_eq!((two.place(), two.peer()), (Node::Two, Some("node1")));
        assert_eq!(two.thirds().collect::<Vec<_>>(), ["node3"]);
        assert_eq!(two.name_of(3), Some("node3"));
        assert_eq!(two.name_of(0), None);
        // A group of one has nobody to take over.
        let three = view("node3", &known);
        assert_eq!((three.place(), three.peer()), (Node::One, None));
        assert!(two.enabled() && !three.enabled());
        let stranger = view("node4", &known);
        assert_eq!(stranger.homes(), [Some("node4".into()), None]);
    }

    #[test]
    fn a_cluster_of_two_asks_known_hosts() {
        let mut known = known();
        let services = Services::default();
        let settings = view("node1", &known).settings(&services);
        assert_eq!(settings.arbiter, Arbiter::ThirdNode);
        // One that was added and has not joined cannot answer.
        known.nodes.get_mut("node3").unwrap().replica = 0;
        let settings = view("node1", &known).settings(&services);
        assert_eq!(settings.arbiter, Arbiter::KnownHosts);
    }

    #[test]
    fn parameters_that_cannot_be_used_change_nothing() {
        let mut known = known();
        let name = "Keep Alive (Heartbeat) Interval";
        known.parameters.insert(name.into(), "often".into());
        let view = View::new("node1", &known, &Parameters::fast());
        assert_eq!(view.parameters, Parameters::fast());
        assert!(view.invalid.unwrap().to_string().contains("often"));
    }

    #[test]
    fn critical_are_those_that_are_activated_here() {
        let seen = |critical, activated| Seen {
            critical,
            activated,
            running: true,
        };
        let services = Services(BTreeMap::from([
            ("database".into(), seen(true, true)),
            ("sip-proxy".into(), seen(true, false)),
            ("web".into(), seen(false, true)),
        ]));
        let critical = services.critical(&Parameters::default());
        assert_eq!(critical, BTreeSet::from(["database".into()]));
    }
}
