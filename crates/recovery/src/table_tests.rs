//! Table 2 of seed 004, row by row: each test starts from events and ends in
//! its row.

use crate::simulation::{ROUTER, World};
use crate::{
    AUTOMATIC_FALLBACK_AFTER, Arbiter, DATABASE, Node, Parameters, Reason, Request, Settings,
    Standing, State, exact,
};

const HOME: Node = Node::One;
const BACKUP: Node = Node::Two;

/// Both nodes Normal, with the seed's parameters.
fn normal() -> World {
    let mut world = World::new(Parameters::default(), Arbiter::ThirdNode, 1);
    world.seconds(10);
    assert_row(&world, 1);
    world
}

#[track_caller]
fn assert_row(world: &World, number: u8) {
    let (home, backup) = (world.standing(HOME), world.standing(BACKUP));
    let row = exact(home, backup);
    let words = |standing: Option<Standing>| standing.map(|standing| standing.to_string());
    assert_eq!(
        row.map(|row| row.number),
        Some(number),
        "{:?} / {:?}\n{:#?}\n{:#?}",
        words(home),
        words(backup),
        world.history(HOME),
        world.history(BACKUP),
    );
    assert_eq!(world.violations, Vec::<String>::new());
}

#[track_caller]
fn assert_states(world: &World, home: (State, Reason), backup: (State, Reason)) {
    let expected = [home, backup].map(|(state, reason)| Some(Standing::new(state, reason)));
    assert_eq!([HOME, BACKUP].map(|node| world.standing(node)), expected);
}

/// Lets time pass in small steps until a node is in that state.
#[track_caller]
fn until(world: &mut World, node: Node, state: State) {
    for _ in 0..600_000 {
        if world
            .standing(node)
            .is_some_and(|standing| standing.state == state)
        {
            return;
        }
        world.run(1);
    }
    panic!("{node} is {:?}, not {state:?}", world.standing(node));
}

#[track_caller]
fn ask(world: &mut World, node: Node, request: Request) {
    world
        .request(node, request)
        .unwrap_or_else(|refusal| panic!("{refusal}"));
}

fn idle() -> World {
    let mut world = normal();
    ask(&mut world, HOME, Request::Failover);
    world.seconds(5);
    assert_row(&world, 3);
    world
}

/// The home node's router is down for good.
fn service_down() -> World {
    let mut world = normal();
    world.break_service(HOME, ROUTER);
    world.seconds(89);
    assert_row(&world, 1);
    world.seconds(10);
    assert_row(&world, 12);
    world
}

#[test]
fn row_01_both_start() {
    let world = normal();
    for home in Node::BOTH {
        assert_eq!(world.servers(home), [home]);
    }
}

#[test]
fn row_02_failover_by_hand_in_progress() {
    let mut world = normal();
    ask(&mut world, HOME, Request::Failover);
    until(&mut world, BACKUP, State::TakingOver);
    assert_row(&world, 2);
}

#[test]
fn row_03_failover_by_hand_complete() {
    let world = idle();
    assert!(!world.is_running(HOME, ROUTER));
    assert!(world.is_running(HOME, DATABASE));
    assert_eq!(world.servers(HOME), [BACKUP]);
    assert_eq!(world.servers(BACKUP), [BACKUP]);
}

#[test]
fn row_04_fallback_by_hand_in_progress() {
    let mut world = idle();
    ask(&mut world, HOME, Request::Fallback);
    until(&mut world, BACKUP, State::FallingBack);
    assert_row(&world, 4);
    world.seconds(5);
    assert_row(&world, 1);
    assert_eq!(world.servers(HOME), [HOME]);
    assert!(world.is_running(HOME, ROUTER));
}

#[test]
fn row_05_the_idle_nodes_manager_restarts() {
    let mut world = idle();
    world.kill_manager(HOME, 1000);
    world.seconds(30);
    assert_row(&world, 5);
}

#[test]
fn row_06_both_managers_restart_after_a_failover_by_hand() {
    let mut world = idle();
    world.kill_manager(HOME, 1000);
    world.kill_manager(BACKUP, 2000);
    world.seconds(30);
    assert_row(&world, 6);
}

