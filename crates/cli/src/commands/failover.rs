//! `utils ha …`: state of the redundancy groups, failover, fallback, recovery.

use operations::actions;
use server_recovery_manager::Status;

use crate::command::{Argument, Command, Kind};
use crate::reply::{Outcome, Reply};
use crate::session::Session;
use crate::text;

const GROUP: Argument = Argument::optional(
    "group",
    Kind::Text,
    "Name of a redundancy group or one of its nodes; without it, the group of this node",
);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "utils ha status",
        arguments: &[GROUP],
        action: Some(&actions::HA_STATUS),
        help: "Show the state of each node of a redundancy group",
        run: |session, arguments| {
            Box::pin(async move {
                let group = arguments.optional("group");
                let status = session.operations.ha_status(session.caller, group).await?;
                Ok(reply(&status))
            })
        },
    },
    Command {
        words: "utils ha failover",
        arguments: &[Argument::required(
            "node",
            Kind::Text,
            "The node whose users are moved to its peer",
        )],
        action: Some(&actions::HA_FAILOVER),
        help: "Move a node's users to its peer and stop its critical services",
        run: |session, arguments| {
            Box::pin(async move {
                let node = arguments.text("node");
                session.operations.ha_failover(session.caller, node).await?;
                // Not before: a node that there is not must not seem to move.
                session.progress(&format!("Initiate Manual Failover for Node > {node}"));
                accepted(session, node).await
            })
        },
    },
    Command {
        words: "utils ha fallback",
        arguments: &[Argument::required(
            "node",
            Kind::Text,
            "The node that takes its users back",
        )],
        action: Some(&actions::HA_FALLBACK),
        help: "Start a node's critical services and move its users back to it",
        run: |session, arguments| {
            Box::pin(async move {
                let node = arguments.text("node");
                session.operations.ha_fallback(session.caller, node).await?;
                // Not before: a node that there is not must not seem to move.
                session.progress(&format!("Initiate Manual Fallback for Node > {node}"));
                accepted(session, node).await
            })
        },
    },
    Command {
        words: "utils ha recover",
        arguments: &[Argument::required(
            "group",
            Kind::Text,
            "The redundancy group whose nodes are in failed mode",
        )],
        action: Some(&actions::HA_RECOVER),
        help: "Lead a redundancy group out of failed mode",
        run: |session, arguments| {
            Box::pin(async move {
                let group = arguments.text("group");
                let status = session
                    .operations
                    .ha_recover(session.caller, group, &|| {
                        session.progress("Stopping services... Stopped");
                    })
                    .await?;
                session.progress("Starting services... Started");
                Ok(reply(&status))
            })
        },
    },
    Command {
        words: "utils ha history",
        arguments: &[Argument::optional(
            "node",
            Kind::Text,
            "The node that remembers it; without it, this one",
        )],
        action: Some(&actions::HA_HISTORY),
        help: "Show what happened in the redundancy group, why, and what to do",
        run: |session, arguments| {
            Box::pin(async move {
                let node = arguments.optional("node");
                let entries = session.operations.ha_history(session.caller, node).await?;
                let value = serde_json::json!({ "events": entries });
                Ok(Reply::new(&value, text::ha_history(&entries)))
            })
        },
    },
];

fn reply(status: &Status) -> Reply {
    Reply::new(status, text::ha_status(status))
}

/// The request was accepted: shows the state of the node's group.
async fn accepted(session: &Session<'_>, node: &str) -> Outcome {
    session.progress("Request SUCCESSFUL.");
    let operations = session.operations;
    let status = operations.ha_status(session.caller, Some(node)).await?;
    Ok(reply(&status))
}
