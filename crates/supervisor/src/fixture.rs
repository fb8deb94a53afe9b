//! A small node for tests, with its properties as systemd gives them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use catalogue::Catalogue;

use crate::world::{Activity, Job, JobKind, Unit, World};

/// The repository's own units.
pub(crate) fn catalogue() -> Catalogue {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../units");
    Catalogue::read(&units).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A node on which every network service and both XMPP feature services run.
pub(crate) fn running(catalogue: &Catalogue) -> World {
    let mut world = World::default();
    for service in catalogue.services() {
        world.units.insert(service.unit(), served());
    }
    for id in ["authentication-service", "xmpp-connection-manager"] {
        world.activated.insert(id.into());
        edit(&mut world, id, |unit| {
            unit.part_of = vec!["xmpp-router.service".into()];
        });
    }
    let after = [
        ("database-replicator", "database.service"),
        (
            "data-monitor",
            "sysinit.target database.service database-replicator.service",
        ),
        ("xmpp-config-manager", "data-monitor.service"),
        (
            "xmpp-router",
            "data-monitor.service xmpp-config-manager.service",
        ),
        (
            "authentication-service",
            "data-monitor.service xmpp-router.service",
        ),
        (
            "xmpp-connection-manager",
            "data-monitor.service xmpp-router.service authentication-service.service",
        ),
    ];
    for (id, names) in after {
        edit(&mut world, id, |unit| {
            unit.after = names.split_whitespace().map(str::to_owned).collect();
        });
    }
    edit(&mut world, "xmpp-router", |unit| {
        unit.requires = vec!["sysinit.target".into(), "data-monitor.service".into()];
        unit.stops_with = vec![
            "authentication-service.service".into(),
            "xmpp-connection-manager.service".into(),
        ];
    });
    edit(&mut world, "data-monitor", |unit| {
        unit.stops_with = vec!["xmpp-router.service".into()];
    });
    world
}

/// A unit that serves.
pub(crate) fn served() -> Unit {
    Unit {
        loaded: true,
        active: Activity::Active,
        sub: "running".into(),
        result: "success".into(),
        condition: true,
        active_since: 1_700_000_000_000_000,
        active_since_monotonic: 10_000_000,
        inactive_since_monotonic: 0,
        ..Unit::default()
    }
}

pub(crate) fn edit(world: &mut World, id: &str, change: impl FnOnce(&mut Unit)) {
    change(world.units.get_mut(&format!("{id}.service")).unwrap());
}

/// Stopped by command at a time in seconds of the monotonic clock.
pub(crate) fn stopped(world: &mut World, id: &str, at: u64) {
    edit(world, id, |unit| {
        unit.active = Activity::Inactive;
        unit.sub = "dead".into();
        unit.code = 1;
        unit.inactive_since_monotonic = at * 1_000_000;
    });
}

/// Died by SIGKILL and waits for its next attempt.
pub(crate) fn between_attempts(world: &mut World, id: &str, restarts: u32) {
    edit(world, id, |unit| {
        unit.active = Activity::Activating;
        unit.sub = "auto-restart".into();
        unit.result = "signal".into();
        unit.code = 2;
        unit.status = 9;
        unit.restarts = restarts;
    });
}

/// Before its first start, with its start in the queue.
pub(crate) fn queued(world: &mut World, id: &str, running: bool) {
    edit(world, id, |unit| {
        unit.active = Activity::Inactive;
        unit.sub = "dead".into();
        unit.condition = false;
        unit.active_since_monotonic = 0;
    });
    job(world, id, JobKind::Start, running);
}

pub(crate) fn job(world: &mut World, id: &str, kind: JobKind, running: bool) {
    world
        .jobs
        .insert(format!("{id}.service"), Job { kind, running });
}
