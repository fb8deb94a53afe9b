//! `utils dbreplication …`, `utils imdb_replication …`, `… replication-sync`.

use jiff::Zoned;
use operations::replication::Monitor;
use operations::{Error, Mending, actions};

use crate::command::{Argument, Arguments, Command, Kind};
use crate::reply::{Outcome, Reply};
use crate::session::Session;
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
        words: "utils dbreplication quickaudit",
        arguments: &[NODE],
        action: Some(&actions::REPLICATION_AUDIT),
        help: "Compare a node's tables with the publisher's now",
        run: |session, arguments| {
            Box::pin(async move {
                let node = arguments.text("node");
                let audit = session.operations.audit(session.caller, node).await?;
                Ok(Reply::new(&audit, text::audit(&audit)))
            })
        },
    },
    Command {
        words: "utils dbreplication repair",
        arguments: &[NODE, PREVIEW],
        action: Some(&actions::REPLICATION_MEND),
        help: "Replace the tables of a node that differ by the publisher's, and start it again",
        run: |session, arguments| Box::pin(mend(session, arguments, Mending::Repair)),
    },
    Command {
        words: "utils dbreplication repairtable",
        arguments: &[
            Argument::required("table", Kind::Text, "The table"),
            NODE,
            PREVIEW,
        ],
        action: Some(&actions::REPLICATION_MEND),
        help: "Replace one table of a node by the publisher's where it differs",
        run: |session, arguments| Box::pin(mend(session, arguments, Mending::Repair)),
    },
    Command {
        words: "utils dbreplication forcedatasyncsub",
        arguments: &[NODE, PREVIEW],
        action: Some(&actions::REPLICATION_MEND),
        help: "Have a node take all tables over from the publisher",
        run: |session, arguments| Box::pin(mend(session, arguments, Mending::Synchronize)),
    },
    Command {
        words: "utils dbreplication reset",
        arguments: &[NODE, PREVIEW],
        action: Some(&actions::REPLICATION_MEND),
        help: "Have a node begin anew with nothing but what the publisher sends",
        run: |session, arguments| Box::pin(mend(session, arguments, Mending::Reset)),
    },
    Command {
        words: "utils dbreplication stop",
        arguments: &[NODE, PREVIEW],
        action: Some(&actions::REPLICATION_MEND),
        help: "Stop replication of a node until a repair or reset",
        run: |session, arguments| Box::pin(mend(session, arguments, Mending::Stop)),
    },
    Command {
        words: "utils dbreplication promote",
        arguments: &[Argument::optional(
            "preview",
            Kind::Flag,
            "Only show what may be lost",
        )],
        action: Some(&actions::REPLICATION_PROMOTE),
        help: "Make this node the publisher, when the one there was is lost for good",
        run: |session, arguments| {
            Box::pin(async move {
                let operations = session.operations;
                let found = operations.promotion_preview(session.caller).await?;
                if arguments.given("preview") {
                    return Ok(Reply::new(&found, text::promotion(&found)));
                }
                if !found.refusal.is_empty() {
                    return Err(Error::refused(found.refusal).into());
                }
                session.confirm(&text::promotion(&found)).await?;
                let done = operations.promote(session.caller).await?;
                Ok(Reply::new(&done, format!("{}\n", done.text)))
            })
        },
    },
    Command {
        words: "utils dbreplication voters status",
        arguments: &[],
        action: Some(&actions::REPLICATION_STATUS),
        help: "Show whether every node votes, and how many may be lost",
        run: |session, _| {
            Box::pin(async move {
                let voters = session.operations.voters(session.caller).await?;
                Ok(Reply::new(&voters, text::voters(&voters)))
            })
        },
    },
    Command {
        words: "utils dbreplication voters enable",
        arguments: &[VOTERS],
        action: Some(&actions::REPLICATION_VOTERS),
        help: "Have every node vote, so that another one takes changes when the publisher is lost",
        run: |session, arguments| Box::pin(set_voters(session, arguments, true)),
    },
    Command {
        words: "utils dbreplication voters disable",
        arguments: &[VOTERS],
        action: Some(&actions::REPLICATION_VOTERS),
        help: "Have the publisher vote alone",
        run: |session, arguments| Box::pin(set_voters(session, arguments, false)),
    },
    Command {
        words: "utils dbreplication setrepltimeout",
        arguments: &[Argument::required(
            "seconds",
            Kind::Text,
            "300 to 3600; without the publisher for longer, replication has failed",
        )],
        action: Some(&actions::REPLICATION_TIMEOUT_SET),
        help: "Choose how long replication may be behind before it has failed",
        run: |session, arguments| {
            Box::pin(async move {
                let seconds = arguments.text("seconds");
                let timeout = session
                    .operations
                    .set_replication_timeout(session.caller, seconds)
                    .await?;
                let text = format!("Repltimeout set to: {}s\n", timeout.seconds);
                Ok(Reply::new(&timeout, text))
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

const NODE: Argument = Argument::required("node", Kind::Text, "A subscriber's host name, or all");
const PREVIEW: Argument = Argument::optional("preview", Kind::Flag, "Only show what differs");

const VOTERS: Argument = Argument::optional("preview", Kind::Flag, "Only show what it means");

/// Shows what it means to have every node vote, or the publisher alone, asks,
/// and does it.
async fn set_voters(session: &Session<'_>, arguments: &Arguments, enable: bool) -> Outcome {
    let operations = session.operations;
    let found = operations.voters_preview(session.caller, enable).await?;
    if arguments.given("preview") {
        return Ok(Reply::new(&found, text::voters_change(&found)));
    }
    if !found.refusal.is_empty() {
        return Err(Error::refused(found.refusal).into());
    }
    session.confirm(&text::voters_change(&found)).await?;
    let done = operations.set_voters(session.caller, enable).await?;
    Ok(Reply::new(&done, format!("{}\n", done.text)))
}

/// Shows what differs, asks, and does it.
async fn mend(session: &Session<'_>, arguments: &Arguments, mending: Mending) -> Outcome {
    let (node, table) = (arguments.text("node"), arguments.optional("table"));
    let operations = session.operations;
    let audit = operations
        .mending_preview(session.caller, mending, node, table)
        .await?;
    if arguments.given("preview") {
        return Ok(Reply::new(&audit, text::audit(&audit)));
    }
    // A repair where nothing differs changes nothing.
    if mending != Mending::Repair || !audit.is_clean() {
        session.confirm(&text::mending(mending, &audit)).await?;
    }
    let done = operations
        .mend(session.caller, mending, node, table)
        .await?;
    Ok(Reply::new(&done, text::repairs(&done)))
}

fn reply(monitor: Monitor) -> Reply {
    let state = if monitor.enabled {
        "enabled"
    } else {
        "disabled"
    };
    Reply::new(&monitor, format!("replication-sync monitor is {state}\n"))
}
