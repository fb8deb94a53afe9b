//! High availability of a redundancy group: on and off, and what that will do.

use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};
use crate::groups::{find_node, not_found, refused};
use crate::ports::{Replication, Service, State};

/// What switching high availability will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Name of the group.
    pub group: String,
    /// Whether it is to be on.
    pub enable: bool,
    /// Whether it is so already.
    pub already: bool,
    /// The group's nodes, the first one first.
    pub nodes: Vec<Fitness>,
    /// What will happen.
    pub outcome: Outcome,
}

/// How a node of the group is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fitness {
    /// Its host name.
    pub name: String,
    /// Names of its critical services that do not run; none when it does not
    /// answer.
    pub down: Option<Vec<String>>,
    /// State of replication, 0 to 4; 2 is good. None when it is not known.
    pub replication: Option<u8>,
}

/// What will happen to a group when its high availability is switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "nodes")]
pub enum Outcome {
    /// On: each node stands in for the other.
    Normal,
    /// On: both nodes go to Failed, for critical services are down on both.
    Failed,
    /// On: this node fails over at once, for critical services are down there.
    FailsOver(String),
    /// On: the group may fail over at once, for replication is not good on
    /// these nodes.
    MayFailOver(Vec<String>),
    /// On: not known, for these nodes do not say how their services are.
    Unknown(Vec<String>),
    /// Off: each node serves its own users and nobody else's.
    Off,
}

/// What becomes of a group of nodes that are so when it gets high availability
/// (seed 004).
pub fn outcome(nodes: &[Fitness]) -> Outcome {
    let names = |which: &dyn Fn(&Fitness) -> bool| -> Vec<String> {
        let nodes = nodes.iter().filter(|node| which(node));
        nodes.map(|node| node.name.clone()).collect()
    };
    let down = names(&|node| node.down.as_ref().is_some_and(|down| !down.is_empty()));
    let unseen = names(&|node| node.down.is_none());
    let behind = names(&|node| node.replication != Some(2));
    match &down[..] {
        _ if down.len() == nodes.len() => Outcome::Failed,
        [node, ..] if unseen.is_empty() => Outcome::FailsOver(node.clone()),
        _ if !unseen.is_empty() => Outcome::Unknown(unseen),
        _ if !behind.is_empty() => Outcome::MayFailOver(behind),
        _ => Outcome::Normal,
    }
}

impl Operations {
    /// What switching high availability of a group will do; nothing is
    /// changed. Refused where it cannot be switched.
    pub async fn availability_preview(
        &self,
        caller: &Caller,
        group: &str,
        enable: bool,
    ) -> Result<Preview> {
        caller.may(&actions::AVAILABILITY_SET)?;
        let groups = self.storage().groups().await?;
        let found = groups.get(group).map_err(not_found)?;
        groups.switch(group, enable).map_err(refused)?;
        let nodes = self.storage().nodes().await?;
        for node in found.nodes() {
            if enable && !find_node(&nodes, node)?.joined {
                return Err(Error::refused(format!(
                    "{node} was added and has not joined the cluster yet. Set it up first, then \
                     switch high availability on"
                )));
            }
        }
        let replication = self.storage().replication().await?;
        let mut fitness = Vec::new();
        for node in found.nodes() {
            fitness.push(Fitness {
                name: node.into(),
                down: self.critical_services_down(node).await?,
                replication: replication_of(&replication, node),
            });
        }
        Ok(Preview {
            group: group.into(),
            enable,
            already: found.high_availability == enable,
            outcome: if enable {
                outcome(&fitness)
            } else {
                Outcome::Off
            },
            nodes: fitness,
        })
    }

    /// Switches high availability of a group on or off.
    pub async fn set_availability(
        &self,
        caller: &Caller,
        group: &str,
        enable: bool,
    ) -> Result<Preview> {
        let word = if enable { "on" } else { "off" };
        let work = async {
            let preview = self.availability_preview(caller, group, enable).await?;
            let groups = self.storage().groups().await?;
            let next = groups.switch(group, enable).map_err(refused)?;
            if !preview.already {
                self.write_groups(&groups, &next).await?;
            }
            Ok(preview)
        };
        caller
            .does(&actions::AVAILABILITY_SET, &format!("{group} {word}"), work)
            .await
    }

