//! Logs: the files below the log folder, and the journal of each service.
//!
//! A path is taken apart first and opened component by component without
//! following links, so that nothing outside the log folder can be reached,
//! whatever the path or the folder holds. `journal/ID.log` are not files but
//! exports of the journal. What is shown holds no password of a command line.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::UNIX_EPOCH;

use nix::dir::Dir;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};

#[path = "follow.rs"]
mod follow;
#[path = "journal.rs"]
mod journal;
#[path = "mask.rs"]
mod mask;

/// Folder of the logs on a node.
pub const LOG_FOLDER: &str = "/var/log/signalbox";
/// The folder of journal exports.
const JOURNAL: &str = "journal";
/// The export of everything, and the one of administrative actions.
const WHOLE: &str = "system";
const AUDIT: &str = "audit";
/// Most that is read of one log; the newest part is kept.
const READ_LIMIT: u64 = 16 << 20;
/// Lines of a journal export when no number is given.
const JOURNAL_LINES: usize = 20_000;

/// A log, or a folder of logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Name in its folder.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Size in bytes; none for journal exports.
    pub size: Option<u64>,
    /// Last change, seconds since the Unix epoch; none for journal exports.
    pub modified: Option<u64>,
}

/// The text of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// The lines, oldest first.
    pub lines: Vec<String>,
    /// Whether older lines were left out.
    pub cut: bool,
}

/// Takes a path apart, refusing everything that is not plain names.
fn components(path: &str) -> Result<Vec<&str>> {
    let path = path.trim_end_matches('/');
    if path.is_empty() || path == "*" {
        return Ok(Vec::new());
    }
    let plain = |name: &&str| {
        !name.is_empty()
            && *name != "."
            && *name != ".."
            && name.len() <= 255
            && !name.contains(|c: char| c.is_control() || c == '\\')
    };
    let parts: Vec<_> = path.split('/').collect();
    if parts.iter().all(plain) {
        return Ok(parts);
    }
    Err(Error::refused(format!(
        "{path:?} does not lie in the log folder. Give a path as \"file list activelog\" shows it, \
         without a leading / and without .."
    )))
}

fn absent(path: &str) -> Error {
    Error::not_found(format!(
        "there is no log {path:?}. \"file list activelog\" shows those there are"
    ))
}

fn a_folder() -> Error {
    Error::invalid("this is a folder. \"file list activelog\" shows what it holds")
}

fn unreadable(path: &str, error: nix::errno::Errno) -> Error {
    match error {
        nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR => absent(path),
        nix::errno::Errno::ELOOP => Error::refused(format!(
            "{path:?} is a link, and links are not followed. Give the path of the file itself"
        )),
        error => Error::failed(format!("{path:?} cannot be read: {}", error.desc())),
    }
}

/// Opens what the components name below `root`.
fn open_below(root: &Path, parts: &[&str]) -> nix::Result<OwnedFd> {
    let folder = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut here = open(root, folder - OFlag::O_NOFOLLOW, Mode::empty())?;
    for (index, part) in parts.iter().enumerate() {
        let flags = if index + 1 == parts.len() {
            // Without O_NONBLOCK a pipe in the folder would hang us.
            OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK
        } else {
            folder
        };
        here = openat(&here, OsStr::new(part), flags, Mode::empty())?;
    }
    Ok(here)
}

fn list(root: &Path, parts: &[&str], path: &str) -> Result<Vec<Entry>> {
    let file = File::from(open_below(root, parts).map_err(|error| unreadable(path, error))?);
    let metadata = file
        .metadata()
        .map_err(|error| Error::failed(error.to_string()))?;
    if !metadata.is_dir() {
        return Ok(vec![entry(parts.last().unwrap_or(&""), &metadata)]);
    }
    let mut dir = Dir::from_fd(file.into()).map_err(|error| unreadable(path, error))?;
    let names: Vec<String> = dir
        .iter()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
        .filter(|name| name != "." && name != "..")
        .collect();
    let mut entries = Vec::new();
    for name in names {
        let mut parts = parts.to_vec();
        parts.push(&name);
        // Links, and what this administrator may not read, are left out.
        let metadata = open_below(root, &parts).map(|fd| File::from(fd).metadata());
        if let Ok(Ok(metadata)) = metadata
            && (metadata.is_dir() || metadata.is_file())
        {
            entries.push(entry(&name, &metadata));
        }
    }
    Ok(entries)
}

fn entry(name: &str, metadata: &std::fs::Metadata) -> Entry {
    Entry {
        name: name.into(),
        folder: metadata.is_dir(),
        size: metadata.is_file().then_some(metadata.len()),
        modified: metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map(|since| since.as_secs()),
    }
}

