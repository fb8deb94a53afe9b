//! The way to other nodes: the engine's requests over channels.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError,
    Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, Snapshot};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::epoch::Epochs;
use crate::name::number;
use crate::network::Network;
use crate::responder::LARGEST_MESSAGE;
use crate::rpc::{self, replication_client::ReplicationClient};
use crate::types::{Config, LogId, Vote, encode_entry, from_json, to_json};

/// Bytes of a snapshot that travel in one message.
const PART: usize = 256 << 10;

type Dial = dyn Fn(u64, &str) -> Channel + Send + Sync;

/// The channels to other nodes, by number and address. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    dial: Arc<Dial>,
    lines: Arc<Mutex<BTreeMap<u64, (String, Channel)>>>,
    epochs: Arc<OnceLock<Epochs>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peers")
    }
}

impl Peers {
    /// Reaches nodes by channels that `dial` makes of number and address. A
    /// channel connects at its first use and again when it was lost.
    pub fn new(dial: impl Fn(u64, &str) -> Channel + Send + Sync + 'static) -> Self {
        Self {
            dial: Arc::new(dial),
            lines: Arc::default(),
            epochs: Arc::default(),
        }
    }

    /// The channel to a node, by its number or its name in the log; the same
    /// one as long as its address is.
    pub fn channel(&self, node: u64, address: &str) -> Channel {
        let node = number(node);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.get(&node) {
            Some((known, channel)) if known == address => channel.clone(),
            _ => {
                let channel = (self.dial)(node, address);
                lines.insert(node, (address.into(), channel.clone()));
                channel
            }
        }
    }
}

impl Network for Peers {
    fn speak_in(&self, epochs: Epochs) {
        // A way belongs to one node, which is opened once.
        let _ = self.epochs.set(epochs);
    }
}

impl RaftNetworkFactory<Config> for Peers {
    type Network = Line;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Line {
        let client = ReplicationClient::new(self.channel(target, &node.addr))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        Line {
            client,
            target,
            epochs: self.epochs.clone(),
            flight: None,
        }
    }
}

/// What of the log a request carries: equal requests get equal answers.
type Cargo = (Vote, Option<LogId>, Option<LogId>);

/// A request that the engine no longer waits for, and that goes on: over a
/// slow link a large entry takes longer than the engine's patience, and would
/// be begun again and again.
#[derive(Debug)]
struct Flight {
    cargo: Cargo,
    task: JoinHandle<Result<rpc::Answer, Status>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The way to one node.
#[derive(Debug)]
pub struct Line {
    client: ReplicationClient<Channel>,
    target: u64,
    epochs: Arc<OnceLock<Epochs>>,
    flight: Option<Flight>,
}

/// A failure on the way. One that says that nobody is there lets the engine
/// pause before it tries again.
fn lost<E: std::error::Error>(status: &Status) -> RPCError<u64, BasicNode, E> {
    match status.code() {
        Code::Unavailable
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition => RPCError::Unreachable(Unreachable::new(status)),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

impl Line {
    fn epoch(&self) -> Option<rpc::Epoch> {
        self.epochs.get().map(|epochs| epochs.own().into())
    }

    #[expect(clippy::result_large_err, reason = "the engine's own error")]
    fn read<T, E>(&self, answer: &rpc::Answer) -> Result<T, RPCError<u64, BasicNode, E>>
    where
        T: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let result: Result<T, E> = from_json(&answer.result)
            .map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        result.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }
}

impl RaftNetwork<Config> for Line {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Config>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let last = request.entries.last().map(|entry| entry.log_id);
        let cargo = (request.vote, request.prev_log_id, last);
        let message = rpc::AppendRequest {
            epoch: self.epoch(),
            vote: to_json(&request.vote),
            previous: request.prev_log_id.map_or_else(Vec::new, |id| to_json(&id)),
            committed: request
                .leader_commit
                .map_or_else(Vec::new, |id| to_json(&id)),
            entries: request
                .entries
                .iter()
                .map(|entry| rpc::Entry {
                    index: entry.log_id.index,
                    content: encode_entry(entry),
                })
                .collect(),
        };
        let mut client = self.client.clone();
        if last.is_none() {
            // A sign of life passes by whatever is on its way.
            let answer = client.append(message).await;
            let answer = answer.map_err(|status| lost(&status))?.into_inner();
            return self.read(&answer);
        }
        let flight = match self.flight.take() {
            Some(flight) if flight.cargo == cargo => flight,
            _ => Flight {
                cargo,
                task: tokio::spawn(async move {
                    client
                        .append(message)
                        .await
                        .map(tonic::Response::into_inner)
                }),
            },
        };
        // It stays here when the engine gives up waiting.
        let answer = (&mut self.flight.insert(flight).task).await;
        self.flight = None;
        let answer = answer.unwrap_or_else(|error| Err(Status::internal(error.to_string())));
        self.read(&answer.map_err(|status| lost(&status))?)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let message = rpc::VoteRequest {
            epoch: self.epoch(),
            request: to_json(&request),
        };
        let answer = self.client.vote(message).await;
        self.read(&answer.map_err(|status| lost(&status))?.into_inner())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Config>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Config, Fatal<u64>>> {
        let (sender, parts) = mpsc::channel(2);
        let head = rpc::SnapshotPart {
            epoch: self.epoch(),
            vote: to_json(&vote),
            meta: to_json(&snapshot.meta),
            data: Vec::new(),
        };
        let file = snapshot.snapshot;
        let reading = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let mut bytes = file.bytes()?;
            let mut part = head;
            loop {
                if sender.blocking_send(part).is_err() {
                    // The receiver ended; its answer says why.
                    return Ok(());
                }
                let mut data = Vec::new();
                bytes.by_ref().take(PART as u64).read_to_end(&mut data)?;
                if data.is_empty() {
                    return Ok(());
                }
                part = rpc::SnapshotPart {
                    data,
                    ..rpc::SnapshotPart::default()
                };
            }
        });
        let sending = self.client.snapshot(ReceiverStream::new(parts));
        let answer = tokio::select! {
            answer = sending => answer,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let network = |error: &dyn fmt::Display| {
            StreamingError::Network(NetworkError::new(&std::io::Error::other(error.to_string())))
        };
        // A file that cannot be read ends early, and the receiver refuses it.
        reading
            .await
            .map_err(|error| network(&error))?
            .map_err(|error| network(&error))?;
        let answer = answer.map_err(|status| match lost::<Fatal<u64>>(&status) {
            RPCError::Unreachable(error) => StreamingError::Unreachable(error),
            _ => network(&status),
        })?;
        let result: Result<SnapshotResponse<u64>, Fatal<u64>> =
            from_json(&answer.into_inner().result).map_err(|error| network(&error))?;
        result.map_err(|error| StreamingError::RemoteError(RemoteError::new(self.target, error)))
    }
}
