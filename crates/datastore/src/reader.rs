//! Reading a store.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::proto;
use crate::proto::datastore_client::DatastoreClient;

/// A row as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who wrote it.
    pub owner: String,
    /// Epoch in which it was written.
    pub epoch: u64,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// How long it still lasts; `None` for as long as its owner keeps it.
    pub ttl: Option<Duration>,
}

impl From<proto::Row> for Entry {
    fn from(row: proto::Row) -> Self {
        Self {
            owner: row.owner,
            epoch: row.epoch,
            key: row.key,
            value: row.value,
            ttl: (row.ttl_ms > 0).then(|| Duration::from_millis(row.ttl_ms)),
        }
    }
}

/// Figures of a store.
pub type Stats = proto::StatsReply;

/// How equal a store is kept with that of the other node of its group.
pub type Replication = proto::ReplicationStats;

/// How far the sending of changes to that node is.
pub type Towards = proto::replication_stats::State;

/// Outcome of a store's self test.
pub type SelfTest = proto::SelfTestReply;

/// A reader of one store. Cheap to clone; connects at first use, and again
/// whenever the store was restarted.
#[derive(Clone, Debug)]
pub struct Reader(DatastoreClient<Channel>);

impl Reader {
    /// A reader of the store at that socket. Does not wait for it.
    pub fn connect(socket: &Path) -> Self {
        Self(
            DatastoreClient::new(service::uds::connect(socket)).max_decoding_message_size(64 << 20),
        )
    }

    /// The rows of a key, of every owner that has one.
    pub async fn get(&self, key: &str) -> Result<Vec<Entry>, Status> {
        let request = proto::GetRequest { key: key.into() };
        let reply = self.0.clone().get(request).await?.into_inner();
        Ok(reply.rows.into_iter().map(Into::into).collect())
    }

    /// Every row whose key begins with `prefix`, in key order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Status> {
        let mut rows: Vec<Entry> = Vec::new();
        loop {
            let request = proto::ListRequest {
                prefix: prefix.into(),
                after: rows.last().map(|row| row.key.clone()).unwrap_or_default(),
                limit: 0,
            };
            let reply = self.0.clone().list(request).await?.into_inner();
            rows.extend(reply.rows.into_iter().map(Entry::from));
            if !reply.more {
                return Ok(rows);
            }
        }
    }

    /// Figures.
    pub async fn stats(&self) -> Result<Stats, Status> {
        let reply = self.0.clone().stats(proto::StatsRequest {}).await?;
        Ok(reply.into_inner())
    }

    /// Has the store write a row, read it and remove it.
    pub async fn self_test(&self) -> Result<SelfTest, Status> {
        let reply = self.0.clone().self_test(proto::SelfTestRequest {}).await?;
        Ok(reply.into_inner())
    }

    /// Takes out the copies of the rows that owners at the other node of the
    /// group wrote: for who serves its users from now on.
    pub async fn adopt(&self) -> Result<Vec<Entry>, Status> {
        let request = proto::AdoptRequest {};
        let mut replies = self.0.clone().adopt(request).await?.into_inner();
        let mut rows = Vec::new();
        while let Some(reply) = replies.message().await? {
            rows.extend(reply.rows.into_iter().map(Entry::from));
        }
        Ok(rows)
    }

    /// What is there and every change to it, for keys with that prefix.
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch {
            client: self.0.clone(),
            prefix: prefix.into(),
            stream: None,
            ready: VecDeque::new(),
        }
    }
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// What follows replaces everything that was told before.
    Reset,
    /// A row is there or changed.
    Put(Entry),
    /// A row is gone.
    Gone(Entry),
    /// Everything up to now was told.
    Complete,
}

/// A watch that begins again by itself when the store was restarted.
#[derive(Debug)]
pub struct Watch {
    client: DatastoreClient<Channel>,
    prefix: String,
    stream: Option<Streaming<proto::WatchReply>>,
    ready: VecDeque<WatchEvent>,
}

impl Watch {
    /// The next event. Waits while the store is away; safe to cancel.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Err(error) = self.receive().await {
                tracing::debug!(%error, "The watch on a store begins again.");
                self.stream = None;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let request = proto::WatchRequest {
                    prefix: self.prefix.clone(),
                };
                let reply = self.client.watch(request).await?;
                self.stream.insert(reply.into_inner())
            }
        };
        let reply = stream
            .message()
            .await?
            .ok_or_else(|| Status::unavailable("the store ended the watch"))?;
        if reply.reset {
            self.ready.push_back(WatchEvent::Reset);
        }
        for change in reply.changes {
            let Some(row) = change.row else { continue };
            self.ready.push_back(if change.gone {
                WatchEvent::Gone(row.into())
            } else {
                WatchEvent::Put(row.into())
            });
        }
        if reply.complete {
            self.ready.push_back(WatchEvent::Complete);
        }
        Ok(())
    }
}
