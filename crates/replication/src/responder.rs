//! What other nodes ask of this node's log.

use std::io;
use std::sync::Arc;

use openraft::Snapshot;
use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use peer::Remote;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::contact::Contact;
use crate::epoch::Epochs;
use crate::machine::Replica;
use crate::name::number;
use crate::pause::Pause;
use crate::rpc::{self, replication_server::Replication};
use crate::types::{Damaged, LogId, Raft, SnapshotMeta, Vote, decode_entry, from_json, to_json};
use crate::voters::leads_surely;

/// Largest message between nodes: a transaction, and some.
pub const LARGEST_MESSAGE: usize = 64 << 20;

/// The service that other nodes' engines talk to. A node speaks for itself
/// only: a request in the name of another is refused.
#[derive(Clone)]
pub struct Responder {
    raft: Raft,
    replica: Arc<Replica>,
    pause: Pause,
    epochs: Epochs,
    contact: Contact,
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Responder")
    }
}

impl Responder {
    pub(crate) fn new(
        raft: Raft,
        replica: Arc<Replica>,
        pause: Pause,
        epochs: Epochs,
        contact: Contact,
    ) -> Self {
        Self {
            raft,
            replica,
            pause,
            epochs,
            contact,
        }
    }

    /// Refuses what is said in another epoch, and everything while replication
    /// is stopped here.
    fn goes_on(&self, epoch: Option<rpc::Epoch>) -> Result<(), Status> {
        self.epochs.check(epoch)?;
        match self.pause.reason() {
            None => Ok(()),
            Some(reason) => Err(Status::unavailable(format!(
                "replication of this node was stopped: {reason}"
            ))),
        }
    }
}

type Reply = Result<Response<rpc::Answer>, Status>;

fn unreadable(error: Damaged) -> Status {
    Status::invalid_argument(format!(
        "the request is not readable ({error}); the nodes' versions may not fit together"
    ))
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    from_json(bytes).map_err(unreadable)
}

fn read_place(bytes: &[u8]) -> Result<Option<LogId>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    read(bytes).map(Some)
}

fn answer(result: &impl Serialize) -> Reply {
    Ok(Response::new(rpc::Answer {
        result: to_json(result),
    }))
}

/// The node at the other end, which must be the one whose vote it brings.
fn speaks_for_itself<T>(request: &Request<T>, vote: impl Fn(&T) -> Vote) -> Result<(), Status> {
    let remote = remote(request)?;
    check(remote, &vote(request.get_ref()))
}

fn remote<T>(request: &Request<T>) -> Result<Remote, Status> {
    let remote = request.extensions().get::<Remote>().copied();
    remote.ok_or_else(|| Status::unauthenticated("this connection is no node's"))
}

fn check(remote: Remote, vote: &Vote) -> Result<(), Status> {
    if vote.leader_id().voted_for().map(number) == Some(remote.replica) {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "node number {} speaks in the name of another",
        remote.replica
    )))
}

#[tonic::async_trait]
impl Replication for Responder {
    async fn append(&self, request: Request<rpc::AppendRequest>) -> Reply {
        let vote: Vote = read(&request.get_ref().vote)?;
        speaks_for_itself(&request, |_| vote)?;
        self.goes_on(request.get_ref().epoch)?;
        let message = request.into_inner();
        let entries = message
            .entries
            .iter()
            .map(|entry| decode_entry(entry.index, &entry.content).map_err(unreadable))
            .collect::<Result<_, _>>()?;
        let request = AppendEntriesRequest {
            vote,
            prev_log_id: read_place(&message.previous)?,
            leader_commit: read_place(&message.committed)?,
            entries,
        };
        let committed = request.leader_commit.map_or(0, |id| id.index);
        let answered = self.raft.append_entries(request).await;
        if matches!(&answered, Ok(done) if !matches!(done, AppendEntriesResponse::HigherVote(_))) {
            self.contact.heard();
        }
        if matches!(answered, Ok(AppendEntriesResponse::Success)) {
            self.replica.heard_of(committed);
        }
        answer(&answered)
    }

    async fn vote(&self, request: Request<rpc::VoteRequest>) -> Reply {
        let asked: VoteRequest<u64> = read(&request.get_ref().request)?;
        speaks_for_itself(&request, |_| asked.vote)?;
        self.goes_on(request.get_ref().epoch)?;
        if let Some(own) = leads_surely(&self.raft.metrics().borrow()) {
            let refused = VoteResponse::new(own, None, false);
            return answer(&Ok::<_, RaftError<u64>>(refused));
        }
        answer(&self.raft.vote(asked).await)
    }

    async fn snapshot(&self, request: Request<Streaming<rpc::SnapshotPart>>) -> Reply {
        let remote = remote(&request)?;
        let mut parts = request.into_inner();
        let head = parts.message().await?;
        let head = head.ok_or_else(|| Status::invalid_argument("the snapshot has no beginning"))?;
        let vote: Vote = read(&head.vote)?;
        check(remote, &vote)?;
        self.goes_on(head.epoch)?;
        let meta: SnapshotMeta = read(&head.meta)?;
        let stopped = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
        let file = self.raft.begin_receiving_snapshot().await;
        let file = file.map_err(|error| stopped(&error))?;
        let target = file.clone();
        let (sender, mut received) = mpsc::channel::<Vec<u8>>(2);
        let writing = tokio::task::spawn_blocking(move || -> io::Result<()> {
            let mut out = target.receive()?;
            while let Some(data) = received.blocking_recv() {
                out.write_all(&data)?;
            }
            out.sync()
        });
        let mut failed = None;
        loop {
            match parts.message().await {
                Ok(Some(part)) => {
                    if sender.send(part.data).await.is_err() {
                        // Writing ended early, and says why below.
                        break;
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    failed = Some(status);
                    break;
                }
            }
        }
        drop(sender);
        let written = writing.await.map_err(|error| stopped(&error))?;
        if let Some(status) = failed {
            file.discard();
            return Err(status);
        }
        if let Err(error) = written {
            file.discard();
            return Err(Status::internal(format!(
                "the snapshot cannot be written: {error}"
            )));
        }
        let snapshot = Snapshot {
            meta,
            snapshot: file,
        };
        answer(&self.raft.install_full_snapshot(vote, snapshot).await)
    }
}
