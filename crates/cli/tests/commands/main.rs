//! The command line in process, over a supervisor and a database in memory:
//! every answer that scripts parse, byte by byte.

#![allow(clippy::unwrap_used)] // A test that cannot go on is to end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cli::commands::TREE;
use cli::parse::Completion;
use cli::run::{Surroundings, run};
use cli::session::Terminal;
use cli::words::split;
use operations::fakes::{Fakes, node as record, replication_node, service, user_at};
use operations::ports::{ServiceKind, State};
use operations::{Caller, Level, Operations};
use redundancy::Groups;
use server_recovery_manager::{Entry, NodeStatus, Status};

#[derive(Default)]
struct Screen {
    shown: Mutex<String>,
    answers: Mutex<VecDeque<String>>,
    input: Mutex<Vec<u8>>,
    pages: AtomicBool,
}

#[tonic::async_trait]
impl Terminal for Screen {
    fn show(&self, text: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.push_str(text);
    }

    fn page(&self, text: &str) {
        self.show(text);
    }

    fn set_pagination(&self, on: bool) {
        self.pages.store(on, Ordering::Relaxed);
    }

    async fn ask(&self, prompt: &str) -> Option<String> {
        self.show(prompt);
        self.answers.lock().unwrap().pop_front()
    }

    async fn ask_secret(&self, prompt: &str) -> Option<String> {
        self.ask(prompt).await
    }

    async fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        if path == "/dev/stdin" {
            return Ok(self.input.lock().unwrap().clone());
        }
        cli::terminal::read(path, limit)
    }
}

struct Node {
    fakes: Fakes,
    operations: Operations,
    screen: Screen,
    folder: tempfile::TempDir,
    level: Level,
}

