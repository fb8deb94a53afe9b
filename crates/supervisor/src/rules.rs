//! What an administrator may do to which service, and the calls it takes.

use std::collections::BTreeSet;

use catalogue::{Catalogue, Control, Kind, Service};

use crate::view::{State, activated, state};
use crate::world::{World, id_of};

/// One step towards what was asked; unit names, not ids, where systemd is
/// called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Start(String),
    Stop(String),
    Restart(String),
    /// Ends the main process in good order; systemd starts it again, and the
    /// services that require it do not notice.
    Renew(String),
    /// Makes the link by which a feature service is activated, by id.
    Link(String),
    Unlink(String),
    /// Makes systemd read the links.
    Reload,
    /// Removes the mark that keeps a service down, by id.
    Release(String),
    /// Lets the pause between restarts begin at its shortest again.
    ResetFailed(String),
    /// Notes that a service is down because its node was failed over, by id.
    Suspend(String),
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
}

/// What to do, and which other services it reaches, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) calls: Vec<Call>,
    pub(crate) also: Vec<String>,
}

fn refuse<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal::Refused(text))
}

/// The service of an id or name.
pub(crate) fn find<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a Service, Refusal> {
    catalogue.find(name).ok_or_else(|| {
        Refusal::NotFound(format!(
            "no service of this node is called \"{name}\"; \"utils service list\" shows the names"
        ))
    })
}

fn by_hand(service: &Service, verb: &str) -> Result<(), Refusal> {
    if service.control == Control::None {
        return refuse(format!(
            "{} cannot be {verb} by hand: it runs whenever the node runs",
            service.compat
        ));
    }
    Ok(())
}

fn to_activate_first(service: &Service, world: &World) -> Result<(), Refusal> {
    if activated(service, world) {
        return Ok(());
    }
    refuse(format!(
        "{0} is not activated; activate it first: \"utils service activate {0}\"",
        service.compat
    ))
}

fn not_while_stopping(service: &Service, world: &World) -> Result<(), Refusal> {
    if state(service, world) == State::Stopping {
        return refuse(format!(
            "{} is in the middle of stopping; start it when it has stopped",
            service.compat
        ));
    }
    Ok(())
}

/// Those of `needs` that neither run nor are about to.
fn not_running<'a>(
    needs: impl Iterator<Item = &'a str>,
    catalogue: &'a Catalogue,
    world: &World,
) -> Vec<&'a Service> {
    needs
        .filter_map(|id| catalogue.get(id))
        .filter(|need| !matches!(state(need, world), State::Started | State::Starting))
        .collect()
}

fn names<'a>(services: impl IntoIterator<Item = &'a Service>) -> String {
    let names: Vec<_> = services
        .into_iter()
        .map(|service| service.compat.as_str())
        .collect();
    names.join(", ")
}

/// Starts a service.
pub(crate) fn start(name: &str, catalogue: &Catalogue, world: &World) -> Result<Plan, Refusal> {
    let service = find(catalogue, name)?;
    by_hand(service, "started")?;
    to_activate_first(service, world)?;
    not_while_stopping(service, world)?;
    let whole = world
        .unit(&service.id)
        .map_or(&[][..], |unit| &unit.part_of);
    let whole = whole.iter().filter_map(|name| id_of(name));
    let first = not_running(whole, catalogue, world);
    if !first.is_empty() {
        return refuse(format!(
            "{} needs {}, which does not run; start that first",
            service.compat,
            names(first)
        ));
    }
    Ok(Plan {
        calls: vec![
            Call::Release(service.id.clone()),
            Call::Start(service.unit()),
        ],
        also: Vec::new(),
    })
}

/// Ids of the services that systemd stops together with one, in start order.
fn stops_with(id: &str, catalogue: &Catalogue, world: &World) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![id.to_owned()];
    while let Some(id) = open.pop() {
        let Some(unit) = world.unit(&id) else {
            continue;
        };
        for name in &unit.stops_with {
            let id = id_of(name).unwrap_or(name).to_owned();
            if catalogue.get(&id).is_some() && found.insert(id.clone()) {
                open.push(id);
            }
        }
    }
    found.remove(id);
    let runs =
        |service: &&Service| matches!(state(service, world), State::Started | State::Starting);
    let services = catalogue.in_start_order().filter(runs);
    let ids = services.map(|service| service.id.clone());
    ids.filter(|id| found.contains(id)).collect()
}

