//! The interface for administration.

use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::caller::{may_change, may_fail_over};
use crate::client::NetworkChange;
use crate::files;
use crate::monitor::Monitor;
use crate::network::Applier;
use crate::proto;
use crate::proto::supervisor_server::{Supervisor, SupervisorServer};
use crate::rules::{self, Plan, Refusal};
use crate::view::{State, View};
use crate::world::World;
use catalogue::Catalogue;
use service::uds;

struct Server {
    monitor: Arc<Mutex<Monitor>>,
    network: Applier,
}

/// Serves until the token is cancelled.
pub(crate) async fn serve(
    socket: UnixListener,
    monitor: Arc<Mutex<Monitor>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let network = Applier::default();
    let server = Server { monitor, network };
    tonic::transport::Server::builder()
        .add_service(SupervisorServer::new(server))
        .serve_with_incoming_shutdown(uds::incoming(socket), stop.cancelled_owned())
        .await?;
    Ok(())
}

fn status(error: anyhow::Error) -> Status {
    match error.downcast::<Refusal>() {
        Ok(Refusal::NotFound(text)) => Status::not_found(text),
        Ok(Refusal::Refused(text)) => Status::failed_precondition(text),
        Err(error) => {
            tracing::error!("{error:#}");
            Status::internal(format!("{error:#}"))
        }
    }
}

/// Does the work to its end, also when the caller goes away before it: tonic
/// then drops the handler, and a service that was linked would not be started,
/// or a caller cut off by his own change of the network would leave it half done.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    tokio::spawn(work)
        .await
        .map_err(|error| Status::internal(format!("the command was given up: {error}")))?
}

impl Server {
    /// Makes the plan, carries it out and logs it. A caller who goes away
    /// while others have their turn has changed nothing.
    async fn change(
        &self,
        caller: String,
        action: &'static str,
        subject: String,
        plan: impl FnOnce(&Catalogue, &World) -> Result<Plan, Refusal> + Send + 'static,
    ) -> Result<Vec<String>, Status> {
        let mut monitor = self.monitor.clone().lock_owned().await;
        to_the_end(async move {
            let done = monitor.carry_out(plan).await;
            match &done {
                Ok(also) => tracing::info!(user = caller, action, subject, ?also, "Done."),
                Err(error) => tracing::info!(user = caller, action, subject, "Not done: {error:#}"),
            }
            done.map_err(status)
        })
        .await
    }
}

type Reply<T> = Result<Response<T>, Status>;

fn done(also: Vec<String>) -> Reply<proto::Done> {
    Ok(Response::new(proto::Done { also }))
}

#[tonic::async_trait]
impl Supervisor for Server {
    async fn list(&self, _: Request<proto::ListRequest>) -> Reply<proto::ListReply> {
        let views = self.monitor.lock().await.views().map_err(status)?;
        let services = views.into_iter().map(proto::Service::from).collect();
        Ok(Response::new(proto::ListReply { services }))
    }

    async fn activate(
        &self,
        request: Request<proto::ActivateRequest>,
    ) -> Reply<proto::ActivateReply> {
        let caller = may_change(request.extensions())?;
        let request = request.into_inner();
        let (ids, all) = (request.ids, request.with_dependencies);
        let missing = self
            .change(
                caller,
                "activate",
                ids.join(" "),
                move |catalogue, world| rules::activate(&ids, all, catalogue, world),
            )
            .await?;
        Ok(Response::new(proto::ActivateReply { missing }))
    }

    async fn deactivate(
        &self,
        request: Request<proto::DeactivateRequest>,
    ) -> Reply<proto::DeactivateReply> {
        let caller = may_change(request.extensions())?;
        let request = request.into_inner();
        let (ids, all) = (request.ids, request.with_dependents);
        let dependents = self
            .change(
                caller,
                "deactivate",
                ids.join(" "),
                move |catalogue, world| rules::deactivate(&ids, all, catalogue, world),
            )
            .await?;
        Ok(Response::new(proto::DeactivateReply { dependents }))
    }

    async fn start(&self, request: Request<proto::ServiceRequest>) -> Reply<proto::Done> {
        let caller = may_change(request.extensions())?;
        let id = request.into_inner().id;
        done(
            self.change(caller, "start", id.clone(), move |c, w| {
                rules::start(&id, c, w)
            })
            .await?,
        )
    }

    async fn stop(&self, request: Request<proto::ServiceRequest>) -> Reply<proto::Done> {
        let caller = may_change(request.extensions())?;
        let id = request.into_inner().id;
        done(
            self.change(caller, "stop", id.clone(), move |c, w| {
                rules::stop(&id, c, w)
            })
            .await?,
        )
    }

    async fn restart(&self, request: Request<proto::ServiceRequest>) -> Reply<proto::Done> {
        let caller = may_change(request.extensions())?;
        let id = request.into_inner().id;
        done(
            self.change(caller, "restart", id.clone(), move |c, w| {
                rules::restart(&id, c, w)
            })
            .await?,
        )
    }

