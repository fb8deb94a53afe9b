//! `--json`: one document for every command, whatever comes of it.

use std::future::{pending, ready};

use cli::command::{Argument, Command, Kind};
use cli::commands::TREE;
use operations::fakes::{node as record, replication_node, user_at};
use operations::{Comparison, Error, Level, TableComparison};
use redundancy::Groups;
use serde_json::Value;
use server_recovery_manager::{NodeStatus, Status};

use crate::node::{Node, node};

/// Commands that cannot do their work over the fakes, and what they lack.
/// They answer with one document all the same.
const LACKING: &[(&str, &str)] = &[
    ("set network dns", "an interface eth0"),
    ("set network gateway", "an interface eth0"),
    ("show network", "an interface eth0"),
    ("show perf list counters", "a running service"),
    ("show perf list instances", "a running service"),
    ("show perf query class", "a running service"),
];

#[tokio::test]
async fn the_machine_form_is_one_line_and_nothing_else() {
    let (status, text) = node().run("utils service list --json").await;
    assert_eq!((status, text.lines().count()), (0, 1));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["ok"], true);
    let first = &value["result"]["services"][0];
    assert_eq!(
        (
            &first["id"],
            &first["compat"],
            &first["kind"],
            &first["state"]
        ),
        (
            &"database".into(),
            &"A Cisco DB".into(),
            &"network".into(),
            &"STARTED".into()
        )
    );
    let (status, text) = node().run("utils service frobnicate --json").await;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &value["ok"], &value["error"]["kind"]),
        (2, &false.into(), &"usage".into())
    );
    assert_eq!(value["error"]["next"][0], "activate");
}

/// A cluster in which every command that is not [`LACKING`] something can do
/// its work: a pair of nodes, a third one, and a user.
fn cluster() -> Node {
    let made = node();
    let names = ["node1", "node2", "node3"];
    let mut world = made.fakes.world();
    world.nodes = names.map(|name| record(name, name == "node1")).into();
    world.replication = names.map(|name| replication_node(name, 2)).into();
    let pair = Groups::default().create("pair", "", "node1", Some("node2"));
    world.groups = pair.unwrap().create("single", "", "node3", None).unwrap();
    let standing = |name: &str| NodeStatus {
        name: name.into(),
        state: "Normal".into(),
        reason: "Normal".into(),
        heard: true,
        serves: vec![name.into()],
        down: Vec::new(),
    };
    world.high_availability = vec![Status {
        group: "pair".into(),
        high_availability: true,
        held: false,
        nodes: vec![standing("node1"), standing("node2")],
        cause: String::new(),
        advice: Vec::new(),
    }];
    let differing = Comparison {
        same_place: true,
        tables: vec![TableComparison {
            table: "end_user".into(),
            ..TableComparison::default()
        }],
        ..Comparison::default()
    };
    world.comparisons.insert("node2".into(), differing);
    let alice = user_at("alice", "node1");
    world.users.insert(alice.user.clone(), alice);
    drop(world);
    *made.screen.input.lock().unwrap() = b"user,password\nbob,secret\n".into();
    made
}

/// A value for an argument, one that [`cluster`] knows where it names
/// something.
fn value(argument: &Argument) -> &'static str {
    match (argument.kind, argument.name) {
        (Kind::Choice(words), _) => words[0],
        (Kind::Service, _) | (_, "service") => "xmpp-router",
        (_, "user") => "alice",
        (_, "group") => "pair",
        (_, "node" | "hostname" | "second") => "node2",
        (_, "from" | "first") => "node1",
        (_, "table") => "end_user",
        (_, "domain") => "example.net",
        (_, "address") => "192.0.2.7",
        (_, "zone") => "Europe/Berlin",
        (_, "mtu") => "1400",
        (_, "seconds") => "600",
        (_, "path") => "web/access.log",
        (_, "file") => "/dev/stdin",
        (_, "password") => "secret",
        _ => "x",
    }
}

