//! The service around a store.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use service::{Context, Counter};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::proto::datastore_server::{Datastore, DatastoreServer};
use crate::replica::{Feed, Replica, State};
use crate::store::{Batch, Change, Refused, Row, Store};
use crate::{peering, proto, rows};

/// Batches of changes that a watcher may lag behind before it is told
/// everything again.
const LAG: usize = 1024;
/// Rows of one message to a watcher.
const PAGE: usize = 500;
/// Most rows of one answer to List.
const LIST: usize = 1000;
/// Longest time for which a take-over waits for a copy that is on its way.
const ARRIVAL: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// Owner of the rows that self tests write.
const SELF_TEST: &str = "self-test";

type Changes = Arc<[Change]>;

/// The rows, and both ends of keeping them equal with the peer's.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) store: Store,
    pub(crate) feed: Feed,
    pub(crate) replica: Replica,
}

#[derive(Debug)]
pub(crate) struct Shared {
    content: Mutex<Content>,
    changes: broadcast::Sender<Changes>,
    /// The feed has something new.
    pub(crate) news: Notify,
    /// The other node of the redundancy group.
    pub(crate) peer: watch::Sender<Option<peering::Node>>,
    started: Instant,
    counters: Counters,
}

/// Whether the rows of an owner matter to the peer.
pub(crate) fn is_replicated(owner: &str) -> bool {
    owner != SELF_TEST
}

#[derive(Debug)]
struct Counters {
    rows: Counter,
    owners: Counter,
    puts: Counter,
    deletes: Counter,
    refused: Counter,
    watchers: Counter,
    copies: Counter,
    lag: Counter,
}

impl Shared {
    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells the watchers, and the peer what was written here. Called with the
    /// content locked, so that changes are told in the order in which they
    /// happened.
    pub(crate) fn tell(&self, content: &mut Content, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let own = |change: &&Change| {
            let row = change.row();
            !row.copied && is_replicated(&row.owner)
        };
        let own: Vec<Change> = changes.iter().filter(own).cloned().collect();
        if !own.is_empty() {
            content.feed.push(own, self.now());
            self.news.notify_one();
        }
        // Without watchers nobody takes it.
        let _ = self.changes.send(changes.into());
    }

    fn row(&self, row: Row, now: u64) -> proto::Row {
        proto::Row {
            owner: row.owner.as_ref().into(),
            epoch: row.epoch,
            key: row.key.as_ref().into(),
            value: row.value,
            // A row that ends now still has a moment: 0 would mean for ever.
            ttl_ms: row.expires.map_or(0, |end| end.saturating_sub(now).max(1)),
        }
    }

    fn change(&self, change: &Change, now: u64) -> proto::Change {
        let gone = matches!(change, Change::Gone(_));
        let mut row = self.row(change.row().clone(), now);
        if gone {
            row.value = bytes::Bytes::new();
        }
        proto::Change {
            row: Some(row),
            gone,
        }
    }

    fn update_counters(&self) {
        let now = self.now();
        let (figures, feed) = {
            let content = self.content();
            (content.store.figures(), content.feed.figures(now))
        };
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.counters.rows.set(signed(figures.rows as u64));
        self.counters
            .owners
            .set(signed(figures.owners.len() as u64));
        self.counters.puts.set(signed(figures.puts));
        self.counters.deletes.set(signed(figures.deletes));
        self.counters.refused.set(signed(figures.refused));
        let watchers = self.changes.receiver_count() as u64;
        self.counters.watchers.set(signed(watchers));
        let copies = figures.owners.iter().filter(|owner| owner.copied);
        let copies: usize = copies.map(|owner| owner.rows).sum();
        self.counters.copies.set(signed(copies as u64));
        let lag = self.peer.borrow().as_ref().map_or(0, |_| feed.lag);
        self.counters.lag.set(signed(lag));
    }

