//! Databases of nodes that all vote, in one process.

use std::time::Duration;

use peer::testing::Wire;
use replication::{Facts, Voting, number};
use store::Action;
use tempfile::TempDir;

use crate::cluster_tests::{Running, again, expect_equal, follow, pair, put, role, start, write};
use crate::rpc::mend_request::Kind;
use crate::{Error, cluster, mend, promotion, rpc, voters};

fn request(all: bool, carry_out: bool) -> rpc::VotersRequest {
    rpc::VotersRequest {
        all,
        carry_out,
        reason: "a test".into(),
    }
}

/// The replicator's word that all is well.
fn good(running: &Running) {
    running.engine.take_report(rpc::ReportRequest {
        state: 2,
        reason: "Setup Completed".into(),
        ..Default::default()
    });
}

/// A publisher, node 1, and two subscribers that have caught up.
async fn three(wire: &Wire) -> [Running; 3] {
    let (one, two) = pair(wire).await;
    one.engine.propose(put(3)).await.unwrap().unwrap();
    let three = start(wire, 3, TempDir::new().unwrap()).await;
    one.settle().await;
    follow(&two, &one).await;
    follow(&three, &one).await;
    let all = [one, two, three];
    for running in &all {
        good(running);
    }
    all
}

/// The same, and each of them votes; a subscriber was asked for that.
async fn all_vote(wire: &Wire) -> [Running; 3] {
    let all = three(wire).await;
    let said = voters::set(&all[1].engine, request(true, true)).await;
    let said = said.unwrap();
    assert!(said.refusal.is_empty() && !said.text.is_empty(), "{said:?}");
    for running in &all {
        until_all_vote(running).await;
    }
    all
}

fn voting(running: &Running) -> Voting {
    running.engine.node().facts().voting()
}

/// Waits until a node knows something of the log.
async fn until(running: &Running, what: &str, done: impl Fn(&Facts) -> bool + Send) {
    let node = running.engine.node();
    let wait = node.raft().wait(Some(Duration::from_secs(20)));
    let known = move |_: &_| done(&node.facts());
    wait.metrics(known, what).await.unwrap();
}

