//! `show …` and `alarms list`.

use operations::actions;
use operations::monitoring::QUERY_LIMIT;
use operations::network::INTERFACE;

use crate::command::{Argument, Command, Kind};
use crate::reply::{Outcome, Reply};
use crate::session::Session;
use crate::text;

const CLASS: Argument = Argument::required("class", Kind::Joined, "Class, in double quotes");

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "show status",
        arguments: &[],
        action: Some(&actions::STATUS),
        help: "Show the state of the machine",
        run: |session, _| {
            Box::pin(async move {
                let status = session.operations.status(session.caller).await?;
                Ok(Reply::new(&status, text::status(&status)))
            })
        },
    },
    Command {
        words: "show version",
        arguments: &[Argument::required(
            "slot",
            Kind::Choice(&["active", "inactive"]),
            "Which of the two slots",
        )],
        action: Some(&actions::VERSION),
        help: "Show the version in a slot",
        run: |session, arguments| {
            Box::pin(async move {
                let active = arguments.text("slot") == "active";
                let version = session.operations.version(session.caller, active).await?;
                Ok(Reply::new(&version, text::version(&version, active)))
            })
        },
    },
    Command {
        words: "show network",
        arguments: &[Argument::required(
            "interface",
            Kind::Choice(&[INTERFACE]),
            "The interface",
        )],
        action: Some(&actions::NETWORK_SHOW),
        help: "Show the network settings",
        run: |session, arguments| {
            Box::pin(async move {
                let interface = arguments.text("interface");
                let network = session
                    .operations
                    .network(session.caller, interface)
                    .await?;
                Ok(Reply::new(&network, text::network(&network)))
            })
        },
    },
    Command {
        words: "show timezone config",
        arguments: &[],
        action: Some(&actions::STATUS),
        help: "Show the time zone",
        run: |session, _| {
            Box::pin(async move {
                let status = session.operations.status(session.caller).await?;
                let value = serde_json::json!({ "timezone": status.time_zone });
                let text = format!("Current timezone : {}\n", status.time_zone);
                Ok(Reply::new(&value, text))
            })
        },
    },
    Command {
        words: "show timezone list",
        arguments: &[],
        action: Some(&actions::TIMEZONE_LIST),
        help: "List the time zones that can be set",
        run: |session, _| {
            Box::pin(async move {
                let zones = session.operations.timezones(session.caller).await?;
                let value = serde_json::json!({ "timezones": zones });
                Ok(Reply::new(&value, zones.join("\n") + "\n"))
            })
        },
    },
    Command {
        words: "show perf list classes",
        arguments: &[],
        action: Some(&actions::PERF),
        help: "List the classes of counters",
        run: |session, _| {
            Box::pin(async move {
                let found = session.operations.counters(session.caller).await?;
                let text = text::perf_classes(&found.counters);
                let mut classes: Vec<_> = found.counters.into_iter().map(|one| one.class).collect();
                classes.dedup();
                Ok(Reply::new(&serde_json::json!({ "classes": classes }), text))
            })
        },
    },
    Command {
        words: "show perf list counters",
        arguments: &[CLASS],
        action: Some(&actions::PERF),
        help: "List the counters of a class",
        run: |session, arguments| {
            Box::pin(async move {
                let class = [arguments.text("class").to_owned()];
                let found = session
                    .operations
                    .query_classes(session.caller, &class)
                    .await?;
                let text = found
                    .iter()
                    .map(|(_, all)| text::perf_counters(all))
                    .collect::<String>();
                let mut names: Vec<_> = found
                    .iter()
                    .flat_map(|(_, all)| all)
                    .map(|one| &one.counter)
                    .collect();
                names.sort_unstable();
                names.dedup();
                Ok(Reply::new(&serde_json::json!({ "counters": names }), text))
            })
        },
    },
    Command {
        words: "show perf list instances",
        arguments: &[CLASS],
        action: Some(&actions::PERF),
        help: "List the instances of a class",
        run: |session, arguments| {
            Box::pin(async move {
                let class = [arguments.text("class").to_owned()];
                let found = session
                    .operations
                    .query_classes(session.caller, &class)
                    .await?;
                let text = found
                    .iter()
                    .map(|(_, all)| text::perf_instances(all))
                    .collect::<String>();
                let mut names: Vec<_> = found
                    .iter()
                    .flat_map(|(_, all)| all)
                    .map(|one| &one.instance)
                    .collect();
                names.dedup();
                Ok(Reply::new(&serde_json::json!({ "instances": names }), text))
            })
        },
    },
    Command {
        words: "show perf query class",
        arguments: &[Argument::required(
            "class",
            Kind::Several,
            "Up to five classes, each in double quotes",
        )],
        action: Some(&actions::PERF),
        help: "Show every counter of up to five classes",
        run: |session, arguments| {
            Box::pin(async move {
                // Several names were given, or one without its quotes.
                let mut classes = arguments.several("class");
                let joined = classes.join(" ");
                let all = session.operations.counters(session.caller).await?;
                let known = |name: &str| {
                    all.counters
                        .iter()
                        .any(|one| one.class.eq_ignore_ascii_case(name))
                };
                if classes.len() > QUERY_LIMIT || known(&joined) {
                    classes = vec![joined];
                }
                let found = session
                    .operations
                    .query_classes(session.caller, &classes)
                    .await?;
                let counters: Vec<_> = found.iter().flat_map(|(_, all)| all).collect();
                Ok(Reply::new(
                    &serde_json::json!({ "counters": counters }),
                    text::perf_query(&found),
                ))
            })
        },
    },
    Command {
        words: "alarms list",
        arguments: &[],
        action: Some(&actions::ALARMS),
        help: "List the alarms that are raised now",
        run: |session, _| Box::pin(alarms(session)),
    },
    Command {
        words: "show alarms",
        arguments: &[],
        action: Some(&actions::ALARMS),
        help: "List the alarms that are raised now",
        run: |session, _| Box::pin(alarms(session)),
    },
];

async fn alarms(session: &Session<'_>) -> Outcome {
    let alarms = session.operations.alarms(session.caller).await?;
    let value = serde_json::json!({ "alarms": alarms });
    Ok(Reply::new(&value, text::alarms(&alarms)))
}