/// A command with what it needs to do its work in [`cluster`].
fn example(command: &Command) -> String {
    let given = match command.words {
        "groups add" => "new node3",
        "set network cluster subscriber details" => "imp node4 192.0.2.14 example.org",
        "set network ip" => "eth0 192.0.2.7 255.255.255.0 192.0.2.254",
        "set parameter" => "xmpp-router RosterItems 5",
        "unset network cluster subscriber" => "node3",
        "unset parameter" => "xmpp-router RosterItems",
        "users add" => "bob --password secret",
        "users passwd" => "alice --password secret",
        "utils service activate" | "utils service deactivate" => "sip-proxy",
        words => {
            let required = command.arguments.iter().filter(|one| one.required);
            let values = required.map(value);
            return [words]
                .into_iter()
                .chain(values)
                .collect::<Vec<_>>()
                .join(" ");
        }
    };
    format!("{} {given}", command.words)
}

/// The one document that an answer is, after a look at its shape.
fn document(line: &str, (status, text): &(u8, String)) -> Value {
    let whole = text.ends_with('\n') && text.lines().count() == 1;
    assert!(whole, "{line}: not one line: {text}");
    let document: Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => panic!("{line}: not JSON ({error}): {text}"),
    };
    let object = document.as_object().unwrap();
    let part = if *status == 0 { "result" } else { "error" };
    let keys: Vec<_> = object.keys().collect();
    assert!(
        object.len() == 2 && object.contains_key(part),
        "{line}: {keys:?}"
    );
    assert_eq!(document["ok"], *status == 0, "{line}: {text}");
    if *status == 0 {
        assert!(!document["result"].is_null(), "{line}: nothing is told");
    } else {
        for field in ["kind", "message"] {
            let said = document["error"][field].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{line}: no {field}: {text}");
        }
    }
    document
}

#[tokio::test(start_paused = true)]
async fn every_command_does_its_work_and_tells_it_in_one_document() {
    for command in TREE.commands {
        let line = format!("{} --json --yes", example(command));
        let answer = cluster().run(&line).await;
        let document = document(&line, &answer);
        let lacking = LACKING.iter().any(|(words, _)| *words == command.words);
        assert!(
            lacking || document["ok"] == true,
            "{line}: {document}\nA command that needs other words belongs in `example`."
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_optional_argument_leaves_it_one_document() {
    for command in TREE.commands {
        for argument in command.arguments.iter().filter(|one| !one.required) {
            let option = match argument.kind {
                Kind::Flag => format!("--{}", argument.name),
                Kind::Option => format!("--{} {}", argument.name, value(argument)),
                _ => value(argument).into(),
            };
            let line = format!("{} {option} --yes --json", example(command));
            document(&line, &cluster().run(&line).await);
        }
    }
}

/// Nobody is there to answer: what asks people is declined.
#[tokio::test(start_paused = true)]
async fn no_command_asks_a_machine() {
    let mut declined = 0;
    for command in TREE.commands {
        let line = format!("{} --json", example(command));
        let node = cluster();
        node.answer("y");
        let document = document(&line, &node.run(&line).await);
        declined += usize::from(document["error"]["kind"] == "declined");
        // The answer is still there: it was not asked for.
        assert_eq!(node.unasked(), ["y"], "{line}");
    }
    assert!(declined > 0);
}

#[tokio::test(start_paused = true)]
async fn every_failure_is_one_document_too() {
    for command in TREE.commands {
        let line = format!("{} --json --yes", example(command));
        let mut node = cluster();
        node.fakes.world().fault = Some(Error::unavailable("line one\nline \"two\""));
        document(&line, &node.run(&line).await);

        let kind = |answer: &(u8, String), line: &str| {
            let document = document(line, answer);
            document["error"]["kind"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let interrupted = node.run_until(&line, ready(())).await;
        assert_eq!(kind(&interrupted, &line), "interrupted");

        let wrong = format!("{line} --frobnicate");
        assert_eq!(kind(&node.run(&wrong).await, &wrong), "usage");
        let open = format!("{line} \"open");
        assert_eq!(kind(&node.run(&open).await, &open), "usage");
        if command.arguments.iter().any(|one| one.required) {
            let short = format!("{} --json", command.words);
            assert_eq!(kind(&node.run(&short).await, &short), "usage");
        }

        node.level = Level::Look;
        if command.level() > node.level.number() {
            assert_eq!(
                kind(&node.run_until(&line, pending()).await, &line),
                "forbidden"
            );
        }
    }
    for line in ["--json", "utils --json", "--json nonsense"] {
        document(line, &cluster().run(line).await);
    }
}
