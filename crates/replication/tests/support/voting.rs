//! A cluster in which every node votes.

use std::collections::BTreeSet;
use std::time::Duration;

use replication::{Node, Voting, number};
use tokio::time::Instant;

use super::cluster::{Cluster, Running, expected, fill, follow};

/// Another node leads within this time.
pub const ELECTION: Duration = Duration::from_secs(5);

/// A publisher, node 1, and learners that have caught up.
pub async fn learners(cluster: &mut Cluster, numbers: &[u64]) -> Vec<Running> {
    let mut all = vec![cluster.start(1).await];
    for number in numbers {
        all.push(cluster.start(*number).await);
    }
    let others: Vec<_> = all[1..].iter().collect();
    all[0].teach(&others).await;
    fill(&all[0].node, "before", 10).await;
    for other in others {
        follow(&other.node, &all[0].node).await;
    }
    all
}

/// The same, and each of them votes.
pub async fn voters(cluster: &mut Cluster, numbers: &[u64]) -> Vec<Running> {
    let all = learners(cluster, numbers).await;
    let others: Vec<_> = all[1..].iter().collect();
    let others = expected(&others);
    all[0].node.set_voting(Voting::All, &others).await.unwrap();
    assert_eq!(voting(&all[0]).len(), all.len());
    all
}

/// Numbers of those who vote, as a node sees it.
pub fn voting(running: &Running) -> BTreeSet<u64> {
    let members = running.node.facts().members;
    let voters = members.iter().filter(|member| member.voter);
    voters.map(|member| number(member.node)).collect()
}

/// Waits in simulated time, and answers how long that took.
pub async fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < limit, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begin.elapsed()
}

/// Which of these leads, with a majority: a place among them. One that leads no
/// more may not know it yet.
pub fn leader(all: &[Running]) -> Option<usize> {
    let leads = |one: &Running| {
        let facts = one.node.facts();
        let sure = facts
            .contact
            .is_some_and(|ago| ago < Duration::from_secs(1));
        facts.leader == Some(facts.node) && sure
    };
    all.iter().position(leads)
}

pub async fn elected(all: &[Running]) -> usize {
    until("another one leads", ELECTION, || leader(all).is_some()).await;
    leader(all).unwrap()
}

pub fn has(node: &Node, key: &str) -> bool {
    super::value(&node.replica().store(), key) > 0
}

pub async fn stop(cluster: &Cluster, all: Vec<Running>) {
    for running in all {
        let number = number(running.node.name());
        cluster.stop(number, running).await;
    }
}
