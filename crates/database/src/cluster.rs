//! This node's database among those of its cluster: answers the other nodes,
//! and asks them how they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use peer::Remote;
use prost::Message;
use replication::{CommitError, Expected, Facts, Heard, LARGEST_MESSAGE, Peers, Voting, number};
use store::{Action, Operation, Transaction};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Router;
use tonic::{Code, Request, Response, Status};

use crate::engine::Engine;
use crate::mend;
use crate::neighbours::{Neighbours, differing, epoch_of};
use crate::rpc;
use crate::rpc::neighbour_client::NeighbourClient;
use crate::rpc::neighbour_server::{Neighbour, NeighbourServer};
use crate::tables::ProcessNode;
use crate::{Error, Table, voters};

/// The port that nodes reach each other's databases at.
pub(crate) const PORT: u16 = 1500;
/// How long a node may take to say how it is.
const ANSWER: Duration = Duration::from_millis(1500);
/// Largest transaction in the log's form, with room for the message around it.
pub(crate) const LARGEST_WORD: usize = 1 << 20;

/// The ways to other nodes, and what is known of them.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) peers: Peers,
    origin: Instant,
    neighbours: Mutex<Neighbours>,
}

impl Cluster {
    pub(crate) fn new(peers: Peers) -> Self {
        Self {
            peers,
            origin: Instant::now(),
            neighbours: Mutex::default(),
        }
    }

