//! Every node votes: the loss of the one that leads has another one elected,
//! and nothing that was acknowledged is lost. In simulated time.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use replication::{Acknowledgement, CommitError, Heard, Voting, number};
use support::cluster::{Cluster, Running, expect_equal, fill, follow, put};
use support::voting::{ELECTION, elected, has, leader, stop, until, voters, voting};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn when_the_publisher_is_lost_another_is_elected_within_5_s_and_has_every_write() {
    let mut cluster = Cluster::new();
    let mut all = voters(&mut cluster, &[2, 3]).await;
    let majority = || all[0].node.acknowledgement() == Acknowledgement::Majority;
    until("a majority counts", ELECTION, majority).await;
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..6 {
        let lost = leader(&all).unwrap();
        let own = number(all[lost].node.name());
        // It is cut off in the middle of a write, at another moment each time.
        let writing = async {
            for count in 0.. {
                let key = format!("r{round}-{count}");
                let write = all[lost].node.commit(support::put(&key, 1, 20));
                let cut = async {
                    if count == 25 {
                        for _ in 0..round * 5 {
                            tokio::task::yield_now().await;
                        }
                        cluster.wire.isolate(own);
                    }
                };
                match tokio::join!(write, cut).0 {
                    Ok(done) => {
                        done.unwrap();
                        acknowledged.push(key);
                    }
                    Err(error) => return (key, error),
                }
            }
            unreachable!("it is cut off");
        };
        let begin = Instant::now();
        let (unanswered, error) = writing.await;
        assert_eq!(error, CommitError::Unconfirmed);
        // It takes no more, and says at once that nothing was changed.
        let refused = all[lost].node.commit(support::put("no", 1, 1)).await;
        assert_eq!(refused, Err(CommitError::NoMajority));
        assert!(
            begin.elapsed() < Duration::from_secs(9),
            "{:?}",
            begin.elapsed()
        );
        let old = all.remove(lost);
        let new = leader(&all).expect("another one leads by now");
        for key in &acknowledged {
            assert!(
                has(&all[new].node, key),
                "{key} was acknowledged and is lost"
            );
        }
        let key = format!("after-{round}");
        put(&all[new].node, &key).await;
        acknowledged.push(key.clone());
        // It is back, follows, and has nothing that the others do not have.
        cluster.wire.join(own);
        until("it follows", ELECTION, || has(&old.node, &key)).await;
        follow(&old.node, &all[new].node).await;
        expect_equal(&old.node, &all[new].node);
        assert!(!has(&old.node, "no"), "what was refused was made");
        println!("round {round}: node {own} lost, {unanswered} unanswered");
        all.push(old);
        until("one leads", ELECTION, || leader(&all).is_some()).await;
    }
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn an_election_takes_less_than_5_s_also_where_one_lacks_the_last_entries() {
    let mut cluster = Cluster::new();
    let mut all = voters(&mut cluster, &[2, 3]).await;
    for round in 0..12_u64 {
        let lost = leader(&all).unwrap();
        let behind = (lost + 1 + round as usize % 2) % 3;
        let (own, late) = (all[lost].node.name(), all[behind].node.name());
        cluster.wire.isolate(number(late));
        put(&all[lost].node, &format!("late-{round}")).await;
        cluster.wire.join(number(late));
        cluster.wire.isolate(number(own));
        let begin = Instant::now();
        let old = all.remove(lost);
        let new = elected(&all).await;
        assert!(begin.elapsed() < ELECTION, "{:?}", begin.elapsed());
        println!("round {round}: {:?}", begin.elapsed());
        put(&all[new].node, &format!("next-{round}")).await;
        assert!(has(&all[new].node, &format!("late-{round}")), "it is lost");
        cluster.wire.join(number(own));
        follow(&old.node, &all[new].node).await;
        all.push(old);
        until("one leads", ELECTION, || leader(&all).is_some()).await;
    }
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_nothing_is_changed_and_everything_goes_on_when_it_is_back() {
    let mut cluster = Cluster::new();
    let all = voters(&mut cluster, &[2, 3]).await;
    cluster.wire.isolate(2);
    put(&all[0].node, "two of three").await;
    cluster.wire.isolate(3);
    let begin = Instant::now();
    let refused = all[0].node.commit(support::put("open", 1, 1)).await;
    assert_eq!(refused, Err(CommitError::Unconfirmed));
    assert!(begin.elapsed() < Duration::from_secs(9));
    let refused = all[0].node.commit(support::put("no", 1, 1)).await;
    let error = refused.unwrap_err();
    assert_eq!(error, CommitError::NoMajority);
    for words in ["nothing was", "runtimestate", "promote"] {
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    // Nor is anybody elected by two thirds less than all, however long it takes.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(leader(&all), None);
    assert!(all[0].node.facts().contact.unwrap() > Duration::from_secs(100));
    assert!(all[1].node.facts().contact.unwrap() > Duration::from_secs(100));
    assert!(has(&all[1].node, "before-3") && has(&all[2].node, "two of three"));
    cluster.wire.join(3);
    let new = elected(&all).await;
    put(&all[new].node, "again").await;
    assert!(!has(&all[new].node, "no"));
    cluster.wire.join(2);
    until("all have it", 2 * ELECTION, || {
        all.iter().all(|one| has(&one.node, "again"))
    })
    .await;
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_all_keeps_who_votes_and_every_write() {
    let mut cluster = Cluster::new();
    let all = voters(&mut cluster, &[2, 3]).await;
    fill(&all[0].node, "kept", 10).await;
    stop(&cluster, all).await;
    // Two of them are enough.
    let mut all = vec![cluster.start(3).await, cluster.start(2).await];
    let new = elected(&all).await;
    assert_eq!(voting(&all[new]), BTreeSet::from([1, 2, 3]));
    assert!(has(&all[new].node, "kept-9"));
    put(&all[new].node, "more").await;
    let first = cluster.start(1).await;
    assert_eq!(first.node.recovery().findings, []);
    follow(&first.node, &all[new].node).await;
    assert_ne!(first.node.facts().leader, Some(first.node.name()));
    expect_equal(&first.node, &all[new].node);
    all.push(first);
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_hears_nobody_holds_nobody_up_and_ends_nobody_s_lead() {
    let mut cluster = Cluster::new();
    let all = voters(&mut cluster, &[2, 3]).await;
    cluster.wire.freeze(3);
    let begin = Instant::now();
    fill(&all[0].node, "hangs", 50).await;
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    let term = all[0].node.facts().term;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((leader(&all), all[0].node.facts().term), (Some(0), term));
    assert_eq!(all[2].node.facts().role, "candidate");
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn a_majority_that_is_lost_for_good_is_replaced_by_a_promotion() {
    let mut cluster = Cluster::new();
    let mut all = voters(&mut cluster, &[2, 3]).await;
    put(&all[0].node, "all").await;
    follow(&all[2].node, &all[0].node).await;
    cluster.wire.isolate(3);
    put(&all[0].node, "two").await;
    let three = all.pop().unwrap();
    let epoch = three.node.order_promotion("a test").unwrap();
    cluster.stop(3, three).await;
    let three = cluster.start(3).await;
    assert_eq!(three.node.facts().voting(), Voting::One);
    put(&three.node, "alone").await;
    // Either of the others may have what nobody else has: they wait for an
    // administrator, and take nothing more.
    for old in &all {
        assert_eq!(old.node.hear(epoch).unwrap(), Heard::Superseded);
        let refused = old.node.commit(support::put("no", 1, 1)).await;
        assert_eq!(refused, Err(CommitError::Superseded(epoch)));
        assert!(has(&old.node, "two") && !has(&old.node, "alone"));
    }
    all.push(three);
    stop(&cluster, all).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_stops_also_while_no_majority_confirms_what_it_wrote() {
    let mut cluster = Cluster::new();
    let mut all = voters(&mut cluster, &[2, 3]).await;
    cluster.wire.isolate(1);
    let lost = all.remove(0);
    let refused = lost.node.commit(support::put("open", 1, 1)).await;
    assert_eq!(refused, Err(CommitError::Unconfirmed));
    let stopping = cluster.stop(1, lost);
    let stopped = tokio::time::timeout(Duration::from_secs(60), stopping).await;
    stopped.expect("it stops");
    // Back with an entry that the others do not have, it follows them.
    let new = elected(&all).await;
    put(&all[new].node, "meanwhile").await;
    cluster.wire.join(1);
    let back = cluster.start(1).await;
    follow(&back.node, &all[new].node).await;
    assert!(!has(&back.node, "open"));
    expect_equal(&back.node, &all[new].node);
    all.push(back);
    stop(&cluster, all).await;
}

/// Has whoever leads make a change, as `database` does: while nobody leads it is
/// tried again. Answers how long that took.
async fn change(all: &[Running], key: &str) -> Duration {
    let begin = Instant::now();
    loop {
        let leads = |one: &&Running| one.node.facts().leader == Some(one.node.name());
        let done = match all.iter().find(leads) {
            Some(one) => one.node.commit(support::put(key, 1, 1)).await,
            None => Err(CommitError::Elsewhere("nobody".into())),
        };
        match done {
            Ok(done) => {
                done.unwrap();
                return begin.elapsed();
            }
            Err(CommitError::Elsewhere(_)) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{key} after {:?}: {error}", begin.elapsed()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_keeps_no_change_waiting_for_5_s() {
    let mut cluster = Cluster::new();
    let all = voters(&mut cluster, &[2, 3]).await;
    for round in 0..12_usize {
        let lead = leader(&all).unwrap();
        let away = (lead + 1 + round % 2) % 3;
        let (own, term) = (all[away].node.name(), all[lead].node.facts().term);
        cluster.wire.isolate(number(own));
        // It stands for election all the time, at another moment each round when
        // it is back; every other time it has the whole log.
        tokio::time::sleep(Duration::from_millis(60_000 + 37 * round as u64)).await;
        if round % 4 < 2 {
            put(&all[lead].node, &format!("meanwhile-{round}")).await;
        }
        let stood = all[away].node.facts().term - term;
        assert!(stood > 20, "{stood}");
        assert_eq!(leader(&all), Some(lead));
        cluster.wire.join(number(own));
        let (begin, mut longest, mut count) = (Instant::now(), Duration::ZERO, 0);
        while begin.elapsed() < Duration::from_secs(10) {
            longest = longest.max(change(&all, &format!("r{round}-{count}")).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
            count += 1;
        }
        let new = leader(&all).unwrap();
        println!("round {round}: {stood} terms later, led by {lead}, then {new}: {longest:?}");
        assert!(longest < ELECTION, "{longest:?}");
        follow(&all[away].node, &all[new].node).await;
        expect_equal(&all[away].node, &all[new].node);
    }
    stop(&cluster, all).await;
}
