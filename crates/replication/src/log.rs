//! The log, the vote and the committed position, durable in a redb file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{BasicNode, EntryPayload, LogState, Membership, OptionalSend, RaftLogReader};
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};

use crate::epoch::Epoch;
use crate::types::{
    Config, Damaged, Entry, LogId, StorageError, StorageIOError, Vote, decode_entry, encode_entry,
    from_json, log_id, seal, to_json, unseal,
};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

const VOTE: &str = "vote";
const OWNER: &str = "owner";
const EPOCH: &str = "epoch";
const SUPERSEDED: &str = "superseded";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";

/// Memory for cached pages. Entries are read once, soon after they are
/// written, so that little is enough.
const CACHE: usize = 4 << 20;
/// Bytes of entries that are sent to another node at a time, and the one that
/// goes beyond: a fifth of a second on a link of 10 Mbit/s.
const SENT: usize = 256 << 10;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file is not what was written.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// The operating system refused, or the disk is full.
    #[error("the log could not be read or written: {0}. Check the disk's space and health")]
    Io(String),
}

impl From<Damaged> for LogError {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged.0)
    }
}

impl From<redb::Error> for LogError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => {
                Self::Damaged(error.to_string())
            }
            // A file that ends early reads as an unexpected end, and one that
            // is not ours as invalid data.
            redb::Error::Io(ref io)
                if matches!(
                    io.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
                ) =>
            {
                Self::Damaged(error.to_string())
            }
            other => Self::Io(other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for LogError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::CompactionError
);

/// What is known without reading the file.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Committed, and not written yet: it goes with the next entries, since
    /// entries are applied again without harm.
    committed: Option<LogId>,
}

#[derive(Debug)]
struct Inner {
    file: RwLock<Database>,
    known: Mutex<Known>,
}

/// The log. Clones share it.
#[derive(Clone, Debug)]
pub struct Log(Arc<Inner>);

/// Lets a boxed backend be one.
#[derive(Debug)]
struct Boxed(Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}

impl Log {
    /// Opens the log and checks all of it. What is wrong with the content
    /// comes back as sentences; the entries that are right can still be read.
    pub fn open(backend: Box<dyn StorageBackend>) -> Result<(Self, Vec<String>), LogError> {
        let mut file = Builder::new()
            .set_cache_size(CACHE)
            .create_with_backend(Boxed(backend))?;
        let mut problems = Vec::new();
        if !file.check_integrity()? {
            problems.push("pages of the file failed their checksums".into());
        }
        let write = file.begin_write()?;
        write.open_table(ENTRIES)?;
        write.open_table(STATE)?;
        write.commit()?;
        let log = Self(Arc::new(Inner {
            file: RwLock::new(file),
            known: Mutex::default(),
        }));
        log.learn(&mut problems)?;
        Ok((log, problems))
    }