fn node() -> Node {
    let folder = tempfile::tempdir().unwrap();
    for path in ["etc", "run", "logs/web"] {
        std::fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    let text = "name = \"node1\"\ndomain = \"example.org\"\naddress = \"192.0.2.1\"\n\
                role = \"publisher\"\nproduct = \"imp\"\nsize = \"5K\"\ncluster = \"c\"\n";
    std::fs::write(folder.path().join("etc/node.toml"), text).unwrap();
    std::fs::write(folder.path().join("logs/web/access.log"), "one\ntwo\n").unwrap();
    let fakes = Fakes::default();
    let mut proxy = service("sip-proxy", "Cisco SIP Proxy", ServiceKind::Feature);
    proxy.state = State::Stopped;
    proxy.activated = false;
    fakes.world().services = vec![
        service("xmpp-router", "Cisco XCP Router", ServiceKind::Network),
        service("database", "A Cisco DB", ServiceKind::Network),
        proxy,
    ];
    let operations = fakes.operations(folder.path());
    Node {
        fakes,
        operations,
        screen: Screen::default(),
        folder,
        level: Level::Administer,
    }
}

impl Node {
    /// Runs a line; gives the exit status and what was shown.
    async fn run(&self, line: &str) -> (u8, String) {
        self.screen.shown.lock().unwrap().clear();
        let caller = Caller {
            user: "admin".into(),
            level: self.level,
            face: "cli",
            origin: "test".into(),
        };
        let surroundings = Surroundings {
            operations: &self.operations,
            caller: &caller,
            terminal: &self.screen,
        };
        let status = run(surroundings, &split(line), std::future::pending()).await;
        (status, self.screen.shown.lock().unwrap().clone())
    }

    fn answer(&self, text: &str) {
        self.screen.answers.lock().unwrap().push_back(text.into());
    }

    fn asked(&self, command: &str) -> bool {
        self.fakes.world().commands.iter().any(|one| one == command)
    }
}

fn shown(text: &str) -> (u8, String) {
    (0, text.into())
}

#[tokio::test]
async fn service_list() {
    assert_eq!(
        node().run("utils service list").await,
        shown(
            "Requesting service status, please wait...\n\
             A Cisco DB[STARTED]\n\
             Cisco SIP Proxy[STOPPED]  Service Not Activated\n\
             Cisco XCP Router[STARTED]\n\
             Primary Node =true\n"
        )
    );
}

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

#[tokio::test]
async fn services_are_stopped_started_and_restarted_by_any_of_their_names() {
    let node = node();
    assert_eq!(
        node.run("utils service stop Cisco XCP Router").await,
        shown("Service Manager is running\nCisco XCP Router[STOPPED]  Commanded Out of Service\n")
    );
    assert_eq!(
        node.run("utils service start \"cisco xcp router\"").await,
        shown("Service Manager is running\nCisco XCP Router[STARTED]\n")
    );
    assert_eq!(
        node.run("utils service restart xmpp-router").await,
        shown("Service Manager is running\nCisco XCP Router[STARTED]\n")
    );
    assert!(node.asked("restart xmpp-router"));
    let (status, text) = node.run("utils service start Cisco Router").await;
    assert_eq!(status, 1);
    assert!(
        text.ends_with("\nExecuted command unsuccessfully\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_network_service_is_not_activated_and_dependencies_are_offered() {
    let node = node();
    let (status, text) = node.run("utils service activate A Cisco DB").await;
    assert_eq!(status, 1);
    assert!(text.contains("A Cisco DB is a network service"), "{text}");
    node.fakes.world().missing = vec!["xmpp-router".into()];
    node.answer("n");
    let (status, text) = node.run("utils service activate Cisco SIP Proxy").await;
    assert_eq!(status, 1);
    assert!(
        text.starts_with(
            "Service Manager is running\n\
             Cisco SIP Proxy needs these to be activated too: Cisco XCP Router.\n\
             Continue (y/n)?"
        ),
        "{text}"
    );
    assert!(!node.asked("activated sip-proxy"));
    node.answer("y");
    assert_eq!(
        node.run("utils service activate Cisco SIP Proxy").await.0,
        0
    );
    assert!(node.asked("activated sip-proxy"));
}

#[tokio::test]
async fn what_hurts_warns_and_asks() {
    for (line, command) in [
        ("utils system restart", "reboot"),
        ("utils system shutdown", "power off"),
        (
            "set network ip eth0 192.0.2.7 255.255.255.0 192.0.2.254",
            "network",
        ),
        ("set network hostname beta", "network"),
        ("set network mtu 1400", "network"),
    ] {
        let node = node();
        // No answer, and each answer that is not a clear yes.
        for answer in [None, Some(""), Some("n"), Some("maybe")] {
            if let Some(answer) = answer {
                node.answer(answer);
            }
            let (status, text) = node.run(line).await;
            assert_eq!(status, 1, "{line}");
            assert!(text.contains("\nContinue (y/n)?"), "{text}");
            assert!(node.fakes.world().commands.is_empty(), "{line}");
        }
        node.answer("y");
        assert_eq!(node.run(line).await.0, 0, "{line}");
        let commands = node.fakes.world().commands.clone();
        assert!(commands[0].starts_with(command), "{commands:?}");
    }
}

#[tokio::test]
async fn levels_hold_for_every_command() {
    let mut node = node();
    for (level, number) in [
        (Level::Look, 0),
        (Level::Operate, 1),
        (Level::Administer, 4),
    ] {
        node.level = level;
        for command in TREE.commands.iter().filter(|one| one.level() > number) {
            let mut line = command.words.to_owned();
            for argument in command.arguments.iter().filter(|one| one.required) {
                let value = match argument.kind {
                    cli::command::Kind::Choice(words) => words[0],
                    _ => "x",
                };
                line = format!("{line} {value}");
            }
            let (status, text) = node.run(&line).await;
            assert_eq!(status, 1, "{line}");
            assert!(text.contains("privilege level"), "{line}: {text}");
        }
        assert!(node.fakes.world().commands.is_empty());
    }
}

#[tokio::test]
async fn users_come_and_go() {
    let node = node();
    assert_eq!(
        node.run("users add Alice --password secret --name \"Alice A\"")
            .await,
        shown("alice@example.org was added.\n")
    );
    let (status, text) = node.run("users add alice --password other").await;
    assert_eq!(status, 1);
    assert!(text.contains("users passwd alice"), "{text}");
    node.answer("one");
    node.answer("two");
    assert_eq!(node.run("users passwd alice").await.0, 1);
    node.answer("longer");
    node.answer("longer");
    assert_eq!(
        node.run("users passwd alice").await,
        shown("Password: Again: alice@example.org has a new password.\n")
    );
    assert_eq!(
        node.run("users list").await,
        shown("USER   NAME     MAIL\nalice  Alice A\n1 user\n")
    );
    assert_eq!(
        node.run("users delete alice").await,
        shown("alice@example.org was removed.\n")
    );
    assert_eq!(node.run("users show alice").await.0, 1);
}

#[tokio::test]
async fn an_import_is_all_or_nothing_and_in_batches() {
    let node = node();
    let import = |text: String| {
        *node.screen.input.lock().unwrap() = text.into_bytes();
        node.run("users import /dev/stdin")
    };
    let rows: String = (0..1201).map(|n| format!("u{n},p\n")).collect();
    let (status, text) = import(format!("user,password\n{rows}b ad,p\n")).await;
    assert_eq!(status, 1);
    assert!(
        text.contains("1 of 1202 rows") && text.contains("\nline 1203: "),
        "{text}"
    );
    assert!(node.fakes.world().users.is_empty());
    assert_eq!(
        import(format!("user,password\n{rows}")).await,
        shown("1201 users were imported.\n")
    );
    assert_eq!(node.fakes.world().batches, [500, 500, 201]);
    let (status, text) = import("user,password\nnew,p\nu7,p\n".into()).await;
    assert_eq!(status, 1);
    assert!(
        text.contains("line 3: there is a user u7 already"),
        "{text}"
    );
    assert!(!node.fakes.world().users.contains_key("new"));
    let folder = node.folder.path().display().to_string();
    let (status, text) = node.run(&format!("users import {folder}")).await;
    assert_eq!(status, 1);
    assert!(text.contains("is not a file"), "{text}");
}

#[tokio::test]
async fn replication_of_a_single_node() {
    let node = node();
    assert_eq!(
        node.run("utils dbreplication runtimestate").await,
        shown(
            "Runtime state cannot be performed on a cluster with a single active node; aborting \
             operation\n"
        )
    );
    node.answer("y");
    let (status, text) = node.run("set replication-sync monitor disable").await;
    assert_eq!(status, 0, "{text}");
    assert!(node.asked("set data-monitor Replication Sync Monitor false"));
    assert_eq!(
        node.run("show replication-sync monitor").await,
        shown("replication-sync monitor is disabled\n")
    );
    assert_eq!(
        node.run("set cli pagination off").await,
        shown("Automatic pagination is turned off\n")
    );
}

/// A cluster of two nodes, each in a group of its own.
fn two_nodes() -> Node {
    let made = node();
    let mut world = made.fakes.world();
    world.nodes = vec![record("node1", true), record("node2", false)];
    world.replication = vec![replication_node("node1", 2), replication_node("node2", 2)];
    let groups = Groups::default().create("DefaultCluster", "", "node1", None);
    world.groups = groups.unwrap().create("node2", "", "node2", None).unwrap();
    drop(world);
    made
}

#[tokio::test]
async fn groups_come_and_go() {
    let node = two_nodes();
    assert_eq!(
        node.run("groups list").await,
        shown(
            "GROUP           HA   NODE   JOINED  USERS\n\
             DefaultCluster  off  node1  yes     0\n\
             node2           off  node2  yes     0\n\
             2 groups\n"
        )
    );
    assert_eq!(
        node.run("groups add pair node1 node2 --description \"Both of them\"")
            .await,
        shown(
            "Group             : pair\nDescription       : Both of them\n\
             High availability : off\nNode 1            : node1 (0 users)\n\
             Node 2            : node2 (0 users)\n"
        )
    );
    let (status, text) = node.run("groups delete Pair").await;
    assert_eq!(status, 1);
    assert!(text.contains("those there are: pair"), "{text}");
    let (status, text) = node.run("groups change pair --single --name one").await;
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("Group             : one\n"), "{text}");
    let (_, text) = node.run("groups list").await;
    assert!(text.contains("\nnode2  off"), "{text}");
    assert_eq!(node.run("groups change one --second node2").await.0, 0);
    let (status, text) = node.run("groups delete one").await;
    assert_eq!(status, 0);
    assert!(text.starts_with("Group one was deleted.\nGROUP"), "{text}");
}

#[tokio::test]
async fn high_availability_is_shown_before_it_is_asked_for() {
    let node = two_nodes();
    node.run("groups add pair node1 node2").await;
    let on = || {
        let groups = node.fakes.world().groups.clone();
        groups.get("pair").unwrap().high_availability
    };
    let preview = "node1: critical services run; replication setup 2\n\
                   node2: critical services not known, it does not answer; replication setup 2\n\
                   node2 does not say whether its critical services run. Where they do not, the \
                   node fails over at once. See \"utils service list\" there.\n";
    assert_eq!(
        node.run("utils ha enable pair --preview").await,
        shown(preview)
    );
    node.answer("n");
    let (status, text) = node.run("utils ha enable pair").await;
    assert_eq!(status, 1);
    assert!(
        text.starts_with(&format!("{preview}Continue (y/n)?")),
        "{text}"
    );
    assert!(!on());
    // A script says so beforehand, or is told that it did not.
    let (status, text) = node.run("utils ha enable pair --json").await;
    assert!(status == 1 && text.contains("declined"), "{text}");
    assert!(!on());
    assert_eq!(
        node.run("utils ha enable pair --yes").await,
        shown("High availability of group pair is on.\n")
    );
    assert!(on());
    assert_eq!(
        node.run("utils ha enable pair").await,
        shown("High availability of group pair is on already.\n")
    );
    let (status, text) = node.run("groups delete pair").await;
    assert!(
        status == 1 && text.contains("utils ha disable pair"),
        "{text}"
    );
    node.answer("y");
    let (status, text) = node.run("utils ha disable pair").await;
    assert!(status == 0 && text.contains("nobody else's"), "{text}");
    assert!(!on());
}

#[tokio::test]
async fn users_get_homes_and_move() {
    let node = two_nodes();
    for number in 0..10 {
        let user = user_at(&format!("u{number}"), "node1");
        node.fakes.world().users.insert(user.user.clone(), user);
    }
    let preview = "NODE   USERS NOW  USERS THEN\n\
                   node1  10         5\n\
                   node2  0          5\n\
                   5 users would move.\n";
    assert_eq!(node.run("users rebalance --preview").await, shown(preview));
    node.answer("n");
    let (status, text) = node.run("users rebalance --batch 2 --pause 0").await;
    assert_eq!(status, 1);
    assert!(text.starts_with(preview), "{text}");
    assert!(
        text.contains("2 at a time with a pause of 0 s: about 0 s"),
        "{text}"
    );
    node.answer("y");
    let (status, text) = node.run("users rebalance --batch 2 --pause 0").await;
    assert_eq!(status, 0);
    assert!(
        text.ends_with("2 of 5 users have moved.\n4 of 5 users have moved.\n5 users have moved.\n"),
        "{text}"
    );
    assert_eq!(
        node.run("users rebalance").await,
        shown("Nobody has to move.\n")
    );
    assert_eq!(
        node.run("users assign node2 u9 u8 u0").await,
        shown("1 user has moved.\n")
    );
    assert_eq!(
        node.run("users unassign u0").await,
        shown("1 user has moved.\n")
    );
    assert!(node.run("users show u0").await.1.contains("not assigned"));
    let (status, text) = node.run("users move node2 --yes --pause 0").await;
    assert_eq!((status, text.as_str()), (0, "5 users have moved.\n"));
    assert_eq!(node.run("users move node1 node9").await.0, 1);
    assert_eq!(node.run("users rebalance --batch 0 --yes").await.0, 1);
    assert_eq!(node.run("users rebalance --pause soon").await.0, 1);
    assert_eq!(
        node.run("set user-assignment mode none").await,
        shown("user-assignment mode is none\n")
    );
    assert_eq!(
        node.run("show user-assignment mode").await,
        shown("user-assignment mode is none\n")
    );
}

#[tokio::test]
async fn parameters_are_shown_checked_and_taken_back() {
    let node = node();
    let (status, text) = node.run("show parameters cisco xcp router").await;
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("Cisco XCP Router (xmpp-router)\n  ResourceConflict = replace\n"));
    assert!(
        text.contains(
            "  RosterItems = 1000\n      Most contacts of a user. It is a whole number from 1 to \
             10000.\n"
        ),
        "{text}"
    );
    assert!(!text.contains("domain"), "{text}");
    assert_eq!(
        node.run("set parameter xmpp-router rosteritems 5").await,
        shown("RosterItems is 5. It applies at once.\n")
    );
    assert!(node.asked("set xmpp-router RosterItems 5"));
    let (_, text) = node.run("show parameters xmpp-router").await;
    assert!(
        text.contains("  RosterItems = 5  (default 1000)\n"),
        "{text}"
    );
    assert_eq!(
        node.run("unset parameter xmpp-router RosterItems").await,
        shown("RosterItems is 1000. It applies at once.\n")
    );
    for (line, said) in [
        (
            "xmpp-router RosterItems many",
            "RosterItems is \"many\"; it must be a whole number",
        ),
        ("xmpp-router RosterItems 0", "Nothing was changed"),
        (
            "xmpp-router domain b.example",
            "has no parameter \"domain\"",
        ),
        (
            "xmpp-router Roster 5",
            "\"show parameters xmpp-router\" shows those it has",
        ),
        ("nobody Roster 5", "No service is called \"nobody\""),
        (
            "xmpp-router RosterItems 5 --node node1",
            "is the same on every node",
        ),
    ] {
        let (status, text) = node.run(&format!("set parameter {line}")).await;
        assert_eq!(status, 1, "{line}");
        assert!(text.contains(said), "{text}");
    }
    assert!(node.fakes.world().parameters.is_empty());
    let mut monitor = node;
    let of = |id, compat| service(id, compat, ServiceKind::Network);
    monitor.fakes.world().services = vec![
        of(
            "log-partition-monitor",
            "Cisco Log Partition Monitoring Tool",
        ),
        of("web", "Cisco Tomcat"),
    ];
    let (status, text) = monitor
        .run("set parameter log-partition-monitor \"Low Water Mark\" 96")
        .await;
    assert_eq!(status, 1);
    assert!(text.contains("must be below the high mark"), "{text}");
    let (_, text) = monitor.run("show parameters web").await;
    assert!(text.contains("Cisco Tomcat has no parameters"), "{text}");
    monitor.level = Level::Operate;
    let line = "set parameter log-partition-monitor \"Low Water Mark\" 80";
    let (status, text) = monitor.run(line).await;
    assert_eq!(status, 1);
    assert!(text.contains("privilege level 4"), "{text}");
}

#[tokio::test]
async fn logs_are_read_and_cannot_be_left() {
    let node = node();
    assert_eq!(
        node.run("file list activelog *").await,
        shown("<dir>   journal\n<dir>   web\ndir count = 2, file count = 0\n")
    );
    assert_eq!(
        node.run("file view activelog web/access.log").await,
        shown("one\ntwo\n")
    );
    assert_eq!(
        node.run("file tail activelog web/access.log 1").await,
        shown("two\n")
    );
    for path in [
        "../etc/node.toml",
        "web/../../etc/node.toml",
        "/etc/passwd",
        "..%2fetc/node.toml",
        "journal/../../etc/node.toml",
        "journal/--file=x.log",
    ] {
        let (status, text) = node.run(&format!("file view activelog {path}")).await;
        assert_eq!(status, 1, "{path}");
        assert!(
            !text.contains("example.org") && !text.contains("root:"),
            "{text}"
        );
    }
}

/// What people try to get out of a restricted command line. None of it may be
/// a command, or part of one.
#[tokio::test]
async fn there_is_no_way_to_a_shell() {
    let node = node();
    for line in [
        "sh",
        "bash -i",
        "/bin/sh",
        "!sh",
        "!",
        ":!sh",
        "vi",
        "more /etc/passwd",
        "less",
        "man man",
        "su -",
        "sudo -s",
        "root",
        "exec sh",
        "eval id",
        ". /etc/profile",
        "scp -t /tmp",
        "sftp-server",
        "/usr/lib/openssh/sftp-server",
        "rsync --server",
        "git-receive-pack x",
        "id;sh",
        "utils service list; sh",
        "utils service list | sh",
        "utils service list && sh",
        "utils service list > /tmp/x",
        "utils service list `id`",
        "utils service list $(id)",
        "show status\nsh",
        "file edit activelog x",
        "set cli shell /bin/sh",
        "set network dns primary 192.0.2.1;sh",
        "set network hostname a;sh",
        "set timezone ../../etc/shadow",
        "set timezone $(id)",
        "\u{1b}[A",
        "users import /dev/tcp/192.0.2.1/1",
    ] {
        let (status, text) = node.run(line).await;
        assert_ne!(status, 0, "{line:?}: {text}");
        assert!(!text.contains("uid="), "{line:?}");
    }
    let world = node.fakes.world();
    let harmless = |asked: &String| asked == "list" || asked == "users";
    assert!(world.commands.iter().all(harmless), "{:?}", world.commands);
}

#[test]
fn errors_name_what_may_come() {
    let usage = |line: &str| TREE.parse(&split(line)).unwrap_err();
    let error = usage("utils servce list");
    assert_eq!(
        error.message,
        "\"servce\" is not known here; after \"utils\" comes one of: dbreplication, \
         ha, imdb_replication, service, system"
    );
    assert_eq!(
        usage("show perf").message,
        "the command is not complete; after \"show perf\" comes one of: list, query"
    );
    assert_eq!(
        usage("users add").message,
        "the command is not complete; \"users add\" needs USER. Syntax: users add USER \
         [--password PASSWORD] [--name NAME] [--mail MAIL]"
    );
    assert!(
        usage("users list --force")
            .message
            .contains("has no option --force")
    );
    assert!(
        usage("users show a b")
            .message
            .contains("one word too many")
    );
    assert!(usage("users show \"a").message.contains("not closed"));
}

fn standing(name: &str, state: &str, reason: &str) -> NodeStatus {
    NodeStatus {
        name: name.into(),
        state: state.into(),
        reason: reason.into(),
        heard: true,
        serves: vec![name.into()],
        down: Vec::new(),
    }
}

fn group(name: &str, nodes: [NodeStatus; 2]) -> Status {
    Status {
        group: name.into(),
        high_availability: true,
        held: false,
        nodes: nodes.into(),
        cause: String::new(),
        advice: Vec::new(),
    }
}

#[tokio::test]
async fn the_state_of_a_group_is_said_as_scripts_know_it() {
    let node = node();
    let off = "High Availability Not Enabled";
    node.fakes.world().high_availability = vec![group(
        "DefaultCluster",
        [
            standing("alpha", "Normal", "Normal"),
            standing("beta", "Unknown", off),
        ],
    )];
    let expected = "Subcluster Name: DefaultCluster\n\
                    Node 1 Name : alpha State: Normal\n\
                    Node 2 Name : beta State: Unknown Reason: High Availability Not Enabled\n";
    assert_eq!(node.run("utils ha status").await, (0, expected.to_owned()));
    let (status, json) = node.run("utils ha status DefaultCluster --json").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status, 0);
    assert_eq!(json["result"]["nodes"][1]["reason"], off);
    let (status, text) = node.run("utils ha status Nothing").await;
    assert_eq!(status, 1);
    assert!(text.contains("no such group"), "{text}");
}