async fn until_all_vote(running: &Running) {
    let all = |facts: &Facts| facts.voting() == Voting::All;
    until(running, "it knows", all).await;
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_go_to_whoever_is_elected_and_the_old_publisher_follows() {
    let wire = Wire::default();
    let [one, two, three] = all_vote(&wire).await;
    let folder = one.stop(&wire, 1).await;
    // Asked at once, before anybody is elected.
    let asked = tokio::join!(two.engine.propose(put(7)), three.engine.propose(put(8)));
    asked.0.unwrap().unwrap();
    asked.1.unwrap().unwrap();
    let new = if two.engine.leads() { &two } else { &three };
    assert!(new.engine.leads());
    cluster::settle_roles(&new.engine).await;
    let own = cluster::name_of(&new.engine, number(new.engine.node().name()));
    assert_eq!(
        (role(new, "node1"), role(new, &own)),
        ("subscriber".into(), "publisher".into())
    );
    // There is nothing to promote.
    for running in [&two, &three] {
        let said = promotion::promote(&running.engine, true, "a test").await;
        let said = said.unwrap();
        assert!(
            said.refusal.contains("2 of 3 voters answer") && said.text.is_empty(),
            "{said:?}"
        );
    }
    let one = start(&wire, 1, folder).await;
    one.engine.propose(put(9)).await.unwrap().unwrap();
    assert!(one.has("node7") && one.has("node8") && one.has("node9"));
    assert!(!one.engine.leads());
    follow(&one, new).await;
    expect_equal(&one, new);
    // What is compared is compared with the one that leads.
    one.look().await;
    let compared = mend::compare(&one.engine, &rpc::CompareRequest::default()).await;
    let compared = compared.unwrap();
    assert!(
        compared.same_place && compared.tables.iter().all(|table| table.equal),
        "{compared:?}"
    );
    for (number, running) in [(1, one), (2, two), (3, three)] {
        running.stop(&wire, number).await;
    }
}

/// The publisher is lost and another one elected. Then that one is lost as well,
/// or the other one, so that the one that `leads` is left.
async fn without_a_majority(leads: bool) {
    let wire = Wire::default();
    let [one, two, three] = all_vote(&wire).await;
    let publisher = one.engine.node().name();
    let folder = one.stop(&wire, 1).await;
    for running in [&two, &three] {
        let elected = |facts: &Facts| facts.leader.is_some_and(|leader| leader != publisher);
        until(running, "another one is elected", elected).await;
    }
    let (left, gone) = if two.engine.leads() == leads {
        ((2, two), (3, three))
    } else {
        ((3, three), (2, two))
    };
    let lost = gone.1.stop(&wire, gone.0).await;
    let (number, left) = left;
    // It was begun, where it leads, and may be made when the others are back.
    let text = unavailable(left.engine.propose(put(6)).await);
    assert!(text.contains("no majority"), "{text}");
    let text = unavailable(left.engine.propose(put(7)).await);
    for words in ["no majority", "runtimestate", "promote"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(left.has("node3") && !left.has("node7"));
    let said = promotion::promote(&left.engine, true, "a test").await;
    let said = said.unwrap();
    assert!(said.refusal.is_empty() && !said.text.is_empty(), "{said:?}");
    let left = again(&wire, number, left).await;
    assert_eq!(voting(&left), Voting::One);
    left.engine.propose(put(7)).await.unwrap().unwrap();
    // One that voted waits for an administrator.
    let one = start(&wire, 1, folder).await;
    one.look().await;
    let text = unavailable(one.engine.propose(put(8)).await);
    assert!(text.contains("utils dbreplication reset"), "{text}");
    drop(lost);
    for (number, running) in [(1, one), (number, left)] {
        running.stop(&wire, number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_a_change_is_refused_and_a_promotion_is_not() {
    without_a_majority(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_the_one_that_leads_refuses_too_and_is_promoted() {
    without_a_majority(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_three_good_nodes_and_is_shown_before_it_is_done() {
    let wire = Wire::default();
    let (one, two) = pair(&wire).await;
    good(&one);
    good(&two);
    let said = voters::set(&one.engine, request(true, true)).await.unwrap();
    assert!(said.refusal.contains("three nodes"), "{said:?}");
    let said = voters::set(&two.engine, request(false, true))
        .await
        .unwrap();
    assert!(said.refusal.contains("only voter already"), "{said:?}");
    one.engine.propose(put(3)).await.unwrap().unwrap();
    let three = start(&wire, 3, TempDir::new().unwrap()).await;
    one.settle().await;
    follow(&three, &one).await;
    let said = voters::set(&one.engine, request(true, true)).await.unwrap();
    assert!(
        said.refusal.contains("node node3 is in state 0"),
        "{said:?}"
    );
    good(&three);
    let said = voters::set(&one.engine, request(true, false))
        .await
        .unwrap();
    assert_eq!((said.refusal.as_str(), said.text.as_str()), ("", ""));
    assert_eq!(voting(&one), Voting::One);
    let said = voters::set(&one.engine, request(true, true)).await.unwrap();
    assert!(said.text.contains("node1 leads"), "{said:?}");
    let said = voters::set(&one.engine, request(true, true)).await.unwrap();
    assert!(said.refusal.contains("votes already"), "{said:?}");
    // Back: the one that leads votes alone.
    until_all_vote(&three).await;
    let said = voters::set(&three.engine, request(false, true))
        .await
        .unwrap();
    assert!(said.text.contains("node1 is the publisher"), "{said:?}");
    assert_eq!(voting(&one), Voting::One);
    for (number, running) in [(1, one), (2, two), (3, three)] {
        running.stop(&wire, number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_is_not_stopped_and_reset_only_where_the_others_are_enough() {
    let wire = Wire::default();
    let [one, two, three] = all_vote(&wire).await;
    one.settle().await;
    let order = |kind: Kind| rpc::MendRequest {
        kind: kind.into(),
        reason: "a test".into(),
        ..Default::default()
    };
    let refused = mend::mend(&two.engine, &order(Kind::Stop)).await;
    let Err(Error::Invalid(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("voters disable"), "{text}");
    mend::mend(&three.engine, &order(Kind::Reset))
        .await
        .unwrap();
    // Node 3 is on its way to begin anew: nobody else may.
    let refused = mend::mend(&two.engine, &order(Kind::Reset)).await;
    let Err(Error::Invalid(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("1 of 3 voters"), "{text}");
    let three = again(&wire, 3, three).await;
    one.settle().await;
    follow(&three, &one).await;
    one.settle().await;
    let new = three.engine.node().name();
    let votes = |running: &Running| {
        let members = running.engine.node().facts().members;
        members
            .iter()
            .any(|member| member.voter && member.node == new)
    };
    assert!(votes(&one));
    // One that is removed votes no more, and with two left one votes.
    let gone = one.engine.propose(write(Action::Delete, 2)).await;
    gone.unwrap().unwrap();
    one.settle().await;
    assert_eq!(voting(&one), Voting::One);
    assert_eq!(one.engine.node().facts().members.len(), 2);
    for (number, running) in [(1, one), (2, two), (3, three)] {
        running.stop(&wire, number).await;
    }
}
