//! `utils dbreplication …`, `utils imdb_replication status`.

use std::fmt::Write as _;

use jiff::Zoned;
use operations::ports::Replication;
use operations::replication::{Datastore, meaning};

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
         Repltimeout set to: 300s\n\
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
    use operations::replication::Replicated;

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