#[test]
fn row_06_both_nodes_reboot_after_a_failover_by_hand() {
    let mut world = idle();
    for (node, pause) in [(HOME, 20_000), (BACKUP, 30_000)] {
        world.power_off(node);
        world.power_on(node, pause);
    }
    world.seconds(60);
    assert_row(&world, 6);
    assert!(!world.is_running(HOME, ROUTER));
    assert_eq!(world.servers(HOME), [BACKUP]);
}

#[test]
fn row_07_the_backups_manager_restarts() {
    let mut world = idle();
    world.kill_manager(BACKUP, 1000);
    world.seconds(30);
    assert_row(&world, 7);
}

#[test]
fn row_08_the_backups_manager_restarts_while_taking_over() {
    let mut world = normal();
    world.slow_moves = 5000;
    ask(&mut world, HOME, Request::Failover);
    until(&mut world, BACKUP, State::TakingOver);
    world.kill_manager(BACKUP, 1000);
    until(&mut world, BACKUP, State::TakingOver);
    assert_row(&world, 8);
    world.seconds(10);
    assert_row(&world, 7);
}

#[test]
fn row_09_the_home_nodes_manager_restarts_while_taking_back() {
    let mut world = idle();
    ask(&mut world, HOME, Request::Fallback);
    until(&mut world, BACKUP, State::FallingBack);
    world.kill_manager(HOME, 1000);
    until(&mut world, HOME, State::TakingBack);
    assert_row(&world, 9);
    world.seconds(10);
    assert_row(&world, 1);
}

#[test]
fn row_10_automatic_fallback() {
    let mut world = service_down();
    let settings = Settings {
        parameters: Parameters {
            automatic_fallback: true,
            ..Parameters::default()
        },
        ..world.settings.clone()
    };
    world.configure(settings);
    world.mend_service(HOME, ROUTER);
    world.seconds(AUTOMATIC_FALLBACK_AFTER.as_secs() - 5);
    assert_row(&world, 11);
    until(&mut world, BACKUP, State::FallingBack);
    assert_row(&world, 10);
    world.seconds(5);
    assert_row(&world, 1);
}

#[test]
fn no_automatic_fallback_unless_enabled() {
    let mut world = service_down();
    world.mend_service(HOME, ROUTER);
    world.seconds(3 * AUTOMATIC_FALLBACK_AFTER.as_secs());
    assert_row(&world, 11);
}

#[test]
fn row_11_services_were_started_by_hand() {
    let mut world = service_down();
    world.mend_service(HOME, ROUTER);
    world.seconds(1);
    assert_row(&world, 11);
    assert_states(
        &world,
        (State::FailedOver, Reason::CriticalServicesDown),
        (State::RunningInBackupMode, Reason::CriticalServicesDown),
    );
    ask(&mut world, HOME, Request::Fallback);
    world.seconds(5);
    assert_row(&world, 1);
}

#[test]
fn row_11_services_are_back_after_a_reboot() {
    let mut world = service_down();
    world.power_off(HOME);
    world.mend_service(HOME, ROUTER);
    world.power_on(HOME, 20_000);
    world.seconds(40);
    assert_row(&world, 11);
    assert_states(
        &world,
        (State::FailedOver, Reason::Initialization),
        (State::RunningInBackupMode, Reason::CriticalServicesDown),
    );
}

#[test]
fn row_12_a_critical_service_is_down() {
    let mut world = service_down();
    assert_eq!(world.servers(HOME), [BACKUP]);
    let refusal = world.request(HOME, Request::Fallback).unwrap_err();
    assert!(refusal.to_string().contains(ROUTER), "{refusal}");
}

#[test]
fn row_12_the_router_comes_back_within_the_delay() {
    let mut world = normal();
    world.fail_service(HOME, ROUTER);
    world.seconds(80);
    world.mend_service(HOME, ROUTER);
    world.seconds(80);
    assert_row(&world, 1);
    assert_eq!(world.machine(HOME).ownership(HOME).epoch().number(), 1);
}