/// Stops a service and all that is part of it.
pub(crate) fn stop(name: &str, catalogue: &Catalogue, world: &World) -> Result<Plan, Refusal> {
    let service = find(catalogue, name)?;
    by_hand(service, "stopped")?;
    if service.control == Control::Restart {
        return refuse(format!(
            "{} cannot be stopped by hand, because all that needs it would stop too; it can be \
             restarted",
            service.compat
        ));
    }
    if !activated(service, world) && state(service, world) == State::Stopped {
        return refuse(format!("{} is not activated", service.compat));
    }
    Ok(Plan {
        calls: vec![Call::Stop(service.unit())],
        also: stops_with(&service.id, catalogue, world),
    })
}

/// Restarts a service and all that is part of it.
pub(crate) fn restart(name: &str, catalogue: &Catalogue, world: &World) -> Result<Plan, Refusal> {
    let service = find(catalogue, name)?;
    by_hand(service, "restarted")?;
    to_activate_first(service, world)?;
    if !matches!(state(service, world), State::Started | State::Starting) {
        return start(name, catalogue, world);
    }
    if service.control == Control::Restart && state(service, world) == State::Started {
        return Ok(Plan {
            calls: vec![
                Call::Release(service.id.clone()),
                Call::Renew(service.unit()),
            ],
            also: Vec::new(),
        });
    }
    let also = stops_with(&service.id, catalogue, world);
    let mut calls = vec![Call::Release(service.id.clone())];
    calls.extend(also.iter().cloned().map(Call::Release));
    calls.push(Call::Restart(service.unit()));
    Ok(Plan { calls, also })
}

/// Those of the ids, which must be critical services of this node.
fn critical<'a>(ids: &[String], catalogue: &'a Catalogue) -> Result<Vec<&'a Service>, Refusal> {
    let service = |id: &String| {
        let service = find(catalogue, id)?;
        match service.critical || service.id == AUTHENTICATION {
            true => Ok(service),
            false => refuse(format!(
                "{} is no critical service; a failover does not stop or start it",
                service.compat
            )),
        }
    };
    ids.iter().map(service).collect()
}

/// The service that is critical when a parameter of the recovery manager says
/// so.
const AUTHENTICATION: &str = "authentication-service";
/// The service without which the node could not be managed.
const DATABASE: &str = "database";

/// Stops critical services because their node was failed over.
pub(crate) fn suspend(
    ids: &[String],
    catalogue: &Catalogue,
    world: &World,
) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    for service in critical(ids, catalogue)? {
        if service.id == DATABASE {
            return refuse("the database is not stopped at a failover".into());
        }
        let also = stops_with(&service.id, catalogue, world);
        for id in std::iter::once(&service.id).chain(&also) {
            if !plan.also.contains(id) {
                plan.calls.push(Call::Suspend(id.clone()));
                plan.also.push(id.clone());
            }
        }
        plan.calls.push(Call::Stop(service.unit()));
    }
    Ok(plan)
}

/// Starts critical services that do not run, and the activated services that
/// are part of them: a start does not reach those by itself.
pub(crate) fn resume(
    ids: &[String],
    catalogue: &Catalogue,
    world: &World,
) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    for service in critical(ids, catalogue)? {
        let unit = service.unit();
        let part = |part: &&Service| {
            let found = world.unit(&part.id);
            found.is_some_and(|found| found.part_of.contains(&unit))
        };
        let parts = catalogue.in_start_order().filter(part);
        for one in std::iter::once(service).chain(parts) {
            let runs = matches!(state(one, world), State::Started | State::Starting);
            if activated(one, world) && !runs && !plan.also.contains(&one.id) {
                plan.calls.push(Call::Release(one.id.clone()));
                plan.calls.push(Call::Start(one.unit()));
                plan.also.push(one.id.clone());
            }
        }
    }
    Ok(plan)
}

