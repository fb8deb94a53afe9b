//! Rows, digests, history and the applied position over one engine.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use prost::Message;

use crate::record::{self, Change, Event, Row};
use crate::{Action, Backend, Batch, Command, Digest, Error, Operation, Outcome, Rejection, key};

mod contents;

pub use contents::{Contents, Difference, TableContents, TableRows, difference};

/// Place in the replication log up to which a store has applied it.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Position {
    /// The log's index.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// The log's own name of that place.
    #[prost(bytes = "vec", tag = "2")]
    pub log_id: Vec<u8>,
    /// The membership of the cluster as of that place.
    #[prost(bytes = "vec", tag = "3")]
    pub membership: Vec<u8>,
}

/// The store's own record, written with each batch.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
struct Meta {
    #[prost(message, required, tag = "1")]
    applied: Position,
    /// Counts successful transactions.
    #[prost(uint64, tag = "2")]
    revision: u64,
    /// Changes whenever history is not the continuation of what was served.
    #[prost(string, tag = "3")]
    epoch: String,
    /// The oldest revision whose change is still known.
    #[prost(uint64, tag = "4")]
    history_from: u64,
    /// Bytes that the history takes.
    #[prost(uint64, tag = "5")]
    history_bytes: u64,
    /// Digest and size of each table. They stand here, beside the position,
    /// so that rows that are older than the position cannot pass for sound: a
    /// torn engine may come back with some keys new and some old.
    #[prost(btree_map = "string, message", tag = "6")]
    tables: BTreeMap<String, TableRecord>,
}

impl Meta {
    /// No change is known any more.
    fn without_history(&mut self) {
        self.history_from = self.revision + 1;
        self.history_bytes = 0;
    }
}

/// Digest and size of one table.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
struct TableRecord {
    /// Sum of the rows' revisions: the digest is of their content alone.
    #[prost(uint64, tag = "4")]
    revisions: u64,
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "2")]
    rows: u64,
    #[prost(uint64, tag = "3")]
    bytes: u64,
}

/// Digest and size of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigest {
    /// The table.
    pub table: String,
    /// Digest over its rows.
    pub digest: Digest,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of keys and content.
    pub bytes: u64,
}

/// A row with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key (see [`crate::key`]).
    pub key: Vec<u8>,
    /// The row.
    pub row: Row,
}

/// How much history is kept for watchers that come back.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Most changes.
    pub changes: u64,
    /// Most bytes.
    pub bytes: u64,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            changes: 20_000,
            bytes: 16 << 20,
        }
    }
}

/// What a full check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Rows that were read.
    pub rows: u64,
    /// Tables that were compared with their digests.
    pub tables: u64,
    /// What is wrong, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

#[derive(Debug)]
struct State {
    meta: Meta,
}

/// The store over an engine. Reads run beside each other; a batch is applied
/// alone.
pub struct Store {
    backend: Box<dyn Backend>,
    limits: HistoryLimits,
    state: RwLock<State>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

const META: &[u8] = b"m";
/// History changes above this size are not kept: their watchers read again.
const LARGEST_CHANGE: usize = 4 << 20;

impl Store {
    /// Opens the store on an engine. `epoch` names a store that is new.
    pub fn open(
        backend: Box<dyn Backend>,
        limits: HistoryLimits,
        epoch: &str,
    ) -> Result<Self, Error> {
        let meta = match backend.get(META)? {
            Some(value) => record::open(META, &value)?,
            None => {
                if backend.scan(&[], &[0xFF]).next().is_some() {
                    return Err(Error::Incomplete);
                }
                Meta {
                    epoch: epoch.into(),
                    history_from: 1,
                    ..Meta::default()
                }
            }
        };
        Ok(Self {
            backend,
            limits,
            state: RwLock::new(State { meta }),
        })
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where the log is applied.
    pub fn applied(&self) -> Position {
        self.state().meta.applied.clone()
    }

    /// Revision of the last transaction.
    pub fn revision(&self) -> u64 {
        self.state().meta.revision
    }

    /// Revision of the last transaction and the name of its history, of one
    /// moment.
    pub fn moment(&self) -> (u64, String) {
        let state = self.state();
        (state.meta.revision, state.meta.epoch.clone())
    }

    /// Name of the history that revisions count in.
    pub fn epoch(&self) -> String {
        self.state().meta.epoch.clone()
    }

    /// One row.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Row>, Error> {
        let at = row_key(table, key);
        self.backend
            .get(&at)?
            .map(|value| record::open(&at, &value))
            .transpose()
    }