#[tokio::test]
async fn failover_fallback_and_recovery_are_asked_for() {
    let mut node = node();
    let normal = |name| standing(name, "Normal", "Normal");
    node.fakes.world().high_availability =
        vec![group("DefaultCluster", [normal("alpha"), normal("beta")])];
    assert_eq!(
        node.run("utils ha failover beta").await.1,
        "Initiate Manual Failover for Node > beta\n\
         Request SUCCESSFUL.\n\
         Subcluster Name: DefaultCluster\n\
         Node 1 Name : alpha State: Normal\n\
         Node 2 Name : beta State: Failing Over Reason: On Admin Request\n"
    );
    let (_, text) = node.run("utils ha fallback beta").await;
    let first = "Initiate Manual Fallback for Node > beta\nRequest SUCCESSFUL.\n";
    assert!(
        text.starts_with(first) && text.contains("Taking Back"),
        "{text}"
    );
    let (status, text) = node.run("utils ha recover DefaultCluster").await;
    assert_eq!(status, 0);
    assert!(
        text.starts_with("Stopping services... Stopped\nStarting services... Started\nSubcluster"),
        "{text}"
    );
    assert!(node.asked("ha Recover DefaultCluster by admin"));
    node.level = Level::Look;
    assert_eq!(node.run("utils ha status").await.0, 0);
    for line in ["failover beta", "fallback beta", "recover DefaultCluster"] {
        let (status, text) = node.run(&format!("utils ha {line}")).await;
        assert!(status == 1 && text.contains("level 1"), "{text}");
    }
}

