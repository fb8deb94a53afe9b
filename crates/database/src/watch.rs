//! Watching rows: what is there, then every change.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::time::Duration;

use tonic::Streaming;

use crate::table::from_row;
use crate::{Database, Error, Key, Table, rpc};

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent<T> {
    /// All rows there are, in key order. What was told before is void. Holds
    /// no rows for a watch of changes.
    Snapshot(Vec<T>),
    /// A row was added or changed.
    Put(T),
    /// A row was removed.
    Delete(Key),
}

impl<T> WatchEvent<T> {
    /// Brings a map of what was told up to date. `pair` gives a row's place in
    /// it, the last column of its key, and what is kept of the row.
    pub fn apply<V>(self, rows: &mut BTreeMap<String, V>, pair: impl Fn(T) -> (String, V)) {
        match self {
            Self::Snapshot(all) => *rows = all.into_iter().map(pair).collect(),
            Self::Put(row) => rows.extend([pair(row)]),
            Self::Delete(key) => {
                rows.remove(key.0.last().map_or("", String::as_str));
            }
        }
    }
}

/// A watch on rows. It reconnects by itself and goes on where it was: no
/// change is missed or told twice.
pub struct Watch<T> {
    database: Database,
    request: rpc::WatchRequest,
    stream: Option<Streaming<rpc::WatchReply>>,
    /// What the server said of a position that is not complete yet.
    part: Vec<rpc::WatchChange>,
    part_is_snapshot: bool,
    ready: VecDeque<WatchEvent<T>>,
    failures: u32,
    row: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("table", &self.request.table)
            .field("prefix", &self.request.prefix)
            .field("revision", &self.request.revision)
            .finish_non_exhaustive()
    }
}

impl<T: Table> Watch<T> {
    pub(crate) fn new(database: Database, prefix: Vec<String>, changes: bool) -> Self {
        let table = T::SCHEMA.table.into();
        Self {
            database,
            request: rpc::WatchRequest {
                table,
                prefix,
                changes,
                ..Default::default()
            },
            stream: None,
            part: Vec::new(),
            part_is_snapshot: false,
            ready: VecDeque::new(),
            failures: 0,
            row: PhantomData,
        }
    }

    /// The next event. The first is a [`WatchEvent::Snapshot`]; another one
    /// comes only when the server no longer has the changes missed meanwhile.
    /// Waits for as long as the database is away. Safe to cancel.
    pub async fn next(&mut self) -> WatchEvent<T> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Err(error) = self.receive().await {
                self.stream = None;
                self.part.clear();
                self.failures += 1;
                // A restart of the database is short; say only what lasts.
                if self.failures == 10 || self.failures.is_multiple_of(300) {
                    tracing::warn!(table = self.request.table, %error, "The watch on a table waits for the database.");
                }
                let wait = Duration::from_millis(20 << self.failures.min(6));
                tokio::time::sleep(wait).await;
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                self.part.clear();
                let stream = self.database.watch_from(self.request.clone()).await?;
                self.stream.insert(stream)
            }
        };
        let reply = stream
            .message()
            .await?
            .ok_or_else(|| Error::Unavailable("the database closed the watch".into()))?;
        self.failures = 0;
        if self.part.is_empty() {
            self.part_is_snapshot = reply.snapshot;
        }
        self.part.extend(reply.changes);
        if reply.complete {
            let events = self.events()?;
            self.ready.extend(events);
            self.request.epoch = reply.epoch;
            self.request.revision = reply.revision;
        }
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<WatchEvent<T>>, Error> {
        let part = std::mem::take(&mut self.part);
        if std::mem::take(&mut self.part_is_snapshot) {
            let rows = part.iter().filter_map(|change| change.row.as_ref());
            let rows = rows.map(from_row).collect::<Result<_, _>>()?;
            return Ok(vec![WatchEvent::Snapshot(rows)]);
        }
        let events = part.into_iter().map(|change| match change.row {
            Some(row) => from_row(&row).map(WatchEvent::Put),
            None => Ok(WatchEvent::Delete(Key(change.key))),
        });
        events.collect()
    }
}
