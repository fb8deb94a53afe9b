//! A publisher with learners, in one process.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::time::{Duration, Instant};

use openraft::Vote;
use openraft::error::{RPCError, RaftError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::AppendEntriesRequest;
use replication::{Acknowledgement, CommitError, Node, number};
use support::cluster::{Cluster, Running, expect_equal, expected, fill, follow, peers, put, serve};

async fn wait_for(node: &Node, state: Acknowledgement) {
    let limit = Instant::now() + Duration::from_secs(20);
    while node.acknowledgement() != state {
        assert!(Instant::now() < limit, "{:?}", node.acknowledgement());
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_takes_a_snapshot_over_and_follows() {
    let mut cluster = Cluster::new();
    let publisher = cluster.start(1).await;
    // The log's beginning is dropped, so that a newcomer needs a snapshot.
    for round in 0..3 {
        fill(&publisher.node, &format!("r{round}"), 20).await;
        publisher.node.snapshot().await.unwrap();
    }
    assert!(publisher.node.facts().purged > 0);
    let learner = cluster.start(2).await;
    assert_eq!(
        publisher
            .node
            .settle_members(&expected(&[&learner]))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        publisher
            .node
            .settle_members(&expected(&[&learner]))
            .await
            .unwrap(),
        0
    );
    put(&publisher.node, "late").await;
    follow(&learner.node, &publisher.node).await;
    expect_equal(&learner.node, &publisher.node);
    let facts = learner.node.facts();
    assert_eq!((facts.role.as_str(), facts.leader), ("learner", Some(1)));
    let members: Vec<_> = facts
        .members
        .iter()
        .map(|one| (number(one.node), one.voter, one.address.as_str()))
        .collect();
    assert_eq!(members, [(1, true, "n1"), (2, false, "n2")]);
    let refused = learner.node.commit(support::put("no", 1, 1)).await;
    assert!(
        matches!(&refused, Err(CommitError::Elsewhere(node)) if node == "1"),
        "{refused:?}"
    );
    // Replicas are compared where both have been.
    let index = publisher.node.facts().applied;
    let there = learner.node.replica().digests_at(index);
    assert_eq!(there, publisher.node.replica().digests_at(index));
    assert!(there.is_some());
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_away_catches_up_by_itself() {
    let mut cluster = Cluster::new();
    cluster.grace = Duration::ZERO;
    let publisher = cluster.start(1).await;
    let learner = cluster.start(2).await;
    publisher.teach(&[&learner]).await;
    fill(&publisher.node, "first", 5).await;
    follow(&learner.node, &publisher.node).await;
    cluster.stop(2, learner).await;
    fill(&publisher.node, "away", 30).await;
    let learner = cluster.start(2).await;
    assert_eq!(learner.node.recovery().findings, []);
    follow(&learner.node, &publisher.node).await;
    expect_equal(&learner.node, &publisher.node);
    // Away for so long that the log no longer has what it missed.
    cluster.stop(2, learner).await;
    for round in 0..3 {
        fill(&publisher.node, &format!("long-{round}"), 20).await;
        publisher.node.snapshot().await.unwrap();
    }
    let learner = cluster.start(2).await;
    follow(&learner.node, &publisher.node).await;
    expect_equal(&learner.node, &publisher.node);
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_answered_when_a_learner_has_it() {
    let mut cluster = Cluster::new();
    let publisher = cluster.start(1).await;
    assert_eq!(publisher.node.acknowledgement(), Acknowledgement::Alone);
    let learner = cluster.start(2).await;
    publisher.teach(&[&learner]).await;
    put(&publisher.node, "first").await;
    wait_for(&publisher.node, Acknowledgement::Replicated).await;
    for number in 0..20 {
        put(&publisher.node, &format!("k{number}")).await;
    }
    // Nothing passes any more, so that the learner has it now or never.
    let index = publisher.node.facts().applied;
    cluster.wire.freeze(2);
    let limit = Instant::now() + Duration::from_secs(5);
    while learner.node.facts().last_log < index {
        assert!(Instant::now() < limit, "{:?}", learner.node.facts());
        tokio::task::yield_now().await;
    }
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learners_that_hang_or_stop_hold_nobody_up() {
    let mut cluster = Cluster::new();
    cluster.grace = Duration::from_millis(300);
    let publisher = cluster.start(1).await;
    let learner = cluster.start(2).await;
    publisher.teach(&[&learner]).await;
    put(&publisher.node, "first").await;
    wait_for(&publisher.node, Acknowledgement::Replicated).await;
    // Its connections stay, and it says nothing.
    cluster.wire.freeze(2);
    let begin = Instant::now();
    put(&publisher.node, "waits").await;
    assert!(begin.elapsed() >= cluster.grace, "it was waited for");
    wait_for(&publisher.node, Acknowledgement::Degraded).await;
    let begin = Instant::now();
    fill(&publisher.node, "hangs", 50).await;
    // Not once more for the same learner: that would be 15 s.
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    // It is back, and counts again.
    learner.serving.abort();
    let serving = serve(&cluster.wire, 2, &learner.node);
    follow(&learner.node, &publisher.node).await;
    wait_for(&publisher.node, Acknowledgement::Replicated).await;
    expect_equal(&learner.node, &publisher.node);
    let learner = Running { serving, ..learner };
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_whose_replica_is_lost_rebuilds_it() {
    let mut cluster = Cluster::new();
    let publisher = cluster.start(1).await;
    let learner = cluster.start(2).await;
    publisher.teach(&[&learner]).await;
    fill(&publisher.node, "some", 30).await;
    follow(&learner.node, &publisher.node).await;
    cluster.stop(2, learner).await;
    let replica = cluster.folder(2).join("replica-000001");
    std::fs::remove_dir_all(replica).unwrap();
    let learner = cluster.start(2).await;
    assert!(!learner.node.recovery().loss(), "the log has it all");
    put(&publisher.node, "after").await;
    follow(&learner.node, &publisher.node).await;
    expect_equal(&learner.node, &publisher.node);
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_whose_log_is_lost_comes_back_under_a_new_name() {
    for gone in [&["log.redb"][..], &["log.redb", "replica-000001"]] {
        let mut cluster = Cluster::new();
        let publisher = cluster.start(1).await;
        let learner = cluster.start(2).await;
        let members = expected(&[&learner]);
        publisher.node.settle_members(&members).await.unwrap();
        fill(&publisher.node, "some", 30).await;
        follow(&learner.node, &publisher.node).await;
        let name = learner.node.name();
        cluster.stop(2, learner).await;
        for gone in gone {
            let path = cluster.folder(2).join(gone);
            let removed = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(path));
            removed.unwrap();
        }
        let learner = cluster.start(2).await;
        assert!(!learner.node.recovery().loss(), "the publisher has it all");
        assert_ne!(learner.node.name(), name);
        assert_eq!(number(learner.node.name()), 2);
        // Its old name goes, and the new one comes.
        let changes = publisher.node.settle_members(&expected(&[&learner])).await;
        assert_eq!(changes.unwrap(), 2);
        put(&publisher.node, "after").await;
        follow(&learner.node, &publisher.node).await;
        expect_equal(&learner.node, &publisher.node);
        // It keeps its name from then on.
        let name = learner.node.name();
        cluster.stop(2, learner).await;
        let learner = cluster.start(2).await;
        assert_eq!(learner.node.name(), name);
        cluster.stop(2, learner).await;
        cluster.stop(1, publisher).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_reset_begins_anew_and_can_be_read_when_it_has_caught_up() {
    let mut cluster = Cluster::new();
    let publisher = cluster.start(1).await;
    let learner = cluster.start(2).await;
    assert!(publisher.node.replica().is_complete() && !learner.node.replica().is_complete());
    publisher.teach(&[&learner]).await;
    fill(&publisher.node, "some", 30).await;
    follow(&learner.node, &publisher.node).await;
    let name = learner.node.name();
    learner.node.stop_following("before the reset").unwrap();
    learner.node.order_reset("a test").unwrap();
    cluster.stop(2, learner).await;
    let learner = cluster.start(2).await;
    let recovery = learner.node.recovery();
    assert!(
        recovery.text().contains("a test") && !recovery.loss(),
        "{recovery:?}"
    );
    assert!(learner.node.name() != name && learner.node.facts().stopped.is_none());
    assert_eq!(learner.node.facts().applied, 0);
    assert!(!learner.node.replica().is_complete());
    publisher.teach(&[&learner]).await;
    put(&publisher.node, "after").await;
    follow(&learner.node, &publisher.node).await;
    expect_equal(&learner.node, &publisher.node);
    let limit = Instant::now() + Duration::from_secs(20);
    while !learner.node.replica().is_complete() {
        assert!(Instant::now() < limit);
        tokio::task::yield_now().await;
    }
    // The next start begins where this one ended.
    cluster.stop(2, learner).await;
    let learner = cluster.start(2).await;
    assert_eq!(learner.node.recovery().findings, []);
    assert!(learner.node.replica().is_complete());
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stopped_takes_nothing_until_it_is_started_again() {
    let mut cluster = Cluster::new();
    cluster.grace = Duration::ZERO;
    let publisher = cluster.start(1).await;
    let learner = cluster.start(2).await;
    publisher.teach(&[&learner]).await;
    put(&publisher.node, "before").await;
    follow(&learner.node, &publisher.node).await;
    learner.node.stop_following("a test").unwrap();
    let index = learner.node.facts().last_log;
    fill(&publisher.node, "while", 10).await;
    // A restart changes nothing.
    cluster.stop(2, learner).await;
    let learner = cluster.start(2).await;
    assert_eq!(learner.node.facts().stopped.as_deref(), Some("a test"));
    fill(&publisher.node, "still", 10).await;
    assert_eq!(learner.node.facts().last_log, index);
    assert!(learner.node.follow().unwrap() && !learner.node.follow().unwrap());
    put(&publisher.node, "after").await;
    follow(&learner.node, &publisher.node).await;
    expect_equal(&learner.node, &publisher.node);
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_mended_at_the_publisher_s_place_while_writes_go_on() {
    let mut cluster = Cluster::new();
    let publisher = cluster.start(1).await;
    let learner = cluster.start(2).await;
    publisher.teach(&[&learner]).await;
    fill(&publisher.node, "some", 30).await;
    follow(&learner.node, &publisher.node).await;
    // Rows that came past the log.
    let store = learner.node.replica().store();
    let command = store::Command {
        transactions: vec![support::put("stray", 7, 10), support::put("some-3", 9, 10)],
    };
    store.apply(store.applied(), Some(&command)).unwrap();
    let writing = async {
        fill(&publisher.node, "meanwhile", 60).await;
    };
    let mending = async {
        let hold = learner.node.replica().hold().await;
        let here = hold.applied();
        while publisher.node.facts().applied < here + 5 {
            tokio::task::yield_now().await;
        }
        assert_eq!(learner.node.replica().store().applied().index, here);
        let contents = publisher.node.replica().store().contents(&[]).unwrap();
        assert!(contents.index >= here);
        hold.rewrite(contents).await.unwrap();
        learner.node.keep_replica().await.unwrap();
    };
    tokio::join!(writing, mending);
    follow(&learner.node, &publisher.node).await;
    expect_equal(&learner.node, &publisher.node);
    // It stays so when the replica is rebuilt.
    drop(store);
    learner.node.order_rebuild("a test").unwrap();
    cluster.stop(2, learner).await;
    let learner = cluster.start(2).await;
    follow(&learner.node, &publisher.node).await;
    expect_equal(&learner.node, &publisher.node);
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_removed_gets_nothing_more_and_harms_nobody() {
    let mut cluster = Cluster::new();
    let publisher = cluster.start(1).await;
    let learner = cluster.start(2).await;
    publisher.teach(&[&learner]).await;
    put(&publisher.node, "before").await;
    follow(&learner.node, &publisher.node).await;
    let index = learner.node.facts().last_log;
    publisher.teach(&[]).await;
    fill(&publisher.node, "after", 10).await;
    assert_eq!(publisher.node.acknowledgement(), Acknowledgement::Alone);
    // At most the entry that says that it is removed.
    assert!(learner.node.facts().last_log <= index + 1);
    cluster.stop(2, learner).await;
    // It comes back with what it had, and is not a member by that.
    let learner = cluster.start(2).await;
    put(&publisher.node, "later").await;
    assert!(learner.node.facts().last_log <= index + 1);
    let facts = publisher.node.facts();
    let members: Vec<u64> = facts.members.iter().map(|member| member.node).collect();
    assert_eq!(members, [1]);
    cluster.stop(2, learner).await;
    cluster.stop(1, publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_speaks_for_itself_only() {
    let mut cluster = Cluster::new();
    let publisher = cluster.start(1).await;
    let term = publisher.node.facts().term;
    // Node 2 would lead in the name of node 3, with a term above all.
    let mut line = peers(&cluster.wire, 2)
        .new_client(1, &openraft::BasicNode::new("n1"))
        .await;
    let request = AppendEntriesRequest {
        vote: Vote::new_committed(99, 3),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    let option = RPCOption::new(Duration::from_secs(5));
    let refused = line.append_entries(request, option).await;
    let Err(RPCError::<_, _, RaftError<u64>>::Unreachable(error)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        error.to_string().contains("in the name of another"),
        "{error}"
    );
    put(&publisher.node, "still leads").await;
    assert_eq!(publisher.node.facts().term, term);
    cluster.stop(1, publisher).await;
}
