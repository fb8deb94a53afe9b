//! Keeping the store equal with that of the other node of the redundancy
//! group: which node that is, and the connections to and from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use database::tables::{ProcessNode, RedundancyGroup};
use database::{Access, Database};
use peer::{Credentials, Remote};
use service::{Alarms, Context, Severity};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::proto;
use crate::proto::replicate_request::Kind;
use crate::proto::replication_client::ReplicationClient;
use crate::proto::replication_server::{Replication, ReplicationServer};
use crate::replica::{Broken, Have, Message, Sent};
use crate::rows;
use crate::server::{Content, Shared, is_replicated};

/// First and longest pause between two tries to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Pause before a port is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// A connection that says nothing is asked whether it lives so often.
const ALIVE: Duration = Duration::from_secs(5);
/// Messages under way that the connection has not taken.
const UNDER_WAY: usize = 8;
/// Largest message: a page, or what an owner sends at once.
const LARGEST: usize = 16 << 20;

/// The port at which a store is reached by its peer. The original has the first
/// three; it does not copy its routes.
fn port(id: &str) -> u16 {
    match id {
        rows::PRESENCE => 9003,
        rows::LOGIN => 9004,
        rows::SIP_REGISTRATION => 9005,
        _ => 9006,
    }
}

/// The other node of the redundancy group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Its number, which its certificate has.
    replica: u64,
    address: String,
}

/// Begins; ends when the result is dropped.
pub(crate) fn start(
    ctx: &Context,
    credentials: &Path,
    shared: &Arc<Shared>,
) -> anyhow::Result<JoinSet<()>> {
    let credentials = Credentials::load(credentials)?;
    let database = Database::open(ctx.paths(), Access::Settings);
    let own = ctx.node()?.name;
    let port = port(ctx.id());
    let mut tasks = JoinSet::new();
    tasks.spawn(follow_group(database, own, shared.clone()));
    let (alarms, stop) = (ctx.alarms().clone(), ctx.stop_token().clone());
    tasks.spawn(listen(
        credentials.clone(),
        port,
        shared.clone(),
        alarms,
        stop,
    ));
    tasks.spawn(send(credentials, port, shared.clone()));
    Ok(tasks)
}

/// The other node of the group that `own` is in, once it has joined.
fn peer_of(
    own: &str,
    nodes: &BTreeMap<String, ProcessNode>,
    groups: &BTreeMap<String, RedundancyGroup>,
) -> Option<Node> {
    let other = groups.values().find_map(|group| group.other(own))?;
    let row = nodes.get(other).filter(|row| row.replica != 0)?;
    Some(Node {
        name: row.name.clone(),
        replica: row.replica.unsigned_abs(),
        address: row.address.clone(),
    })
}

/// Keeps up to date who the other node is.
async fn follow_group(database: Database, own: String, shared: Arc<Shared>) {
    let mut node_rows = database.watch::<ProcessNode>(&[]);
    let mut group_rows = database.watch::<RedundancyGroup>(&[]);
    let (mut nodes, mut groups) = (BTreeMap::new(), BTreeMap::new());
    loop {
        tokio::select! {
            event = node_rows.next() => event.apply(&mut nodes, |row| (row.name.clone(), row)),
            event = group_rows.next() => event.apply(&mut groups, |row| (row.name.clone(), row)),
        }
        if nodes.is_empty() || groups.is_empty() {
            // Not everything has come yet.
            continue;
        }
        let peer = peer_of(&own, &nodes, &groups);
        let number = |peer: &Option<Node>| peer.as_ref().map(|peer| peer.replica);
        let before = shared.peer.borrow().clone();
        if before == peer {
            continue;
        }
        if number(&before) != number(&peer) {
            // Copies of another node's rows are worth nothing any more.
            let mut content = shared.content();
            let Content { store, replica, .. } = &mut *content;
            let changes = replica.forget(store);
            shared.tell(&mut content, changes);
        }
        tracing::info!(peer = ?peer.as_ref().map(|peer| &peer.name), "The other node of the group is known.");
        shared.peer.send_replace(peer);
    }
}

