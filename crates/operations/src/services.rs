//! Services: list, start, stop, restart, activate, deactivate, auto-restart.

use std::time::Duration;

use serde::Serialize;

use crate::action::{Action, Caller, actions};
use crate::error::{Error, Result};
use crate::ports::{Service, ServiceKind, State};
use crate::{Operations, Progress};

/// How long a service may take to reach the state that was asked for before
/// the action stops watching. The service goes on by itself after that.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);

/// The services of this node.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceList {
    /// Every service, by compat name.
    pub services: Vec<Service>,
    /// Whether this node is the publisher.
    pub primary: bool,
}

/// What an activation came to.
#[derive(Clone, Debug, Serialize)]
pub struct Activation {
    /// The service, with its state afterwards.
    pub service: Service,
    /// Services that must be activated too and were not; nothing was changed
    /// when there are any.
    pub missing: Vec<Service>,
}

/// A service after it was stopped or started, and what that did not say of
/// the services that stop with it.
#[derive(Clone, Debug, Serialize)]
pub struct Turned {
    /// The service, with its state afterwards.
    #[serde(flatten)]
    pub service: Service,
    /// Compat names of the services that stopped along with it.
    pub also_stopped: Vec<String>,
    /// Compat names of the services that once stopped with it and do not
    /// start with it.
    pub still_stopped: Vec<String>,
}

impl Operations {
    /// The services and their states.
    pub async fn services(&self, caller: &Caller) -> Result<ServiceList> {
        let work = async {
            let mut services = self.supervision().services().await?;
            services.sort_by_key(|service| service.compat.to_lowercase());
            let primary = self.is_publisher().await;
            Ok(ServiceList { services, primary })
        };
        caller.does(&actions::SERVICE_LIST, "", work).await
    }

    /// Whether this node is the publisher: as the table of nodes says, and
    /// while that cannot be read as it was set up.
    async fn is_publisher(&self) -> bool {
        let Ok(own) = self.node() else {
            return false;
        };
        let nodes = self.storage().nodes().await.unwrap_or_default();
        let row = nodes.iter().find(|node| node.name == own.name);
        row.map_or(own.role == service::Role::Publisher, |row| row.publisher)
    }

    /// Finds a service by compat name, plain name or id, in any case.
    pub async fn find_service(&self, wanted: &str) -> Result<Service> {
        let wanted = wanted.trim();
        let services = self.supervision().services().await?;
        let same = |name: &str| name.eq_ignore_ascii_case(wanted);
        if let Some(found) = services
            .iter()
            .find(|one| same(&one.compat) || same(&one.id) || same(&one.name))
        {
            return Ok(found.clone());
        }
        let lower = wanted.to_lowercase();
        let near: Vec<_> = services
            .iter()
            .map(|one| one.compat.as_str())
            .filter(|name| !lower.is_empty() && name.to_lowercase().contains(&lower))
            .take(4)
            .collect();
        let hint = if near.is_empty() {
            "\"utils service list\" shows the names".to_owned()
        } else {
            format!("did you mean {}?", near.join(", "))
        };
        Err(Error::not_found(format!(
            "no service is called {wanted:?}; {hint}"
        )))
    }