fn feature<'a>(catalogue: &'a Catalogue, name: &str, verb: &str) -> Result<&'a Service, Refusal> {
    let service = find(catalogue, name)?;
    if service.kind == Kind::Network {
        return refuse(format!(
            "{} is a network service: it runs with the node and cannot be {verb}",
            service.compat
        ));
    }
    Ok(service)
}

/// Activates feature services and starts them. `Plan::also` are services that
/// must be activated too; without `with_dependencies` the plan has no calls
/// when there are any.
pub(crate) fn activate(
    wanted: &[String],
    with_dependencies: bool,
    catalogue: &Catalogue,
    world: &World,
) -> Result<Plan, Refusal> {
    let mut all = BTreeSet::new();
    let mut open = Vec::new();
    for name in wanted {
        let service = feature(catalogue, name, "activated")?;
        not_while_stopping(service, world)?;
        open.push(service);
        all.insert(service.id.as_str());
    }
    let asked = all.clone();
    while let Some(service) = open.pop() {
        for need in &service.activation_needs {
            let Some(need) = catalogue.get(need) else {
                continue;
            };
            if need.kind == Kind::Feature && !activated(need, world) && all.insert(need.id.as_str())
            {
                open.push(need);
            }
        }
    }
    let in_order: Vec<&Service> = catalogue
        .in_start_order()
        .filter(|service| all.contains(service.id.as_str()))
        .collect();
    let missing = in_order
        .iter()
        .filter(|service| !asked.contains(service.id.as_str()));
    let also: Vec<String> = missing.map(|service| service.id.clone()).collect();
    if !also.is_empty() && !with_dependencies {
        return Ok(Plan {
            calls: Vec::new(),
            also,
        });
    }
    // Network services among the needs are the administrator's to start: he
    // stopped them.
    for service in &in_order {
        let needs = service.activation_needs.iter().map(String::as_str);
        let first = not_running(needs, catalogue, world).into_iter();
        let first = first.filter(|need| need.kind == Kind::Network);
        let first = names(first);
        if !first.is_empty() {
            return refuse(format!(
                "{} needs {first}, which does not run; start that first",
                service.compat
            ));
        }
    }
    let links = in_order
        .iter()
        .map(|service| Call::Link(service.id.clone()));
    let mut calls: Vec<Call> = links.collect();
    calls.push(Call::Reload);
    for service in in_order {
        calls.push(Call::Release(service.id.clone()));
        calls.push(Call::Start(service.unit()));
    }
    Ok(Plan { calls, also })
}

/// Deactivates feature services and stops them. `Plan::also` are activated
/// services that need them: with `with_dependents` they are deactivated too.
pub(crate) fn deactivate(
    wanted: &[String],
    with_dependents: bool,
    catalogue: &Catalogue,
    world: &World,
) -> Result<Plan, Refusal> {
    let mut all = BTreeSet::new();
    for name in wanted {
        all.insert(feature(catalogue, name, "deactivated")?.id.as_str());
    }
    let asked = all.clone();
    loop {
        let before = all.len();
        for service in catalogue.services() {
            let needs = service.activation_needs.iter();
            if world.activated.contains(&service.id)
                && needs.into_iter().any(|need| all.contains(need.as_str()))
            {
                all.insert(service.id.as_str());
            }
        }
        if all.len() == before {
            break;
        }
    }
    let mut in_order: Vec<&Service> = catalogue
        .in_start_order()
        .filter(|service| all.contains(service.id.as_str()))
        .collect();
    in_order.reverse();
    let dependents: Vec<&Service> = in_order
        .iter()
        .copied()
        .filter(|service| !asked.contains(service.id.as_str()))
        .collect();
    let also = dependents
        .iter()
        .map(|service| service.id.clone())
        .collect();
    if !with_dependents {
        in_order.retain(|service| asked.contains(service.id.as_str()));
    }
    let links = in_order
        .iter()
        .map(|service| Call::Unlink(service.id.clone()));
    let mut calls: Vec<Call> = links.collect();
    calls.push(Call::Reload);
    calls.extend(in_order.iter().map(|service| Call::Stop(service.unit())));
    Ok(Plan { calls, also })
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