    /// The rows whose key begins with `prefix`, in key order, with the
    /// revision and epoch they are of.
    pub fn list(&self, table: &str, prefix: &[u8]) -> Result<(Vec<Entry>, u64, String), Error> {
        let state = self.state();
        let rows = self.scan_rows(table, prefix)?;
        Ok((rows, state.meta.revision, state.meta.epoch.clone()))
    }

    /// All rows of several tables, of one moment, with its revision.
    pub fn tables(&self, tables: &[&str]) -> Result<(Vec<Vec<Entry>>, u64), Error> {
        let state = self.state();
        let rows = tables.iter().map(|table| self.scan_rows(table, &[]));
        Ok((rows.collect::<Result<_, _>>()?, state.meta.revision))
    }

    fn scan_rows(&self, table: &str, prefix: &[u8]) -> Result<Vec<Entry>, Error> {
        let (from, to) = row_range(table, prefix);
        let skip = row_key(table, &[]).len();
        let mut rows = Vec::new();
        for pair in self.backend.scan(&from, &to) {
            let (at, value) = pair?;
            let row = record::open(&at, &value)?;
            rows.push(Entry {
                key: at[skip..].to_vec(),
                row,
            });
        }
        Ok(rows)
    }

    /// Digest and size of each table that has or had rows, with the log index
    /// and revision they are of.
    pub fn digests(&self) -> (Vec<TableDigest>, u64, u64) {
        let state = self.state();
        let tables = state.meta.tables.iter().map(|(table, record)| TableDigest {
            table: table.clone(),
            digest: digest_of(record),
            rows: record.rows,
            bytes: record.bytes,
        });
        (
            tables.collect(),
            state.meta.applied.index,
            state.meta.revision,
        )
    }

    /// The changes after `revision`, oldest first and at most `limit`, or
    /// `None` when they are no longer known or were never of this history.
    pub fn history(
        &self,
        epoch: &str,
        revision: u64,
        limit: usize,
    ) -> Result<Option<Vec<Change>>, Error> {
        let state = self.state();
        if state.meta.epoch != epoch
            || revision > state.meta.revision
            || revision + 1 < state.meta.history_from
        {
            return Ok(None);
        }
        let from = history_key(revision + 1);
        let to = history_key(state.meta.revision + 1);
        let mut changes = Vec::new();
        for pair in self.backend.scan(&from, &to).take(limit) {
            let (at, value) = pair?;
            let change: Change = record::open(&at, &value)?;
            let expected = revision + 1 + changes.len() as u64;
            if change.revision != expected {
                return Err(Error::Corrupt(format!(
                    "change {expected} is missing from the history"
                )));
            }
            changes.push(change);
        }
        let expected = (state.meta.revision - revision).min(limit as u64);
        if changes.len() as u64 != expected {
            return Err(Error::Corrupt("the history ends early".into()));
        }
        Ok(Some(changes))
    }

    /// Applies what the log says at `applied`: a command, or nothing but the
    /// new position. Answers each transaction's outcome, and the changes.
    pub fn apply(
        &self,
        applied: Position,
        command: Option<&Command>,
    ) -> Result<(Vec<Outcome>, Vec<Arc<Change>>), Error> {
        let mut state = self.state_mut();
        let mut work = Work {
            store: self,
            meta: state.meta.clone(),
            batch: Batch::default(),
        };
        work.meta.applied = applied;
        let mut outcomes = Vec::new();
        let mut changes = Vec::new();
        for transaction in command.iter().flat_map(|command| &command.transactions) {
            let outcome = match work.judge(&transaction.operations)? {
                Err(rejection) => Err(rejection),
                Ok(()) => {
                    let change = work.carry_out(&transaction.operations)?;
                    let revision = change.revision;
                    changes.push(Arc::new(change));
                    Ok(revision)
                }
            };
            outcomes.push(outcome);
        }
        work.remember(&changes)?;
        let Work {
            meta, mut batch, ..
        } = work;
        batch.insert(META.to_vec(), record::seal(META, &meta));
        self.backend.commit(batch)?;
        state.meta = meta;
        Ok((outcomes, changes))
    }

