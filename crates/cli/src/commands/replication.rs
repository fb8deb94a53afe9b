//! `utils dbreplication …`, `utils imdb_replication …`, `… replication-sync`.

use jiff::Zoned;
use operations::actions;
use operations::replication::Monitor;

use crate::command::{Argument, Command, Kind};
use crate::reply::Reply;
use crate::text;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "utils dbreplication status",
        arguments: &[],
        action: Some(&actions::REPLICATION_STATUS),
        help: "Show whether the replicas are equal",
        run: |session, _| {
            Box::pin(async move {
                let replication = session.operations.replication(session.caller).await?;
                Ok(Reply::new(
                    &replication,
                    text::replication_status(&replication),
                ))
            })
        },
    },
    Command {
        words: "utils dbreplication runtimestate",
        arguments: &[],
        action: Some(&actions::REPLICATION_STATUS),
        help: "Show the state of replication of every node",
        run: |session, _| {
            Box::pin(async move {
                let replication = session.operations.replication(session.caller).await?;
                let host = session.operations.host().name();
                let text = text::runtime_state(&replication, &host, &Zoned::now());
                Ok(Reply::new(&replication, text))
            })
        },
    },
    Command {
        words: "utils imdb_replication status",
        arguments: &[],
        action: Some(&actions::DATASTORE_STATUS),
        help: "Ask each real-time store whether it serves",
        run: |session, _| {
            Box::pin(async move {
                let stores = session.operations.datastores(session.caller).await?;
                Ok(Reply::new(
                    &serde_json::json!({ "datastores": stores }),
                    text::datastores(&stores),
                ))
            })
        },
    },
    Command {
        words: "show replication-sync monitor",
        arguments: &[],
        action: Some(&actions::REPLICATION_MONITOR_SHOW),
        help: "Show whether services wait for replication at start",
        run: |session, _| {
            Box::pin(async move {
                let monitor = session
                    .operations
                    .replication_monitor(session.caller)
                    .await?;
                Ok(reply(monitor))
            })
        },
    },
    Command {
        words: "set replication-sync monitor",
        arguments: &[Argument::required(
            "state",
            Kind::Choice(&["enable", "disable"]),
            "Whether services wait for replication at start",
        )],
        action: Some(&actions::REPLICATION_MONITOR_SET),
        help: "Choose whether services wait for replication at start",
        run: |session, arguments| {
            Box::pin(async move {
                let on = arguments.text("state") == "enable";
                if !on {
                    session
                        .confirm("Services will start although this node's data may be incomplete.")
                        .await?;
                }
                let monitor = session
                    .operations
                    .set_replication_monitor(session.caller, on)
                    .await?;
                Ok(reply(monitor))
            })
        },
    },
];

fn reply(monitor: Monitor) -> Reply {
    let state = if monitor.enabled {
        "enabled"
    } else {
        "disabled"
    };
    Reply::new(&monitor, format!("replication-sync monitor is {state}\n"))
}
