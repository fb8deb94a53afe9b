//! `utils dbreplication …`, `utils imdb_replication status`.

use std::fmt::Write as _;

use jiff::Zoned;
use operations::ports::Replication;
use operations::repair::{Audit, Repairs};
use operations::replication::{Datastore, meaning};
use operations::{Mending, OtherNode, Promotion};

const SINGLE: &str =
    "cannot be performed on a cluster with a single active node; aborting operation";

/// `utils dbreplication status`.
pub(crate) fn replication_status(replication: &Replication) -> String {
    let mut text = String::new();
    if replication.nodes.len() < 2 {
        text += &format!("Replication status {SINGLE}\n");
    }
    text + &format!(
        "This node: state {} ({}{}), {} entries applied, {} entries behind\n",
        replication.state,
        replication.meaning,
        if replication.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", replication.reason)
        },
        replication.applied,
        replication.lag_entries
    )
}

/// `utils dbreplication runtimestate`.
pub(crate) fn runtime_state(replication: &Replication, node: &str, now: &Zoned) -> String {
    if replication.nodes.len() < 2 {
        return format!("Runtime state {SINGLE}\n");
    }
    let tables = replication.tables.len();
    let last = replication.tables.last().map_or("", String::as_str);
    let bad = replication.nodes.iter().any(|node| node.state > 2);
    let mut text = format!(
        "\nServer Time: {}\n\n\
         Cluster Replication State: Replication status command started at: {}\n     \
         Replication status command COMPLETED. Checked {tables} tables out of {tables}\n     \
         Last Completed Table: {last}\n     \
         {}\n\n\
         DB Version: {}\n\
         Repltimeout set to: {}s\n\
         PROCESS option set to: 1\n\n\
         Cluster Detailed View from {node} ({} Servers):\n\n\
         {:32}PING      DB/RPC/   REPL.    Replication    REPLICATION SETUP\n\
         {:<16}{:<16}(msec)    DbMon?    QUEUE    Group ID       (RTMT) & Details\n\
         {:<16}{:<16}------    -------   -----    -----------    ------------------\n",
        now.strftime("%a %b %e %H:%M:%S %Z %Y"),
        now.strftime("%Y-%m-%d-%H-%M"),
        if bad {
            "Errors or Mismatches found: see the last column"
        } else {
            "No Errors or Mismatches found."
        },
        operations::PRODUCT_VERSION,
        replication.timeout,
        replication.nodes.len(),
        "",
        "SERVER-NAME",
        "IP ADDRESS",
        "-----------",
        "----------",
    );
    for (index, node) in replication.nodes.iter().enumerate() {
        let answers = if node.reachable { "Y/Y/Y" } else { "N/N/N" };
        let details = match node.state {
            2 => "Setup Completed".into(),
            state if node.reason.is_empty() => meaning(state).into(),
            state => format!("{}: {}", meaning(state), node.reason),
        };
        let _ = writeln!(
            text,
            "{:<16}{:<16}{:<10}{answers:<10}{:<9}{:<15}({}) {details}",
            node.name,
            node.address,
            node.ping
                .map_or_else(|| "-".into(), |ping| format!("{ping:.3}")),
            node.lag_entries,
            format!("(g_{})", index + 2),
            node.state,
        );
    }
    text
}

/// What differs between nodes and the publisher, table by table.
pub(crate) fn audit(audit: &Audit) -> String {
    let mut text = String::new();
    for node in &audit.nodes {
        let Some(found) = &node.answer else {
            let _ = writeln!(text, "{}: {}", node.node, node.error);
            continue;
        };
        let equal = found.tables.iter().filter(|table| table.equal).count();
        let _ = writeln!(
            text,
            "{}: {equal} of {} tables are equal to the publisher's, at {}",
            node.node,
            found.tables.len(),
            if found.same_place {
                format!("entry {}", found.applied)
            } else {
                format!(
                    "entry {} and the publisher at entry {}: what differs may only be late",
                    found.applied, found.publisher_applied
                )
            }
        );
        if !found.stopped.is_empty() {
            let _ = writeln!(text, "     Replication is stopped: {}", found.stopped);
        }
        for table in found.tables.iter().filter(|table| !table.equal) {
            let rows = match table.counts {
                Some(rows) => format!(
                    "{} differ, {} missing, {} extra",
                    rows.differing, rows.missing, rows.extra
                ),
                None => "differs".into(),
            };
            let _ = writeln!(
                text,
                "     {:<24}{rows} ({} rows here, {} on the publisher)",
                table.table, table.rows, table.publisher_rows
            );
        }
    }
    text
}

