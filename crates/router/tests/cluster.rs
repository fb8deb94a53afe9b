//! Random walks of three routers whose nodes share a database: whatever
//! happens to the connections between them and to the routers, nothing that
//! was acknowledged is lost, order is kept for each pair of users, and
//! everybody sees who is there.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

mod fleet;
mod world;

use fleet::{Fleet, NODES, USERS};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Send {
        from: usize,
        to: usize,
        bare: bool,
    },
    /// Nothing passes between two nodes any more, or again.
    Cut(usize, usize),
    Heal(usize, usize),
    /// The connections between two nodes end, with what is on its way.
    Reset(usize, usize),
    /// How long everything between two nodes takes.
    Delay(usize, usize, u64),
    /// The router of a node dies and starts anew.
    Crash(usize),
    /// A user is moved to another node.
    Move(usize, usize),
    /// The users of a home go to the other node of the pair, or back.
    HandOver {
        home: usize,
        to: usize,
        gap: u64,
    },
    /// A node of the pair is lost, and taken over; and is there again.
    Lose(usize, u64),
    Revive(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..USERS.len();
    let pair = || (0..NODES, 1..NODES).prop_map(|(a, by)| (a, (a + by) % NODES));
    prop_oneof![
        20 => (user(), user(), any::<bool>()).prop_map(|(from, to, bare)| Step::Send { from, to, bare }),
        2 => pair().prop_map(|(a, b)| Step::Cut(a, b)),
        3 => pair().prop_map(|(a, b)| Step::Heal(a, b)),
        2 => pair().prop_map(|(a, b)| Step::Reset(a, b)),
        2 => (pair(), 0u64..300).prop_map(|((a, b), delay)| Step::Delay(a, b, delay)),
        1 => (0..NODES).prop_map(Step::Crash),
        1 => (user(), 0..NODES).prop_map(|(user, node)| Step::Move(user, node)),
        6 => (1u64..1500).prop_map(Step::Wait),
        2 => (1500u64..15_000).prop_map(Step::Wait),
    ]
}

/// What can happen to a pair as well. Nobody is moved by hand meanwhile.
fn step_of_pair() -> impl Strategy<Value = Step> {
    let node = || 0usize..2;
    let others = step().prop_filter("no moves", |step| !matches!(step, Step::Move(..)));
    prop_oneof![
        20 => others,
        2 => (node(), node(), 0u64..800).prop_map(|(home, to, gap)| Step::HandOver { home, to, gap }),
        1 => (node(), 100u64..6000).prop_map(|(node, after)| Step::Lose(node, after)),
        2 => node().prop_map(Step::Revive),
    ]
}

fn walk(mut fleet: Fleet, steps: &[Step]) -> Fleet {
    for step in steps {
        match *step {
            Step::Send { from, to, bare } => fleet.send(from, to, bare),
            Step::Cut(a, b) => fleet.cut(a, b),
            Step::Heal(a, b) => fleet.heal(a, b),
            Step::Reset(a, b) => fleet.reset(a, b),
            Step::Delay(a, b, delay) => fleet.delay(a, b, delay),
            Step::Crash(node) => fleet.crash(node),
            Step::Move(user, node) => fleet.move_user(user, node),
            Step::HandOver { home, to, gap } => fleet.hand_over(home, to, gap),
            Step::Lose(node, after) => fleet.lose(node, after),
            Step::Revive(node) => fleet.revive(node),
            Step::Wait(milliseconds) => fleet.wait(milliseconds),
        }
    }
    fleet.end();
    fleet
}

/// Every message came, in order, and everybody sees everybody.
fn check(fleet: &Fleet) -> Result<(), TestCaseError> {
    for (pair, sent) in &fleet.sent {
        let mut got = fleet.got.get(pair).cloned().unwrap_or_default();
        let mut seen = std::collections::BTreeSet::new();
        got.retain(|number| seen.insert(*number));
        prop_assert_eq!(&got, sent, "from {} to {}", USERS[pair.0], USERS[pair.1]);
    }
    for (user, client) in USERS.iter().zip(&fleet.clients) {
        let expected: Vec<&str> = USERS
            .iter()
            .copied()
            .filter(|other| other != user)
            .collect();
        let seen: Vec<&str> = client.seen.iter().map(|name| &**name).collect();
        prop_assert_eq!(seen, expected, "{} sees", user);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_order_is_kept_and_presence_converges(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        check(&walk(Fleet::new(), &steps))?;
    }

    #[test]
    fn and_so_they_are_when_nodes_take_over_from_each_other(
        steps in proptest::collection::vec(step_of_pair(), 1..80),
    ) {
        check(&walk(Fleet::paired(), &steps))?;
    }
}

/// Two seconds: enough for connections and presence.
fn settled() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.wait(2000);
    fleet
}