#[test]
fn row_13_the_database_is_down() {
    let mut world = normal();
    world.break_service(HOME, DATABASE);
    world.seconds(100);
    assert_row(&world, 13);
}

#[test]
fn row_14_services_do_not_start_for_a_fallback() {
    let mut world = idle();
    world.break_service(HOME, ROUTER);
    ask(&mut world, HOME, Request::Fallback);
    world.seconds(80);
    assert_row(&world, 4);
    world.seconds(20);
    assert_row(&world, 14);
    assert_eq!(world.servers(HOME), [BACKUP], "served all the same");
    world.mend_service(HOME, ROUTER);
    ask(&mut world, HOME, Request::Recover);
    world.seconds(10);
    ask(&mut world, HOME, Request::Fallback);
    world.seconds(10);
    assert_row(&world, 1);
}

#[test]
fn row_15_the_backups_services_go_down() {
    let mut world = service_down();
    world.break_service(BACKUP, ROUTER);
    world.seconds(100);
    assert_row(&world, 15);
}

#[test]
fn row_15_the_backup_of_an_idle_node_goes_down() {
    let mut world = idle();
    world.break_service(BACKUP, ROUTER);
    world.seconds(100);
    assert_row(&world, 15);
    world.mend_service(BACKUP, ROUTER);
    ask(&mut world, BACKUP, Request::Recover);
    world.seconds(10);
    assert_states(
        &world,
        (State::FailedOver, Reason::Initialization),
        (State::RunningInBackupMode, Reason::Initialization),
    );
}

#[test]
fn row_15_both_nodes_are_sick_when_availability_is_enabled() {
    let mut world = normal();
    let off = Settings {
        enabled: false,
        ..world.settings.clone()
    };
    world.configure(off.clone());
    for node in Node::BOTH {
        world.break_service(node, ROUTER);
    }
    world.seconds(100);
    world.configure(Settings {
        enabled: true,
        ..off
    });
    world.seconds(100);
    assert_row(&world, 15);
}

#[test]
fn row_16_the_network_of_the_home_node_is_lost() {
    let mut world = normal();
    for node in Node::BOTH {
        world.cut(node, true);
    }
    world.isolate(HOME, true);
    world.seconds(80);
    // The home node is not there for anybody to see.
    let seen = world.machine(BACKUP).peer_standing();
    let row = exact(seen, world.standing(BACKUP));
    assert_eq!(row.map(|row| row.number), Some(16));
    assert_eq!(
        world.standing(HOME),
        Some(Standing::new(State::Normal, Reason::Normal)),
        "no change"
    );
    for node in Node::BOTH {
        world.cut(node, false);
    }
    world.isolate(HOME, false);
    world.seconds(30);
    assert_states(
        &world,
        (State::FailedOver, Reason::PeerDown),
        (State::RunningInBackupMode, Reason::PeerDown),
    );
    assert_eq!(world.servers(HOME), [BACKUP]);
    ask(&mut world, HOME, Request::Fallback);
    world.seconds(5);
    assert_row(&world, 1);
}

#[test]
fn row_16_the_home_nodes_manager_does_not_run() {
    let mut world = normal();
    world.kill_manager(HOME, 10_000_000);
    world.seconds(80);
    assert_row(&world, 16);
}

#[test]
fn row_17_the_home_node_shuts_down() {
    let mut world = normal();
    world.shut_down(HOME);
    world.seconds(2);
    assert_row(&world, 17);
    assert_eq!(world.servers(HOME), [BACKUP]);
}

#[test]
fn row_17_a_power_cut_is_recognised_when_the_node_is_back() {
    let mut world = normal();
    world.power_off(HOME);
    world.seconds(80);
    assert_row(&world, 16);
    world.power_on(HOME, 10);
    world.seconds(20);
    assert_states(
        &world,
        (State::FailedOver, Reason::Initialization),
        (State::RunningInBackupMode, Reason::PeerReboot),
    );
    world.power_off(HOME);
    world.seconds(80);
    assert_row(&world, 17);
}