/// The difference, and what will be done about it.
pub(crate) fn mending(mending: Mending, found: &Audit) -> String {
    let what = match mending {
        Mending::Repair => {
            "Tables that differ get the publisher's rows; rows that only the node has are lost. Its \
             services read them again. Replication that was stopped is started again."
        }
        Mending::Synchronize => {
            "Every table gets the publisher's rows, whether or not it differs; rows that only the \
             node has are lost. Its services read everything again."
        }
        Mending::Reset => {
            "The node's database starts again with nothing, under a new name in the log, and takes \
             everything from the publisher. Until it has it, its services cannot read anything."
        }
        Mending::Stop => {
            "The node gets no changes any more: what is stored there gets older, also over a \
             restart, until it is repaired or reset."
        }
    };
    audit(found) + what
}

/// What the promotion of this node means.
pub(crate) fn promotion(found: &Promotion) -> String {
    let mut text = format!("This node has the log up to entry {}.\n", found.last_log);
    let more = |node: &OtherNode| match node.last_log.saturating_sub(found.last_log) {
        0 => "nothing that this node lacks".into(),
        1 => "one entry that this node lacks".into(),
        more => format!("{more} entries that this node lacks"),
    };
    match &found.publisher {
        None => text += "It does not know its publisher, nor what is lost with it.\n",
        Some(lost) if lost.heard => {
            let _ = writeln!(
                text,
                "The publisher, {}, was heard {} s ago. Its log ended at entry {} then, with {}; what \
                 it wrote since is lost, too.",
                lost.name,
                lost.seconds,
                lost.last_log,
                more(lost)
            );
        }
        Some(lost) => {
            let _ = writeln!(
                text,
                "The publisher, {}, has not been heard since this node's database started, {} s ago: \
                 how much is lost with it is not known.",
                lost.name, lost.seconds
            );
        }
    }
    for node in &found.others {
        let _ = match node {
            node if !node.answers => writeln!(
                text,
                "{} does not answer: whether it has more than this node is not known.",
                node.name
            ),
            node if node.last_log > found.last_log => writeln!(
                text,
                "{} has the log up to entry {}, with {}: promote that one instead to keep them.",
                node.name,
                node.last_log,
                more(node)
            ),
            node => writeln!(
                text,
                "{} has the log up to entry {}: no more than this node.",
                node.name, node.last_log
            ),
        };
    }
    if !found.refusal.is_empty() {
        let _ = writeln!(text, "It is refused: {}.", found.refusal);
        return text;
    }
    text + "This node becomes the publisher, and every other node begins anew with its data. The old \
            publisher is refused when it comes back, until it is reset or removed. Nodes can join \
            only where the key of the cluster's authority is, which is the old publisher alone.\n"
}

/// What was done to nodes.
pub(crate) fn repairs(repairs: &Repairs) -> String {
    let mut text = String::new();
    for node in &repairs.nodes {
        let said = node.answer.as_ref().map_or(&node.error, |done| &done.text);
        let _ = writeln!(text, "{}: {said}", node.node);
    }
    text
}