#[test]
fn presence_goes_when_the_way_to_a_node_goes_and_comes_back_with_it() {
    let mut fleet = settled();
    let seen =
        |fleet: &Fleet, user: usize| fleet.clients[user].seen.iter().cloned().collect::<Vec<_>>();
    assert_eq!(seen(&fleet, 0), ["bob", "carol", "dave"]);
    fleet.cut(0, 1);
    fleet.wait(3000);
    // A short break is none.
    assert_eq!(seen(&fleet, 0), ["bob", "carol", "dave"]);
    fleet.wait(9000);
    assert_eq!(seen(&fleet, 0), ["carol", "dave"]);
    assert_eq!(seen(&fleet, 1), ["carol"]);
    fleet.heal(0, 1);
    fleet.wait(3000);
    assert_eq!(seen(&fleet, 0), ["bob", "carol", "dave"]);
    assert_eq!(seen(&fleet, 1), ["alice", "carol", "dave"]);
}

#[test]
fn a_message_for_a_node_that_is_not_reached_is_stored_and_comes_before_later_ones() {
    let mut fleet = settled();
    fleet.cut(0, 1);
    fleet.wait(12_000);
    fleet.send(0, 1, false);
    fleet.wait(3000);
    // It came by the database, for the node is alive.
    assert_eq!(fleet.got[&(0, 1)], [1]);
    assert_eq!(fleet.acknowledged(0), 1);
    fleet.feed_delay = 2000;
    fleet.send(0, 1, false);
    fleet.heal(0, 1);
    fleet.wait(1500);
    fleet.send(0, 1, false);
    fleet.wait(4000);
    assert_eq!(fleet.got[&(0, 1)], [1, 2, 3]);
}

#[test]
fn what_another_node_stored_while_a_client_was_away_comes_when_it_resumes() {
    let mut fleet = settled();
    fleet.disconnect(1);
    fleet.cut(0, 1);
    fleet.wait(12_000);
    fleet.send(0, 1, false);
    fleet.wait(3000);
    assert_eq!(fleet.got.get(&(0, 1)), None);
    fleet.clients[1].retry = 0;
    fleet.wait(3000);
    assert_eq!(fleet.got[&(0, 1)], [1]);
}

#[test]
fn a_request_for_a_node_that_is_not_reached_fails_in_time() {
    let mut fleet = settled();
    fleet.cut(0, 1);
    fleet.raw(
        0,
        "<iq type='get' to='bob@ex/a' id='q'><ping xmlns='urn:xmpp:ping'/></iq>",
    );
    fleet.wait(12_000);
    let error = fleet.clients[0].errors.join("");
    assert!(
        error.contains("remote-server-timeout") && error.contains("id='q'"),
        "{error}"
    );
}

#[test]
fn who_signs_in_at_another_node_is_told_where_to_go() {
    let mut fleet = settled();
    let last = fleet.sign_in_at(1, 0);
    assert!(
        last.contains(
            "<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>192.0.2.2</see-other-host>"
        ),
        "{last}"
    );
}

#[test]
fn whose_home_changes_is_sent_there() {
    let mut fleet = settled();
    fleet.move_user(0, 2);
    fleet.wait(3000);
    assert_eq!(fleet.clients[0].node, 2);
    assert!(fleet.clients[0].up);
    fleet.send(1, 0, false);
    fleet.wait(3000);
    assert_eq!(fleet.got[&(1, 0)], [1]);
    assert!(fleet.clients[1].seen.contains("alice"));
}

#[test]
fn who_claims_a_home_with_a_higher_epoch_serves_it() {
    let mut fleet = settled();
    fleet.claim(2, &[("three", 0), ("two", 2)]);
    fleet.wait(3000);
    assert_eq!(fleet.clients[1].node, 2, "bob was at home at two");
    fleet.send(0, 1, true);
    fleet.wait(3000);
    assert_eq!(fleet.got[&(0, 1)], [1]);
    // Its claim goes: nobody serves the home until somebody says so.
    fleet.claim(1, &[]);
    fleet.claim(2, &[("three", 0)]);
    fleet.wait(3000);
    assert!(!fleet.clients[1].up);
    fleet.send(0, 1, true);
    fleet.wait(3000);
    fleet.claim(1, &[("two", 3)]);
    fleet.wait(3000);
    assert_eq!(fleet.got[&(0, 1)], [1, 2]);
}

fn settled_pair() -> Fleet {
    let mut fleet = Fleet::paired();
    fleet.wait(2000);
    for client in &mut fleet.clients {
        client.gone.clear();
    }
    fleet
}