    async fn suspend(&self, request: Request<proto::SuspendRequest>) -> Reply<proto::Done> {
        let caller = may_fail_over(request.extensions())?;
        let ids = request.into_inner().ids;
        done(
            self.change(caller, "suspend", ids.join(" "), move |c, w| {
                rules::suspend(&ids, c, w)
            })
            .await?,
        )
    }

    async fn resume(&self, request: Request<proto::ResumeRequest>) -> Reply<proto::Done> {
        let caller = may_fail_over(request.extensions())?;
        let ids = request.into_inner().ids;
        done(
            self.change(caller, "resume", ids.join(" "), move |c, w| {
                rules::resume(&ids, c, w)
            })
            .await?,
        )
    }

    async fn auto_restart(
        &self,
        request: Request<proto::AutoRestartRequest>,
    ) -> Reply<proto::Done> {
        let caller = may_change(request.extensions())?;
        let request = request.into_inner();
        let mut monitor = self.monitor.clone().lock_owned().await;
        to_the_end(async move {
            let found = rules::find(&monitor.catalogue, &request.id);
            let id = found.map_err(|refusal| status(refusal.into()))?.id.clone();
            let chosen = monitor.files.choose(&id, request.on);
            chosen.map_err(|error| status(error.into()))?;
            tracing::info!(user = %caller, subject = %id, on = request.on, "Automatic restart was chosen.");
            monitor.refresh_all().await.map_err(status)
        })
        .await?;
        done(Vec::new())
    }

    async fn reboot(&self, request: Request<proto::RebootRequest>) -> Reply<proto::Done> {
        let caller = may_change(request.extensions())?;
        tracing::warn!(user = %caller, "The node restarts by command.");
        let systemd = self.monitor.lock().await.systemd.clone();
        systemd.reboot().await.map_err(status)?;
        done(Vec::new())
    }

    async fn power_off(&self, request: Request<proto::PowerOffRequest>) -> Reply<proto::Done> {
        let caller = may_change(request.extensions())?;
        tracing::warn!(user = %caller, "The node shuts down by command.");
        let systemd = self.monitor.lock().await.systemd.clone();
        systemd.power_off().await.map_err(status)?;
        done(Vec::new())
    }

    async fn set_timezone(
        &self,
        request: Request<proto::SetTimezoneRequest>,
    ) -> Reply<proto::Done> {
        let caller = may_change(request.extensions())?;
        let zone = request.into_inner().zone;
        check_zone(&zone).map_err(Status::invalid_argument)?;
        let systemd = self.monitor.lock().await.systemd.clone();
        to_the_end(async move {
            systemd.set_timezone(&zone).await.map_err(status)?;
            // timedated leaves it to the kernel when its link reaches the disk.
            files::sync(Path::new("/etc")).map_err(|error| status(error.into()))?;
            tracing::info!(user = %caller, %zone, "The time zone was set.");
            Ok(())
        })
        .await?;
        done(Vec::new())
    }

    async fn set_network(&self, request: Request<proto::SetNetworkRequest>) -> Reply<proto::Done> {
        let caller = may_change(request.extensions())?;
        let change = NetworkChange::from(request.into_inner());
        let monitor = self.monitor.lock().await;
        let catalogue = monitor.catalogue.clone();
        let (files, systemd) = (monitor.files.clone(), monitor.systemd.clone());
        drop(monitor);
        let network = self.network.clone();
        let restarted = to_the_end(async move {
            tracing::info!(user = %caller, ?change, "The network settings change.");
            let applied = network.apply(change, catalogue, files, systemd).await;
            match &applied {
                Ok(restarted) => {
                    tracing::info!(user = %caller, ?restarted, "The network settings were changed.");
                }
                Err(error) => {
                    tracing::warn!(user = %caller, "The network settings were not changed: {error:#}");
                }
            }
            applied.map_err(status)
        })
        .await?;
        done(restarted)
    }
}

/// timedated checks too; its words do not help an administrator.
fn check_zone(zone: &str) -> Result<(), String> {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-+".contains(c))
    };
    let path = Path::new("/usr/share/zoneinfo").join(zone);
    if zone.split('/').all(plain) && path.is_file() {
        Ok(())
    } else {
        Err(format!(
            "\"{zone}\" is no time zone; they are called like Europe/Berlin or Asia/Seoul"
        ))
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;

impl From<State> for proto::State {
    fn from(state: State) -> Self {
        match state {
            State::Started => Self::Started,
            State::Starting => Self::Starting,
            State::Stopped => Self::Stopped,
            State::Stopping => Self::Stopping,
            State::NotRunning => Self::Notrunning,
        }
    }
}

impl From<View> for proto::Service {
    fn from(view: View) -> Self {
        Self {
            id: view.id,
            compat: view.compat,
            name: view.name,
            kind: view.kind,
            group: view.group,
            state: proto::State::from(view.state).into(),
            activated: view.activated,
            reason: view.reason,
            started_at: view.started_at,
            up_seconds: view.up_seconds,
            restarts: view.restarts,
            critical: view.critical,
            auto_restart: view.auto_restart,
        }
    }
}