    /// Starts a service and watches until it serves.
    pub async fn start_service(
        &self,
        caller: &Caller,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<Turned> {
        let work = async {
            let found = self.find_service(name).await?;
            self.supervision().start(&found.id).await?;
            let service = self.watch(&found.id, State::Started, progress).await?;
            // The supervisor's words for it; there is no other sign.
            let with = format!("stopped with {};", service.compat);
            let still = |one: &Service| is_down(one) && one.reason.contains(&with);
            Ok(Turned {
                still_stopped: self.named(still).await?,
                also_stopped: Vec::new(),
                service,
            })
        };
        caller.does(&actions::SERVICE_START, name, work).await
    }

    /// Stops a service and watches until it is down.
    pub async fn stop_service(
        &self,
        caller: &Caller,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<Turned> {
        let work = async {
            let found = self.find_service(name).await?;
            let mut ran = self.supervision().services().await?;
            ran.retain(|one| one.id != found.id && !is_down(one));
            self.supervision().stop(&found.id).await?;
            let service = self.watch(&found.id, State::Stopped, progress).await?;
            let also = |one: &Service| is_down(one) && ran.iter().any(|was| was.id == one.id);
            Ok(Turned {
                also_stopped: self.named(also).await?,
                still_stopped: Vec::new(),
                service,
            })
        };
        caller.does(&actions::SERVICE_STOP, name, work).await
    }

    /// Restarts a service and watches until it serves again.
    pub async fn restart_service(
        &self,
        caller: &Caller,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<Service> {
        let work = async {
            let found = self.find_service(name).await?;
            self.supervision().restart(&found.id).await?;
            self.watch(&found.id, State::Started, progress).await
        };
        caller.does(&actions::SERVICE_RESTART, name, work).await
    }

    /// Activates a feature service. When other services must be activated
    /// too, that is answered and nothing is done, unless `with_dependencies`.
    pub async fn activate_service(
        &self,
        caller: &Caller,
        name: &str,
        with_dependencies: bool,
        progress: Progress<'_>,
    ) -> Result<Activation> {
        let work = async {
            let found = self.feature(name).await?;
            let ids = [found.id.clone()];
            let missing = self.supervision().activate(&ids, with_dependencies).await?;
            if !missing.is_empty() && !with_dependencies {
                let all = self.supervision().services().await?;
                let missing = all
                    .into_iter()
                    .filter(|one| missing.contains(&one.id))
                    .collect();
                return Ok(Activation {
                    service: found,
                    missing,
                });
            }
            let service = self.watch(&found.id, State::Started, progress).await?;
            Ok(Activation {
                service,
                missing: Vec::new(),
            })
        };
        caller.does(&actions::SERVICE_ACTIVATE, name, work).await
    }

    /// Deactivates a feature service.
    pub async fn deactivate_service(
        &self,
        caller: &Caller,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<Service> {
        let work = async {
            let found = self.feature(name).await?;
            self.supervision().deactivate(&found.id).await?;
            self.watch(&found.id, State::Stopped, progress).await
        };
        caller.does(&actions::SERVICE_DEACTIVATE, name, work).await
    }

    /// Whether a service comes back by itself, and with `on` chooses it.
    pub async fn auto_restart(
        &self,
        caller: &Caller,
        name: &str,
        on: Option<bool>,
    ) -> Result<Service> {
        let action: &Action = match on {
            None => &actions::SERVICE_AUTO_RESTART_SHOW,
            Some(_) => &actions::SERVICE_AUTO_RESTART,
        };
        let work = async {
            let found = self.find_service(name).await?;
            if let Some(on) = on {
                self.supervision().auto_restart(&found.id, on).await?;
            }
            self.find_service(&found.id).await
        };
        caller.does(action, name, work).await
    }

    /// Compat names of the services that are so, by name.
    async fn named(&self, so: impl Fn(&Service) -> bool) -> Result<Vec<String>> {
        let services = self.supervision().services().await?;
        let found = services.into_iter().filter(|service| so(service));
        let mut names: Vec<_> = found.map(|service| service.compat).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn feature(&self, name: &str) -> Result<Service> {
        let found = self.find_service(name).await?;
        if found.kind == ServiceKind::Network {
            return Err(Error::refused(format!(
                "{} is a network service: it runs with the node and is not activated or \
                 deactivated. Use \"utils service start|stop|restart\"",
                found.compat
            )));
        }
        Ok(found)
    }

    /// Tells each change of state until the service is as wanted, has settled
    /// in another state, or the patience ends.
    async fn watch(&self, id: &str, wanted: State, progress: Progress<'_>) -> Result<Service> {
        let begin = tokio::time::Instant::now();
        let mut told = None;
        loop {
            let service = self.find_service(id).await?;
            if told != Some(service.state) {
                told = Some(service.state);
                progress(&service);
            }
            let reached = match wanted {
                State::Started => service.state == State::Started,
                _ => matches!(service.state, State::Stopped | State::NotRunning),
            };
            if reached || begin.elapsed() >= PATIENCE {
                return Ok(service);
            }
            // A service that failed may be between two attempts: look a few
            // times before it is taken for settled.
            if service.state.settled() && begin.elapsed() >= POLL * 8 {
                return Ok(service);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Whether a service is down, or on its way there.
fn is_down(service: &Service) -> bool {
    matches!(
        service.state,
        State::Stopped | State::Stopping | State::NotRunning
    )
}
