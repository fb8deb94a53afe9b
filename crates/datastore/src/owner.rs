//! Writing one's own rows, behind the back of the one who writes them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::proto;
use crate::proto::datastore_client::DatastoreClient;
use crate::proto::own_request::Kind;

/// Changes of one batch.
const BATCH: usize = 500;
/// Batches under way that the store has not answered.
const UNDER_WAY: u64 = 8;
/// How long changes are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(20);
/// First and longest pause between two tries to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A row's new state; `None` removes it.
type New = Option<(Bytes, u64)>;

#[derive(Debug, Default)]
struct Pending {
    /// Changes that were not sent; a later one replaces an earlier one.
    changes: HashMap<Box<str>, New>,
    /// The store wants everything and the owner has not begun to send it.
    wanted: bool,
    /// Everything is among the changes or was sent.
    synced: bool,
    /// Whether the store is there.
    up: bool,
    /// A newer incarnation of this owner writes: this one is over.
    over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Notify,
    wanted: Notify,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An owner of rows in a store. Writes are gathered and sent in the
/// background; they never wait. While the store is away they are dropped,
/// because a store that comes back is sent everything: wait for
/// [`Owner::wanted`], put every row, call [`Owner::synced`].
#[derive(Debug)]
pub struct Owner {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Owner {
    /// Begins to write to the store at `socket` as `owner`. `epoch` must be
    /// higher at each start of the owner. Needs a tokio runtime.
    pub fn start(socket: &Path, owner: &str, epoch: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(run(socket.into(), owner.into(), epoch, shared.clone()));
        Self { shared, task }
    }

    /// Sets a row. With a time to live it ends by itself.
    pub fn put(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        let ttl = ttl.map_or(0, |ttl| {
            u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
        });
        self.change(key, Some((value, ttl)));
    }

    /// Removes a row.
    pub fn delete(&self, key: &str) {
        self.change(key, None);
    }

    fn change(&self, key: &str, new: New) {
        let mut pending = self.shared.pending();
        if !pending.up || pending.wanted {
            return;
        }
        let first = pending.changes.is_empty();
        pending.changes.insert(key.into(), new);
        drop(pending);
        if first {
            self.shared.changed.notify_one();
        }
    }

    /// Waits until the store wants every row. From the return on, changes are
    /// kept again.
    pub async fn wanted(&self) {
        loop {
            let woken = self.shared.wanted.notified();
            {
                let mut pending = self.shared.pending();
                if pending.wanted {
                    pending.wanted = false;
                    pending.changes.clear();
                    return;
                }
            }
            woken.await;
        }
    }

    /// Says that every row was put since [`Owner::wanted`] returned.
    pub fn synced(&self) {
        self.shared.pending().synced = true;
        self.shared.changed.notify_one();
    }

    /// Whether the store is there and has everything but the last moment's
    /// changes.
    pub fn is_live(&self) -> bool {
        let pending = self.shared.pending();
        pending.up && !pending.wanted && !pending.synced
    }

    /// Whether a newer incarnation of this owner took over.
    pub fn is_over(&self) -> bool {
        self.shared.pending().over
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(socket: PathBuf, owner: String, epoch: u64, shared: Arc<Shared>) {
    let mut pause = PAUSE.0;
    loop {
        let result = session(&socket, &owner, epoch, &shared).await;
        let was_up = {
            let mut pending = shared.pending();
            pending.changes = HashMap::new();
            pending.wanted = false;
            pending.synced = false;
            std::mem::take(&mut pending.up)
        };
        match result {
            Err(status) if status.code() == Code::FailedPrecondition => {
                tracing::error!(owner, epoch, %status, "A newer incarnation of this owner writes; this one stops.");
                shared.pending().over = true;
                return;
            }
            Err(status) => {
                tracing::debug!(owner, socket = %socket.display(), %status, "The store is away.");
            }
            Ok(()) => {}
        }
        if was_up {
            pause = PAUSE.0;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One stream to the store, from Begin to its end.
async fn session(socket: &Path, owner: &str, epoch: u64, shared: &Shared) -> Result<(), Status> {
    let mut client = DatastoreClient::new(service::uds::connect(socket));
    let (requests, stream) = mpsc::channel(4);
    let send = |kind| {
        let requests = requests.clone();
        async move {
            let request = proto::OwnRequest { kind: Some(kind) };
            requests
                .send(request)
                .await
                .map_err(|_| Status::unavailable("the store ended the stream"))
        }
    };
    send(Kind::Begin(proto::Begin {
        owner: owner.into(),
        epoch,
    }))
    .await?;
    let mut replies = client.own(ReceiverStream::new(stream)).await?.into_inner();
    let ended = || Status::unavailable("the store ended the stream");
    replies.message().await?.ok_or_else(ended)?;
    {
        let mut pending = shared.pending();
        pending.up = true;
        pending.wanted = true;
    }
    shared.wanted.notify_waiters();
    shared.wanted.notify_one();
    let (mut sent, mut answered) = (0u64, 0u64);
    loop {
        tokio::select! {
            reply = replies.message() => {
                answered = reply?.ok_or_else(ended)?.sequence;
            }
            () = shared.changed.notified(), if sent - answered < UNDER_WAY => {
                tokio::time::sleep(GATHER).await;
                while let Some(batch) = next_batch(shared, sent + 1) {
                    sent += 1;
                    send(Kind::Batch(batch)).await?;
                    if sent - answered >= UNDER_WAY {
                        // The rest follows when answers have come.
                        shared.changed.notify_one();
                        break;
                    }
                }
            }
        }
    }
}

fn next_batch(shared: &Shared, sequence: u64) -> Option<proto::Batch> {
    let mut pending = shared.pending();
    let keys: Vec<Box<str>> = pending.changes.keys().take(BATCH).cloned().collect();
    let mut batch = proto::Batch {
        sequence,
        ..proto::Batch::default()
    };
    for key in keys {
        match pending.changes.remove(&key) {
            Some(Some((value, ttl_ms))) => batch.puts.push(proto::Put {
                key: key.into(),
                value,
                ttl_ms,
            }),
            Some(None) => batch.deletes.push(key.into()),
            None => {}
        }
    }
    if pending.changes.is_empty() {
        pending.changes = HashMap::new();
        batch.synced = std::mem::take(&mut pending.synced);
    }
    let empty = batch.puts.is_empty() && batch.deletes.is_empty() && !batch.synced;
    (!empty).then_some(batch)
}
