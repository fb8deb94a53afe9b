//! One watch on the server's side: the rows, then each change.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use store::key;
use tokio::sync::mpsc;
use tonic::Status;

use crate::engine::{Engine, TableCounts};
use crate::server::{CHUNK, to_rpc};
use crate::{Access, Error, Schema, rpc};

/// Changes read from the history at a time.
const READ: usize = 256;
/// A watcher whose rows rest is told its position after so many revisions, so
/// that it can still go on from there later.
const PROGRESS: u64 = 1000;

/// One watch on the server's side.
pub(crate) struct Feed {
    engine: Arc<Engine>,
    counts: Arc<TableCounts>,
    access: Access,
    schema: &'static Schema,
    prefix: Vec<u8>,
    /// Whether the rows there are are told, too.
    rows: bool,
    sender: mpsc::Sender<Result<rpc::WatchReply, Status>>,
    /// Last position told.
    told: u64,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.counts.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Feed {
    pub(crate) fn new(
        engine: Arc<Engine>,
        access: Access,
        schema: &'static Schema,
        prefix: Vec<u8>,
        rows: bool,
        sender: mpsc::Sender<Result<rpc::WatchReply, Status>>,
    ) -> Self {
        let counts = engine.counts(schema.table);
        counts.watchers.fetch_add(1, Ordering::Relaxed);
        Self {
            engine,
            counts,
            access,
            schema,
            prefix,
            rows,
            sender,
            told: 0,
        }
    }

    /// Tells the watcher why its watch ends.
    pub(crate) async fn end(&self, error: Error) {
        let _ = self.sender.send(Err(error.into())).await;
    }

    /// Tells every change after `revision` of the history `epoch`, until the
    /// watcher goes away.
    pub(crate) async fn run(&mut self, mut epoch: String, mut revision: u64) -> Result<(), Error> {
        let mut revisions = self.engine.revisions();
        self.told = revision;
        loop {
            revisions.mark_unchanged();
            let store = self.engine.store();
            match store.history(&epoch, revision, READ)? {
                None => (epoch, revision) = self.snapshot(&store).await?,
                Some(changes) if changes.is_empty() => {
                    drop(store);
                    tokio::select! {
                        () = self.sender.closed() => return Ok(()),
                        changed = revisions.changed() => if changed.is_err() {
                            return Ok(());
                        },
                    }
                }
                Some(changes) => {
                    for change in changes {
                        let told = change.events.into_iter().filter(|event| {
                            event.table == self.schema.table && event.key.starts_with(&self.prefix)
                        });
                        let told: Vec<_> = told.map(|event| (event.key, event.row)).collect();
                        revision = change.revision;
                        if !told.is_empty() || revision - self.told >= PROGRESS {
                            self.tell(&epoch, revision, false, told).await?;
                        }
                    }
                }
            }
            if self.sender.is_closed() {
                return Ok(());
            }
        }
    }

    async fn snapshot(&mut self, store: &store::Store) -> Result<(String, u64), Error> {
        let (entries, revision, epoch) = if self.rows {
            store.list(self.schema.table, &self.prefix)?
        } else {
            let (revision, epoch) = store.moment();
            (Vec::new(), revision, epoch)
        };
        let rows = entries
            .into_iter()
            .map(|entry| (entry.key, Some(entry.row)))
            .collect();
        self.tell(&epoch, revision, true, rows).await?;
        Ok((epoch, revision))
    }

    async fn tell(
        &mut self,
        epoch: &str,
        revision: u64,
        snapshot: bool,
        rows: Vec<(Vec<u8>, Option<store::Row>)>,
    ) -> Result<(), Error> {
        self.told = revision;
        self.counts
            .notifications
            .fetch_add(rows.len() as u64, Ordering::Relaxed);
        let empty = || rpc::WatchReply {
            epoch: epoch.into(),
            revision,
            snapshot,
            ..Default::default()
        };
        let mut reply = empty();
        let mut size = 0;
        for (at, row) in rows {
            size += at.len() + row.as_ref().map_or(0, |row| row.content.len());
            let parts = key::decode(&at).unwrap_or_default();
            let key = parts.iter().map(ToString::to_string).collect();
            reply.changes.push(rpc::WatchChange {
                key,
                row: row
                    .map(|row| to_rpc(self.schema, self.access, row))
                    .transpose()?,
            });
            if size > CHUNK {
                self.send(std::mem::replace(&mut reply, empty())).await;
                size = 0;
            }
        }
        reply.complete = true;
        self.send(reply).await;
        Ok(())
    }

    /// A watcher that went away ends the feed at its next turn.
    async fn send(&self, reply: rpc::WatchReply) {
        let _ = self.sender.send(Ok(reply)).await;
    }
}
