//! The other end of the supervisor's socket, for administration.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tonic::Status;
use tonic::transport::Channel;

use crate::proto;
use crate::proto::supervisor_client::SupervisorClient;
use crate::view::{State, View};

/// A client of this node's supervisor. Cheap to clone; it connects at first
/// use and again when the supervisor was restarted.
///
/// Errors are gRPC statuses: `NotFound` for an unknown service,
/// `FailedPrecondition` for what the state of the service forbids,
/// `PermissionDenied` for callers who are no administrators, with a message
/// for people in each.
#[derive(Clone, Debug)]
pub struct Client(SupervisorClient<Channel>);

/// What an activation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The services are activated and start; these, by id, were activated
    /// with them.
    Done(Vec<String>),
    /// Nothing was changed: these services, by id, must be activated too.
    Missing(Vec<String>),
}

/// Changed network settings: only what is present changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkChange {
    /// Address with prefix length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Name servers, first one first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Vec<String>>,
    /// Search domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether the address comes by DHCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
}

impl Client {
    /// A client of the socket at that path
    /// ([`service::Paths::supervisor_socket`]).
    pub fn connect(socket: &Path) -> Self {
        Self(SupervisorClient::new(service::uds::connect(socket)))
    }

    /// Every service of this node, in start order.
    pub async fn list(&self) -> Result<Vec<View>, Status> {
        let reply = self.0.clone().list(proto::ListRequest {}).await?;
        let services = reply.into_inner().services.into_iter();
        Ok(services.map(View::from).collect())
    }

    /// Activates feature services, by id or name, and starts them. Services
    /// that must be activated too are answered, not activated, unless
    /// `with_dependencies`.
    pub async fn activate(
        &self,
        ids: &[String],
        with_dependencies: bool,
    ) -> Result<Activation, Status> {
        let ids = ids.to_vec();
        let request = proto::ActivateRequest {
            ids,
            with_dependencies,
        };
        let missing = self.0.clone().activate(request).await?.into_inner().missing;
        Ok(if with_dependencies || missing.is_empty() {
            Activation::Done(missing)
        } else {
            Activation::Missing(missing)
        })
    }

    /// Deactivates feature services and stops them. Answers the activated
    /// services that need them, by id; `with_dependents` deactivates those too.
    pub async fn deactivate(
        &self,
        ids: &[String],
        with_dependents: bool,
    ) -> Result<Vec<String>, Status> {
        let ids = ids.to_vec();
        let request = proto::DeactivateRequest {
            ids,
            with_dependents,
        };
        let reply = self.0.clone().deactivate(request).await?;
        Ok(reply.into_inner().dependents)
    }

    /// Begins to start a service.
    pub async fn start(&self, id: &str) -> Result<(), Status> {
        self.0.clone().start(request(id)).await.map(drop)
    }

    /// Begins to stop a service; answers the ids of those that stop with it.
    pub async fn stop(&self, id: &str) -> Result<Vec<String>, Status> {
        let reply = self.0.clone().stop(request(id)).await?;
        Ok(reply.into_inner().also)
    }

    /// Begins to restart a service; answers the ids of those that restart
    /// with it.
    pub async fn restart(&self, id: &str) -> Result<Vec<String>, Status> {
        let reply = self.0.clone().restart(request(id)).await?;
        Ok(reply.into_inner().also)
    }

    /// Begins to stop critical services because their node was failed over;
    /// answers the ids of all that stop. For the recovery manager.
    pub async fn suspend(&self, ids: &[String]) -> Result<Vec<String>, Status> {
        let ids = ids.to_vec();
        let request = proto::SuspendRequest { ids };
        let reply = self.0.clone().suspend(request).await?;
        Ok(reply.into_inner().also)
    }

    /// Begins to start critical services that do not run, and the activated
    /// services that are part of them; answers the ids of all that start. For
    /// the recovery manager.
    pub async fn resume(&self, ids: &[String]) -> Result<Vec<String>, Status> {
        let ids = ids.to_vec();
        let request = proto::ResumeRequest { ids };
        let reply = self.0.clone().resume(request).await?;
        Ok(reply.into_inner().also)
    }

    /// Chooses whether a service comes back by itself after it died.
    pub async fn auto_restart(&self, id: &str, on: bool) -> Result<(), Status> {
        let request = proto::AutoRestartRequest { id: id.into(), on };
        self.0.clone().auto_restart(request).await.map(drop)
    }

    /// Restarts the machine.
    pub async fn reboot(&self) -> Result<(), Status> {
        let reply = self.0.clone().reboot(proto::RebootRequest {}).await;
        reply.map(drop)
    }

    /// Shuts the machine down.
    pub async fn power_off(&self) -> Result<(), Status> {
        let reply = self.0.clone().power_off(proto::PowerOffRequest {}).await;
        reply.map(drop)
    }

    /// Sets the time zone, such as `Europe/Berlin`.
    pub async fn set_timezone(&self, zone: &str) -> Result<(), Status> {
        let request = proto::SetTimezoneRequest { zone: zone.into() };
        self.0.clone().set_timezone(request).await.map(drop)
    }

    /// Changes the network settings; answers when they are applied, which takes
    /// up to a minute. `FailedPrecondition`: nothing was changed, with the reason.
    pub async fn set_network(&self, change: NetworkChange) -> Result<(), Status> {
        let request = proto::SetNetworkRequest::from(change);
        self.0.clone().set_network(request).await.map(drop)
    }
}

fn request(id: &str) -> proto::ServiceRequest {
    proto::ServiceRequest { id: id.into() }
}

impl From<NetworkChange> for proto::SetNetworkRequest {
    fn from(change: NetworkChange) -> Self {
        Self {
            address: change.address,
            gateway: change.gateway,
            set_dns: change.dns.is_some(),
            dns: change.dns.unwrap_or_default(),
            domain: change.domain,
            hostname: change.hostname,
            mtu: change.mtu,
            dhcp: change.dhcp,
        }
    }
}

impl From<proto::SetNetworkRequest> for NetworkChange {
    fn from(request: proto::SetNetworkRequest) -> Self {
        Self {
            address: request.address,
            gateway: request.gateway,
            dns: request.set_dns.then_some(request.dns),
            domain: request.domain,
            hostname: request.hostname,
            mtu: request.mtu,
            dhcp: request.dhcp,
        }
    }
}

impl From<proto::Service> for View {
    fn from(service: proto::Service) -> Self {
        let state = match service.state() {
            proto::State::Started => State::Started,
            proto::State::Starting => State::Starting,
            proto::State::Stopped => State::Stopped,
            proto::State::Stopping => State::Stopping,
            proto::State::Notrunning | proto::State::Unspecified => State::NotRunning,
        };
        Self {
            id: service.id,
            compat: service.compat,
            name: service.name,
            kind: service.kind,
            group: service.group,
            state,
            activated: service.activated,
            reason: service.reason,
            started_at: service.started_at,
            up_seconds: service.up_seconds,
            restarts: service.restarts,
            critical: service.critical,
            auto_restart: service.auto_restart,
        }
    }
}
