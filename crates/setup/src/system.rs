//! What set-up does to the running system, behind a trait so that a test can
//! watch it instead.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use cluster::{Candidate, JoinError, Joined};
use time::OffsetDateTime;

/// The running system.
pub trait System {
    /// Runs a program of the system with `input` on its standard input and
    /// returns what it printed. Never a shell, never a secret in `arguments`:
    /// every process of the node can read those.
    fn run(&mut self, program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String>;

    /// Gives the running kernel its host name.
    fn set_host_name(&mut self, name: &str) -> anyhow::Result<()>;

    /// The addresses that an interface has now; none when there is no such
    /// interface.
    fn addresses(&mut self, interface: &str) -> Vec<IpAddr>;

    /// Whether the interface exists.
    fn has_interface(&mut self, interface: &str) -> bool;

    /// Gives a file or folder to a user and group.
    fn give(&mut self, path: &Path, user: &str, group: &str) -> anyhow::Result<()>;

    /// Lets time pass.
    fn pause(&mut self, time: Duration);

    /// Joins a cluster (see [`cluster::join`]). `publisher` is a name or an
    /// address.
    fn join(
        &mut self,
        candidate: &Candidate,
        publisher: &str,
        password: &str,
    ) -> Result<Joined, JoinError>;

    /// Writes everything to the disk.
    fn sync(&mut self);

    /// The time of day.
    fn now(&self) -> OffsetDateTime;
}

/// The node itself.
#[derive(Debug, Default)]
pub struct Node;

impl System for Node {
    fn run(&mut self, program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{program} does not start"))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that ends without reading says why in its status.
            let _ = pipe.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{program} {} ended with {}: {}",
                arguments.join(" "),
                output.status,
                said.trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn set_host_name(&mut self, name: &str) -> anyhow::Result<()> {
        nix::unistd::sethostname(name).context("the kernel refuses the host name")
    }

    fn addresses(&mut self, interface: &str) -> Vec<IpAddr> {
        let Ok(all) = nix::ifaddrs::getifaddrs() else {
            return Vec::new();
        };
        let own = all.filter(|one| one.interface_name == interface);
        let address = |one: nix::ifaddrs::InterfaceAddress| {
            let address = one.address?;
            let four = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        };
        own.filter_map(address).collect()
    }

    fn has_interface(&mut self, interface: &str) -> bool {
        Path::new("/sys/class/net").join(interface).exists()
    }

    fn give(&mut self, path: &Path, user: &str, group: &str) -> anyhow::Result<()> {
        let user = nix::unistd::User::from_name(user)?
            .with_context(|| format!("there is no user {user}; systemd-sysusers makes it"))?;
        let group = nix::unistd::Group::from_name(group)?
            .with_context(|| format!("there is no group {group}; systemd-sysusers makes it"))?;
        std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(group.gid.as_raw()))
            .with_context(|| format!("cannot change the owner of {}", path.display()))
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn join(
        &mut self,
        candidate: &Candidate,
        publisher: &str,
        password: &str,
    ) -> Result<Joined, JoinError> {
        converse(cluster::join(candidate, &join_address(publisher), password))
    }

    fn sync(&mut self) {
        nix::unistd::sync();
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// Where nodes join the cluster of a publisher.
pub(crate) fn join_address(publisher: &str) -> String {
    let port = cluster::PORT;
    if publisher.contains(':') {
        format!("[{publisher}]:{port}")
    } else {
        format!("{publisher}:{port}")
    }
}

/// Carries a conversation with a publisher out.
pub(crate) fn converse<T>(
    conversation: impl Future<Output = Result<T, JoinError>>,
) -> Result<T, JoinError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| JoinError::Failed(error.to_string()))?
        .block_on(conversation)
}

/// Where a node's files are: `/` on the node, a folder in a test.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// The node whose root is `root`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// A path of the node, given without its leading slash.
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the services' files are: the environment decides on a node.
    pub fn paths(&self) -> service::Paths {
        if self.root == Path::new("/") {
            service::Paths::from_environment()
        } else {
            service::Paths::below(&self.root)
        }
    }

    /// `node.toml`; the node is set up when it exists.
    pub fn node_file(&self) -> PathBuf {
        self.path("etc/signalbox/node.toml")
    }

    /// Whether the node is set up.
    pub fn is_set_up(&self) -> bool {
        self.node_file().exists()
    }

    /// Where the unattended set-up looks for answers first.
    pub fn answers_file(&self) -> PathBuf {
        self.path("var/lib/signalbox/setup/answers.toml")
    }
}
