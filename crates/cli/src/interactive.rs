//! The entry: one command, or a session.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use operations::{Host, PRODUCT_VERSION};
use service::Paths;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::Client;
use crate::session::Terminal;
use crate::terminal::{Console, Plain};
use crate::text;
use crate::words::{Line, Word, split};

/// What scripts wait for.
const PROMPT: &str = "admin:";
/// How sshd calls us for a session, by `ForceCommand=`.
const FORCED: &str = "/usr/bin/signalbox cli";
/// The history lies in the home folder.
const HISTORY: &str = ".signalbox-history";

/// What a start of the program asks for.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    Session,
    Command(Line),
}

/// Reads the arguments: the words of a command; `-c COMMAND`, as login shells
/// are called; or nothing. `original` is what the client of a forced command
/// asked for.
fn start(arguments: &[String], original: Option<&str>) -> Start {
    let asked = |text: &str| {
        let line = split(text);
        if line.words.is_empty() {
            Start::Session
        } else {
            Start::Command(line)
        }
    };
    match arguments {
        [] => original.map_or(Start::Session, asked),
        [c, command] if c == "-c" && command == FORCED => original.map_or(Start::Session, asked),
        [c, command] if c == "-c" => asked(command),
        // A whole line as one argument, as scripts quote it.
        [line] if line.contains(' ') => asked(line),
        words => Start::Command(Line {
            words: words.iter().map(|word| argument(word)).collect(),
            ..Line::default()
        }),
    }
}

/// An argument of the program is a word as it is; quotes around the whole of
/// it, which scripts send as the command reference has them, are not part of
/// the value.
fn argument(text: &str) -> Word {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .filter(|inner| !inner.contains('"'));
    Word {
        text: inner.unwrap_or(text).to_owned(),
        quoted: inner.is_some(),
    }
}

/// `signalbox cli …` and the login shell `signalbox-cli`: runs one command or
/// a session, and gives the exit status.
pub fn main(arguments: &[String]) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("The command line did not start: {error}.");
            return ExitCode::FAILURE;
        }
    };
    // Channels to the services and signal handlers belong to the runtime.
    let (client, signals) = {
        let _inside = runtime.enter();
        (
            Client::connect(&Paths::from_environment(), origin()),
            Signals::catch(),
        )
    };
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("The command line did not start: {error}.");
            return ExitCode::FAILURE;
        }
    };
    let original = std::env::var("SSH_ORIGINAL_COMMAND").ok();
    match start(arguments, original.as_deref()) {
        Start::Command(line) => {
            let status = client.run(&line, &Plain, signals.interrupted());
            ExitCode::from(runtime.block_on(status))
        }
        Start::Session => {
            session(&runtime, &client, &mut signals);
            ExitCode::SUCCESS
        }
    }
}

/// The address that this session came from, by sshd's word; empty at the
/// console.
fn origin() -> String {
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    let address = connection.split(' ').next();
    address.unwrap_or_default().to_owned()
}

/// The signals of the keyboard. Caught once for all: none of them may end the
/// session in the middle of something, or stop it and leave what is around it.
struct Signals {
    interrupt: Signal,
    _quit: Signal,
    _suspend: Signal,
}

/// SIGTSTP, the signal of Ctrl-Z; tokio has no name for it.
const SUSPEND: i32 = 20;

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            _quit: signal(SignalKind::quit())?,
            _suspend: signal(SignalKind::from_raw(SUSPEND))?,
        })
    }

    async fn interrupted(&mut self) {
        self.interrupt.recv().await;
    }
}

