//! The nodes of the cluster.

use std::fmt::Write as _;

use operations::cluster::{Cluster, Removal};

/// `show network cluster`: a line per node, then the table of nodes.
pub(crate) fn cluster(cluster: &Cluster) -> String {
    let mut text = String::new();
    for node in &cluster.nodes {
        let (role, database) = if node.publisher {
            ("Publisher", "DBPub")
        } else {
            ("Subscriber", "DBSub")
        };
        let authenticated = if node.joined {
            "authenticated"
        } else {
            "not authenticated"
        };
        let _ = writeln!(
            text,
            "{} {}.{} {} {role} {} {database} {authenticated}",
            node.address, node.name, node.domain, node.name, node.product
        );
    }
    text += "\nServer Table (processnode) Entries\n----------------------------------\n";
    for node in &cluster.nodes {
        let _ = writeln!(text, "{}", node.name);
    }
    text
}

/// What to know before a node is removed.
pub(crate) fn removal(removal: &Removal) -> String {
    let name = &removal.node.name;
    let mut text = format!(
        "Node {name} leaves the cluster: it gets no changes any more and cannot come back unless \
         it is added again and set up anew."
    );
    if let Some(group) = removal.group.as_ref().filter(|_| removal.high_availability) {
        let _ = write!(text, " High availability of group {group} ends.");
    }
    if removal.users > 0 {
        let _ = write!(
            text,
            " The publisher serves its users, {} in number, until they are assigned to another \
             node.",
            removal.users
        );
    }
    if removal.voters_end {
        text += " Too few nodes are left for each to have a vote: the publisher votes alone then.";
    }
    text
}

/// What the removal of a node did.
pub(crate) fn removed(removal: &Removal) -> String {
    let mut text = format!("Node {} was removed from the cluster.\n", removal.node.name);
    if removal.users > 0 {
        let _ = writeln!(text, "Users without a home node now: {}.", removal.users);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use operations::ports::NodeRecord;

    #[test]
    fn each_node_has_a_line_that_scripts_read() {
        let node = |name: &str, address: &str, publisher| NodeRecord {
            name: name.into(),
            domain: "example.org".into(),
            address: address.into(),
            publisher,
            product: "imp".into(),
            joined: publisher,
        };
        let nodes = vec![
            node("alpha", "192.0.2.11", true),
            node("beta", "192.0.2.12", false),
        ];
        assert_eq!(
            cluster(&Cluster { nodes }),
            "192.0.2.11 alpha.example.org alpha Publisher imp DBPub authenticated\n\
             192.0.2.12 beta.example.org beta Subscriber imp DBSub not authenticated\n\n\
             Server Table (processnode) Entries\n\
             ----------------------------------\n\
             alpha\nbeta\n"
        );
    }
}
