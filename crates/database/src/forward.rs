//! Changes taken to the node that leads.

use std::error::Error as _;
use std::time::{Duration, Instant};

use prost::Message;
use replication::{CommitError, Facts, LARGEST_MESSAGE, Voting, number};
use store::{Outcome, Transaction};
use tonic::{Code, ConnectError, Status};

use crate::cluster::{Cluster, leader, name_of};
use crate::engine::Engine;
use crate::rpc::neighbour_client::NeighbourClient;
use crate::{Error, rpc};

/// How long the publisher may take with a change.
const CHANGE: Duration = Duration::from_secs(15);
/// How long a change may take from the publisher to this node.
const ARRIVAL: Duration = Duration::from_secs(10);
/// How long a change waits for a node that leads where nodes elect one: longer
/// than an election takes.
const ELECTION: Duration = Duration::from_secs(8);
/// One that leads says so several times in this time.
const SILENCE: Duration = Duration::from_millis(1500);
/// Pause between two looks at who leads.
const LOOK: Duration = Duration::from_millis(100);

/// Carries a transaction out, here or on the node that leads; answers when it
/// is durable and reads of this node see it. Where nodes elect the one that
/// leads, an election is waited for.
pub(crate) async fn propose(engine: &Engine, transaction: Transaction) -> Result<Outcome, Error> {
    let begin = Instant::now();
    loop {
        let facts = engine.node().facts();
        let here = facts.leader == Some(facts.node) || facts.forgot;
        let done = match engine.cluster() {
            Some(cluster) if !here => forward(engine, cluster, &facts, &transaction).await,
            _ => match engine.commit(transaction.clone()).await {
                Err(CommitError::Elsewhere(_)) if facts.voting() == Voting::All => Ok(None),
                done => done.map(Some).map_err(Error::from),
            },
        };
        if let Some(outcome) = done? {
            return Ok(outcome);
        }
        // Nothing was changed. One that has heard of nobody for long waits no more.
        let silence = engine.node().facts().contact.unwrap_or_default();
        if begin.elapsed().max(silence) > ELECTION {
            return Err(Error::Unavailable(
                "no node leads now, since no majority of the voters answers: nothing can be changed, \
                 and nothing was. What is stored can be read here. Bring back those who are away; \
                 \"utils dbreplication runtimestate\" shows them. Where a majority is lost for good, \
                 \"utils dbreplication promote\" has a node go on without them"
                    .into(),
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has the node that leads carry a transaction out, and waits until it has
/// arrived here. None: nobody leads, or not that node any more, and nothing was
/// changed.
async fn forward(
    engine: &Engine,
    cluster: &Cluster,
    facts: &Facts,
    transaction: &Transaction,
) -> Result<Option<Outcome>, Error> {
    let elected = facts.voting() == Voting::All;
    let Some((node, address)) = leader(facts) else {
        if elected {
            return Ok(None);
        }
        return Err(Error::Unavailable(
            "nothing can be changed here yet: this node has not heard from its publisher since it \
             joined the cluster"
                .into(),
        ));
    };
    // One that is silent will not answer; whether it made the change would not be known.
    if elected && facts.contact.is_none_or(|contact| contact > SILENCE) {
        return Ok(None);
    }
    let name = name_of(engine, number(node));
    let mut client = NeighbourClient::new(cluster.peers.channel(node, &address))
        .max_encoding_message_size(LARGEST_MESSAGE);
    let request = rpc::ProposeRequest {
        transaction: transaction.encode_to_vec(),
    };
    let mut metrics = engine.node().raft().metrics();
    let deposed = metrics.wait_for(|now| now.current_leader.is_some_and(|other| other != node));
    let answer = tokio::select! {
        answer = tokio::time::timeout(CHANGE, client.propose(request)) => answer,
        Ok(_) = deposed, if elected => return Err(Error::Unavailable(format!(
            "the publisher, {name}, was replaced by another one before it answered. Look whether \
             the change was made before you try again"
        ))),
    };
    let reply = match answer {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status))
            if elected && (status.code() == Code::FailedPrecondition || never_sent(&status)) =>
        {
            return Ok(None);
        }
        Ok(Err(status)) if matches!(status.code(), Code::Unavailable | Code::Unknown) => {
            let what_then = if elected {
                "if it is lost, another one is elected within seconds. Look whether the change was made \
                 before you try again"
                    .into()
            } else {
                format!(
                    "only it takes changes. What is stored can be read here meanwhile. Bring {name} or \
                     the way to it back and try again; \"utils dbreplication runtimestate\" shows whether \
                     it answers"
                )
            };
            return Err(Error::Unavailable(format!(
                "the publisher, {name} ({address}), cannot be reached, and {what_then}"
            )));
        }
        Ok(Err(status)) if status.code() == Code::DeadlineExceeded => {
            return Err(Error::Unavailable(format!(
                "on the publisher, {name}: {}",
                status.message()
            )));
        }
        Ok(Err(status)) => {
            return Err(Error::Unavailable(format!(
                "the publisher, {name}, did not make the change: {}",
                status.message()
            )));
        }
        Err(_) => {
            return Err(Error::Unavailable(format!(
                "the publisher, {name} ({address}), did not answer in {} s. Look whether the \
                 change was made before you try again",
                CHANGE.as_secs()
            )));
        }
    };
    if !reply.rejection.is_empty() {
        let rejection = serde_json::from_slice(&reply.rejection)
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        return Ok(Some(Err(rejection)));
    }
    let mut revisions = engine.revisions();
    let arrived = revisions.wait_for(|revision| *revision >= reply.revision);
    match tokio::time::timeout(ARRIVAL, arrived).await {
        Ok(_) => Ok(Some(Ok(reply.revision))),
        Err(_) => Err(Error::Unavailable(format!(
            "the change was made on the publisher, {name}, and has not arrived on this node \
             after {} s; \"utils dbreplication runtimestate\" shows how far this node is behind",
            ARRIVAL.as_secs()
        ))),
    }
}

/// Whether a request did not even reach a connection.
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
