//! A learner is promoted when the publisher is lost: the log goes on in a new
//! epoch, and nobody listens to the old one. In simulated time.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::time::Duration;

use replication::{CommitError, Epoch, Heard, Node};
use support::cluster::{Cluster, Running, expect_equal, fill, follow, put};
use support::value;

/// A publisher, node 1, with learners 2 and 3 that have caught up.
async fn three(cluster: &mut Cluster) -> [Running; 3] {
    let all = [
        cluster.start(1).await,
        cluster.start(2).await,
        cluster.start(3).await,
    ];
    let [publisher, two, three] = &all;
    publisher.teach(&[two, three]).await;
    fill(&publisher.node, "before", 20).await;
    follow(&two.node, &publisher.node).await;
    follow(&three.node, &publisher.node).await;
    all
}

/// Promotes a node: it starts again and leads.
async fn promote(cluster: &mut Cluster, number: u64, running: Running) -> (Running, Epoch) {
    let epoch = running.node.order_promotion("a test").unwrap();
    cluster.stop(number, running).await;
    let running = cluster.start(number).await;
    let facts = running.node.facts();
    assert_eq!(
        (facts.leader, facts.epoch),
        (Some(running.node.name()), epoch)
    );
    assert!(
        running
            .node
            .recovery()
            .text()
            .contains("a promotion was ordered: a test")
    );
    (running, epoch)
}

/// Starts a node again that hears of an epoch and begins anew in it.
async fn begin_anew(cluster: &mut Cluster, number: u64, running: Running, epoch: Epoch) -> Running {
    assert_eq!(running.node.hear(epoch).unwrap(), Heard::Anew);
    let name = running.node.name();
    cluster.stop(number, running).await;
    let running = cluster.start(number).await;
    let facts = running.node.facts();
    assert_eq!((facts.epoch, facts.applied), (epoch, 0));
    assert_ne!(running.node.name(), name);
    assert!(!running.node.replica().is_complete());
    running
}

fn has(node: &Node, key: &str) -> bool {
    value(&node.replica().store(), key) > 0
}