    /// How equal the store is kept with the peer's; `None` without one.
    fn replication(&self, content: &Content, copies: u64) -> Option<proto::ReplicationStats> {
        let peer = self.peer.borrow().as_ref()?.name.clone();
        let now = self.now();
        let (feed, replica) = (content.feed.figures(now), content.replica.figures(now));
        let state = match feed.state {
            State::Connecting => proto::replication_stats::State::Connecting,
            State::Copying => proto::replication_stats::State::Copying,
            State::Following => proto::replication_stats::State::Following,
        };
        Some(proto::ReplicationStats {
            peer,
            state: state.into(),
            lag: feed.lag,
            lag_ms: feed.lag_ms,
            complete: replica.complete,
            copies,
            connected: replica.connected,
            silent_ms: replica.silent,
            refused: replica.refused,
        })
    }
}

fn refused(error: &Refused) -> Status {
    match error {
        Refused::OldEpoch { .. } => Status::failed_precondition(error.to_string()),
        Refused::Gap { .. } | Refused::NotBegun(_) => Status::aborted(error.to_string()),
        Refused::Own(_) | Refused::TooMuch(_) => Status::resource_exhausted(error.to_string()),
    }
}

struct Server(Arc<Shared>);

#[tonic::async_trait]
impl Datastore for Server {
    type OwnStream = ReceiverStream<Result<proto::OwnReply, Status>>;
    type WatchStream = ReceiverStream<Result<proto::WatchReply, Status>>;
    type AdoptStream = ReceiverStream<Result<proto::AdoptReply, Status>>;