#[test]
fn row_18_the_backup_does_not_see_the_home_node_when_it_starts() {
    let mut world = World::dark(Parameters::default(), Arbiter::KnownHosts, 1, None);
    world.power_on(BACKUP, 0);
    world.seconds(119);
    assert_eq!(
        world.standing(BACKUP).map(|standing| standing.state),
        Some(State::Initializing)
    );
    world.seconds(20);
    world.break_service(HOME, ROUTER);
    world.power_on(HOME, 0);
    world.seconds(20);
    assert_row(&world, 18);
    assert_eq!(
        world.standing(HOME).map(|standing| standing.state),
        Some(State::FailedOverWithCriticalServicesNotRunning)
    );
    world.mend_service(HOME, ROUTER);
    world.seconds(1);
    assert_row(&world, 18);
    ask(&mut world, HOME, Request::Fallback);
    world.seconds(5);
    assert_row(&world, 1);
}

#[test]
fn row_19_users_cannot_be_taken_over() {
    let mut world = normal();
    world.refuse_moves(BACKUP, true);
    ask(&mut world, HOME, Request::Failover);
    world.seconds(5);
    assert_row(&world, 19);
    world.refuse_moves(BACKUP, false);
    ask(&mut world, BACKUP, Request::Recover);
    world.seconds(20);
    assert_states(
        &world,
        (State::FailedOver, Reason::Initialization),
        (State::RunningInBackupMode, Reason::Initialization),
    );
}

#[test]
fn row_20_users_cannot_be_taken_back() {
    let mut world = idle();
    world.refuse_moves(HOME, true);
    ask(&mut world, HOME, Request::Fallback);
    world.seconds(5);
    assert_row(&world, 20);
    world.refuse_moves(HOME, false);
    ask(&mut world, HOME, Request::Recover);
    world.seconds(20);
    assert_row(&world, 1);
}

#[test]
fn row_21_an_internal_error() {
    let mut world = normal();
    world.internal_error(HOME);
    world.seconds(5);
    assert_row(&world, 21);
    ask(&mut world, BACKUP, Request::Recover);
    world.seconds(20);
    assert_row(&world, 1);
}

#[test]
fn row_21_a_manager_starts_beside_a_failed_one() {
    let mut world = service_down();
    world.break_service(BACKUP, ROUTER);
    world.seconds(100);
    assert_row(&world, 15);
    world.kill_manager(HOME, 1000);
    world.seconds(20);
    assert_row(&world, 21);
}

/// The home node could serve again when its backup's service fails.
fn backup_fails(service: &str) -> World {
    let mut world = service_down();
    world.mend_service(HOME, ROUTER);
    world.seconds(60);
    assert_row(&world, 11);
    world.break_service(BACKUP, service);
    world.seconds(100);
    assert_eq!(world.servers(HOME), [HOME]);
    assert_eq!(world.servers(BACKUP), [HOME]);
    world
}

#[test]
fn row_22_the_backups_database_goes_down() {
    let world = backup_fails(DATABASE);
    assert_row(&world, 22);
}

#[test]
fn row_23_the_backups_services_go_down_and_the_home_node_serves_everybody() {
    let mut world = backup_fails(ROUTER);
    assert_row(&world, 23);
    // From here on it is an ordinary failover, the other way round.
    world.mend_service(BACKUP, ROUTER);
    world.seconds(5);
    assert_row(&world, 11);
    ask(&mut world, BACKUP, Request::Fallback);
    world.seconds(5);
    assert_row(&world, 1);
}

#[test]
fn row_24_availability_is_not_enabled() {
    let mut world = idle();
    let off = Settings {
        enabled: false,
        ..world.settings.clone()
    };
    world.configure(off.clone());
    world.seconds(5);
    assert_row(&world, 24);
    for home in Node::BOTH {
        assert_eq!(world.servers(home), [home], "everybody is at home");
        let refusal = world.request(home, Request::Failover).unwrap_err();
        assert!(refusal.to_string().contains("enable it"), "{refusal}");
    }
    assert!(world.is_running(HOME, ROUTER));
    world.configure(Settings {
        enabled: true,
        ..off
    });
    world.seconds(30);
    assert_row(&world, 1);
}
