//! The event history: each transition in words, kept over restarts.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use recovery::{Standing, Transition};
use serde::{Deserialize, Serialize};

/// How many entries are kept.
const KEPT: usize = 500;

/// An entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// The node that wrote it.
    pub node: String,
    /// State and reason before.
    pub from: String,
    /// State and reason after.
    pub to: String,
    /// The peer's; none when it was not heard.
    pub peer: Option<String>,
    /// What was seen.
    pub seen: String,
    /// What was decided.
    pub decided: String,
    /// What an administrator should do, in order; empty when nothing.
    pub advice: Vec<String>,
}

impl Entry {
    /// The entry of a transition.
    pub(crate) fn new(node: &str, transition: &Transition, at: Timestamp) -> Self {
        let words = |standing: &Standing| standing.to_string();
        Self {
            at,
            node: node.into(),
            from: words(&transition.from),
            to: words(&transition.to),
            peer: transition.peer.as_ref().map(words),
            seen: transition.seen.clone(),
            decided: transition.decided.clone(),
            advice: transition
                .advice
                .iter()
                .map(|line| (*line).into())
                .collect(),
        }
    }
}

/// The history on the disk: a line of JSON for each entry, the oldest first.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    entries: VecDeque<Entry>,
    /// Lines of the file, which may hold some that are too old.
    lines: usize,
}

impl History {
    /// Reads what there is. Lines that cannot be read, such as one that a power
    /// cut left half written, are passed over.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut history = Self {
            path: path.into(),
            entries: VecDeque::new(),
            lines: text.lines().count(),
        };
        let mut damaged = 0;
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(entry) => history.remember(entry),
                Err(_) => damaged += 1,
            }
        }
        if damaged > 0 || !text.is_empty() && !text.ends_with('\n') {
            tracing::warn!(
                lines = damaged,
                "Lines of the event history cannot be read and are passed over."
            );
            history.rewrite()?;
        }
        Ok(history)
    }

    fn remember(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        while self.entries.len() > KEPT {
            self.entries.pop_front();
        }
    }

    /// Adds an entry, in the file as well. It is not synced, for the manager's
    /// loop must not wait for the disk more often than it must: a power cut can
    /// cost the latest entries. The peer has written down its own.
    pub(crate) fn push(&mut self, entry: Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.remember(entry);
        if self.lines >= 2 * KEPT {
            return self.rewrite();
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        file.write_all(&line)?;
        self.lines += 1;
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        for entry in &self.entries {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_data()?;
        std::fs::rename(&new, &self.path)?;
        self.lines = self.entries.len();
        Ok(())
    }

    /// All entries, the oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: usize) -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            node: "alpha".into(),
            from: "Normal (Normal)".into(),
            to: "Taking Over (Peer Down)".into(),
            peer: None,
            seen: format!("number {number}"),
            decided: String::new(),
            advice: vec!["Look.".into()],
        }
    }

    fn seen(history: &History) -> Vec<&str> {
        history.entries().map(|entry| entry.seen.as_str()).collect()
    }

    #[test]
    fn it_outlives_a_restart_and_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let mut history = History::open(&path).unwrap();
        history.push(entry(1)).unwrap();
        history.push(entry(2)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 7);
        std::fs::write(&path, &bytes).unwrap();
        let mut history = History::open(&path).unwrap();
        assert_eq!(seen(&history), ["number 1"]);
        history.push(entry(3)).unwrap();
        let history = History::open(&path).unwrap();
        assert_eq!(seen(&history), ["number 1", "number 3"]);
        assert_eq!(history.entries().next(), Some(&entry(1)));
    }

    #[test]
    fn it_is_bounded_in_memory_and_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let mut text = String::new();
        for number in 0..2 * KEPT {
            text += &serde_json::to_string(&entry(number)).unwrap();
            text.push('\n');
        }
        std::fs::write(&path, text).unwrap();
        let mut history = History::open(&path).unwrap();
        history.push(entry(2 * KEPT)).unwrap();
        assert_eq!(history.entries().count(), KEPT);
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(lines, KEPT);
        let last = History::open(&path).unwrap();
        assert_eq!(seen(&last).last(), Some(&"number 1000"));
    }
}