    /// Critical services of a node that do not run; none when the node does not
    /// say.
    async fn critical_services_down(&self, node: &str) -> Result<Option<Vec<String>>> {
        let services = self.supervision().services().await?;
        if self.node().is_ok_and(|own| own.name == node) {
            return Ok(Some(down(services)));
        }
        // Its recovery manager knows, whether or not high availability is on.
        let Ok(status) = self.recovery().status(Some(node)).await else {
            return Ok(None);
        };
        let mut nodes = status.nodes.into_iter();
        let there = nodes.find(|one| one.name == node && one.heard);
        let compat = |id: String| {
            let known = services.iter().find(|service| service.id == id);
            known.map_or(id, |service| service.compat.clone())
        };
        Ok(there.map(|one| one.down.into_iter().map(compat).collect()))
    }
}

/// Critical services that exist, are activated and do not run.
fn down(services: Vec<Service>) -> Vec<String> {
    let down = services
        .into_iter()
        .filter(|service| service.critical && service.activated && service.state != State::Started);
    down.map(|service| service.compat).collect()
}

fn replication_of(replication: &Replication, node: &str) -> Option<u8> {
    let mut nodes = replication.nodes.iter();
    let found = nodes.find(|one| one.name == node)?;
    found.reachable.then_some(found.state)
}

#[cfg(test)]
mod tests {
    use redundancy::{Group, Groups};
    use server_recovery_manager::{NodeStatus, Status};

    use crate::error::Kind;
    use crate::fakes::{Fakes, administrator, node, replication_node, service};
    use crate::ports::ServiceKind;

    use super::*;

    fn fit(name: &str, down: Option<&[&str]>, replication: Option<u8>) -> Fitness {
        Fitness {
            name: name.into(),
            down: down.map(|down| down.iter().map(|id| (*id).into()).collect()),
            replication,
        }
    }