    /// Time since the service started.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(crate) fn neighbours(&self) -> MutexGuard<'_, Neighbours> {
        self.neighbours
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name in the log and address of the node that takes changes: the one that
/// leads, or the only one that may.
pub(crate) fn leader(facts: &Facts) -> Option<(u64, String)> {
    let leads = |node: &&replication::NodeMember| Some(node.node) == facts.leader;
    let members = &facts.members;
    let mut voters = members.iter().filter(|member| member.voter);
    let only = voters.next().filter(|_| voters.next().is_none());
    let leader = members.iter().find(leads).or(only)?;
    Some((leader.node, leader.address.clone()))
}

/// The table of nodes.
pub(crate) fn rows(engine: &Engine) -> Vec<ProcessNode> {
    let Ok((entries, ..)) = engine.store().list("process_node", &[]) else {
        return Vec::new();
    };
    entries
        .iter()
        .filter_map(|entry| serde_json::from_slice(&entry.row.content).ok())
        .collect()
}

/// The host name of the node with that number.
pub(crate) fn name_of(engine: &Engine, replica: u64) -> String {
    let mut rows = rows(engine).into_iter();
    let row = rows.find(|row| row.replica.unsigned_abs() == replica);
    row.map_or_else(|| format!("number {replica}"), |row| row.name)
}

/// What this node says of itself.
pub(crate) fn word(engine: &Engine) -> rpc::Word {
    let facts = engine.node().facts();
    let report = engine.report();
    let (tables, applied, revision) = engine.store().digests();
    rpc::Word {
        node: number(facts.node),
        name: facts.node,
        epoch: facts.epoch.count,
        epoch_founder: facts.epoch.founder,
        version: env!("CARGO_PKG_VERSION").into(),
        role: facts.role,
        term: facts.term,
        last_log: facts.last_log,
        state: report.state,
        reason: report.reason,
        lag_entries: report.lag_entries,
        lag_seconds: report.lag_seconds,
        digests: Some(digests(applied, revision, &tables)),
    }
}

pub(crate) fn digests(
    applied: u64,
    revision: u64,
    tables: &[store::TableDigest],
) -> rpc::DigestsReply {
    let tables = tables.iter().map(|table| rpc::TableDigest {
        version: crate::tables::schema(&table.table).map_or(0, |schema| schema.version),
        table: table.table.clone(),
        digest: table.digest.to_string(),
        rows: table.rows,
        bytes: table.bytes,
    });
    rpc::DigestsReply {
        applied,
        revision,
        tables: tables.collect(),
    }
}

/// What another node's word means for this node's log.
fn hear(engine: &Engine, word: &rpc::Word) {
    let epoch = epoch_of(word);
    match engine.node().hear(epoch) {
        Ok(Heard::Nothing) => {}
        Ok(Heard::Anew) => engine.restart(&format!("the cluster continues with {epoch}")),
        Ok(Heard::Superseded) => tracing::error!(
            epoch = %epoch,
            node = word.node,
            "Another node leads now: this one takes no changes any more until it is reset."
        ),
        Err(error) => tracing::warn!(%error, "The end of this log could not be noted."),
    }
}

/// Makes the table of nodes say that this node, which leads, is the publisher,
/// and no other.
pub(crate) async fn settle_roles(engine: &Engine) {
    if !engine.leads() {
        return;
    }
    let own = number(engine.node().facts().node);
    let mut change = Transaction::default();
    let Ok((entries, ..)) = engine.store().list("process_node", &[]) else {
        return;
    };
    for entry in entries {
        let Ok(mut row) = serde_json::from_slice::<ProcessNode>(&entry.row.content) else {
            continue;
        };
        let leads = row.replica.unsigned_abs() == own;
        let role = if leads { "publisher" } else { "subscriber" };
        // A table without the own row is one that is being made.
        if row.role == role {
            continue;
        }
        row.role = role.into();
        let schema = ProcessNode::SCHEMA;
        let encoded = serde_json::to_value(&row)
            .map_err(|error| Error::Invalid(error.to_string()))
            .and_then(|value| Ok(schema.encode(value, schema.version)?));
        let Ok(encoded) = encoded else { continue };
        let step = |action: Action| Operation {
            action: action.into(),
            table: schema.table.into(),
            key: entry.key.clone(),
            version: schema.version,
            ..Operation::default()
        };
        change.operations.push(Operation {
            revision: entry.row.revision,
            ..step(Action::Require)
        });
        change.operations.push(Operation {
            row: encoded.content,
            ..step(Action::Put)
        });
    }
    if change.operations.is_empty() {
        return;
    }
    match engine.commit(change).await {
        Ok(Ok(_)) => tracing::info!("This node is the publisher now."),
        // Somebody changed a row meanwhile; the next look tries again.
        Ok(Err(_)) => {}
        Err(error) => tracing::warn!(%error, "The publisher could not be noted."),
    }
}

/// The other nodes by number and address: those of the table of nodes, and
/// members that are not there, or not any more.
pub(crate) fn others(engine: &Engine, facts: &Facts) -> BTreeMap<u64, String> {
    let members = facts.members.iter();
    let members = members.map(|member| (number(member.node), member.address.clone()));
    let rows = rows(engine).into_iter();
    let rows = rows.map(|row| (row.replica.unsigned_abs(), address_of(&row.address)));
    let mut others: BTreeMap<_, _> = members.chain(rows).collect();
    // Number 0 is a node that was added and has not joined.
    others.remove(&0);
    others.remove(&number(facts.node));
    others
}

/// Numbers of nodes that have not begun in this log, when it is not the first
/// one: a publisher that was lost, and those who have yet to hear of the new
/// one.
pub(crate) fn elsewhere(engine: &Engine, cluster: &Cluster, facts: &Facts) -> Vec<u64> {
    if facts.epoch.is_first() {
        return Vec::new();
    }
    let members: Vec<u64> = facts.members.iter().map(|one| number(one.node)).collect();
    let absent = others(engine, facts).into_keys();
    let absent = absent.filter(|node| !members.contains(node));
    let neighbours = cluster.neighbours();
    absent
        .filter(|node| neighbours.name(*node, facts.epoch).is_none())
        .collect()
}

/// Asks every other node how it is, once.
pub(crate) async fn look_around(engine: &Arc<Engine>, cluster: &Cluster) {
    let facts = engine.node().facts();
    let others = others(engine, &facts);
    cluster.neighbours().keep(others.keys());
    let leader = leader(&facts).map(|(node, _)| number(node));
    let own = word(engine);
    let asked = others.into_iter().map(|(node, address)| {
        let own = own.clone();
        async move {
            let channel = cluster.peers.channel(node, &address);
            let mut client = NeighbourClient::new(channel).max_decoding_message_size(LARGEST_WORD);
            let begin = Instant::now();
            let answer = tokio::time::timeout(ANSWER, client.look(own)).await;
            let ping = begin.elapsed();
            let leads = Some(node) == leader;
            match answer {
                Ok(Ok(reply)) => {
                    let word = reply.into_inner();
                    hear(engine, &word);
                    let theirs = word.digests.clone();
                    let mut neighbours = cluster.neighbours();
                    neighbours.answered(word, ping, cluster.now());
                    if leads {
                        neighbours.refused.clear();
                        return theirs;
                    }
                }
                Ok(Err(status)) => {
                    let mut neighbours = cluster.neighbours();
                    neighbours.silent(node, status.message());
                    if leads && status.code() == Code::PermissionDenied {
                        status.message().clone_into(&mut neighbours.refused);
                    }
                }
                Err(_) => {
                    let text = format!("it did not answer in {} ms", ANSWER.as_millis());
                    cluster.neighbours().silent(node, &text);
                }
            }
            None
        }
    });
    let answers = futures::future::join_all(asked).await;
    if facts.leader == Some(facts.node) {
        // What was wrong beside another one that led is wrong no more.
        let mut neighbours = cluster.neighbours();
        neighbours.mismatched.clear();
        neighbours.refused.clear();
    }
    if facts.leader != Some(facts.node)
        && let Some(theirs) = answers.into_iter().flatten().next()
        && let Some(ours) = digests_at(engine, theirs.applied).await
    {
        let ours = digests(theirs.applied, theirs.revision, &ours);
        cluster.neighbours().mismatched = differing(&ours.tables, &theirs.tables);
    }
}

/// This node's tables as of a place of the log, when it comes there soon.
pub(crate) async fn digests_at(engine: &Engine, index: u64) -> Option<Vec<store::TableDigest>> {
    let replica = engine.node().replica();
    let wait = engine.node().raft().wait(Some(ANSWER));
    // What does not come soon is compared the next time.
    wait.applied_index_at_least(Some(index), "the tables are compared")
        .await
        .ok()?;
    if let Some(there) = replica.digests_at(index) {
        return Some(there.tables);
    }
    // Right after a start nothing is remembered, and nothing may change.
    let (tables, applied, _) = replica.store().digests();
    (applied == index).then_some(tables)
}

/// The members that the log should have by the table of nodes, as the node
/// that leads knows them.
pub(crate) fn expected(engine: &Engine, cluster: &Cluster, facts: &Facts) -> Expected {
    let rows = rows(engine);
    let own = number(facts.node);
    let mut expected = Expected {
        // A table without any node is one that is being made.
        leader_removed: !rows.is_empty()
            && facts.voting() == Voting::All
            && !rows.iter().any(|row| row.replica.unsigned_abs() == own),
        ..Expected::default()
    };
    let neighbours = cluster.neighbours();
    for row in rows {
        let node = row.replica.unsigned_abs();
        if node == 0 || node == own {
            continue;
        }
        // A node says itself what it is called in the log. Until it has, it
        // stays what it was; a new one is not known yet.
        let told = neighbours.name(node, facts.epoch);
        let mut members = facts.members.iter().map(|member| member.node);
        let known = members.find(|name| number(*name) == node);
        if let Some(name) = told.or(known) {
            expected.others.insert(name, address_of(&row.address));
            if told.is_some() && neighbours.answers(node, cluster.now()) {
                expected.answering.insert(name);
            }
        }
    }
    expected
}

/// Makes the log's members those of the table of nodes. Does nothing on a
/// node that does not lead.
pub(crate) async fn settle_members(engine: &Engine) {
    let facts = engine.node().facts();
    let Some(cluster) = engine.cluster() else {
        return;
    };
    if facts.leader != Some(facts.node) {
        return;
    }
    let expected = expected(engine, cluster, &facts);
    if let Err(error) = engine.node().settle_members(&expected).await {
        tracing::warn!(%error, "The members of the cluster could not be changed; tried again soon.");
    }
}

/// Where the database of a node at that address is reached.
pub(crate) fn address_of(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]:{PORT}")
    } else {
        format!("{address}:{PORT}")
    }
}