/// `utils imdb_replication status`.
pub(crate) fn datastores(stores: &[Datastore]) -> String {
    let mut text = String::new();
    for store in stores {
        let _ = writeln!(
            text,
            "{} {}: {}  {}",
            store.node,
            store.service,
            if store.passed { "PASSED" } else { "FAILED" },
            store.status
        );
        let _ = write!(text, "    {} rows of this node", store.rows);
        let Some(seen) = &store.replication else {
            let _ = writeln!(text, "; no other node in its redundancy group");
            continue;
        };
        let _ = write!(
            text,
            "; replication with {}: {}, {} changes behind",
            seen.peer, seen.state, seen.lag
        );
        if seen.lag > 0 {
            let (seconds, rest) = (seen.lag_ms / 1000, seen.lag_ms % 1000);
            let _ = write!(text, " for {seconds}.{rest:03} s");
        }
        let complete = if seen.complete { "" } else { ", not complete" };
        let _ = writeln!(text, "; {} rows of {}{complete}", seen.copies, seen.peer);
        if seen.refused > 0 {
            let _ = writeln!(text, "    {} rows of it were not taken", seen.refused);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use operations::repair::OfNode;
    use operations::replication::Replicated;
    use operations::{Comparison, RowCounts, TableComparison};

    use super::*;

    fn alone() -> Replication {
        Replication {
            state: 2,
            meaning: "Good".into(),
            reason: String::new(),
            lag_entries: 0,
            lag_seconds: 0,
            role: "leader".into(),
            applied: 17,
            timeout: 300,
            tables: vec!["end_user".into()],
            nodes: Vec::new(),
        }
    }

    #[test]
    fn a_store_tells_how_equal_it_is_with_that_of_the_other_node() {
        let alone = Datastore {
            service: "login-datastore".into(),
            node: "alpha".into(),
            passed: true,
            status: "wrote and read a row in 5 us".into(),
            rows: 12,
            replication: None,
        };
        assert_eq!(
            datastores(std::slice::from_ref(&alone)),
            "alpha login-datastore: PASSED  wrote and read a row in 5 us\n    \
             12 rows of this node; no other node in its redundancy group\n"
        );
        let behind = Datastore {
            replication: Some(Replicated {
                peer: "beta".into(),
                state: "copying".into(),
                good: false,
                lag: 3,
                lag_ms: 1250,
                copies: 7,
                complete: false,
                silent_ms: Some(20),
                refused: 0,
            }),
            ..alone
        };
        assert_eq!(
            datastores(&[behind]).lines().nth(1),
            Some(
                "    12 rows of this node; replication with beta: copying, 3 changes behind \
                 for 1.250 s; 7 rows of beta, not complete"
            )
        );
    }

    #[test]
    fn what_differs_is_told_by_table_and_row_and_where_it_was_compared() {
        let table = |name: &str, counts| TableComparison {
            table: name.into(),
            equal: name == "vcard",
            rows: 5,
            publisher_rows: 6,
            counts,
        };
        let counts = RowCounts {
            differing: 1,
            missing: 2,
            extra: 1,
        };
        let mut answer = Comparison {
            applied: 40,
            publisher_applied: 40,
            same_place: true,
            tables: vec![table("end_user", Some(counts)), table("vcard", None)],
            stopped: String::new(),
        };
        let shown = |answer: &Comparison| {
            let node = OfNode {
                node: "beta".into(),
                answer: Some(answer.clone()),
                error: String::new(),
            };
            audit(&Audit { nodes: vec![node] })
        };
        assert_eq!(
            shown(&answer),
            "beta: 1 of 2 tables are equal to the publisher's, at entry 40\n     \
             end_user                1 differ, 2 missing, 1 extra (5 rows here, 6 on the publisher)\n"
        );
        answer.same_place = false;
        answer.stopped = "by anna from cli".into();
        let text = shown(&answer);
        assert!(
            text.contains("may only be late") && text.contains("by anna"),
            "{text}"
        );
    }

    #[test]
    fn what_a_promotion_loses_is_told_in_words() {
        let node = |name: &str, answers, heard, last_log| OtherNode {
            name: name.into(),
            answers,
            heard,
            last_log,
            seconds: 45,
        };
        let mut found = Promotion {
            last_log: 120,
            publisher: Some(node("node1", false, true, 125)),
            others: vec![
                node("node3", true, true, 121),
                node("node4", false, false, 0),
            ],
            ..Promotion::default()
        };
        let text = promotion(&found);
        for words in [
            "up to entry 120",
            "node1, was heard 45 s ago",
            "entry 125 then, with 5 entries that this node lacks",
            "node3 has the log up to entry 121, with one entry that this node lacks",
            "node4 does not answer",
            "until it is reset or removed",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        found.publisher = Some(node("node1", false, false, 0));
        found.refusal = "it has no data".into();
        let text = promotion(&found);
        assert!(text.contains("has not been heard") && text.contains("refused: it has no data"));
    }

    #[test]
    fn a_single_node_has_no_runtime_state() {
        let now = Zoned::now();
        assert_eq!(
            runtime_state(&alone(), "alpha", &now),
            "Runtime state cannot be performed on a cluster with a single active node; \
             aborting operation\n"
        );
        assert_eq!(
            replication_status(&alone()),
            "Replication status cannot be performed on a cluster with a single active node; \
             aborting operation\n\
             This node: state 2 (Good), 17 entries applied, 0 entries behind\n"
        );
    }
}