    /// Reads everything and compares it with its checksums and digests.
    pub fn check(&self) -> Result<CheckReport, Error> {
        let state = self.state();
        let mut report = CheckReport::default();
        let mut found: BTreeMap<String, TableRecord> = BTreeMap::new();
        for pair in self.backend.scan(b"r", b"s") {
            let (at, value) = pair?;
            report.rows += 1;
            if let Err(error) = count_row(&mut found, &at, &value) {
                report.problems.push(error.to_string());
            }
        }
        for (table, record) in &state.meta.tables {
            report.tables += 1;
            let counted = found.remove(table).unwrap_or_default();
            if sums(&counted) != sums(record) {
                report.problems.push(format!(
                    "table {table} has {} rows that are not the {} rows of its digest",
                    counted.rows, record.rows
                ));
            }
        }
        for table in found.keys() {
            report
                .problems
                .push(format!("table {table} has rows and no digest"));
        }
        let mut next = state.meta.history_from;
        for pair in self.backend.scan(b"h", b"i") {
            let (at, value) = pair?;
            match record::open::<Change>(&at, &value) {
                Ok(change) if change.revision == next => next += 1,
                Ok(_) => report
                    .problems
                    .push(format!("change {next} is missing from the history")),
                Err(error) => report.problems.push(error.to_string()),
            }
        }
        if next != state.meta.revision + 1 {
            report.problems.push(format!(
                "the history ends at {} and the revision is {}",
                next - 1,
                state.meta.revision
            ));
        }
        Ok(report)
    }

    /// Hands out everything but the history as raw pairs, of one moment: the
    /// content of a snapshot. The position comes last, so that an engine that
    /// was filled with them only in part is not taken for a store.
    pub fn dump<E: From<Error>>(
        &self,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<Position, E> {
        let state = self.state();
        for pair in self.backend.scan(b"r", b"s") {
            let (key, value) = pair?;
            // Damage must not spread to snapshots and other nodes.
            record::verify(&key, &value)?;
            take(&key, &value)?;
        }
        let mut meta = state.meta.clone();
        meta.without_history();
        take(META, &record::seal(META, &meta))?;
        Ok(meta.applied)
    }

    /// Begins a new history: watchers read again instead of continuing.
    pub fn begin_epoch(&self, epoch: &str) -> Result<(), Error> {
        let mut state = self.state_mut();
        let meta = state.meta.clone();
        self.replace(&mut state, meta, Batch::default(), epoch)
    }

    /// Commits a batch with what it makes of the state; history begins anew
    /// under the name `epoch`.
    fn replace(
        &self,
        state: &mut State,
        mut meta: Meta,
        mut batch: Batch,
        epoch: &str,
    ) -> Result<(), Error> {
        for pair in self.backend.scan(b"h", b"i") {
            batch.remove(pair?.0);
        }
        meta.epoch = epoch.into();
        meta.without_history();
        batch.insert(META.to_vec(), record::seal(META, &meta));
        self.backend.commit(batch)?;
        state.meta = meta;
        Ok(())
    }

    /// Writes what is in memory to the files.
    pub fn flush(&self) -> Result<(), Error> {
        self.backend.flush()
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        self.backend.size()
    }
}

/// A batch in the making: reads see what it wrote.
struct Work<'a> {
    store: &'a Store,
    meta: Meta,
    batch: Batch,
}

impl Work<'_> {
    fn row(&self, at: &[u8]) -> Result<Option<Row>, Error> {
        match self.batch.get(at) {
            Some(value) => value.map(|value| record::open(at, value)).transpose(),
            None => {
                let value = self.store.backend.get(at)?;
                value.map(|value| record::open(at, &value)).transpose()
            }
        }
    }

