//! Dual connections: what clients are told of the node that takes their users
//! over (`crates/router/DUAL.md`).

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use database::tables::{ProcessNode, RedundancyGroup};
use database::{Database, Parameters};
use xcp::DUAL;
use xmpp::Builder;

use crate::settings::Settings;

/// The other node, and when a client may connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    host: String,
    /// Bounds of a client's pause before it connects there, in seconds.
    least: u64,
    most: u64,
}

/// What is offered now: nothing without high availability.
#[derive(Debug, Default)]
pub(crate) struct Dual(RwLock<Option<Offer>>);

impl Dual {
    fn set(&self, offer: Option<Offer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = offer;
    }

    /// Whether a connection may be inactive.
    pub(crate) fn is_offered(&self) -> bool {
        let offer = self.0.read().unwrap_or_else(PoisonError::into_inner);
        offer.is_some()
    }

    /// Adds the stream feature.
    pub(crate) fn offer(&self, xml: &mut Builder) {
        let offer = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(offer) = &*offer {
            xml.start("dual")
                .attribute("xmlns", DUAL)
                .attribute("host", &offer.host)
                .attribute("least", &offer.least.to_string())
                .attribute("most", &offer.most.to_string())
                .end();
        }
    }
}

/// Keeps what is offered up to date; never ends.
pub(crate) async fn follow(database: Database, own: String, settings: Settings) {
    const RECOVERY: &str = "server-recovery-manager";
    let mut node_rows = database.watch::<ProcessNode>(&[]);
    let mut group_rows = database.watch::<RedundancyGroup>(&[]);
    let mut limits = database.parameters(&format!("{RECOVERY}@{own}"));
    let (mut nodes, mut groups) = (BTreeMap::new(), BTreeMap::new());
    loop {
        tokio::select! {
            event = node_rows.next() => event.apply(&mut nodes, |row| (row.name.clone(), row)),
            event = group_rows.next() => event.apply(&mut groups, |row| (row.name.clone(), row)),
            () = limits.changed() => {}
        }
        let other = other(&own, &nodes, &groups);
        settings.dual().set(other.map(|node| offer(node, &limits)));
    }
}

/// The node that takes over from `own` when it fails.
fn other<'a>(
    own: &str,
    nodes: &'a BTreeMap<String, ProcessNode>,
    groups: &BTreeMap<String, RedundancyGroup>,
) -> Option<&'a ProcessNode> {
    let mut groups = groups.values().filter(|group| group.high_availability);
    let other = groups.find_map(|group| group.other(own))?;
    nodes.get(other).filter(|node| node.replica != 0)
}

fn offer(node: &ProcessNode, limits: &Parameters) -> Offer {
    let set = |name: &str| Some(limits.get(name, String::new())).filter(|it| !it.is_empty());
    let limits = recovery::Parameters::read(set).unwrap_or_default();
    let least = limits.relogin_lower.as_secs();
    Offer {
        host: node.address.clone(),
        least,
        most: limits.relogin_upper.as_secs().max(least),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(dual: &Dual) -> String {
        let mut xml = Builder::new();
        xml.start("features");
        dual.offer(&mut xml);
        String::from_utf8(xml.finish()).unwrap()
    }

    #[test]
    fn it_is_offered_while_another_node_stands_in() {
        let row = |name: &str, replica: i64| ProcessNode {
            name: name.into(),
            address: format!("192.0.2.{replica}"),
            replica,
            domain: "ex".into(),
            role: "subscriber".into(),
            product: "imp".into(),
        };
        let rows = [row("one", 1), row("two", 2)].map(|row| (row.name.clone(), row));
        let mut nodes = BTreeMap::from(rows);
        let mut group = RedundancyGroup {
            name: "pair".into(),
            first: "one".into(),
            second: Some("two".into()),
            high_availability: true,
            description: String::new(),
        };
        let host = |own: &str, nodes: &BTreeMap<_, _>, group: &RedundancyGroup| {
            other(
                own,
                nodes,
                &BTreeMap::from([("pair".into(), group.clone())]),
            )
            .map(|node| node.address.clone())
        };
        assert_eq!(host("one", &nodes, &group).as_deref(), Some("192.0.2.2"));
        assert_eq!(host("two", &nodes, &group).as_deref(), Some("192.0.2.1"));
        assert_eq!(host("three", &nodes, &group), None);
        // It was added and has not joined.
        nodes.insert("two".into(), row("two", 0));
        assert_eq!(host("one", &nodes, &group), None);
        nodes.insert("two".into(), row("two", 2));
        group.high_availability = false;
        assert_eq!(host("one", &nodes, &group), None);
        (group.high_availability, group.second) = (true, None);
        assert_eq!(host("one", &nodes, &group), None);
    }

    #[test]
    fn the_feature_says_where_and_when() {
        let dual = Dual::default();
        assert!(!dual.is_offered());
        assert_eq!(shown(&dual), "<features/>");
        dual.set(Some(Offer {
            host: "192.0.2.2".into(),
            least: 120,
            most: 537,
        }));
        assert!(dual.is_offered());
        assert_eq!(
            shown(&dual),
            "<features><dual xmlns='urn:signalbox:dual:0' host='192.0.2.2' least='120' most='537'/></features>"
        );
    }
}
