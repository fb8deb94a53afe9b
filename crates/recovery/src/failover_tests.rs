//! What a pair does beyond the rows of the table: cut links, nodes that hang,
//! clocks that jump, failovers that come too often.

use crate::simulation::{ROUTER, World};
use crate::{Arbiter, Node, Parameters, Reason, Request, Standing, State, Transition};

const ONE: Node = Node::One;
const TWO: Node = Node::Two;
const NORMAL: Standing = Standing::new(State::Normal, Reason::Normal);

fn normal(parameters: Parameters, arbiter: Arbiter) -> World {
    let mut world = World::new(parameters, arbiter, 7);
    world.seconds(10);
    assert_pair(&world, NORMAL, NORMAL);
    world
}

fn fast(arbiter: Arbiter) -> World {
    normal(Parameters::fast(), arbiter)
}

#[track_caller]
fn assert_pair(world: &World, one: Standing, two: Standing) {
    let pair = Node::BOTH.map(|node| world.standing(node));
    assert_eq!(pair, [Some(one), Some(two)]);
    assert_eq!(world.violations, Vec::<String>::new());
}

fn cut_both(world: &mut World, cut: bool) {
    for node in Node::BOTH {
        world.cut(node, cut);
    }
}

/// The step in which a node came to a state.
fn came_to(world: &World, node: Node, state: State) -> &Transition {
    let mut history = world.history(node).iter().rev();
    let found = history.find(|one| one.to.state == state && one.from.state != state);
    found.unwrap_or_else(|| panic!("{node} never was {state}"))
}

/// How many ms it takes until that is so.
fn until(world: &mut World, holds: impl Fn(&World) -> bool) -> u64 {
    let start = world.time;
    while !holds(world) {
        assert!(world.time < start + 600_000, "not within ten minutes");
        world.run(1);
    }
    world.time - start
}

#[test]
fn fast_detects_a_silent_loss_in_three_seconds_and_a_bit() {
    let mut longest = 0;
    for phase in 0..60 {
        let mut world = fast(Arbiter::ThirdNode);
        world.run(50 * phase);
        world.power_off(ONE);
        longest = longest.max(until(&mut world, |world| world.servers(ONE) == [TWO]));
    }
    assert!((3000..=3500).contains(&longest), "{longest}");
}

#[test]
fn a_planned_failover_has_a_gap_of_one_message() {
    let mut world = normal(Parameters::default(), Arbiter::ThirdNode);
    world.request(ONE, Request::Failover).unwrap();
    assert_eq!(world.servers(ONE), [], "let go at once");
    let ms = until(&mut world, |world| world.servers(ONE) == [TWO]);
    assert!(ms <= 5, "{ms}");
}

#[test]
fn users_let_go_are_not_served_twice_when_the_link_is_cut_meanwhile() {
    let mut world = fast(Arbiter::ThirdNode);
    // Its peer hears of the failover, and is not heard any more.
    world.cut(TWO, true);
    world.request(ONE, Request::Failover).unwrap();
    until(&mut world, |world| world.servers(ONE) == [TWO]);
    world.cut(ONE, true);
    world.seconds(60);
    assert_eq!(world.servers(ONE), [TWO]);
    cut_both(&mut world, false);
    until(&mut world, |world| {
        world.standing(ONE) == Some(Standing::new(State::Idle, Reason::OnAdminRequest))
    });
    assert_eq!(world.violations, Vec::<String>::new());
}

#[test]
fn users_let_go_are_taken_back_when_the_peer_is_lost_meanwhile() {
    let mut world = fast(Arbiter::ThirdNode);
    world.power_off(TWO);
    world.request(ONE, Request::Failover).unwrap();
    assert_eq!(world.servers(ONE), []);
    let ms = until(&mut world, |world| world.servers(ONE) == [ONE]);
    assert!((3000..=4500).contains(&ms), "{ms}");
}

#[test]
fn critical_services_that_are_down_are_an_alarm_before_they_are_a_failover() {
    let mut world = normal(Parameters::default(), Arbiter::ThirdNode);
    world.break_service(ONE, ROUTER);
    world.seconds(2);
    assert_eq!(world.alarm(ONE, "SRMCriticalServicesDown"), None);
    world.seconds(20);
    let alarm = world.alarm(ONE, "SRMCriticalServicesDown").unwrap();
    assert!(alarm.contains(ROUTER) && alarm.contains("90 s"), "{alarm}");
    assert_pair(&world, NORMAL, NORMAL);
    world.mend_service(ONE, ROUTER);
    world.seconds(20);
    assert_eq!(world.alarm(ONE, "SRMCriticalServicesDown"), None);
}