    /// Reads everything once: checks it, and learns where the log begins and
    /// ends.
    fn learn(&self, problems: &mut Vec<String>) -> Result<(), LogError> {
        let mut known = Known::default();
        for name in [VOTE, COMMITTED, PURGED, OWNER, EPOCH, SUPERSEDED] {
            if let Err(LogError::Damaged(problem)) = self.state_bytes(name) {
                problems.push(problem);
            }
        }
        if problems.is_empty() {
            known.purged = self.state(PURGED)?;
            known.last = known.purged;
        }
        let file = self.0.file.read().unwrap_or_else(PoisonError::into_inner);
        let read = file.begin_read()?;
        for pair in read.open_table(ENTRIES)?.iter()? {
            let (index, bytes) = pair?;
            match decode_entry(index.value(), bytes.value()) {
                Ok(entry) => {
                    let expected = known.last.map_or(0, |last| last.index + 1);
                    if problems.is_empty() && entry.log_id.index != expected {
                        problems.push(format!("entry {expected} of the log is missing"));
                    }
                    known.last = Some(entry.log_id);
                }
                Err(problem) => problems.push(problem.0),
            }
        }
        *self.known() = known;
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_bytes(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        let file = self.0.file.read().unwrap_or_else(PoisonError::into_inner);
        let read = file.begin_read()?;
        let table = read.open_table(STATE)?;
        let Some(value) = table.get(name)? else {
            return Ok(None);
        };
        Ok(Some(unseal(name.as_bytes(), value.value())?.to_vec()))
    }

    fn state<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LogError> {
        let bytes = self.state_bytes(name)?;
        Ok(bytes.map(|bytes| from_json(&bytes)).transpose()?)
    }

    /// The vote that was saved last.
    pub fn vote(&self) -> Result<Option<Vote>, LogError> {
        self.state(VOTE)
    }

    /// The name of the node whose log this is; none before [`Log::claim`].
    pub fn owner(&self) -> Result<Option<u64>, LogError> {
        self.state(OWNER)
    }

    /// Notes the name of the node whose log this is, durably.
    pub fn claim(&self, node: u64) -> Result<(), LogError> {
        self.set_state(OWNER, &node)
    }

    fn set_state(&self, name: &'static str, value: &impl serde::Serialize) -> Result<(), LogError> {
        self.write(&Changes {
            state: vec![(name, to_json(value))],
            ..Changes::default()
        })
    }

    /// Which log it is.
    pub(crate) fn epoch(&self) -> Result<Epoch, LogError> {
        Ok(self.state(EPOCH)?.unwrap_or_default())
    }

    pub(crate) fn set_epoch(&self, epoch: Epoch) -> Result<(), LogError> {
        self.set_state(EPOCH, &epoch)
    }

    /// The log that this one was given up for.
    pub(crate) fn superseded(&self) -> Result<Option<Epoch>, LogError> {
        self.state(SUPERSEDED)
    }

    pub(crate) fn supersede(&self, by: Epoch) -> Result<(), LogError> {
        self.set_state(SUPERSEDED, &by)
    }

    /// Begins a new epoch behind what is there, in one write: its first entry
    /// makes node `name`, reached at `address`, the only voter.
    pub(crate) fn begin_epoch(
        &self,
        epoch: Epoch,
        name: u64,
        address: &str,
    ) -> Result<(), LogError> {
        let (_, last) = self.ends();
        let vote = self.vote()?;
        let term = vote.map_or(0, |vote| vote.leader_id().get_term());
        let term = term.max(last.map_or(0, |id| id.leader_id.term)) + 1;
        let id = log_id(term, name, last.map_or(0, |id| id.index + 1));
        let nodes = BTreeMap::from([(name, BasicNode::new(address))]);
        let membership = Membership::new(vec![BTreeSet::from([name])], nodes);
        let entry = Entry {
            log_id: id,
            payload: EntryPayload::Membership(membership),
        };
        self.write(&Changes {
            entries: vec![(id.index, encode_entry(&entry))],
            state: vec![
                (EPOCH, to_json(&epoch)),
                (OWNER, to_json(&name)),
                (VOTE, to_json(&Vote::new(term, name))),
            ],
            forget: Some(SUPERSEDED),
            ..Changes::default()
        })?;
        self.known().last = Some(id);
        Ok(())
    }

    /// The last entry that was dropped, and the last there is.
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let known = self.known();
        (known.purged, known.last)
    }

    /// Whether nothing was ever written.
    pub fn is_new(&self) -> Result<bool, LogError> {
        Ok(self.ends() == (None, None) && self.vote()?.is_none())
    }