fn read(root: &Path, parts: &[&str], path: &str, last: Option<usize>) -> Result<Log> {
    let mut file = open_log(root, parts, path)?;
    let broken = |error| broken(path, &error);
    let skipped = file.metadata().map_err(broken)?.len();
    let skipped = skipped.saturating_sub(READ_LIMIT);
    file.seek(SeekFrom::Start(skipped)).map_err(broken)?;
    let mut bytes = Vec::new();
    file.take(READ_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(broken)?;
    Ok(lines(&bytes, last, skipped > 0))
}

fn broken(path: &str, error: &std::io::Error) -> Error {
    Error::failed(format!("{path:?} cannot be read: {error}"))
}

/// Opens a file of lines below `root`; folders, pipes and devices are none.
fn open_log(root: &Path, parts: &[&str], path: &str) -> Result<File> {
    let file = File::from(open_below(root, parts).map_err(|error| unreadable(path, error))?);
    let metadata = file.metadata().map_err(|error| broken(path, &error))?;
    if metadata.is_dir() {
        return Err(Error::invalid(format!(
            "{path:?} is a folder; \"file list activelog {path}\" shows what it holds"
        )));
    }
    if !metadata.is_file() {
        return Err(absent(path));
    }
    Ok(file)
}

fn lines(bytes: &[u8], last: Option<usize>, skipped: bool) -> Log {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<_> = text.lines().map(shown).collect();
    if skipped && !lines.is_empty() {
        lines.remove(0);
    }
    let surplus = last.map_or(0, |last| lines.len().saturating_sub(last));
    lines.drain(..surplus);
    Log {
        lines,
        cut: skipped || surplus > 0,
    }
}

/// A line of a log file as it is shown.
fn shown(line: &str) -> String {
    printable(&mask::masked(line))
}

/// A log line may hold what a stranger sent: escape sequences in it must not
/// reach the administrator's terminal.
pub(crate) fn printable(line: &str) -> String {
    line.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// The last lines of the entries that journalctl gave; it was asked for as many
/// entries, of which some have several lines.
fn entries(json: &[u8], last: usize) -> Log {
    let entries = json.split(|byte| *byte == b'\n').filter_map(journal::text);
    let mut lines: Vec<String> = entries
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let cut = lines.len() >= last;
    lines.drain(..lines.len().saturating_sub(last));
    Log { lines, cut }
}

/// The arguments of journalctl for an export; none when there is no such one.
fn journal_arguments(name: &str, last: Option<usize>) -> Option<Vec<String>> {
    let id = name.strip_suffix(".log")?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.is_empty() || id.starts_with('-') || !id.chars().all(plain) {
        return None;
    }
    let mut arguments = vec![
        "--no-pager".to_owned(),
        "--quiet".to_owned(),
        "--output=json".to_owned(),
        // Long values too, and what is not text.
        "--all".to_owned(),
        format!("--lines={}", last.unwrap_or(JOURNAL_LINES)),
    ];
    match id {
        WHOLE => {}
        AUDIT => arguments.push("TARGET=audit".into()),
        id => arguments.push(format!("--unit={id}.service")),
    }
    Some(arguments)
}

impl Operations {
    /// The logs in a folder of the log folder; the empty path is the top.
    pub async fn logs(&self, caller: &Caller, path: &str) -> Result<Vec<Entry>> {
        let work = async {
            let parts = components(path)?;
            let export = |name: String| Entry {
                name,
                folder: false,
                size: None,
                modified: None,
            };
            let mut entries = match parts.as_slice() {
                [JOURNAL] => {
                    let services = self.supervision().services().await?;
                    services
                        .into_iter()
                        .map(|service| service.id)
                        .chain([WHOLE.into(), AUDIT.into()])
                        .map(|id| export(format!("{id}.log")))
                        .collect()
                }
                [] => {
                    // The folder is made by the first service that writes a
                    // file of its own; until then there is only the journal.
                    let mut entries = match list(self.log_folder(), &parts, path) {
                        Err(error) if error.kind == crate::Kind::NotFound => Vec::new(),
                        listed => listed?,
                    };
                    entries.retain(|entry| entry.name != JOURNAL);
                    entries.push(Entry {
                        folder: true,
                        ..export(JOURNAL.into())
                    });
                    entries
                }
                _ => list(self.log_folder(), &parts, path)?,
            };
            entries.sort_by(|a, b| (!a.folder, &a.name).cmp(&(!b.folder, &b.name)));
            Ok(entries)
        };
        caller.does(&actions::LOG_LIST, path, work).await
    }

    /// The text of a log, or only its last lines.
    pub async fn log(&self, caller: &Caller, path: &str, last: Option<usize>) -> Result<Log> {
        let work = async {
            let parts = components(path)?;
            match parts.as_slice() {
                [] | [JOURNAL] => Err(a_folder()),
                [JOURNAL, name] => self.journal(name, path, last).await,
                _ => read(self.log_folder(), &parts, path, last),
            }
        };
        caller.does(&actions::LOG_READ, path, work).await
    }

    /// Tells the last lines of a log and every line that is written to it, until
    /// the work is dropped.
    pub async fn follow(
        &self,
        caller: &Caller,
        path: &str,
        last: usize,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<()> {
        let work = async {
            let parts = components(path)?;
            match parts.as_slice() {
                [] | [JOURNAL] => Err(a_folder()),
                [JOURNAL, name] => {
                    let arguments =
                        journal_arguments(name, Some(last)).ok_or_else(|| absent(path))?;
                    follow::journal(arguments, tell).await
                }
                _ => follow::file(self.log_folder(), &parts, path, last, tell).await,
            }
        };
        caller.does(&actions::LOG_READ, path, work).await
    }

    async fn journal(&self, name: &str, path: &str, last: Option<usize>) -> Result<Log> {
        let arguments = journal_arguments(name, last).ok_or_else(|| absent(path))?;
        let output = tokio::process::Command::new("/usr/bin/journalctl")
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| Error::failed(format!("the journal cannot be read: {error}")))?;
        if !output.status.success() {
            return Err(Error::failed(format!(
                "the journal cannot be read: {}",
                printable(String::from_utf8_lossy(&output.stderr).trim())
            )));
        }
        Ok(entries(&output.stdout, last.unwrap_or(JOURNAL_LINES)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_out_of_the_log_folder_is_refused() {
        for path in [
            "..",
            "../secret",
            "a/../../secret",
            "/etc/shadow",
            "a//b",
            "./a",
            "a/./b",
            "a\\..\\b",
            "a\nb",
            "a\0b",
        ] {
            assert!(components(path).is_err(), "{path:?}");
        }
        // No decoding: these are plain names of files that are not there.
        for path in ["%2e%2e", "..%2f", "%u002e", "a/b.log", "~root"] {
            assert!(components(path).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn no_link_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("folder")).unwrap();
        symlink(outside.path().join("secret"), root.path().join("file")).unwrap();
        fs::write(root.path().join("real"), "one\ntwo\nthree\n").unwrap();
        nix::unistd::mkfifo(&root.path().join("pipe"), Mode::S_IRUSR).unwrap();
        for parts in [&["file"][..], &["folder", "secret"]] {
            assert!(read(root.path(), parts, "x", None).is_err(), "{parts:?}");
        }
        assert!(read(root.path(), &["pipe"], "pipe", None).is_err());
        let names: Vec<_> = list(root.path(), &[], "")
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names, ["real"]);
        let log = read(root.path(), &["real"], "real", Some(2)).unwrap();
        assert_eq!(
            (log.lines, log.cut),
            (vec!["two".into(), "three".into()], true)
        );
    }

    #[test]
    fn a_log_line_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}]0;x\u{7}\tb"), "a\u{fffd}]0;x\u{fffd}\tb");
    }

    #[test]
    fn a_log_file_shows_no_password() {
        let log = lines(b"users add al --password SECRET\n", None, false);
        assert_eq!(log.lines, ["users add al --password ***"]);
    }

    #[test]
    fn an_export_ends_with_its_last_lines() {
        let entry = |text: &str| {
            let entry = serde_json::json!({
                "__REALTIME_TIMESTAMP": "1", "SYSLOG_IDENTIFIER": "x", "MESSAGE": text,
            });
            entry.to_string() + "\n"
        };
        let json = entry("one") + &entry("two\nthree");
        let log = entries(json.as_bytes(), 2);
        assert!(log.cut && log.lines.len() == 2, "{log:?}");
        assert!(log.lines[0].ends_with("two") && log.lines[1] == "    three");
        assert!(!entries(json.as_bytes(), 4).cut);
    }

    #[test]
    fn only_plain_ids_reach_journalctl() {
        for name in [
            "--file=x.log",
            "a b.log",
            "a;b.log",
            "$(id).log",
            ".log",
            "x",
            "A.log",
        ] {
            assert!(journal_arguments(name, None).is_none(), "{name}");
        }
        let arguments = journal_arguments("xmpp-router.log", Some(5)).unwrap();
        assert!(arguments.contains(&"--unit=xmpp-router.service".to_owned()));
        assert!(arguments.contains(&"--lines=5".to_owned()));
    }
}