/// Nobody saw these go.
fn nobody_saw_go(fleet: &Fleet, names: &[&str]) {
    for (client, user) in fleet.clients.iter().zip(USERS) {
        let went = |name: &String| names.contains(&name.as_str());
        assert!(
            !client.gone.iter().any(went),
            "{user} saw {:?} go",
            client.gone
        );
    }
}

#[test]
fn contacts_do_not_see_that_users_go_to_the_other_node_and_back() {
    let mut fleet = settled_pair();
    fleet.hand_over(0, 1, 300);
    fleet.wait(30_000);
    assert_eq!((fleet.clients[0].node, fleet.clients[3].node), (1, 1));
    nobody_saw_go(&fleet, &["alice", "dave"]);
    fleet.send(2, 0, false);
    fleet.wait(1000);
    fleet.hand_over(0, 0, 300);
    fleet.wait(30_000);
    assert_eq!(fleet.clients[0].node, 0);
    nobody_saw_go(&fleet, &["alice", "dave"]);
    // It was not acknowledged when her session went, and so came again.
    assert!(fleet.got[&(2, 0)].iter().all(|number| *number == 1));
    // What became of them later is seen as ever.
    fleet.raw(0, "<presence type='unavailable'/>");
    fleet.wait(100);
    for other in [1, 2, 3] {
        assert!(!fleet.clients[other].seen.contains("alice"), "{other}");
    }
}

#[test]
fn contacts_do_not_see_that_a_node_is_lost_until_its_users_had_time_to_come_back() {
    let mut fleet = settled_pair();
    // Alice's client is not as fast as dave's.
    fleet.clients[0].retry = u64::MAX;
    fleet.lose(0, 6000);
    fleet.send(1, 0, false);
    fleet.send(2, 0, true);
    fleet.wait(60_000);
    assert!(fleet.clients[3].up && fleet.clients[3].node == 1);
    nobody_saw_go(&fleet, &["alice", "dave"]);
    // Messages were stored, and so acknowledged.
    assert_eq!((fleet.acknowledged(1), fleet.acknowledged(2)), (1, 1));
    assert_eq!(fleet.got.get(&(1, 0)), None);
    fleet.clients[0].retry = 0;
    fleet.wait(3000);
    assert_eq!(
        (&fleet.got[&(1, 0)], &fleet.got[&(2, 0)]),
        (&vec![1], &vec![2])
    );
    nobody_saw_go(&fleet, &["alice", "dave"]);
    fleet.wait(600_000);
    nobody_saw_go(&fleet, &["alice", "dave"]);
}

#[test]
fn who_does_not_come_back_in_time_is_gone() {
    let mut fleet = settled_pair();
    fleet.clients[0].retry = u64::MAX;
    fleet.lose(0, 2000);
    fleet.wait(530_000);
    nobody_saw_go(&fleet, &["alice"]);
    fleet.wait(10_000);
    for other in [1, 2, 3] {
        assert!(!fleet.clients[other].seen.contains("alice"), "{other}");
        assert_eq!(fleet.clients[other].gone, ["alice"], "{other}");
    }
}

#[test]
fn what_was_told_to_one_alone_goes_to_the_other_node_too() {
    let mut fleet = settled_pair();
    fleet.raw(
        0,
        "<presence to='carol@ex/a'><status>only you</status></presence>",
    );
    fleet.wait(100);
    assert_eq!(fleet.directed(0, "alice@ex/a"), ["carol@ex/a"]);
    fleet.clients[0].retry = u64::MAX;
    fleet.lose(0, 2000);
    fleet.wait(30_000);
    assert_eq!(fleet.directed(1, "alice@ex/a"), ["carol@ex/a"]);
    // Her client is back, and has told its contacts only.
    fleet.clients[0].retry = 0;
    fleet.wait(3000);
    assert_eq!(fleet.directed(1, "alice@ex/a"), ["carol@ex/a"]);
    assert!(fleet.directed(0, "alice@ex/a").is_empty());
}

#[test]
fn a_node_that_a_user_has_left_does_not_answer_for_her() {
    // A probe waits there for what a third node has stored.
    let steps = [
        Step::Delay(2, 0, 2),
        Step::Cut(1, 2),
        Step::Send {
            from: 1,
            to: 2,
            bare: false,
        },
        Step::Wait(5020),
        Step::Crash(0),
        Step::Crash(2),
        Step::Heal(2, 1),
        Step::Wait(186),
        Step::Move(2, 0),
    ];
    check(&walk(Fleet::new(), &steps)).unwrap();
}