    async fn own(
        &self,
        request: Request<Streaming<proto::OwnRequest>>,
    ) -> Result<Response<Self::OwnStream>, Status> {
        let (sender, replies) = mpsc::channel(16);
        let shared = self.0.clone();
        tokio::spawn(async move {
            let mut begun = None;
            if let Err(status) = own(&shared, request.into_inner(), &sender, &mut begun).await {
                let _ = sender.send(Err(status)).await;
            }
            if let Some(begun) = begun {
                let now = shared.now();
                shared.content().store.leave(&begun.owner, begun.round, now);
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn get(
        &self,
        request: Request<proto::GetRequest>,
    ) -> Result<Response<proto::GetReply>, Status> {
        let now = self.0.now();
        let rows = self.0.content().store.get(&request.into_inner().key);
        let rows = rows.into_iter().map(|row| self.0.row(row, now)).collect();
        Ok(Response::new(proto::GetReply { rows }))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListReply>, Status> {
        let request = request.into_inner();
        let limit = match request.limit as usize {
            0 => LIST,
            limit => limit.min(LIST),
        };
        let now = self.0.now();
        let listed = self.0.content();
        let rows = listed.store.list(&request.prefix, &request.after, limit);
        drop(listed);
        let more = rows.len() >= limit;
        let rows = rows.into_iter().map(|row| self.0.row(row, now)).collect();
        Ok(Response::new(proto::ListReply { rows, more }))
    }

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, replies) = mpsc::channel(16);
        let shared = self.0.clone();
        let prefix = request.into_inner().prefix;
        tokio::spawn(async move {
            // It ends when the watcher is gone.
            let _ = watch(&shared, &prefix, &sender).await;
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn stats(
        &self,
        _: Request<proto::StatsRequest>,
    ) -> Result<Response<proto::StatsReply>, Status> {
        let content = self.0.content();
        let figures = content.store.figures();
        let copies = figures.owners.iter().filter(|owner| owner.copied);
        let copies: usize = copies.map(|owner| owner.rows).sum();
        let replication = self.0.replication(&content, copies as u64);
        drop(content);
        let owners = figures.owners.into_iter().map(|owner| proto::OwnerStats {
            owner: owner.owner.as_ref().into(),
            epoch: owner.epoch,
            rows: owner.rows as u64,
            synced: owner.synced,
            copied: owner.copied,
        });
        Ok(Response::new(proto::StatsReply {
            rows: figures.rows as u64,
            bytes: figures.bytes as u64,
            puts: figures.puts,
            deletes: figures.deletes,
            expired: figures.expired,
            refused: figures.refused,
            watchers: self.0.changes.receiver_count() as u64,
            owners: owners.collect(),
            replication,
        }))
    }

    async fn adopt(
        &self,
        _: Request<proto::AdoptRequest>,
    ) -> Result<Response<Self::AdoptStream>, Status> {
        let (sender, replies) = mpsc::channel(16);
        let shared = self.0.clone();
        let end = Instant::now() + ARRIVAL;
        while shared.content().replica.is_copying() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
        let rows = {
            let mut content = shared.content();
            let Content { store, replica, .. } = &mut *content;
            let (rows, changes) = replica.adopt(store);
            shared.tell(&mut content, changes);
            rows
        };
        tracing::info!(rows = rows.len(), "The peer's rows were taken over.");
        tokio::spawn(async move {
            let now = shared.now();
            for page in rows.chunks(PAGE) {
                let rows = page.iter().map(|row| shared.row(row.clone(), now));
                let reply = proto::AdoptReply {
                    rows: rows.collect(),
                };
                if sender.send(Ok(reply)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn self_test(
        &self,
        _: Request<proto::SelfTestRequest>,
    ) -> Result<Response<proto::SelfTestReply>, Status> {
        let start = Instant::now();
        let result = self_test(&self.0);
        Ok(Response::new(proto::SelfTestReply {
            passed: result.is_ok(),
            microseconds: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
            reason: result.err().unwrap_or_default(),
        }))
    }
}

/// An owner whose rows come.
struct Begun {
    owner: String,
    epoch: u64,
    /// Number of its beginning.
    round: u64,
}

/// Takes an owner's batches until it goes away. Which has `begun` is noted.
async fn own(
    shared: &Shared,
    mut requests: Streaming<proto::OwnRequest>,
    replies: &mpsc::Sender<Result<proto::OwnReply, Status>>,
    begun: &mut Option<Begun>,
) -> Result<(), Status> {
    use proto::own_request::Kind;
    while let Some(request) = requests.message().await? {
        let sequence = match (request.kind, &*begun) {
            (Some(Kind::Begin(begin)), None) => {
                let began = shared.content().store.begin(&begin.owner, begin.epoch);
                let round = began.map_err(|error| refused(&error))?;
                tracing::info!(owner = begin.owner, epoch = begin.epoch, "An owner began.");
                *begun = Some(Begun {
                    owner: begin.owner,
                    epoch: begin.epoch,
                    round,
                });
                0
            }
            (Some(Kind::Batch(batch)), Some(begun)) => {
                let sequence = batch.sequence;
                let batch = Batch {
                    sequence,
                    puts: batch
                        .puts
                        .into_iter()
                        .map(|put| (put.key, put.value, put.ttl_ms))
                        .collect(),
                    deletes: batch.deletes,
                    synced: batch.synced,
                };
                let mut content = shared.content();
                let changes = content
                    .store
                    .batch(&begun.owner, begun.epoch, batch, shared.now())
                    .map_err(|error| refused(&error))?;
                shared.tell(&mut content, changes);
                sequence
            }
            _ => return Err(Status::invalid_argument("Begin comes first, and once")),
        };
        if replies
            .send(Ok(proto::OwnReply { sequence }))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

type Gone = mpsc::error::SendError<Result<proto::WatchReply, Status>>;

/// Tells a watcher everything, then every change.
async fn watch(
    shared: &Shared,
    prefix: &str,
    replies: &mpsc::Sender<Result<proto::WatchReply, Status>>,
) -> Result<(), Gone> {
    loop {
        let (mut changes, rows) = {
            // Under one lock: no change falls between the two.
            let content = shared.content();
            let changes = shared.changes.subscribe();
            (changes, content.store.list(prefix, "", usize::MAX - 1))
        };
        let mut reset = true;
        let mut pages = rows.chunks(PAGE).peekable();
        loop {
            let now = shared.now();
            let page = pages.next().unwrap_or_default();
            let complete = pages.peek().is_none();
            let put = |row: &Row| shared.change(&Change::Put(row.clone()), now);
            let reply = proto::WatchReply {
                reset,
                changes: page.iter().map(put).collect(),
                complete,
            };
            replies.send(Ok(reply)).await?;
            reset = false;
            if complete {
                break;
            }
        }
        drop(pages);
        drop(rows);
        loop {
            let batch = tokio::select! {
                batch = changes.recv() => batch,
                () = replies.closed() => return Ok(()),
            };
            match batch {
                Ok(batch) => {
                    let now = shared.now();
                    let fitting: Vec<_> = batch
                        .iter()
                        .filter(|change| change.row().key.starts_with(prefix))
                        .map(|change| shared.change(change, now))
                        .collect();
                    if !fitting.is_empty() {
                        let reply = proto::WatchReply {
                            reset: false,
                            changes: fitting,
                            complete: true,
                        };
                        replies.send(Ok(reply)).await?;
                    }
                }
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }
}

/// Writes a row, reads it and removes it, by the ways that owners use.
fn self_test(shared: &Shared) -> Result<(), String> {
    let now = shared.now();
    let mut content = shared.content();
    let store = &mut content.store;
    let text = |error: Refused| error.to_string();
    // Each test is a beginning of its own, in one epoch.
    store.begin(SELF_TEST, 1).map_err(text)?;
    let value = bytes::Bytes::from(now.to_le_bytes().to_vec());
    let put = Batch {
        sequence: 1,
        puts: vec![(SELF_TEST.into(), value.clone(), 60_000)],
        ..Batch::default()
    };
    let written = store.batch(SELF_TEST, 1, put, now).map_err(text)?;
    let read = store.get(SELF_TEST);
    let delete = Batch {
        sequence: 2,
        deletes: vec![SELF_TEST.into()],
        synced: true,
        ..Batch::default()
    };
    let removed = store.batch(SELF_TEST, 1, delete, now).map_err(text)?;
    let left = store.get(SELF_TEST);
    shared.tell(&mut content, written);
    shared.tell(&mut content, removed);
    if read.len() != 1 || read[0].value != value {
        return Err("what was written was not what was read".into());
    }
    if !left.is_empty() {
        return Err("what was removed was still there".into());
    }
    Ok(())
}

/// The class of a store's counters: its name as administrators know it.
fn class(id: &str) -> &'static str {
    match id {
        rows::LOGIN => "Cisco Login Datastore",
        rows::ROUTE => "Cisco Route Datastore",
        rows::PRESENCE => "Cisco Presence Datastore",
        rows::SIP_REGISTRATION => "Cisco SIP Registration Datastore",
        _ => "Datastore",
    }
}

/// An epoch for the feed: no two lives of a store have the same one, and a later
/// one's is higher, unless the clock was set back.
fn epoch() -> u64 {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(unix.as_micros()).unwrap_or_default()
}

/// Runs one of the stores, the one that the context's id names, until the
/// service stops. With certificates it is kept equal with that of the other
/// node of the redundancy group.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let heartbeat = ctx.heartbeat("store");
    let counter = |name| ctx.perf().counter(class(ctx.id()), "", name);
    let (changes, _) = broadcast::channel(LAG);
    let shared = Arc::new(Shared {
        content: Mutex::new(Content {
            store: Store::default(),
            feed: Feed::new(epoch()),
            replica: Replica::default(),
        }),
        changes,
        news: Notify::new(),
        peer: watch::Sender::new(None),
        started: Instant::now(),
        counters: Counters {
            rows: counter("Rows"),
            owners: counter("Owners"),
            puts: counter("RowsWritten"),
            deletes: counter("RowsRemoved"),
            refused: counter("RequestsRefused"),
            watchers: counter("Watchers"),
            copies: counter("RowsOfPeer"),
            lag: counter("ChangesUnconfirmedByPeer"),
        },
    });
    let path = ctx.paths().datastore_socket(ctx.id());
    let listener = service::uds::listen(&path)
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    let stop = ctx.stop_token().clone();
    let server = tonic::transport::Server::builder()
        .add_service(DatastoreServer::new(Server(shared.clone())))
        .serve_with_incoming_shutdown(service::uds::incoming(listener), async move {
            // Owners' streams never end by themselves, so the rest is cut off.
            stop.cancelled().await;
        });
    // A test has none, and no other node.
    let _peering = match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) => Some(peering::start(&ctx, Path::new(&folder), &shared)?),
        None => None,
    };
    ctx.ready("Serves.");
    let mut second = tokio::time::interval(Duration::from_secs(1));
    tokio::pin!(server);
    loop {
        tokio::select! {
            ended = &mut server => return Ok(ended?),
            () = ctx.stopping() => return Ok(()),
            _ = second.tick() => {
                heartbeat.tick();
                let now = shared.now();
                let mut content = shared.content();
                let changes = content.store.expire(now);
                shared.tell(&mut content, changes);
                drop(content);
                shared.update_counters();
            }
        }
    }
}