    /// Whether a transaction may happen, its own earlier steps included.
    fn judge(&self, operations: &[Operation]) -> Result<Result<(), Rejection>, Error> {
        // What the steps so far made of a row: there or not. None of them has
        // been carried out yet.
        let mut made: BTreeMap<(&str, &[u8]), bool> = BTreeMap::new();
        let mut cleared: Vec<(&str, &[u8])> = Vec::new();
        let is_cleared = |cleared: &[(&str, &[u8])], name: (&str, &[u8])| {
            let mut cleared = cleared.iter();
            cleared.any(|(table, prefix)| *table == name.0 && name.1.starts_with(prefix))
        };
        for operation in operations {
            let name = (operation.table.as_str(), operation.key.as_slice());
            match operation.action() {
                Action::Put => {
                    made.insert(name, true);
                }
                Action::Insert => {
                    let there = match made.get(&name) {
                        Some(there) => *there,
                        None if is_cleared(&cleared, name) => false,
                        None => self.row(&row_key(name.0, name.1))?.is_some(),
                    };
                    if there {
                        let (table, key) = (operation.table.clone(), operation.key.clone());
                        return Ok(Err(Rejection::Exists { table, key }));
                    }
                    made.insert(name, true);
                }
                Action::Delete => {
                    made.insert(name, false);
                }
                // Always of the state before the transaction.
                Action::Require => {
                    let row = self.row(&row_key(name.0, name.1))?;
                    let found = row.map_or(0, |row| row.revision);
                    if found != operation.revision {
                        return Ok(Err(Rejection::Changed {
                            table: operation.table.clone(),
                            key: operation.key.clone(),
                            required: operation.revision,
                            found,
                        }));
                    }
                }
                Action::RequireRow => {
                    if self.row(&row_key(name.0, name.1))?.is_none() {
                        let (table, key) = (operation.table.clone(), operation.key.clone());
                        return Ok(Err(Rejection::Missing { table, key }));
                    }
                }
                Action::Clear | Action::DeletePrefix => {
                    let prefix = prefix(operation);
                    made.retain(|(table, key), _| {
                        *table != operation.table || !key.starts_with(prefix)
                    });
                    cleared.push((&operation.table, prefix));
                }
                Action::Unspecified => {
                    return Ok(Err(Rejection::Unknown {
                        action: operation.action,
                    }));
                }
            }
        }
        Ok(Ok(()))
    }

    fn carry_out(&mut self, operations: &[Operation]) -> Result<Change, Error> {
        self.meta.revision += 1;
        let revision = self.meta.revision;
        let mut events = Vec::new();
        for operation in operations {
            let Operation {
                table,
                key,
                row,
                version,
                ..
            } = operation;
            match operation.action() {
                Action::Put | Action::Insert => {
                    let row = Row {
                        revision,
                        version: *version,
                        content: row.clone(),
                    };
                    self.set(table, key, Some(row), &mut events)?;
                }
                Action::Delete => self.set(table, key, None, &mut events)?,
                Action::Clear | Action::DeletePrefix => {
                    for key in self.keys(table, prefix(operation))? {
                        self.set(table, &key, None, &mut events)?;
                    }
                }
                Action::Require | Action::RequireRow | Action::Unspecified => {}
            }
        }
        Ok(Change { revision, events })
    }

    /// Keys of a table's rows that begin so, as the batch would leave them.
    fn keys(&self, table: &str, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let (from, to) = row_range(table, prefix);
        let skip = row_key(table, &[]).len();
        let mut keys: BTreeMap<Vec<u8>, ()> = BTreeMap::new();
        for pair in self.store.backend.scan(&from, &to) {
            keys.insert(pair?.0[skip..].to_vec(), ());
        }
        for (at, value) in self.batch.range(&from, &to) {
            match value {
                Some(_) => keys.insert(at[skip..].to_vec(), ()),
                None => keys.remove(&at[skip..]),
            };
        }
        Ok(keys.into_keys().collect())
    }

