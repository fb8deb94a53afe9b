//! A node promoted by hand, when the one that leads is lost for good.

use std::sync::Arc;

use replication::{Facts, Voting, number};

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::{Error, cluster, rpc, voters};

/// Says what the promotion of this node means; where `carry_out` and nothing
/// speaks against it, the database starts again and begins a new log with what
/// this node has.
pub(crate) async fn promote(
    engine: &Arc<Engine>,
    carry_out: bool,
    reason: &str,
) -> Result<rpc::PromoteReply, Error> {
    let Some(cluster) = engine.cluster() else {
        return Err(Error::Invalid(
            "this node is a cluster of its own and leads it".into(),
        ));
    };
    // What is decided by is known now, not some seconds ago.
    cluster::look_around(engine, cluster).await;
    let facts = engine.node().facts();
    let own = number(facts.node);
    let leader = cluster::leader(&facts).map(|(name, _)| number(name));
    let others: Vec<u64> = cluster::others(engine, &facts).into_keys().collect();
    let now = cluster.now();
    let known = |node: u64| {
        let name = cluster::name_of(engine, node);
        cluster.neighbours().other(node, name, now)
    };
    let publisher = leader.filter(|node| *node != own).map(known);
    let others = others.into_iter().filter(|node| Some(*node) != leader);
    let mut reply = rpc::PromoteReply {
        last_log: facts.last_log,
        others: others.map(known).collect(),
        publisher,
        ..rpc::PromoteReply::default()
    };
    reply.refusal = refusal(engine, cluster, &facts, &reply);
    if carry_out && reply.refusal.is_empty() {
        let failed = |error: std::io::Error| Error::Unavailable(error.to_string());
        let epoch = engine.node().order_promotion(reason).map_err(failed)?;
        engine.restart(&format!("a promotion was ordered: {reason}"));
        tracing::warn!(%epoch, reason, "This node is promoted.");
        reply.text = "The database of this node starts again as the publisher; the other nodes \
                      begin anew with its data. \"utils dbreplication runtimestate\" shows how far \
                      that is."
            .into();
    }
    Ok(reply)
}

fn refusal(engine: &Engine, cluster: &Cluster, facts: &Facts, found: &rpc::PromoteReply) -> String {
    let elects = facts.voting() == Voting::All;
    let voters = voters::answering(cluster, facts, false);
    if elects && voters.is_majority() {
        return format!(
            "every node of this cluster votes, and {} of {} voters answer: that is a majority, which \
             elects the publisher by itself within seconds. A promotion is for a majority that is lost \
             for good",
            voters.answer, voters.voters
        );
    }
    // Where a majority is lost, the one that leads can take no changes either.
    if engine.leads() && !elects {
        return "this node is the publisher already".into();
    }
    if !engine.node().replica().is_complete() {
        return "this node has no data: it begins anew itself. Promote another one".into();
    }
    match &found.publisher {
        Some(publisher) if publisher.answers && elects => format!(
            "node {0} leads and answers, though too few voters do: promote {0}, which has all of the log",
            publisher.name
        ),
        Some(publisher) if publisher.answers => format!(
            "the publisher, {}, answers. A promotion is for a publisher that is lost for good: \
             changes that only it has are void then. Shut it down first if that is meant",
            publisher.name
        ),
        _ => String::new(),
    }
}
