//! States and reasons, from properties as systemd 257 gives them.

use super::*;
use crate::fixture::{between_attempts, catalogue, edit, job, queued, running, stopped};

fn look(world: &World, id: &str) -> (State, String) {
    let catalogue = catalogue();
    let service = catalogue.get(id).unwrap();
    (state(service, world), reason(service, &catalogue, world))
}

fn says(world: &World, id: &str, state: State, reason: &str) {
    assert_eq!(look(world, id), (state, reason.to_owned()));
}

#[test]
fn what_serves_is_started_with_its_times() {
    let catalogue = catalogue();
    let world = running(&catalogue);
    let views = views(&catalogue, &world, 75_000_000, |_| 2);
    let router = views.iter().find(|view| view.id == "xmpp-router").unwrap();
    assert_eq!(router.state, State::Started);
    assert_eq!(router.started_at, Some(1_700_000_000));
    assert_eq!(router.up_seconds, Some(65));
    assert_eq!((router.restarts, router.critical), (2, true));
    assert!(router.auto_restart && router.activated && router.reason.is_empty());
}

#[test]
fn a_waiting_service_names_the_one_at_work_and_its_words() {
    let mut world = running(&catalogue());
    queued(&mut world, "data-monitor", true);
    edit(&mut world, "data-monitor", |unit| {
        unit.active = Activity::Activating;
        unit.sub = "start".into();
        unit.text = "replication state 1, lag 120 entries".into();
    });
    for id in [
        "xmpp-config-manager",
        "xmpp-router",
        "authentication-service",
    ] {
        queued(&mut world, id, false);
    }
    queued(&mut world, "xmpp-connection-manager", false);
    says(
        &world,
        "data-monitor",
        State::Starting,
        "replication state 1, lag 120 entries",
    );
    // The gate is named directly wherever a unit is ordered after it.
    for id in [
        "xmpp-config-manager",
        "xmpp-router",
        "xmpp-connection-manager",
    ] {
        says(
            &world,
            id,
            State::Starting,
            "waits for data-monitor: replication state 1, lag 120 entries",
        );
    }
}

#[test]
fn a_wait_is_followed_down_to_its_root() {
    let mut world = running(&catalogue());
    for id in ["database-replicator", "data-monitor"] {
        queued(&mut world, id, false);
    }
    queued(&mut world, "database", true);
    edit(&mut world, "database", |unit| {
        unit.active = Activity::Activating;
        unit.text = "replays the log".into();
    });
    queued(&mut world, "xmpp-config-manager", false);
    says(
        &world,
        "xmpp-config-manager",
        State::Starting,
        "waits for database (by way of data-monitor): replays the log",
    );
    world.jobs.clear();
    queued(&mut world, "xmpp-config-manager", false);
    between_attempts(&mut world, "data-monitor", 3);
    says(
        &world,
        "xmpp-config-manager",
        State::Starting,
        "waits for data-monitor: it was killed by SIGKILL, starts again by itself",
    );
}

#[test]
fn services_that_wait_for_each_other_end_the_search() {
    let mut world = running(&catalogue());
    queued(&mut world, "database", false);
    queued(&mut world, "web", false);
    edit(&mut world, "database", |unit| {
        unit.after = vec!["web.service".into()];
    });
    edit(&mut world, "web", |unit| {
        unit.after = vec!["database.service".into()];
    });
    let (state, reason) = look(&world, "web");
    assert_eq!(state, State::Starting);
    assert!(reason.starts_with("waits for database"), "{reason}");
}

#[test]
fn a_killed_service_is_starting_and_says_how_it_ended() {
    let mut world = running(&catalogue());
    between_attempts(&mut world, "web", 1);
    says(
        &world,
        "web",
        State::Starting,
        "was killed by SIGKILL; starts again by itself",
    );
    edit(&mut world, "web", |unit| unit.result = "watchdog".into());
    says(
        &world,
        "web",
        State::Starting,
        "hung and was killed; starts again by itself",
    );
}

