//! `file …`: logs.

use operations::{Error, actions};

use crate::command::{Argument, Command, FOLLOW, Kind};
use crate::reply::Reply;
use crate::text;

const PATH: Argument = Argument::required("path", Kind::Text, "Path, as \"file list\" shows it");
const TAIL: usize = 10;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "file list activelog",
        arguments: &[Argument::optional(
            "path",
            Kind::Text,
            "Folder; the top without it",
        )],
        action: Some(&actions::LOG_LIST),
        help: "List the logs in a folder",
        run: |session, arguments| {
            Box::pin(async move {
                let entries = session
                    .operations
                    .logs(session.caller, arguments.text("path"))
                    .await?;
                Ok(Reply::new(
                    &serde_json::json!({ "entries": entries }),
                    text::entries(&entries),
                ))
            })
        },
    },
    Command {
        words: "file view activelog",
        arguments: &[PATH],
        action: Some(&actions::LOG_READ),
        help: "Show a log",
        run: |session, arguments| {
            Box::pin(async move {
                let log = session
                    .operations
                    .log(session.caller, arguments.text("path"), None)
                    .await?;
                let mut text = log.lines.join("\n") + "\n";
                if log.cut {
                    text = format!("(older lines are left out)\n{text}");
                }
                Ok(Reply::new(&log, text))
            })
        },
    },
    Command {
        words: "file tail activelog",
        arguments: &[
            PATH,
            Argument::optional("lines", Kind::Text, "Number of lines, else 10"),
            Argument::optional(
                FOLLOW,
                Kind::Flag,
                "Go on with what is written, until Ctrl-C",
            ),
        ],
        action: Some(&actions::LOG_READ),
        help: "Show the end of a log",
        run: |session, arguments| {
            Box::pin(async move {
                let lines = match arguments.optional("lines") {
                    None => TAIL,
                    Some(text) => text
                        .parse()
                        .ok()
                        .filter(|lines| (1..=20_000).contains(lines))
                        .ok_or_else(|| {
                            Error::invalid(format!(
                                "{text:?} is not a number of lines from 1 to 20000"
                            ))
                        })?,
                };
                let path = arguments.text("path");
                if arguments.given(FOLLOW) {
                    if session.json {
                        return Err(Error::invalid(
                            "--follow has no end, and a JSON answer is one. Leave one of them away",
                        )
                        .into());
                    }
                    let tell = |line: &str| session.progress(line);
                    session
                        .operations
                        .follow(session.caller, path, lines, &tell)
                        .await?;
                    return Ok(Reply::new(&(), ""));
                }
                let log = session
                    .operations
                    .log(session.caller, path, Some(lines))
                    .await?;
                Ok(Reply::new(&log, log.lines.join("\n") + "\n"))
            })
        },
    },
];