/// Lets simulated time pass, in which the nodes say what they have to say.
async fn minutes_pass(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_goes_on_without_the_publisher_and_nobody_takes_a_write_of_the_old_one() {
    let mut cluster = Cluster::new();
    cluster.grace = Duration::from_millis(500);
    let [publisher, two, three] = three(&mut cluster).await;
    cluster.stop(1, publisher).await;
    let (two, epoch) = promote(&mut cluster, 2, two).await;
    assert!(epoch > Epoch::default() && epoch.founder == 2);
    put(&two.node, "new").await;
    // Who follows the old log is told nothing of the new one until it begins anew.
    two.teach(&[&three]).await;
    minutes_pass(1).await;
    assert!(!has(&three.node, "new"));
    let three = begin_anew(&mut cluster, 3, three, epoch).await;
    two.teach(&[&three]).await;
    follow(&three.node, &two.node).await;
    expect_equal(&three.node, &two.node);
    assert!(has(&three.node, "before-7") && has(&three.node, "new"));

    // The old publisher comes back and leads the old log, all by itself.
    let old = cluster.start(1).await;
    fill(&old.node, "old", 5).await;
    minutes_pass(2).await;
    put(&two.node, "newer").await;
    follow(&three.node, &two.node).await;
    for running in [&two, &three] {
        assert_eq!(running.node.facts().epoch, epoch);
        assert!(
            !has(&running.node, "old-0"),
            "a write of the old log arrived"
        );
    }
    assert!(!has(&old.node, "newer"));
    expect_equal(&three.node, &two.node);

    // From when it hears of the new one it takes nothing any more.
    assert_eq!(old.node.hear(epoch).unwrap(), Heard::Superseded);
    assert_eq!(old.node.hear(epoch).unwrap(), Heard::Nothing);
    let refused = async |node: &Node| node.commit(support::put("no", 1, 1)).await.unwrap_err();
    let error = refused(&old.node).await;
    assert!(
        matches!(error, CommitError::Superseded(by) if by == epoch),
        "{error}"
    );
    assert!(
        error.to_string().contains("utils dbreplication reset"),
        "{error}"
    );
    cluster.stop(1, old).await;
    let old = cluster.start(1).await;
    assert_eq!(old.node.facts().superseded, Some(epoch));
    refused(&old.node).await;
    assert!(
        has(&old.node, "old-0"),
        "what only it has can still be read"
    );

    // Reset, it is a learner like another.
    old.node.order_reset("a test").unwrap();
    cluster.stop(1, old).await;
    let old = cluster.start(1).await;
    let facts = old.node.facts();
    assert_eq!(
        (facts.epoch, facts.superseded, facts.applied),
        (epoch, None, 0)
    );
    two.teach(&[&three, &old]).await;
    put(&two.node, "newest").await;
    follow(&old.node, &two.node).await;
    expect_equal(&old.node, &two.node);
    assert!(!has(&old.node, "old-0"));
    for (number, running) in [(1, old), (2, two), (3, three)] {
        cluster.stop(number, running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_and_not_applied_yet_is_kept() {
    let mut cluster = Cluster::new();
    let publisher = cluster.start(1).await;
    let learner = cluster.start(2).await;
    publisher.teach(&[&learner]).await;
    fill(&publisher.node, "before", 5).await;
    follow(&learner.node, &publisher.node).await;
    // In its log, and answered, before it is in its replica.
    let hold = learner.node.replica().hold().await;
    fill(&publisher.node, "acknowledged", 5).await;
    assert!(!has(&learner.node, "acknowledged-4"));
    cluster.stop(1, publisher).await;
    let epoch = learner.node.order_promotion("a test").unwrap();
    drop(hold);
    cluster.stop(2, learner).await;
    let learner = cluster.start(2).await;
    assert_eq!(learner.node.facts().epoch, epoch);
    assert!(has(&learner.node, "acknowledged-4"));
    // The order is carried out once.
    let index = learner.node.facts().last_log;
    cluster.stop(2, learner).await;
    let learner = cluster.start(2).await;
    assert_eq!(learner.node.facts().epoch, epoch);
    assert!(learner.node.recovery().findings.is_empty());
    assert!(learner.node.facts().last_log > index, "it leads again");
    cluster.stop(2, learner).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_that_are_promoted_at_once_one_counts() {
    let mut cluster = Cluster::new();
    let [publisher, two, three] = three(&mut cluster).await;
    cluster.stop(1, publisher).await;
    let (two, second) = promote(&mut cluster, 2, two).await;
    let (three, third) = promote(&mut cluster, 3, three).await;
    assert!(third > second);
    put(&two.node, "lost").await;
    put(&three.node, "kept").await;
    assert_eq!(three.node.hear(second).unwrap(), Heard::Nothing);
    assert_eq!(two.node.hear(third).unwrap(), Heard::Superseded);
    assert!(two.node.commit(support::put("no", 1, 1)).await.is_err());
    put(&three.node, "more").await;
    // It can be promoted again, on purpose, with what it has.
    let (two, last) = promote(&mut cluster, 2, two).await;
    assert!(last > third && two.node.facts().superseded.is_none());
    assert!(has(&two.node, "lost") && !has(&two.node, "kept"));
    assert_eq!(three.node.hear(last).unwrap(), Heard::Superseded);
    cluster.stop(2, two).await;
    cluster.stop(3, three).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_data_is_not_promoted_and_joins_any_epoch() {
    let mut cluster = Cluster::new();
    let [publisher, two, three] = three(&mut cluster).await;
    cluster.stop(1, publisher).await;
    let (two, epoch) = promote(&mut cluster, 2, two).await;
    let four = cluster.start(4).await;
    assert!(four.node.order_promotion("a test").is_err());
    // It has nothing to give up, so that it need not begin anew.
    assert_eq!(four.node.hear(epoch).unwrap(), Heard::Nothing);
    assert_eq!(four.node.facts().epoch, epoch);
    two.teach(&[&four]).await;
    put(&two.node, "new").await;
    follow(&four.node, &two.node).await;
    expect_equal(&four.node, &two.node);
    cluster.stop(2, two).await;
    cluster.stop(3, three).await;
    cluster.stop(4, four).await;
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_lost_its_log_leads_no_more_and_what_a_learner_has_is_not_lost() {
    let mut cluster = Cluster::new();
    let [publisher, two, three] = three(&mut cluster).await;
    // The replica of the last start, and a log that is gone.
    let old = tempfile::tempdir().unwrap();
    cluster.stop(1, publisher).await;
    support::copy(cluster.folder(1), old.path());
    let publisher = cluster.start(1).await;
    publisher.teach(&[&two, &three]).await;
    fill(&publisher.node, "acknowledged", 10).await;
    follow(&two.node, &publisher.node).await;
    cluster.stop(1, publisher).await;
    let folder = cluster.folder(1).to_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    support::copy(old.path(), &folder);
    std::fs::remove_file(folder.join("log.redb")).unwrap();
    let publisher = cluster.start(1).await;
    assert!(publisher.node.recovery().loss());
    let refused = publisher.node.commit(support::put("no", 1, 1)).await;
    assert_eq!(refused.unwrap_err(), CommitError::Forgot);
    let before = two.node.facts().last_log;
    minutes_pass(2).await;
    assert_eq!(two.node.facts().last_log, before, "nothing is overwritten");
    assert!(has(&two.node, "acknowledged-9") && !has(&publisher.node, "acknowledged-9"));
    let (two, epoch) = promote(&mut cluster, 2, two).await;
    let publisher = begin_anew(&mut cluster, 1, publisher, epoch).await;
    two.teach(&[&publisher]).await;
    put(&two.node, "new").await;
    follow(&publisher.node, &two.node).await;
    expect_equal(&publisher.node, &two.node);
    assert!(has(&publisher.node, "acknowledged-9"));
    cluster.stop(1, publisher).await;
    cluster.stop(2, two).await;
    cluster.stop(3, three).await;
}