#[test]
fn who_leaves_claims_nobody_anew() {
    let mut world = normal(Parameters::default(), Arbiter::ThirdNode);
    world.leave(ONE);
    assert_eq!(world.servers(ONE), [], "let go at once");
    until(&mut world, |world| world.servers(ONE) == [TWO]);
    world.seconds(30);
    assert_eq!(world.servers(ONE), [TWO]);
    assert_eq!(world.violations, Vec::<String>::new());
}

#[test]
fn a_goodbye_needs_no_timeout() {
    let mut world = normal(Parameters::default(), Arbiter::ThirdNode);
    world.shut_down(ONE);
    let ms = until(&mut world, |world| world.servers(ONE) == [TWO]);
    assert!(ms <= 5, "{ms}");
}

#[test]
fn a_cut_between_nodes_that_a_third_one_hears_moves_nobody() {
    let mut world = fast(Arbiter::ThirdNode);
    cut_both(&mut world, true);
    world.seconds(600);
    assert_pair(&world, NORMAL, NORMAL);
    let alarm = world.alarm(ONE, "SRMPeerSilent").unwrap();
    assert!(alarm.contains("a third node hears it"), "{alarm}");
    cut_both(&mut world, false);
    world.seconds(5);
    assert_eq!(world.alarm(ONE, "SRMPeerSilent"), None);
}

#[test]
fn a_node_that_is_cut_off_takes_nobody_over() {
    for arbiter in [Arbiter::ThirdNode, Arbiter::KnownHosts] {
        let mut world = fast(arbiter);
        cut_both(&mut world, true);
        world.isolate(ONE, true);
        world.seconds(30);
        assert_eq!(world.standing(ONE), Some(NORMAL));
        let alarm = world.alarm(ONE, "SRMPeerSilent").unwrap();
        assert!(alarm.contains("cut off"), "{alarm}");
        assert_eq!(world.servers(ONE), Node::BOTH, "in two epochs");
        cut_both(&mut world, false);
        let ms = until(&mut world, |world| world.servers(ONE) == [TWO]);
        assert!(ms <= 2000, "{ms}");
    }
}

#[test]
fn two_nodes_alone_that_took_each_other_over_both_return_home() {
    let mut world = fast(Arbiter::KnownHosts);
    cut_both(&mut world, true);
    world.seconds(30);
    let backup = Standing::new(State::RunningInBackupMode, Reason::PeerDown);
    assert_pair(&world, backup, backup);
    cut_both(&mut world, false);
    world.seconds(10);
    assert_pair(&world, NORMAL, NORMAL);
    for home in Node::BOTH {
        assert_eq!(world.servers(home), [home]);
        let [known, also] = Node::BOTH.map(|node| world.machine(node).ownership(home));
        assert_eq!(known, also);
    }
    // Above the claims of the cut, 2 and 3.
    let epochs = Node::BOTH.map(|home| world.machine(ONE).ownership(home).epoch().number());
    assert_eq!(epochs, [3, 4]);
}

#[test]
fn a_node_that_is_not_heard_gives_way_to_the_higher_epoch() {
    let mut world = fast(Arbiter::KnownHosts);
    world.cut(ONE, true);
    world.seconds(30);
    assert_pair(
        &world,
        Standing::new(State::FailedOver, Reason::PeerDown),
        Standing::new(State::RunningInBackupMode, Reason::PeerDown),
    );
    let alarm = world.alarm(ONE, "SRMPeerDoesNotHear").unwrap();
    assert!(alarm.contains("messages to it are lost"), "{alarm}");
    assert!(
        !world
            .machine(ONE)
            .ownership(ONE)
            .admits(crate::Epoch::first(ONE))
    );
}

#[test]
fn a_stalled_manager_is_killed_before_its_peer_decides() {
    for parameters in [Parameters::default(), Parameters::fast()] {
        let mut world = normal(parameters, Arbiter::KnownHosts);
        let before = world.machine(ONE).clone();
        world.stall(ONE, 3_600_000);
        world.seconds(60);
        // The simulation looks whether a takeover met a manager that stalls.
        assert_eq!(world.violations, Vec::<String>::new());
        assert_ne!(*world.machine(ONE), before, "it was started anew");
        let states = Node::BOTH.map(|node| world.standing(node));
        assert!(crate::explain(states[0], states[1]).is_some(), "{states:?}");
    }
}

#[test]
fn a_clock_that_jumps_an_hour_moves_nobody() {
    let mut world = fast(Arbiter::KnownHosts);
    world.fail_service(TWO, ROUTER);
    for node in Node::BOTH {
        world.jump(node, 3_600_000);
        world.seconds(2);
    }
    world.mend_service(TWO, ROUTER);
    world.seconds(60);
    assert_pair(&world, NORMAL, NORMAL);
    assert_eq!(world.machine(ONE).ownership(ONE).epoch().number(), 1);
}