    /// The entries of a range, in order. Fails at one that is damaged.
    pub fn entries(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>, LogError> {
        let file = self.0.file.read().unwrap_or_else(PoisonError::into_inner);
        let read = file.begin_read()?;
        let table = read.open_table(ENTRIES)?;
        let bounds: (Bound<u64>, Bound<u64>) =
            (range.start_bound().cloned(), range.end_bound().cloned());
        let mut entries = Vec::new();
        for pair in table.range(bounds)? {
            let (index, bytes) = pair?;
            entries.push(decode_entry(index.value(), bytes.value())?);
        }
        Ok(entries)
    }

    /// The entries from `start` on and before `end`, up to the one that makes
    /// them `bytes` long.
    fn some_entries(&self, start: u64, end: u64, bytes: usize) -> Result<Vec<Entry>, LogError> {
        let file = self.0.file.read().unwrap_or_else(PoisonError::into_inner);
        let read = file.begin_read()?;
        let table = read.open_table(ENTRIES)?;
        let (mut entries, mut size) = (Vec::new(), 0);
        for pair in table.range(start..end)? {
            let (index, content) = pair?;
            entries.push(decode_entry(index.value(), content.value())?);
            size += content.value().len();
            if size >= bytes {
                break;
            }
        }
        Ok(entries)
    }

    /// Entries from `from` on without a gap, up to the first that is missing
    /// or damaged: what can be saved of a damaged log.
    pub fn salvage(&self, from: u64) -> Vec<Entry> {
        let mut saved = Vec::new();
        for index in from.. {
            match self.entries(index..=index) {
                Ok(mut entries) if entries.len() == 1 => saved.append(&mut entries),
                _ => break,
            }
        }
        saved
    }

    /// Fills a new log: it begins behind `purged`.
    pub fn found(
        &self,
        purged: Option<LogId>,
        vote: Option<Vote>,
        entries: Vec<Entry>,
    ) -> Result<(), LogError> {
        let mut change = Changes::default();
        if let Some(purged) = &purged {
            change.state.push((PURGED, to_json(purged)));
        }
        if let Some(vote) = &vote {
            change.state.push((VOTE, to_json(vote)));
        }
        let mut known = Known {
            purged,
            last: purged,
            committed: None,
        };
        for entry in &entries {
            known.last = Some(entry.log_id);
            change
                .entries
                .push((entry.log_id.index, encode_entry(entry)));
        }
        self.write(&change)?;
        *self.known() = known;
        Ok(())
    }

    /// Writes durably: returns when the disk has it.
    fn write(&self, change: &Changes) -> Result<(), LogError> {
        let file = self.0.file.read().unwrap_or_else(PoisonError::into_inner);
        let mut write = file.begin_write()?;
        // Immediate is an fsync before commit returns.
        write
            .set_durability(Durability::Immediate)
            .map_err(|error| LogError::Io(error.to_string()))?;
        {
            let mut entries = write.open_table(ENTRIES)?;
            if let Some(from) = change.remove_from {
                entries.retain_in(from.., |_, _| false)?;
            }
            if let Some(upto) = change.remove_upto {
                entries.retain_in(..=upto, |_, _| false)?;
            }
            for (index, bytes) in &change.entries {
                entries.insert(index, bytes.as_slice())?;
            }
            let mut state = write.open_table(STATE)?;
            for (name, bytes) in &change.state {
                state.insert(*name, seal(name.as_bytes(), bytes).as_slice())?;
            }
            if let Some(name) = change.forget {
                state.remove(name)?;
            }
        }
        write.commit()?;
        Ok(())
    }

    async fn write_aside(&self, change: Changes) -> Result<(), LogError> {
        let log = self.clone();
        // The disk is waited for beside the runtime's own threads.
        tokio::task::spawn_blocking(move || log.write(&change))
            .await
            .unwrap_or_else(|error| Err(LogError::Io(error.to_string())))
    }

    /// Whether nobody else holds the log.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Gives unused space of the file back.
    pub fn compact(&self) -> Result<bool, LogError> {
        let mut file = self.0.file.write().unwrap_or_else(PoisonError::into_inner);
        Ok(file.compact()?)
    }
}

/// What one write does.
#[derive(Debug, Default)]
struct Changes {
    remove_from: Option<u64>,
    remove_upto: Option<u64>,
    entries: Vec<(u64, Vec<u8>)>,
    state: Vec<(&'static str, Vec<u8>)>,
    forget: Option<&'static str>,
}

fn read_error(error: &LogError) -> StorageError {
    StorageIOError::read_logs(error).into()
}

fn write_error(error: &LogError) -> StorageError {
    StorageIOError::write_logs(error).into()
}

impl RaftLogReader<Config> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        self.entries(range).map_err(|error| read_error(&error))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.some_entries(start, end, SENT)
            .map_err(|error| read_error(&error))
    }
}

impl RaftLogStorage<Config> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Config>, StorageError> {
        let (last_purged_log_id, last_log_id) = self.ends();
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let change = Changes {
            state: vec![(VOTE, to_json(vote))],
            ..Changes::default()
        };
        self.write_aside(change)
            .await
            .map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.vote()
            .map_err(|error| StorageIOError::read_vote(&error).into())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.known().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        if let Some(committed) = self.known().committed {
            return Ok(Some(committed));
        }
        self.state(COMMITTED).map_err(|error| read_error(&error))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Config>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut change = Changes::default();
        let mut last = None;
        for entry in entries {
            last = Some(entry.log_id);
            change
                .entries
                .push((entry.log_id.index, encode_entry(&entry)));
        }
        if let Some(committed) = self.known().committed {
            change.state.push((COMMITTED, to_json(&committed)));
        }
        let written = self.write_aside(change).await;
        if written.is_ok() && last.is_some() {
            self.known().last = last;
        }
        callback.log_io_completed(written.map_err(io::Error::other));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let change = Changes {
            remove_from: Some(log_id.index),
            ..Changes::default()
        };
        self.write_aside(change)
            .await
            .map_err(|error| write_error(&error))?;
        let before = log_id.index.checked_sub(1);
        let left = before.map(|index| self.entries(index..=index)).transpose();
        let left = left
            .map_err(|error| read_error(&error))?
            .unwrap_or_default();
        let mut known = self.known();
        known.last = left.last().map(|entry| entry.log_id).or(known.purged);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let change = Changes {
            remove_upto: Some(log_id.index),
            state: vec![(PURGED, to_json(&log_id))],
            ..Changes::default()
        };
        self.write_aside(change)
            .await
            .map_err(|error| write_error(&error))?;
        let mut known = self.known();
        known.purged = Some(log_id);
        known.last = known.last.max(Some(log_id));
        Ok(())
    }
}
