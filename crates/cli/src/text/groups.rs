//! Redundancy groups, high availability, users' home nodes.

use std::fmt::Write as _;

use operations::availability::{Fitness, Outcome, Preview};
use operations::groups::GroupView;
use operations::homes::{Moves, Pace};

use super::tables::{count, table};

fn on(flag: bool) -> &'static str {
    if flag { "on" } else { "off" }
}

/// `groups list`.
pub(crate) fn groups(groups: &[GroupView]) -> String {
    let mut rows = Vec::new();
    for group in groups {
        for (place, node) in group.nodes.iter().enumerate() {
            let (name, availability) = match place {
                0 => (group.name.as_str(), on(group.high_availability)),
                _ => ("", ""),
            };
            let joined = if node.joined { "yes" } else { "no" };
            rows.push(vec![
                name.to_owned(),
                availability.to_owned(),
                node.name.clone(),
                joined.to_owned(),
                node.users.to_string(),
            ]);
        }
    }
    table(&["GROUP", "HA", "NODE", "JOINED", "USERS"], &rows) + &count(groups.len(), "group")
}

/// `groups show`.
pub(crate) fn group(group: &GroupView) -> String {
    let mut text = format!(
        "Group             : {}\nDescription       : {}\nHigh availability : {}\n",
        group.name,
        group.description,
        on(group.high_availability)
    );
    for (place, node) in (1..).zip(&group.nodes) {
        let joined = if node.joined {
            ""
        } else {
            ", has not joined yet"
        };
        let _ = writeln!(
            text,
            "Node {place}            : {} ({}{joined})",
            node.name,
            count(node.users, "user").trim_end()
        );
    }
    text
}

fn fitness(node: &Fitness) -> String {
    let services = match node.down.as_deref() {
        None => "not known, it does not answer".to_owned(),
        Some([]) => "run".to_owned(),
        Some(down) => format!("down: {}", down.join(", ")),
    };
    let replication = node
        .replication
        .map_or_else(|| "not known".to_owned(), |state| state.to_string());
    format!(
        "{}: critical services {services}; replication setup {replication}\n",
        node.name
    )
}

/// What switching high availability will do.
pub(crate) fn availability(preview: &Preview) -> String {
    let Preview { group, enable, .. } = preview;
    if preview.already {
        return format!(
            "High availability of group {group} is {} already.\n",
            on(*enable)
        );
    }
    let mut text = String::new();
    if *enable {
        text.extend(preview.nodes.iter().map(fitness));
    }
    let _ = match &preview.outcome {
        Outcome::Normal => writeln!(
            text,
            "High availability of group {group} goes on. Both nodes go to Normal; nobody is \
             disconnected."
        ),
        Outcome::Failed => writeln!(
            text,
            "Critical services are down on both nodes: with high availability, group {group} goes \
             to Failed. Start them first."
        ),
        Outcome::FailsOver(node) => writeln!(
            text,
            "Critical services are down on {node}: with high availability, it fails over at once, \
             and its users sign in again on the other node. Start them first."
        ),
        Outcome::MayFailOver(nodes) => writeln!(
            text,
            "Replication is not set up on {}: with high availability, group {group} may fail over \
             at once. \"utils dbreplication runtimestate\" tells more.",
            nodes.join(" and ")
        ),
        Outcome::Unknown(nodes) => writeln!(
            text,
            "{} does not say whether its critical services run. Where they do not, the node fails \
             over at once. See \"utils service list\" there.",
            nodes.join(" and ")
        ),
        Outcome::Off => writeln!(
            text,
            "High availability of group {group} goes off: each node serves its own users and \
             nobody else's. Users of a node that is failed over or down are without service until \
             it runs."
        ),
    };
    text
}

/// What switching high availability did.
pub(crate) fn switched(preview: &Preview) -> String {
    format!(
        "High availability of group {} is {}.\n",
        preview.group,
        on(preview.enable)
    )
}

/// Who moves, and what that makes of the nodes.
pub(crate) fn moves(moves: &Moves) -> String {
    if moves.moves == 0 {
        return "Nobody has to move.\n".into();
    }
    loads(moves) + &format!("{} would move.\n", count(moves.moves, "user").trim_end())
}

/// How long a move takes, and what it does to people.
pub(crate) fn pace(moves: &Moves, pace: Pace) -> String {
    let batches = moves.moves.div_ceil(pace.batch.max(1));
    let pauses = u32::try_from(batches.saturating_sub(1)).unwrap_or(u32::MAX);
    let seconds = pace.pause.saturating_mul(pauses).as_secs();
    format!(
        "They are disconnected and sign in again on their new node, {} at a time with a pause of \
         {} s: about {seconds} s. Ctrl-C ends it after a batch, and the same command goes on \
         later.\n",
        pace.batch,
        pace.pause.as_secs()
    )
}

/// Who has moved.
pub(crate) fn moved(moves: &Moves) -> String {
    if moves.moves == 0 {
        return "Nobody had to move.\n".into();
    }
    let verb = if moves.moves == 1 { "has" } else { "have" };
    format!("{} {verb} moved.\n", count(moves.moves, "user").trim_end())
}

fn loads(moves: &Moves) -> String {
    let rows: Vec<_> = moves
        .nodes
        .iter()
        .map(|node| {
            let name = if node.name.is_empty() {
                "(not assigned)"
            } else {
                &node.name
            };
            vec![
                name.to_owned(),
                node.before.to_string(),
                node.after.to_string(),
            ]
        })
        .collect();
    table(&["NODE", "USERS NOW", "USERS THEN"], &rows)
}
