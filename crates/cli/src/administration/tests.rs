//! Both ends over a socket: what a command shows, asks and reads, who may, and
//! what Ctrl-C does.

#![allow(clippy::unwrap_used)] // A test that cannot go on is to end.

use std::sync::Mutex as Lock;
use std::sync::PoisonError;

use operations::fakes::{Fakes, service};
use operations::ports::ServiceKind;
use operations::{Caller, Level};
use service::Paths;
use tempfile::TempDir;

use super::*;
use crate::client::Client;
use crate::words::split;

#[derive(Default)]
struct Screen {
    shown: Lock<String>,
    answer: Option<&'static str>,
    file: &'static [u8],
}

impl Screen {
    fn shown(&self) -> String {
        let shown = self.shown.lock();
        shown.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl Terminal for Screen {
    fn show(&self, text: &str) {
        self.shown.lock().unwrap().push_str(text);
    }

    fn page(&self, text: &str) {
        self.show(&format!("[page]{text}"));
    }

    fn set_pagination(&self, on: bool) {
        self.show(&format!("[pagination {on}]"));
    }

    async fn ask(&self, prompt: &str) -> Option<String> {
        self.show(prompt);
        self.answer.map(str::to_owned)
    }

    async fn ask_secret(&self, prompt: &str) -> Option<String> {
        self.show("[hidden]");
        self.ask(prompt).await
    }

    async fn read(&self, path: &str, _: u64) -> std::io::Result<Vec<u8>> {
        self.show(&format!("[read {path}]"));
        if self.file.is_empty() {
            return Err(std::io::Error::other("no such file"));
        }
        Ok(self.file.into())
    }
}

struct Node {
    fakes: Fakes,
    client: Client,
    paths: Paths,
    folder: TempDir,
}

fn identified(level: Level, origin: &str) -> Caller {
    Caller {
        user: "anna".into(),
        level,
        face: "cli",
        origin: origin.into(),
    }
}

fn node(identify: Identify) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let fakes = Fakes::default();
    fakes.world().services = vec![service(
        "xmpp-router",
        "Cisco XCP Router",
        ServiceKind::Network,
    )];
    let paths = Paths::below(folder.path());
    let listener = uds::listen(&paths.administration_socket()).unwrap();
    let server = AdministrationServer::new(Server {
        operations: fakes.operations(folder.path()),
        identify,
    });
    let serving = tonic::transport::Server::builder()
        .add_service(server)
        .serve_with_incoming(uds::incoming(listener));
    tokio::spawn(serving);
    Node {
        fakes,
        client: Client::connect(&paths, "192.0.2.7".into()),
        paths,
        folder,
    }
}

impl Node {
    async fn run(&self, line: &str, screen: &Screen) -> u8 {
        let never = std::future::pending();
        self.client.run(&split(line), screen, never).await
    }
}

fn administrator() -> Node {
    node(|_, origin| Ok(identified(Level::Administer, origin)))
}

#[tokio::test]
async fn a_command_shows_its_answer_and_gives_its_status() {
    let node = administrator();
    let screen = Screen::default();
    assert_eq!(node.run("utils service list", &screen).await, 0);
    let shown = screen.shown();
    assert!(shown.starts_with("Requesting service status, please wait...\n[page]"));
    assert!(shown.contains("Cisco XCP Router[STARTED]"), "{shown}");
    assert_eq!(node.client.services().await, ["Cisco XCP Router"]);
    let screen = Screen::default();
    assert_eq!(node.run("utils service frobnicate", &screen).await, 2);
    let screen = Screen::default();
    assert_eq!(node.run("set cli pagination off", &screen).await, 0);
    assert!(screen.shown().starts_with("[pagination false]"));
    let screen = Screen::default();
    assert_eq!(node.run("users add \"alice", &screen).await, 2);
    assert!(
        screen.shown().contains("quotation mark"),
        "{}",
        screen.shown()
    );
}

#[tokio::test]
async fn questions_are_asked_at_the_terminal() {
    let node = administrator();
    let rebooted = || {
        node.fakes
            .world()
            .commands
            .iter()
            .any(|one| one == "reboot")
    };
    let refusing = Screen {
        answer: Some("n"),
        ..Screen::default()
    };
    assert_eq!(node.run("utils system restart", &refusing).await, 1);
    assert!(refusing.shown().contains("Continue (y/n)?"));
    let gone = Screen::default();
    assert_eq!(node.run("utils system restart", &gone).await, 1);
    assert!(!rebooted());
    let agreeing = Screen {
        answer: Some("y"),
        ..Screen::default()
    };
    assert_eq!(node.run("utils system restart", &agreeing).await, 0);
    assert!(rebooted());
    let typing = Screen {
        answer: Some("pencil"),
        ..Screen::default()
    };
    assert_eq!(node.run("users add alice", &typing).await, 0);
    assert!(
        typing
            .shown()
            .starts_with("[hidden]Password: [hidden]Again: ")
    );
    assert!(node.fakes.world().users.contains_key("alice"));
}

#[tokio::test]
async fn files_are_read_by_the_terminal_and_only_for_those_who_may() {
    let node = administrator();
    let screen = Screen {
        file: b"user,password\nbob,pencil\n",
        ..Screen::default()
    };
    assert_eq!(node.run("users import people.csv", &screen).await, 0);
    assert!(screen.shown().starts_with("[read people.csv]"));
    assert!(node.fakes.world().users.contains_key("bob"));
    let screen = Screen::default();
    assert_eq!(node.run("users import people.csv", &screen).await, 1);
    assert!(
        screen.shown().contains("no such file"),
        "{}",
        screen.shown()
    );

    let viewer = self::node(|_, origin| Ok(identified(Level::Look, origin)));
    let screen = Screen::default();
    assert_eq!(viewer.run("users import people.csv", &screen).await, 1);
    assert!(!screen.shown().contains("[read"));
    assert!(screen.shown().contains("privilege level 1"));
}

#[tokio::test]
async fn a_stranger_is_told_so_in_either_form() {
    let node = node(|uid, _| Err(format!("{uid} is not an administrator of this node")));
    let screen = Screen::default();
    assert_eq!(node.run("utils service list", &screen).await, 1);
    assert!(screen.shown().contains("is not an administrator"));
    let screen = Screen::default();
    assert_eq!(node.run("utils service list --json", &screen).await, 1);
    let answer: serde_json::Value = serde_json::from_str(&screen.shown()).unwrap();
    assert_eq!(answer["ok"], false);
    assert!(node.fakes.world().commands.is_empty());
}

#[tokio::test]
async fn control_c_ends_a_command_that_waits() {
    let node = administrator();
    let (out, messages) = mpsc::channel(4);
    let send = async |message| {
        let message = Some(message);
        out.send(FromTerminal { message }).await.unwrap();
    };
    let line = crate::proto::Line::new(&split("utils system restart"), "");
    send(From::Line(line)).await;
    let channel = uds::connect(&node.paths.administration_socket());
    let mut client = crate::proto::administration_client::AdministrationClient::new(channel);
    let replies = client.run(tokio_stream::wrappers::ReceiverStream::new(messages));
    let mut replies = replies.await.unwrap().into_inner();
    let mut shown = String::new();
    loop {
        match replies.message().await.unwrap().unwrap().message.unwrap() {
            To::Ask(_) => send(From::Interrupt(crate::proto::Interrupt {})).await,
            To::Show(text) => shown += &text,
            To::Done(status) => {
                assert_eq!(status, 1);
                break;
            }
            _ => {}
        }
    }
    assert!(shown.contains("Interrupted"), "{shown}");
    assert!(
        !node
            .fakes
            .world()
            .commands
            .iter()
            .any(|one| one == "reboot")
    );
}

#[tokio::test]
async fn what_is_followed_ends_by_control_c_and_well() {
    let node = administrator();
    let log = node.folder.path().join("logs/monitor.log");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, "old\nrecent\n").unwrap();
    let screen = Screen::default();
    let grown = async {
        while !screen.shown().contains("recent") {
            tokio::task::yield_now().await;
        }
        let mut log = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        std::io::Write::write_all(&mut log, b"new\n").unwrap();
        while !screen.shown().contains("new") {
            tokio::task::yield_now().await;
        }
    };
    let line = split("file tail activelog monitor.log 1 --follow");
    assert_eq!(node.client.run(&line, &screen, grown).await, 0);
    assert_eq!(screen.shown(), "recent\nnew\n[page]");
    let screen = Screen::default();
    let line = "file tail activelog monitor.log --follow --json";
    assert_eq!(node.run(line, &screen).await, 1);
    assert!(screen.shown().contains("has no end"), "{}", screen.shown());
}

#[tokio::test]
async fn without_the_service_the_command_line_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::connect(&Paths::below(folder.path()), String::new());
    let screen = Screen::default();
    let never = std::future::pending();
    let status = client.run(&split("show status"), &screen, never).await;
    assert_eq!(status, 1);
    assert!(screen.shown().contains("does not answer"));
}