#[tokio::test]
async fn the_history_explains_what_happened() {
    let node = node();
    assert_eq!(
        node.run("utils ha history").await.1,
        "Nothing has happened yet.\n"
    );
    node.fakes.world().history = vec![Entry {
        at: jiff::Timestamp::UNIX_EPOCH,
        node: "beta".into(),
        from: "Normal (Normal)".into(),
        to: "Taking Over (Peer Down)".into(),
        peer: None,
        seen: "node 1 has been silent for 3 s.".into(),
        decided: "Taking Over (Peer Down).".into(),
        advice: vec!["Look.".into()],
    }];
    let (_, text) = node.run("utils ha history beta").await;
    assert!(
        text.ends_with(
            " beta: Normal (Normal) -> Taking Over (Peer Down); peer not heard\n    \
             Seen: node 1 has been silent for 3 s.\n    \
             Decided: Taking Over (Peer Down).\n    \
             To do: Look.\n"
        ),
        "{text}"
    );
}

#[test]
fn completion_and_help_come_from_the_same_list() {
    let services = || {
        vec![
            "Cisco XCP Router".to_owned(),
            "Cisco XCP Connection Manager".to_owned(),
        ]
    };
    let complete = |line: &str| TREE.complete(&split(line), &services);
    let insert = |replace, text: &str| Completion::Insert {
        replace,
        text: text.into(),
    };
    assert_eq!(complete("ut"), insert(2, "utils "));
    assert_eq!(
        complete("utils service st"),
        Completion::Choose(vec!["start".into(), "stop".into()])
    );
    assert_eq!(
        complete("utils service start Cisco XCP R"),
        insert(11, "Cisco XCP Router ")
    );
    assert_eq!(complete("utils service start "), insert(0, "Cisco XCP "));
    assert_eq!(
        complete("show version "),
        Completion::Choose(vec!["active".into(), "inactive".into()])
    );
    assert_eq!(complete("users list --j"), insert(3, "--json "));
    assert_eq!(complete("nonsense "), Completion::Nothing);
    let help = TREE.help(&split("show version "), &services);
    assert!(
        help.starts_with("Syntax: show version active|inactive\n"),
        "{help}"
    );
    assert!(TREE.help(&split(""), &services).contains("    utils   "));
    assert!(TREE.is_free_text(&split("users add bob --password a")));
    assert!(!TREE.is_free_text(&split("show ve")));
}

#[test]
fn every_command_and_group_has_help() {
    for command in TREE.commands {
        assert!(!command.help.is_empty(), "{}", command.words);
        let words: Vec<_> = command.words.split(' ').collect();
        for length in 1..words.len() {
            let group = words[..length].join(" ");
            let known = TREE.groups.iter().any(|(name, _)| *name == group)
                || TREE.commands.iter().any(|one| one.words == group);
            assert!(known, "{group}");
        }
    }
}