    fn set(
        &mut self,
        table: &str,
        key: &[u8],
        row: Option<Row>,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        let at = row_key(table, key);
        let before = self.row(&at)?;
        if before.is_none() && row.is_none() {
            return Ok(());
        }
        let record = self.meta.tables.entry(table.into()).or_default();
        let mut digest = digest_of(record);
        let size = |row: &Row| (key.len() + row.content.len()) as u64;
        if let Some(before) = &before {
            digest.subtract(Digest::of_row(key, &before.content));
            record.rows = record.rows.saturating_sub(1);
            record.bytes = record.bytes.saturating_sub(size(before));
            record.revisions = record.revisions.wrapping_sub(before.revision);
        }
        match &row {
            Some(row) => {
                digest.add(Digest::of_row(key, &row.content));
                record.rows += 1;
                record.bytes += size(row);
                record.revisions = record.revisions.wrapping_add(row.revision);
                let value = record::seal(&at, row);
                self.batch.insert(at, value);
            }
            None => self.batch.remove(at),
        }
        record.digest = digest.to_bytes().to_vec();
        events.push(Event {
            table: table.into(),
            key: key.into(),
            row,
        });
        Ok(())
    }

    /// Adds the changes to the history and forgets the oldest.
    fn remember(&mut self, changes: &[Arc<Change>]) -> Result<(), Error> {
        for change in changes {
            let at = history_key(change.revision);
            let value = record::seal(&at, change.as_ref());
            if value.len() > LARGEST_CHANGE {
                // Forget everything up to here; those who missed it read again.
                while self.meta.history_from <= change.revision {
                    self.forget_oldest()?;
                }
                continue;
            }
            self.meta.history_bytes += value.len() as u64;
            self.batch.insert(at, value);
        }
        while self.meta.history_from <= self.meta.revision
            && (self.meta.revision + 1 - self.meta.history_from > self.store.limits.changes
                || self.meta.history_bytes > self.store.limits.bytes)
        {
            self.forget_oldest()?;
        }
        Ok(())
    }

    fn forget_oldest(&mut self) -> Result<(), Error> {
        let at = history_key(self.meta.history_from);
        let size = match self.batch.get(&at) {
            Some(value) => value.map_or(0, <[u8]>::len),
            None => self.store.backend.get(&at)?.map_or(0, |value| value.len()),
        };
        self.meta.history_bytes = self.meta.history_bytes.saturating_sub(size as u64);
        self.meta.history_from += 1;
        self.batch.remove(at);
        Ok(())
    }
}

/// What the keys of the rows begin with that an operation removes.
fn prefix(operation: &Operation) -> &[u8] {
    match operation.action() {
        Action::DeletePrefix => &operation.key,
        _ => &[],
    }
}

fn count_row(
    found: &mut BTreeMap<String, TableRecord>,
    at: &[u8],
    value: &[u8],
) -> Result<(), Error> {
    let row: Row = record::open(at, value)?;
    let table = table_of(at)?;
    let key = &at[table.len() + 2..];
    let record = found.entry(table).or_default();
    let mut digest = digest_of(record);
    digest.add(Digest::of_row(key, &row.content));
    record.digest = digest.to_bytes().to_vec();
    record.rows += 1;
    record.bytes += (key.len() + row.content.len()) as u64;
    record.revisions = record.revisions.wrapping_add(row.revision);
    Ok(())
}

/// What must be equal of a table's record and its rows.
fn sums(record: &TableRecord) -> (Digest, u64, u64, u64) {
    (
        digest_of(record),
        record.rows,
        record.bytes,
        record.revisions,
    )
}

fn digest_of(record: &TableRecord) -> Digest {
    // A record without a digest is that of a table without rows.
    record
        .digest
        .as_slice()
        .try_into()
        .map_or_else(|_| Digest::default(), Digest::from_bytes)
}

/// The table named by a key of a row.
fn table_of(at: &[u8]) -> Result<String, Error> {
    let name = at.get(1..).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8(name.to_vec())
        .map_err(|_| Error::Corrupt(format!("the key {} names no table", at.escape_ascii())))
}

fn row_key(table: &str, key: &[u8]) -> Vec<u8> {
    let mut at = Vec::with_capacity(2 + table.len() + key.len());
    at.push(b'r');
    at.extend(table.as_bytes());
    at.push(0);
    at.extend(key);
    at
}

fn row_range(table: &str, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let from = row_key(table, prefix);
    // Begins with `r`, so that a successor exists.
    let to = key::successor(&from).unwrap_or_else(|| b"s".to_vec());
    (from, to)
}

fn history_key(revision: u64) -> Vec<u8> {
    let mut at = vec![b'h'];
    at.extend(revision.to_be_bytes());
    at
}
