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

fn walk(steps: &[Step]) -> Fleet {
    let mut fleet = Fleet::new();
    for step in steps {
        match *step {
            Step::Send { from, to, bare } => fleet.send(from, to, bare),
            Step::Cut(a, b) => fleet.cut(a, b),
            Step::Heal(a, b) => fleet.heal(a, b),
            Step::Reset(a, b) => fleet.reset(a, b),
            Step::Delay(a, b, delay) => fleet.delay(a, b, delay),
            Step::Crash(node) => fleet.crash(node),
            Step::Move(user, node) => fleet.move_user(user, node),
            Step::Wait(milliseconds) => fleet.wait(milliseconds),
        }
    }
    fleet.end();
    fleet
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_order_is_kept_and_presence_converges(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let fleet = walk(&steps);
        for (pair, sent) in &fleet.sent {
            let mut got = fleet.got.get(pair).cloned().unwrap_or_default();
            let mut seen = std::collections::BTreeSet::new();
            got.retain(|number| seen.insert(*number));
            prop_assert_eq!(&got, sent, "from {} to {}", USERS[pair.0], USERS[pair.1]);
        }
        for (user, client) in USERS.iter().zip(&fleet.clients) {
            let expected: Vec<&str> = USERS.iter().copied().filter(|other| other != user).collect();
            let seen: Vec<&str> = client.seen.iter().map(|name| &**name).collect();
            prop_assert_eq!(seen, expected, "{} sees", user);
        }
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
