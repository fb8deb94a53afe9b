//! Who votes is changed, and nothing is lost by that. In simulated time.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use replication::{Acknowledgement, CommitError, Voting, number};
use support::cluster::{Cluster, Running, expect_equal, expected, follow, put};
use support::voting::{ELECTION, elected, has, leader, learners, stop, until, voters, voting};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn who_votes_is_changed_during_writes_and_nothing_is_lost() {
    let mut cluster = Cluster::new();
    let mut all = learners(&mut cluster, &[2, 3]).await;
    let others = expected(&[&all[1], &all[2]]);
    let writing = async {
        for count in 0..150 {
            put(&all[0].node, &format!("while-{count}")).await;
        }
    };
    let changing = async {
        for _ in 0..3 {
            all[0].node.set_voting(Voting::All, &others).await.unwrap();
            assert_eq!(all[0].node.facts().voting(), Voting::All);
            assert_eq!(all[0].node.settle_members(&others).await.unwrap(), 0);
            all[0].node.set_voting(Voting::One, &others).await.unwrap();
            assert_eq!(voting(&all[0]), BTreeSet::from([1]));
        }
        all[0].node.set_voting(Voting::All, &others).await.unwrap();
    };
    tokio::join!(writing, changing);
    cluster.wire.isolate(1);
    let old = all.remove(0);
    let new = elected(&all).await;
    for count in 0..150 {
        assert!(has(&all[new].node, &format!("while-{count}")), "{count}");
    }
    // The present leader is the only voter then; the others learn, and the old
    // publisher does when it is back.
    put(&all[new].node, "elected").await;
    cluster.wire.join(1);
    follow(&old.node, &all[new].node).await;
    let others = expected(&[&old, &all[1 - new]]);
    let publisher = &all[new];
    publisher
        .node
        .set_voting(Voting::One, &others)
        .await
        .unwrap();
    let own = number(publisher.node.name());
    assert_eq!(voting(publisher), BTreeSet::from([own]));
    put(&publisher.node, "one again").await;
    assert_eq!(
        publisher.node.acknowledgement(),
        Acknowledgement::Replicated
    );
    follow(&old.node, &publisher.node).await;
    expect_equal(&old.node, &publisher.node);
    cluster.wire.isolate(own);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(old.node.facts().role, "learner");
    put(&publisher.node, "alone").await;
    cluster.wire.join(own);
    all.push(old);
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn two_nodes_elect_nobody() {
    let mut cluster = Cluster::new();
    let all = learners(&mut cluster, &[2]).await;
    let others = expected(&[&all[1]]);
    let refused = all[0].node.set_voting(Voting::All, &others).await;
    let error = refused.unwrap_err();
    assert_eq!(error, CommitError::TooFew(2));
    assert!(error.to_string().contains("takes three"), "{error}");
    assert_eq!(all[0].node.facts().voting(), Voting::One);
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_join_vote_and_those_that_leave_do_not() {
    let mut cluster = Cluster::new();
    let mut all = voters(&mut cluster, &[2, 3]).await;
    let four = cluster.start(4).await;
    all[0].teach(&[&all[1], &all[2], &four]).await;
    follow(&four.node, &all[0].node).await;
    all[0].teach(&[&all[1], &all[2], &four]).await;
    assert_eq!(voting(&all[0]), BTreeSet::from([1, 2, 3, 4]));
    // One that leaves has no vote and gets nothing more.
    all[0].teach(&[&all[1], &four]).await;
    assert_eq!(voting(&all[0]), BTreeSet::from([1, 2, 4]));
    assert_eq!(all[0].node.facts().members.len(), 3);
    put(&all[0].node, "without it").await;
    let gone = all.remove(2);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!has(&gone.node, "without it"));
    assert_eq!(leader(&all), Some(0), "it disturbs nobody");
    // With two left the one that leads votes alone, so that either may go.
    all[0].teach(&[&all[1]]).await;
    assert_eq!(voting(&all[0]), BTreeSet::from([1]));
    cluster.wire.isolate(2);
    cluster.wire.isolate(4);
    cluster.grace = Duration::ZERO;
    assert_eq!(all[0].node.facts().voting(), Voting::One);
    all.extend([gone, four]);
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_begins_anew_votes_under_its_new_name_when_it_has_caught_up() {
    let mut cluster = Cluster::new();
    let mut all = voters(&mut cluster, &[2, 3]).await;
    let three = all.pop().unwrap();
    let before = three.node.name();
    three.node.order_reset("a test").unwrap();
    cluster.stop(3, three).await;
    let three = cluster.start(3).await;
    assert_ne!(three.node.name(), before);
    all[0].teach(&[&all[1], &three]).await;
    put(&all[0].node, "meanwhile").await;
    follow(&three.node, &all[0].node).await;
    all[0].teach(&[&all[1], &three]).await;
    let names = |running: &Running| {
        let members = running.node.facts().members;
        let voters = members.iter().filter(|member| member.voter);
        voters.map(|member| member.node).collect::<Vec<_>>()
    };
    let new = three.node.name();
    assert!(names(&all[0]).contains(&new) && !names(&all[0]).contains(&before));
    assert_eq!(all[0].node.facts().members.len(), 3);
    // It counts: with it, two of three are a majority.
    cluster.wire.isolate(1);
    let old = all.remove(0);
    all.push(three);
    let leads = elected(&all).await;
    put(&all[leads].node, "with it").await;
    cluster.wire.join(1);
    all.push(old);
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_who_votes_is_not_undone_by_a_look_at_the_members_meanwhile() {
    let mut cluster = Cluster::new();
    let all = voters(&mut cluster, &[2, 3]).await;
    let others = expected(&[&all[1], &all[2]]);
    let publisher = &all[0].node;
    // As the database looks: whenever anything is new.
    let looking = async {
        let mut metrics = publisher.raft().metrics();
        while metrics.changed().await.is_ok() {
            // What is refused is tried again at the next look.
            let _ = publisher.settle_members(&others).await;
        }
    };
    let changing = async {
        for round in 0..20 {
            publisher.set_voting(Voting::One, &others).await.unwrap();
            put(publisher, &format!("one-{round}")).await;
            let alone = || all.iter().all(|one| voting(one) == BTreeSet::from([1]));
            until("one votes, and all know", ELECTION, alone).await;
            publisher.set_voting(Voting::All, &others).await.unwrap();
            put(publisher, &format!("all-{round}")).await;
            let together = || all.iter().all(|one| voting(one).len() == 3);
            until("all vote, and all know", ELECTION, together).await;
        }
    };
    tokio::select! {
        () = changing => {}
        () = looking => panic!("the engine ended"),
    }
    assert_eq!(leader(&all), Some(0));
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_who_votes_that_was_broken_off_is_ended_as_it_was_begun() {
    let mut cluster = Cluster::new();
    let all = voters(&mut cluster, &[2, 3]).await;
    let others = expected(&[&all[1], &all[2]]);
    let publisher = &all[0].node;
    for voting in [Voting::One, Voting::All] {
        let mut metrics = publisher.raft().metrics();
        tokio::select! {
            biased;
            // The first of its two steps was taken.
            begun = metrics.wait_for(|now| {
                let members = now.membership_config.membership();
                members.get_joint_config().len() > 1
            }) => drop(begun.unwrap()),
            done = publisher.set_voting(voting, &others) => panic!("{done:?}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(publisher.facts().voting(), Voting::All, "it is half done");
        assert_eq!(publisher.settle_members(&others).await.unwrap(), 1);
        assert_eq!(publisher.facts().voting(), voting);
        put(publisher, &format!("{voting:?}")).await;
    }
    stop(&cluster, all).await;
}

/// How often a node hears the one that leads within a time.
async fn heard(running: &Running, time: Duration) -> u32 {
    let (end, mut count, mut before) = (Instant::now() + time, 0, Duration::MAX);
    while Instant::now() < end {
        let ago = running.node.facts().contact.unwrap_or(Duration::MAX);
        count += u32::from(ago < before);
        before = ago;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    count
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_are_many_only_where_nodes_are_elected() {
    let mut cluster = Cluster::new();
    let all = learners(&mut cluster, &[2, 3]).await;
    let others = expected(&[&all[1], &all[2]]);
    let minute = Duration::from_secs(60);
    for _ in 0..2 {
        let few = heard(&all[1], minute).await;
        assert!((75..=85).contains(&few), "{few}");
        all[0].node.set_voting(Voting::All, &others).await.unwrap();
        let many = heard(&all[1], minute).await;
        assert!(many > 180, "{many}");
        all[0].node.set_voting(Voting::One, &others).await.unwrap();
    }
    stop(&cluster, all).await;
}