/// The services that other nodes reach.
pub(crate) fn services(engine: &Arc<Engine>) -> Router {
    let log = replication::ReplicationServer::new(engine.node().responder())
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let door = NeighbourServer::new(Door(Arc::downgrade(engine)))
        .max_decoding_message_size(LARGEST_MESSAGE);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(log)
        .add_service(door)
}

/// What other nodes may ask. Only members may: one that was removed has a
/// certificate still.
#[derive(Debug)]
struct Door(std::sync::Weak<Engine>);

impl Door {
    fn enter<T>(&self, request: &Request<T>) -> Result<(Arc<Engine>, u64), Status> {
        let remote = request.extensions().get::<Remote>().copied();
        let remote =
            remote.ok_or_else(|| Status::unauthenticated("this connection is no node's"))?;
        let engine = self
            .0
            .upgrade()
            .ok_or_else(|| Status::unavailable("the database stops"))?;
        if engine.ends() {
            // What it says of itself may not hold when it is back.
            return Err(Status::unavailable("the database starts again"));
        }
        let facts = engine.node().facts();
        // A node that knows of nobody yet is asked by those who know of it.
        let blank = facts.members.is_empty() && !engine.node().replica().is_complete();
        if blank || others(&engine, &facts).contains_key(&remote.replica) {
            return Ok((engine, remote.replica));
        }
        Err(Status::permission_denied(format!(
            "node number {} is not a member of this cluster: it was removed, or has not been taken \
             in yet. Add it on the publisher and set it up again to have it back",
            remote.replica
        )))
    }
}

