//! A node in memory with an administrator at it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use cli::run::{Surroundings, run};
use cli::session::Terminal;
use cli::words::split;
use operations::fakes::{Fakes, node as record, replication_node, service};
use operations::ports::{ServiceKind, State};
use operations::{Caller, Level, Operations};
use redundancy::Groups;

/// A terminal that answers what it was told to, and keeps what it shows.
#[derive(Default)]
pub(crate) struct Screen {
    shown: Mutex<String>,
    answers: Mutex<VecDeque<String>>,
    pub(crate) input: Mutex<Vec<u8>>,
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

/// A node in memory, and an administrator at it.
pub(crate) struct Node {
    pub(crate) fakes: Fakes,
    operations: Operations,
    pub(crate) screen: Screen,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) level: Level,
}

/// A single node with three services.
pub(crate) fn node() -> Node {
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
    pub(crate) async fn run(&self, line: &str) -> (u8, String) {
        self.run_until(line, std::future::pending()).await
    }

    /// The same, with Ctrl-C when `interrupted` completes.
    pub(crate) async fn run_until(
        &self,
        line: &str,
        interrupted: impl Future<Output = ()>,
    ) -> (u8, String) {
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
        let status = run(surroundings, &split(line), interrupted).await;
        (status, self.screen.shown.lock().unwrap().clone())
    }

    /// What the administrator types when asked.
    pub(crate) fn answer(&self, text: &str) {
        self.screen.answers.lock().unwrap().push_back(text.into());
    }

    /// What was not asked for of what the administrator would type.
    pub(crate) fn unasked(&self) -> Vec<String> {
        self.screen
            .answers
            .lock()
            .unwrap()
            .iter()
            .cloned()
            .collect()
    }

    /// Whether a port was asked for this.
    pub(crate) fn asked(&self, command: &str) -> bool {
        self.fakes.world().commands.iter().any(|one| one == command)
    }
}

/// A success that shows this text.
pub(crate) fn shown(text: &str) -> (u8, String) {
    (0, text.into())
}

/// A cluster of two nodes, each in a group of its own.
pub(crate) fn two_nodes() -> Node {
    let made = node();
    let mut world = made.fakes.world();
    world.nodes = vec![record("node1", true), record("node2", false)];
    world.replication = vec![replication_node("node1", 2), replication_node("node2", 2)];
    let groups = Groups::default().create("DefaultCluster", "", "node1", None);
    world.groups = groups.unwrap().create("node2", "", "node2", None).unwrap();
    drop(world);
    made
}