#[test]
fn the_third_failover_within_an_hour_holds_everything() {
    let mut world = fast(Arbiter::ThirdNode);
    let fail_and_return = |world: &mut World| {
        world.break_service(ONE, ROUTER);
        world.seconds(100);
        world.mend_service(ONE, ROUTER);
        world.seconds(5);
        world.request(ONE, Request::Fallback)
    };
    for _ in 0..2 {
        fail_and_return(&mut world).unwrap();
        world.seconds(5);
        assert_pair(&world, NORMAL, NORMAL);
        assert_eq!(world.alarm(ONE, "SRMFailoverHold"), None);
    }
    world.break_service(ONE, ROUTER);
    world.seconds(100);
    assert_eq!(world.servers(ONE), [TWO], "the third still helps");
    for node in Node::BOTH {
        assert!(world.machine(node).held());
        assert!(world.alarm(node, "SRMFailoverHold").is_some());
    }
    world.power_off(TWO);
    world.mend_service(ONE, ROUTER);
    world.seconds(300);
    let standing = world.standing(ONE).map(|standing| standing.state);
    assert_eq!(standing, Some(State::FailedOver), "held");
    world.power_on(TWO, 0);
    world.seconds(10);
    world.request(ONE, Request::Fallback).unwrap();
    world.seconds(5);
    assert_pair(&world, NORMAL, NORMAL);
    assert_eq!(world.alarm(ONE, "SRMFailoverHold"), None);
}

#[test]
fn a_hold_ends_after_an_hour() {
    let mut world = fast(Arbiter::ThirdNode);
    for _ in 0..3 {
        assert!(!world.machine(ONE).held());
        world.break_service(ONE, ROUTER);
        world.seconds(100);
        world.mend_service(ONE, ROUTER);
        world.seconds(5);
        if !world.machine(ONE).held() {
            world.request(ONE, Request::Fallback).unwrap();
            world.seconds(5);
        }
    }
    assert!(world.machine(ONE).held());
    world.seconds(3600);
    assert!(!world.machine(ONE).held());
    world.power_off(TWO);
    let ms = until(&mut world, |world| world.servers(ONE) == [ONE]);
    assert!(ms <= 3600, "{ms}");
}

#[test]
fn a_node_without_its_disk_learns_from_its_peer() {
    let mut world = fast(Arbiter::ThirdNode);
    world.power_off(ONE);
    world.seconds(30);
    world.lose_disk(ONE);
    world.power_on(ONE, 0);
    world.seconds(30);
    assert_eq!(world.servers(ONE), [TWO]);
    assert_eq!(world.machine(ONE).ownership(ONE).epoch().number(), 2);
    world.request(ONE, Request::Fallback).unwrap();
    world.seconds(10);
    assert_pair(&world, NORMAL, NORMAL);
}

#[test]
fn the_history_says_what_was_seen_decided_and_advised() {
    let mut world = fast(Arbiter::ThirdNode);
    world.power_off(ONE);
    world.seconds(10);
    let step = came_to(&world, TWO, State::TakingOver);
    assert_eq!(step.from, NORMAL);
    assert!(
        step.seen.contains("node 1 has been silent for 3 s"),
        "{}",
        step.seen
    );
    let decided = "Taking Over (Peer Down); serve the users of node 1 in epoch 2.";
    assert_eq!(step.decided, decided);
    let step = came_to(&world, TWO, State::RunningInBackupMode);
    assert!(step.advice.iter().any(|line| line.contains("fall back")));
    let alarm = world.alarm(TWO, "SRMFailover").unwrap();
    assert!(alarm.contains("Check the network"), "{alarm}");
}

#[test]
fn a_request_that_cannot_be_met_says_why() {
    let mut world = fast(Arbiter::ThirdNode);
    let refused = |world: &mut World, request| {
        let refusal = world.request(ONE, request).unwrap_err();
        refusal.to_string()
    };
    let words = refused(&mut world, Request::Fallback);
    assert!(
        words.contains("only while it is Idle or Failed Over"),
        "{words}"
    );
    let words = refused(&mut world, Request::Recover);
    assert!(words.contains("only nodes in failed mode"), "{words}");
    world.fail_service(TWO, ROUTER);
    world.seconds(2);
    let words = refused(&mut world, Request::Failover);
    assert!(words.contains(ROUTER), "{words}");
    world.mend_service(TWO, ROUTER);
    cut_both(&mut world, true);
    world.seconds(4);
    let words = refused(&mut world, Request::Failover);
    assert!(words.contains("not heard"), "{words}");
}