fn session(runtime: &Runtime, client: &Client, signals: &mut Signals) {
    let host = Host::default();
    let warnings = warnings(&host.name_servers());
    print!(
        "{}",
        text::banner(&host.machine(), PRODUCT_VERSION, &warnings)
    );
    let _ = std::io::stdout().flush();
    let names = || {
        let listed = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(2), client.services()).await
        });
        listed.unwrap_or_default()
    };
    let file = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(HISTORY));
    let before = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
    let before = before
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    let console = Console::open(before, names);
    loop {
        let line = match &console {
            Some(console) => console.line(PROMPT),
            None => runtime.block_on(Terminal::ask(&Plain, PROMPT)),
        };
        let Some(line) = line else {
            println!();
            break;
        };
        let words = split(&line);
        match words.words.as_slice() {
            [] => continue,
            [only] if matches!(only.text.as_str(), "exit" | "quit" | "logout") => break,
            _ => {}
        }
        // What has a password in it is not kept.
        if let Some(console) = &console
            && !line.contains("--password")
        {
            console.remember(&line);
            if let Some(file) = &file {
                keep(file, &console.history());
            }
        }
        let terminal: &dyn Terminal = match &console {
            Some(console) => console,
            None => &Plain,
        };
        runtime.block_on(client.run(&words, terminal, signals.interrupted()));
    }
}

/// Writes the history, for this user's eyes alone. A home folder that cannot
/// be written costs the history and nothing else.
fn keep(file: &PathBuf, lines: &[String]) {
    let _ = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all((lines.join("\n") + "\n").as_bytes()));
}

/// What the banner warns of.
fn warnings(servers: &[String]) -> Vec<String> {
    let servers: Vec<IpAddr> = servers.iter().filter_map(|one| one.parse().ok()).collect();
    if !servers.is_empty() && !servers.iter().any(|server| answers(*server)) {
        return vec!["DNS unreachable".into()];
    }
    Vec::new()
}

/// Whether a name server answers a question within a moment; what it answers
/// does not matter.
fn answers(server: IpAddr) -> bool {
    // Id 1, recursion desired, one question: the root's name servers.
    const QUESTION: &[u8] = &[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    let local: IpAddr = if server.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let asked = UdpSocket::bind(SocketAddr::new(local, 0)).and_then(|socket| {
        socket.set_read_timeout(Some(Duration::from_millis(700)))?;
        socket.connect(SocketAddr::new(server, 53))?;
        socket.send(QUESTION)?;
        socket.recv(&mut [0; 512])
    });
    asked.is_ok_and(|length| length >= 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn command(words: &[&str], original: Option<&str>) -> Vec<String> {
        match start(&strings(words), original) {
            Start::Command(line) => line.words.into_iter().map(|word| word.text).collect(),
            Start::Session => panic!("a session"),
        }
    }

    #[test]
    fn every_way_to_ask_for_a_command() {
        let expected = ["utils", "service", "list"];
        assert_eq!(command(&expected, None), expected);
        assert_eq!(command(&["utils service list"], None), expected);
        assert_eq!(command(&["-c", "utils service list"], None), expected);
        assert_eq!(
            command(&["-c", FORCED], Some("utils service list")),
            expected
        );
        assert_eq!(command(&[], Some("utils service list")), expected);
        assert_eq!(
            command(
                &["show", "perf", "query", "class", "\"Cisco XCP CM\""],
                None
            )[4],
            "Cisco XCP CM"
        );
        assert_eq!(
            command(&["users", "add", "bob", "--password", "a b\"c"], None)[4],
            "a b\"c"
        );
    }

    #[test]
    fn every_way_to_ask_for_a_session() {
        assert_eq!(start(&[], None), Start::Session);
        assert_eq!(start(&strings(&["-c", FORCED]), None), Start::Session);
        assert_eq!(start(&strings(&["-c", FORCED]), Some("  ")), Start::Session);
    }

    #[test]
    fn a_forced_command_never_runs_what_the_client_asked_for_as_a_program() {
        // All of these are lines for the parser, which knows no such command.
        for original in [
            "/bin/sh",
            "/usr/lib/openssh/sftp-server",
            "internal-sftp",
            "scp -f /etc/shadow",
            "rsync --server .",
            "sh -c id",
        ] {
            let words = command(&["-c", FORCED], Some(original));
            let line = split(original);
            assert_eq!(words.len(), line.words.len());
            let parsed = crate::commands::TREE.parse(&line);
            assert!(parsed.is_err(), "{original}");
        }
    }
}
