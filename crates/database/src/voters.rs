//! Who votes: one node, or all, by an administrator's wish.

use std::sync::Arc;
use std::time::Duration;

use replication::{Expected, Facts, LEAST_VOTERS, Voting, number};

use crate::cluster::{self, Cluster};
use crate::engine::Engine;
use crate::judge::state;
use crate::rpc::neighbour_client::NeighbourClient;
use crate::{Error, rpc};

/// How long the node that leads may take: two changes of the members, each of
/// which a majority confirms.
const ANSWER: Duration = Duration::from_secs(25);

/// The voters that answer under the name by which they vote, and how many
/// voters there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answering {
    pub(crate) voters: usize,
    pub(crate) answer: usize,
}

impl Answering {
    /// Whether they are enough to elect one that leads, and to take changes.
    pub(crate) fn is_majority(self) -> bool {
        self.answer > self.voters / 2
    }
}

/// Counts the voters that answer; this node does, unless it is `without` it.
pub(crate) fn answering(cluster: &Cluster, facts: &Facts, without: bool) -> Answering {
    let neighbours = cluster.neighbours();
    let now = cluster.now();
    let voters = facts.members.iter().filter(|member| member.voter);
    let answers = |name: u64| {
        let node = number(name);
        if name == facts.node {
            !without
        } else {
            // One that began anew has another name, and no vote yet.
            neighbours.answers(node, now) && neighbours.name(node, facts.epoch) == Some(name)
        }
    };
    let voters: Vec<bool> = voters.map(|member| answers(member.node)).collect();
    Answering {
        voters: voters.len(),
        answer: voters.iter().filter(|answers| **answers).count(),
    }
}

/// Refuses to take this node away where the other voters would not be enough.
pub(crate) async fn spare(engine: &Arc<Engine>) -> Result<(), Error> {
    let facts = engine.node().facts();
    let votes = |member: &replication::NodeMember| member.voter && member.node == facts.node;
    let Some(cluster) = engine.cluster() else {
        return Ok(());
    };
    if facts.superseded.is_some()
        || facts.voting() == Voting::One
        || !facts.members.iter().any(votes)
    {
        return Ok(());
    }
    cluster::look_around(engine, cluster).await;
    let left = answering(cluster, &facts, true);
    if left.is_majority() {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "every node of this cluster votes, and without this one only {} of {} voters answer, which is \
         no majority: nothing could be changed. Wait until the others are in state 2, or bring them back",
        left.answer, left.voters
    )))
}

/// Has one node vote, or all, or says why not; carried out by the node that
/// leads, whichever is asked.
pub(crate) async fn set(
    engine: &Arc<Engine>,
    request: rpc::VotersRequest,
) -> Result<rpc::VotersReply, Error> {
    let facts = engine.node().facts();
    let Some(cluster) = engine.cluster().filter(|_| !engine.leads()) else {
        return set_here(engine, &request).await;
    };
    let Some((node, address)) = cluster::leader(&facts) else {
        return Err(Error::Unavailable(
            "no node leads now. Where one is elected, that takes some seconds; \"utils dbreplication \
             runtimestate\" shows who is away"
                .into(),
        ));
    };
    let name = cluster::name_of(engine, number(node));
    let mut client = NeighbourClient::new(cluster.peers.channel(node, &address));
    match tokio::time::timeout(ANSWER, client.voters(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(Error::Unavailable(format!(
            "the publisher, {name}, did not do it: {}",
            status.message()
        ))),
        Err(_) => Err(Error::Unavailable(format!(
            "the publisher, {name}, did not answer in {} s. \"utils dbreplication voters status\" \
             shows who votes now",
            ANSWER.as_secs()
        ))),
    }
}

/// The same on the node that leads.
pub(crate) async fn set_here(
    engine: &Arc<Engine>,
    request: &rpc::VotersRequest,
) -> Result<rpc::VotersReply, Error> {
    let wanted = if request.all {
        Voting::All
    } else {
        Voting::One
    };
    let Some(cluster) = engine.cluster() else {
        return Ok(refused(
            "this node is a cluster of its own and the only voter".into(),
        ));
    };
    if !engine.leads() {
        return Err(Error::Unavailable(
            "another node leads now; try again".into(),
        ));
    }
    // What is decided by is known now, not some seconds ago.
    cluster::look_around(engine, cluster).await;
    let facts = engine.node().facts();
    let expected = cluster::expected(engine, cluster, &facts);
    if let Some(reason) = refusal(engine, cluster, &facts, &expected, wanted) {
        return Ok(refused(reason));
    }
    if !request.carry_out {
        return Ok(rpc::VotersReply::default());
    }
    tracing::warn!(?wanted, reason = request.reason, "Who votes is changed.");
    engine.node().set_voting(wanted, &expected).await?;
    let own = cluster::name_of(engine, number(facts.node));
    let text = match wanted {
        Voting::All => format!(
            "Every node votes now. {own} leads; when it is lost, another one is elected within \
             seconds and takes changes."
        ),
        Voting::One => format!("{own} is the publisher and the only voter now."),
    };
    Ok(rpc::VotersReply {
        text,
        ..rpc::VotersReply::default()
    })
}

fn refused(refusal: String) -> rpc::VotersReply {
    rpc::VotersReply {
        refusal,
        ..rpc::VotersReply::default()
    }
}

/// Why not; none when nothing speaks against it.
fn refusal(
    engine: &Engine,
    cluster: &Cluster,
    facts: &Facts,
    expected: &Expected,
    wanted: Voting,
) -> Option<String> {
    if facts.voting() == wanted {
        return Some(match wanted {
            Voting::All => "every node votes already".into(),
            Voting::One => "the publisher is the only voter already".into(),
        });
    }
    if wanted == Voting::One {
        return None;
    }
    let nodes = expected.others.len() + 1;
    if nodes < LEAST_VOTERS {
        return Some(format!(
            "an election takes three nodes, since of two the loss of one leaves no majority, and this \
             cluster has {nodes} that joined. Add another one and set it up first"
        ));
    }
    let now = cluster.now();
    let neighbours = cluster.neighbours();
    let bad = expected
        .others
        .keys()
        .map(|name| number(*name))
        .find_map(|node| {
            let member = rpc::Member {
                node,
                ..rpc::Member::default()
            };
            let known = neighbours.member(member, now);
            let good = known.reachable && known.state == u32::from(state::GOOD);
            (!good).then_some((node, known))
        });
    let (node, known) = bad?;
    Some(format!(
        "node {} is in state {} ({}), and each node is to have a vote. Bring it to state 2 first, or \
         remove it from the cluster",
        cluster::name_of(engine, node),
        known.state,
        known.reason
    ))
}