#[test]
fn what_is_not_activated_or_was_commanded_says_so_in_the_words_of_the_original() {
    let mut world = running(&catalogue());
    stopped(&mut world, "xmpp-connection-manager", 50);
    world.activated.remove("xmpp-connection-manager");
    says(
        &world,
        "xmpp-connection-manager",
        State::Stopped,
        "Service Not Activated",
    );
    stopped(&mut world, "web", 50);
    says(&world, "web", State::Stopped, "Commanded Out of Service");
}

#[test]
fn what_stopped_with_the_router_says_so_even_when_the_router_is_back() {
    let mut world = running(&catalogue());
    stopped(&mut world, "xmpp-connection-manager", 48);
    stopped(&mut world, "xmpp-router", 50);
    let words = "Commanded Out of Service: stopped with Cisco XCP Router; start it with \
                 \"utils service start Cisco XCP Connection Manager\"";
    says(&world, "xmpp-connection-manager", State::Stopped, words);
    edit(&mut world, "xmpp-router", |unit| {
        unit.active = Activity::Active;
    });
    says(&world, "xmpp-connection-manager", State::Stopped, words);
    // Stopped again, on its own.
    stopped(&mut world, "xmpp-connection-manager", 300);
    says(
        &world,
        "xmpp-connection-manager",
        State::Stopped,
        "Commanded Out of Service",
    );
}

#[test]
fn what_failed_is_not_running_and_says_why() {
    let mut world = running(&catalogue());
    edit(&mut world, "web", |unit| {
        unit.active = Activity::Failed;
        unit.result = "exit-code".into();
        unit.code = 1;
        unit.status = 78;
        unit.text = "there is no certificate".into();
    });
    says(
        &world,
        "web",
        State::NotRunning,
        "is not configured: there is no certificate",
    );
    edit(&mut world, "web", |unit| {
        unit.status = 1;
        unit.text.clear();
    });
    says(&world, "web", State::NotRunning, "ended with status 1");
    edit(&mut world, "web", |unit| unit.loaded = false);
    says(
        &world,
        "web",
        State::NotRunning,
        "its unit is not installed or not valid",
    );
}

#[test]
fn a_service_that_stays_down_says_how_to_start_it() {
    let mut world = running(&catalogue());
    stopped(&mut world, "web", 60);
    world.stays_down.insert("web".into());
    edit(&mut world, "web", |unit| {
        unit.result = "exec-condition".into()
    });
    says(
        &world,
        "web",
        State::NotRunning,
        "died; automatic restart is disabled, start it with \"utils service start Cisco Tomcat\"",
    );
}

#[test]
fn a_start_that_was_given_up_names_the_broken_service() {
    let mut world = running(&catalogue());
    edit(&mut world, "data-monitor", |unit| {
        unit.active = Activity::Failed;
    });
    queued(&mut world, "xmpp-router", false);
    world.jobs.clear();
    world.given_up.insert("xmpp-router".into());
    says(
        &world,
        "xmpp-router",
        State::Stopped,
        "could not start because data-monitor did not; it starts when that one serves",
    );
}

#[test]
fn stopping_is_seen_in_the_queue_and_in_the_unit() {
    let mut world = running(&catalogue());
    job(&mut world, "xmpp-router", JobKind::Stop, false);
    says(
        &world,
        "xmpp-router",
        State::Stopping,
        "waits for services that stop first",
    );
    job(&mut world, "web", JobKind::Restart, true);
    edit(&mut world, "web", |unit| {
        unit.active = Activity::Deactivating;
    });
    says(&world, "web", State::Stopping, "stops");
    // The second half of a restart.
    edit(&mut world, "web", |unit| {
        unit.active = Activity::Inactive;
    });
    job(&mut world, "web", JobKind::Start, false);
    says(&world, "web", State::Starting, "is next to start");
}

#[test]
fn a_service_that_a_failover_stopped_says_how_it_comes_back() {
    let mut world = running(&catalogue());
    stopped(&mut world, "xmpp-router", 60);
    world.suspended.insert("xmpp-router".into());
    says(
        &world,
        "xmpp-router",
        State::Stopped,
        "Commanded Out of Service: the node was failed over; \"utils ha fallback\" starts it again",
    );
}
