//! A node promoted by hand, when the one that leads is lost for good.

use std::sync::Arc;

use replication::number;

use crate::engine::Engine;
use crate::{Error, cluster, rpc};

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
    reply.refusal = refusal(engine, &reply);
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

fn refusal(engine: &Engine, found: &rpc::PromoteReply) -> String {
    if engine.leads() {
        return "this node is the publisher already".into();
    }
    if !engine.node().replica().is_complete() {
        return "this node has no data: it begins anew itself. Promote another one".into();
    }
    match &found.publisher {
        Some(publisher) if publisher.answers => format!(
            "the publisher, {}, answers. A promotion is for a publisher that is lost for good: \
             changes that only it has are void then. Shut it down first if that is meant",
            publisher.name
        ),
        _ => String::new(),
    }
}