/// Sends what is written here to the other node, whichever it is.
async fn send(credentials: Credentials, port: u16, shared: Arc<Shared>) {
    let mut peers = shared.peer.subscribe();
    loop {
        let peer = peers.borrow_and_update().clone();
        let Some(peer) = peer else {
            // The sender lives as long as this.
            let _ = peers.changed().await;
            continue;
        };
        tokio::select! {
            () = send_to(&credentials, port, &peer, &shared) => {}
            _ = peers.changed() => {}
        }
        shared.content().feed.disconnected();
    }
}

async fn send_to(credentials: &Credentials, port: u16, peer: &Node, shared: &Shared) {
    let place = if peer.address.contains(':') {
        format!("[{}]:{port}", peer.address)
    } else {
        format!("{}:{port}", peer.address)
    };
    let mut pause = PAUSE.0;
    loop {
        let channel = peer::channel(credentials, peer.replica, &place);
        let ended = stream(ReplicationClient::new(channel), shared).await;
        let followed = {
            let mut content = shared.content();
            let state = content.feed.figures(0).state;
            content.feed.disconnected();
            state == crate::replica::State::Following
        };
        if followed {
            pause = PAUSE.0;
        }
        if let Err(status) = ended {
            tracing::debug!(peer = peer.name, %status, "The peer's store is not reached.");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

type Client = ReplicationClient<tonic::transport::Channel>;

/// One connection, from Hello to its end.
async fn stream(mut client: Client, shared: &Shared) -> Result<(), Status> {
    let (requests, outgoing) = mpsc::channel(UNDER_WAY);
    let hello = shared.content().feed.connected();
    let _ = requests.send(hello.into()).await;
    let haves = client.replicate(ReceiverStream::new(outgoing)).await?;
    let mut haves = haves.into_inner();
    let mut more = false;
    loop {
        tokio::select! {
            have = haves.message() => {
                let have = have?.ok_or_else(|| Status::unavailable("it ended the connection"))?;
                shared.content().feed.have(Have { epoch: have.epoch, sequence: have.sequence });
                more = true;
            }
            permit = requests.reserve(), if more => {
                let permit = permit.map_err(|_| Status::unavailable("the connection ended"))?;
                let now = shared.now();
                let next = {
                    let mut content = shared.content();
                    let Content { store, feed, .. } = &mut *content;
                    feed.next(store, is_replicated, now)
                };
                match next {
                    Some(message) => permit.send(message.into()),
                    None => more = false,
                }
            }
            () = shared.news.notified(), if !more => more = true,
        }
    }
}

/// Listens for the other node.
async fn listen(
    credentials: Credentials,
    port: u16,
    shared: Arc<Shared>,
    alarms: Alarms,
    stop: CancellationToken,
) {
    const ALARM: &str = "DatastoreReplicationPort";
    loop {
        let served = async {
            let listener = peer::listen(port).await?;
            alarms.clear(ALARM);
            let server = ReplicationServer::new(Receiver(shared.clone()));
            tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(ALIVE))
                .http2_keepalive_timeout(Some(ALIVE))
                .add_service(server.max_decoding_message_size(LARGEST))
                .serve_with_incoming(peer::accept(listener, &credentials))
                .await?;
            anyhow::Ok(())
        };
        let ended = tokio::select! {
            ended = served => ended,
            () = stop.cancelled() => return,
        };
        if let Err(error) = ended {
            let text = format!(
                "The other node of the redundancy group cannot send its rows: port {port} cannot \
                 be listened on ({error:#})."
            );
            alarms.raise(ALARM, Severity::Error, &text);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct Receiver(Arc<Shared>);

#[tonic::async_trait]
impl Replication for Receiver {
    type ReplicateStream = ReceiverStream<Result<proto::Have, Status>>;

    async fn replicate(
        &self,
        request: Request<Streaming<proto::ReplicateRequest>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let remote = request.extensions().get::<Remote>().copied();
        let shared = self.0.clone();
        let number = remote.map(|remote| remote.replica);
        let is_peer = move |shared: &Shared| {
            let peer = shared.peer.borrow();
            number.is_some() && peer.as_ref().map(|peer| peer.replica) == number
        };
        if !is_peer(&shared) {
            return Err(Status::permission_denied(
                "this node is not the other one of its redundancy group, or has not heard of it yet",
            ));
        }
        let (sender, replies) = mpsc::channel(UNDER_WAY);
        tokio::spawn(async move {
            let link = shared.content().replica.accept();
            let ended = receive(&shared, link, request.into_inner(), &sender).await;
            shared.content().replica.ended(link);
            if let Err(status) = ended {
                tracing::info!(%status, "A connection from the peer's store ended.");
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }
}

async fn receive(
    shared: &Shared,
    link: u64,
    mut requests: Streaming<proto::ReplicateRequest>,
    replies: &mpsc::Sender<Result<proto::Have, Status>>,
) -> Result<(), Status> {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        let request = tokio::select! {
            request = requests.message() => request?,
            // Over when a newer one was made, or everything is wanted again.
            _ = look.tick() => {
                if shared.content().replica.link() != link {
                    return Err(broken(&Broken::Over));
                }
                continue;
            }
        };
        let Some(request) = request else {
            return Ok(());
        };
        let message = read(request).ok_or_else(|| Status::invalid_argument("an empty message"))?;
        let have = {
            let now = shared.now();
            let mut content = shared.content();
            let Content { store, replica, .. } = &mut *content;
            let received = replica.receive(link, message, store, now);
            let (have, changes) = received.map_err(|error| broken(&error))?;
            shared.tell(&mut content, changes);
            proto::Have {
                epoch: have.epoch,
                sequence: have.sequence,
            }
        };
        if replies.send(Ok(have)).await.is_err() {
            return Ok(());
        }
    }
}

fn broken(error: &Broken) -> Status {
    Status::aborted(error.to_string())
}

fn change(sent: Sent) -> proto::Change {
    let gone = sent.value.is_none();
    proto::Change {
        row: Some(proto::Row {
            owner: sent.owner.as_ref().into(),
            epoch: sent.epoch,
            key: sent.key.as_ref().into(),
            value: sent.value.unwrap_or_default(),
            ttl_ms: sent.ttl,
        }),
        gone,
    }
}

impl From<Message> for proto::ReplicateRequest {
    fn from(message: Message) -> Self {
        let kind = match message {
            Message::Hello { epoch } => Kind::Hello(proto::Hello { epoch }),
            Message::Page {
                epoch,
                sequence,
                page,
                last,
                rows,
            } => Kind::Page(proto::Page {
                epoch,
                sequence,
                page,
                last,
                rows: rows.into_iter().filter_map(|row| change(row).row).collect(),
            }),
            Message::Changes {
                epoch,
                sequence,
                rows,
            } => Kind::Changes(proto::Changes {
                epoch,
                sequence,
                changes: rows.into_iter().map(change).collect(),
            }),
        };
        Self { kind: Some(kind) }
    }
}

/// Reads a message; `None` for one without content.
fn read(request: proto::ReplicateRequest) -> Option<Message> {
    let sent = |row: proto::Row, gone: bool| Sent {
        owner: row.owner.into(),
        epoch: row.epoch,
        key: row.key.into(),
        value: (!gone).then_some(row.value),
        ttl: row.ttl_ms,
    };
    Some(match request.kind? {
        Kind::Hello(hello) => Message::Hello { epoch: hello.epoch },
        Kind::Page(page) => Message::Page {
            epoch: page.epoch,
            sequence: page.sequence,
            page: page.page,
            last: page.last,
            rows: page.rows.into_iter().map(|row| sent(row, false)).collect(),
        },
        Kind::Changes(changes) => Message::Changes {
            epoch: changes.epoch,
            sequence: changes.sequence,
            rows: changes
                .changes
                .into_iter()
                .filter_map(|change| Some(sent(change.row?, change.gone)))
                .collect(),
        },
    })
}