#[tonic::async_trait]
impl Neighbour for Door {
    async fn propose(
        &self,
        request: Request<rpc::ProposeRequest>,
    ) -> Result<Response<rpc::ProposeReply>, Status> {
        let (engine, _) = self.enter(&request)?;
        let transaction = Transaction::decode(request.get_ref().transaction.as_slice())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let outcome = engine
            .commit(transaction)
            .await
            .map_err(|error| match error {
                // Whoever asked may look for the one that leads now: nothing was changed.
                CommitError::Elsewhere(_) => Status::failed_precondition(error.to_string()),
                CommitError::NoMajority | CommitError::Unconfirmed => {
                    Status::deadline_exceeded(error.to_string())
                }
                error => Error::from(error).into(),
            })?;
        Ok(Response::new(match outcome {
            Ok(revision) => rpc::ProposeReply {
                revision,
                ..rpc::ProposeReply::default()
            },
            Err(rejection) => rpc::ProposeReply {
                rejection: serde_json::to_vec(&rejection)
                    .map_err(|error| Status::internal(error.to_string()))?,
                ..rpc::ProposeReply::default()
            },
        }))
    }

    type RowsStream = ReceiverStream<Result<rpc::RowsPart, Status>>;

    async fn rows(
        &self,
        request: Request<rpc::RowsRequest>,
    ) -> Result<Response<Self::RowsStream>, Status> {
        let (engine, _) = self.enter(&request)?;
        let parts = mend::rows(&engine, request.into_inner()).await?;
        Ok(Response::new(parts))
    }

    async fn compare(
        &self,
        request: Request<rpc::CompareRequest>,
    ) -> Result<Response<rpc::Comparison>, Status> {
        let (engine, _) = self.enter(&request)?;
        let compared = mend::compare(&engine, &request.into_inner()).await?;
        Ok(Response::new(compared))
    }

    async fn mend(
        &self,
        request: Request<rpc::MendRequest>,
    ) -> Result<Response<rpc::MendReply>, Status> {
        let (engine, _) = self.enter(&request)?;
        let done = mend::mend(&engine, &request.into_inner()).await?;
        Ok(Response::new(done))
    }

    async fn voters(
        &self,
        request: Request<rpc::VotersRequest>,
    ) -> Result<Response<rpc::VotersReply>, Status> {
        let (engine, _) = self.enter(&request)?;
        let done = voters::set_here(&engine, &request.into_inner()).await?;
        Ok(Response::new(done))
    }

    async fn look(&self, request: Request<rpc::Word>) -> Result<Response<rpc::Word>, Status> {
        let (engine, remote) = self.enter(&request)?;
        let said = request.into_inner();
        hear(&engine, &said);
        if let Some(cluster) = engine.cluster()
            && said.node == remote
        {
            cluster.neighbours().asked(said, cluster.now());
        }
        Ok(Response::new(word(&engine)))
    }
}
