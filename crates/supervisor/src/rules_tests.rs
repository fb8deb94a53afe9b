//! What may be done, and what it takes.

use super::*;
use crate::fixture::{catalogue, edit, queued, running, stopped};
use crate::world::Activity;

const ROUTER: &str = "xmpp-router";
const MANAGER: &str = "xmpp-connection-manager";
const AUTHENTICATION: &str = "authentication-service";

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.into()).collect()
}

fn refused<T: std::fmt::Debug>(plan: Result<T, Refusal>, part: &str) {
    let text = plan.unwrap_err().to_string();
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

#[test]
fn an_unknown_name_says_where_the_names_are() {
    let catalogue = catalogue();
    let world = running(&catalogue);
    let error = stop("Cisco Nothing", &catalogue, &world).unwrap_err();
    assert!(matches!(&error, Refusal::NotFound(text) if text.contains("utils service list")));
}

#[test]
fn stop_of_the_router_tells_what_stops_with_it() {
    let catalogue = catalogue();
    let mut world = running(&catalogue);
    let plan = stop("Cisco XCP Router", &catalogue, &world).unwrap();
    assert_eq!(plan.calls, [Call::Stop("xmpp-router.service".into())]);
    assert_eq!(plan.also, ids(&[AUTHENTICATION, MANAGER]));
    stopped(&mut world, MANAGER, 5);
    let plan = stop(ROUTER, &catalogue, &world).unwrap();
    assert_eq!(plan.also, ids(&[AUTHENTICATION]));
}

#[test]
fn start_of_the_router_starts_nothing_else() {
    let catalogue = catalogue();
    let mut world = running(&catalogue);
    for id in [MANAGER, AUTHENTICATION, ROUTER] {
        stopped(&mut world, id, 50);
    }
    let plan = start(ROUTER, &catalogue, &world).unwrap();
    let start = Call::Start("xmpp-router.service".into());
    assert_eq!(plan.calls, [Call::Release(ROUTER.into()), start]);
    assert!(plan.also.is_empty());
}

#[test]
fn an_xmpp_service_is_not_started_before_the_router() {
    let catalogue = catalogue();
    let mut world = running(&catalogue);
    for id in [MANAGER, AUTHENTICATION, ROUTER] {
        stopped(&mut world, id, 50);
    }
    refused(
        start(AUTHENTICATION, &catalogue, &world),
        "needs Cisco XCP Router, which does not run; start that first",
    );
    // While the router waits for its own start, systemd keeps the order.
    queued(&mut world, ROUTER, false);
    start(AUTHENTICATION, &catalogue, &world).unwrap();
}

#[test]
fn nothing_starts_in_the_middle_of_stopping() {
    let catalogue = catalogue();
    let mut world = running(&catalogue);
    edit(&mut world, "web", |unit| {
        unit.active = Activity::Deactivating;
    });
    refused(
        start("Cisco Tomcat", &catalogue, &world),
        "is in the middle of stopping",
    );
    // A restart in that moment is a start.
    refused(
        restart("web", &catalogue, &world),
        "in the middle of stopping",
    );
}

#[test]
fn the_gate_is_renewed_in_place_and_never_stopped() {
    let catalogue = catalogue();
    let world = running(&catalogue);
    refused(stop("data-monitor", &catalogue, &world), "can be restarted");
    let plan = restart("data-monitor", &catalogue, &world).unwrap();
    assert!(plan.also.is_empty());
    assert_eq!(
        plan.calls.last(),
        Some(&Call::Renew("data-monitor.service".into()))
    );
}

#[test]
fn a_service_without_control_by_hand_is_left_alone() {
    let mut services: Vec<Service> = catalogue().in_start_order().cloned().collect();
    for service in &mut services {
        service.control = Control::None;
    }
    let catalogue = Catalogue::of(services);
    let world = running(&catalogue);
    refused(stop("web", &catalogue, &world), "cannot be stopped by hand");
    refused(
        start("web", &catalogue, &world),
        "cannot be started by hand",
    );
    refused(
        restart("web", &catalogue, &world),
        "cannot be restarted by hand",
    );
}

#[test]
fn network_services_are_neither_activated_nor_deactivated() {
    let catalogue = catalogue();
    let world = running(&catalogue);
    refused(
        activate(&ids(&["Cisco XCP Router"]), true, &catalogue, &world),
        "cannot be activated",
    );
    refused(
        deactivate(&ids(&["database"]), true, &catalogue, &world),
        "cannot be deactivated",
    );
}

#[test]
fn activation_offers_what_it_needs_and_does_it_when_told() {
    let catalogue = catalogue();
    let mut world = running(&catalogue);
    world.activated.clear();
    stopped(&mut world, MANAGER, 5);
    stopped(&mut world, AUTHENTICATION, 5);
    let wanted = ids(&["Cisco XCP Connection Manager"]);
    let plan = activate(&wanted, false, &catalogue, &world).unwrap();
    assert!(plan.calls.is_empty());
    assert_eq!(plan.also, ids(&[AUTHENTICATION]));

    let plan = activate(&wanted, true, &catalogue, &world).unwrap();
    let start = |id: &str| Call::Start(format!("{id}.service"));
    assert_eq!(
        plan.calls,
        [
            Call::Link(AUTHENTICATION.into()),
            Call::Link(MANAGER.into()),
            Call::Reload,
            Call::Release(AUTHENTICATION.into()),
            start(AUTHENTICATION),
            Call::Release(MANAGER.into()),
            start(MANAGER),
        ]
    );
    // Both asked for: nothing is missing.
    let both = ids(&[MANAGER, AUTHENTICATION]);
    let plan = activate(&both, false, &catalogue, &world).unwrap();
    assert!(plan.also.is_empty() && plan.calls.len() == 7);

    stopped(&mut world, ROUTER, 5);
    refused(
        activate(&both, true, &catalogue, &world),
        "needs Cisco XCP Router, which does not run",
    );
}

#[test]
fn deactivation_tells_who_needs_the_service_and_takes_them_along_when_told() {
    let catalogue = catalogue();
    let world = running(&catalogue);
    let wanted = ids(&[AUTHENTICATION]);
    let stop = |id: &str| Call::Stop(format!("{id}.service"));
    let plan = deactivate(&wanted, false, &catalogue, &world).unwrap();
    assert_eq!(plan.also, ids(&[MANAGER]));
    let unlink = Call::Unlink(AUTHENTICATION.into());
    assert_eq!(plan.calls, [unlink, Call::Reload, stop(AUTHENTICATION)]);

    let plan = deactivate(&wanted, true, &catalogue, &world).unwrap();
    assert_eq!(plan.also, ids(&[MANAGER]));
    assert_eq!(
        plan.calls,
        [
            Call::Unlink(MANAGER.into()),
            Call::Unlink(AUTHENTICATION.into()),
            Call::Reload,
            stop(MANAGER),
            stop(AUTHENTICATION),
        ]
    );
}

#[test]
fn what_is_not_activated_is_not_started() {
    let catalogue = catalogue();
    let mut world = running(&catalogue);
    world.activated.clear();
    stopped(&mut world, MANAGER, 5);
    refused(start(MANAGER, &catalogue, &world), "activate it first");
    refused(restart(MANAGER, &catalogue, &world), "activate it first");
    refused(stop(MANAGER, &catalogue, &world), "is not activated");
}

#[test]
fn a_restart_reaches_the_parts_and_their_marks() {
    let catalogue = catalogue();
    let mut world = running(&catalogue);
    let plan = restart(ROUTER, &catalogue, &world).unwrap();
    assert_eq!(plan.also, ids(&[AUTHENTICATION, MANAGER]));
    assert_eq!(
        plan.calls,
        [
            Call::Release(ROUTER.into()),
            Call::Release(AUTHENTICATION.into()),
            Call::Release(MANAGER.into()),
            Call::Restart("xmpp-router.service".into()),
        ]
    );
    // Of a service that is down it is a start.
    stopped(&mut world, "web", 5);
    let plan = restart("web", &catalogue, &world).unwrap();
    assert_eq!(plan.calls.last(), Some(&Call::Start("web.service".into())));
}

#[test]
fn a_failover_stops_critical_services_with_their_parts_and_a_fallback_starts_them() {
    let catalogue = catalogue();
    let mut world = running(&catalogue);
    let plan = suspend(&ids(&[ROUTER]), &catalogue, &world).unwrap();
    assert_eq!(plan.also, ids(&[ROUTER, AUTHENTICATION, MANAGER]));
    assert_eq!(
        plan.calls.last(),
        Some(&Call::Stop("xmpp-router.service".into()))
    );
    for id in [MANAGER, AUTHENTICATION, ROUTER] {
        stopped(&mut world, id, 50);
    }
    let plan = resume(&ids(&["database", ROUTER]), &catalogue, &world).unwrap();
    assert_eq!(plan.also, ids(&[ROUTER, AUTHENTICATION, MANAGER]));
    let starts = plan.calls.iter();
    let starts = starts.filter(|call| matches!(call, Call::Start(_)));
    assert_eq!(starts.count(), 3);
    // What is not activated stays down.
    world.activated.remove(MANAGER);
    let plan = resume(&ids(&[ROUTER]), &catalogue, &world).unwrap();
    assert_eq!(plan.also, ids(&[ROUTER, AUTHENTICATION]));
}

#[test]
fn a_failover_touches_nothing_but_critical_services() {
    let catalogue = catalogue();
    let world = running(&catalogue);
    for plan in [suspend, resume] {
        refused(
            plan(&ids(&["web"]), &catalogue, &world),
            "is no critical service",
        );
    }
    refused(
        suspend(&ids(&["database"]), &catalogue, &world),
        "not stopped",
    );
}
