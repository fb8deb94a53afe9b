//! `utils ha …`.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use server_recovery_manager::{Entry, Status};

/// `utils ha status`: a line for each node, with a reason unless all is normal.
pub(crate) fn ha_status(status: &Status) -> String {
    let mut text = format!("Subcluster Name: {}\n", status.group);
    for (number, node) in (1..).zip(&status.nodes) {
        let _ = write!(
            text,
            "Node {number} Name : {} State: {}",
            node.name, node.state
        );
        if node.reason != "Normal" {
            let _ = write!(text, " Reason: {}", node.reason);
        }
        text.push('\n');
    }
    text
}

/// `utils ha history`: what was seen, decided, and is to be done, the latest
/// last.
pub(crate) fn ha_history(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "Nothing has happened yet.\n".into();
    }
    let mut text = String::new();
    for entry in entries {
        let at = entry.at.to_zoned(TimeZone::system());
        let peer = match &entry.peer {
            Some(peer) => format!("peer {peer}"),
            None => "peer not heard".into(),
        };
        let _ = writeln!(
            text,
            "{} {}: {} -> {}; {peer}\n    Seen: {}\n    Decided: {}",
            at.strftime("%Y-%m-%d %H:%M:%S %Z"),
            entry.node,
            entry.from,
            entry.to,
            entry.seen,
            entry.decided
        );
        for advice in &entry.advice {
            let _ = writeln!(text, "    To do: {advice}");
        }
    }
    text
}