    #[test]
    fn what_will_happen_is_what_the_seed_says() {
        const RUN: Option<&[&str]> = Some(&[]);
        const DOWN: Option<&[&str]> = Some(&["Cisco XCP Router"]);
        let both = |one: (Option<&[&str]>, u8), two: (Option<&[&str]>, u8)| {
            outcome(&[fit("a", one.0, Some(one.1)), fit("b", two.0, Some(two.1))])
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(both((RUN, 2), (RUN, 2)), Outcome::Normal);
        assert_eq!(both((DOWN, 2), (DOWN, 2)), Outcome::Failed);
        assert_eq!(both((RUN, 2), (DOWN, 1)), Outcome::FailsOver("b".into()));
        assert_eq!(
            both((RUN, 2), (RUN, 4)),
            Outcome::MayFailOver(names(&["b"]))
        );
        assert_eq!(both((None, 2), (RUN, 2)), Outcome::Unknown(names(&["a"])));
        assert_eq!(both((None, 2), (DOWN, 2)), Outcome::Unknown(names(&["a"])));
        let unknown = outcome(&[fit("a", RUN, Some(2)), fit("b", RUN, None)]);
        assert_eq!(unknown, Outcome::MayFailOver(names(&["b"])));
    }

    /// Nodes alpha, which is asked, and beta, one group.
    fn pair(folder: &tempfile::TempDir) -> (Fakes, Operations) {
        let fakes = Fakes::default();
        let mut world = fakes.world();
        world.nodes = vec![node("alpha", true), node("beta", false)];
        world.replication = vec![replication_node("alpha", 2), replication_node("beta", 2)];
        world.groups = Groups::new(vec![Group {
            second: Some("beta".into()),
            ..Group::of("g", "alpha")
        }]);
        let mut router = service("xmpp-router", "Cisco XCP Router", ServiceKind::Network);
        router.critical = true;
        let mut proxy = service("sip-proxy", "Cisco SIP Proxy", ServiceKind::Feature);
        proxy.critical = true;
        proxy.activated = false;
        proxy.state = State::Stopped;
        world.services = vec![router, proxy];
        drop(world);
        std::fs::create_dir_all(folder.path().join("etc")).unwrap();
        let text = "name = \"alpha\"\ndomain = \"example.org\"\naddress = \"192.0.2.1\"\n\
                    role = \"publisher\"\nproduct = \"imp\"\nsize = \"5K\"\ncluster = \"c\"\n";
        std::fs::write(folder.path().join("etc/node.toml"), text).unwrap();
        let operations = fakes.operations(folder.path());
        (fakes, operations)
    }

    /// What is heard of beta, whose router is down.
    fn status(heard: bool) -> Status {
        let beta = NodeStatus {
            name: "beta".into(),
            state: "Normal".into(),
            reason: "Normal".into(),
            heard,
            serves: Vec::new(),
            down: vec!["xmpp-router".into()],
        };
        Status {
            group: "g".into(),
            high_availability: false,
            held: false,
            nodes: vec![beta],
            cause: String::new(),
            advice: Vec::new(),
        }
    }

    fn on(fakes: &Fakes) -> bool {
        fakes.world().groups.get("g").unwrap().high_availability
    }

    #[tokio::test]
    async fn it_is_shown_first_and_then_switched() {
        let folder = tempfile::tempdir().unwrap();
        let (fakes, operations) = pair(&folder);
        let admin = administrator();
        let preview = operations.availability_preview(&admin, "g", true).await;
        let preview = preview.unwrap();
        // Feature services that are not activated do not count.
        assert_eq!(preview.nodes[0], fit("alpha", Some(&[]), Some(2)));
        assert_eq!(preview.outcome, Outcome::Unknown(vec!["beta".into()]));
        assert!(!on(&fakes));
        // The other one says how it is, when it answers itself.
        fakes.world().high_availability = vec![status(false)];
        let preview = operations.availability_preview(&admin, "g", true).await;
        assert_eq!(preview.unwrap().nodes[1].down, None);
        fakes.world().high_availability = vec![status(true)];
        let preview = operations.availability_preview(&admin, "g", true).await;
        let preview = preview.unwrap();
        let down = Some(&["Cisco XCP Router"][..]);
        assert_eq!(preview.nodes[1], fit("beta", down, Some(2)));
        assert_eq!(preview.outcome, Outcome::FailsOver("beta".into()));
        fakes.world().services[0].state = State::Stopped;
        let preview = operations.availability_preview(&admin, "g", true).await;
        let down = preview.unwrap().nodes[0].down.clone();
        assert_eq!(down, Some(vec!["Cisco XCP Router".into()]));
        let done = operations.set_availability(&admin, "g", true).await;
        assert!(!done.unwrap().already && on(&fakes));
        let again = operations.set_availability(&admin, "g", true).await;
        assert!(again.unwrap().already);
        let off = operations.set_availability(&admin, "g", false).await;
        assert_eq!(off.unwrap().outcome, Outcome::Off);
        assert!(!on(&fakes));
    }

    #[tokio::test]
    async fn what_cannot_be_available_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let (fakes, operations) = pair(&folder);
        let admin = administrator();
        let refused = async |group: &str| {
            let set = operations.set_availability(&admin, group, true).await;
            set.unwrap_err()
        };
        let error = refused("h").await;
        assert!(error.kind == Kind::NotFound && error.message.contains("g"));
        fakes.world().nodes[1].joined = false;
        let error = refused("g").await;
        assert!(error.message.contains("Set it up first"), "{error}");
        fakes.world().groups = Groups::new(vec![Group::of("g", "alpha")]);
        let error = refused("g").await;
        assert!(error.message.contains("Add a second one"), "{error}");
        assert!(!on(&fakes));
    }
}
