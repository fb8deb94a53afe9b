//! From the managers of other nodes.

use std::time::Duration;

use peer::{Credentials, Remote};
use service::{Alarms, Severity};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use crate::admin::{ForOthers, Own};
use crate::driver::Input;
use crate::group::View;
use crate::proto;
use crate::proto::administration_server::AdministrationServer;
use crate::proto::manager_server::{Manager, ManagerServer};

/// Largest message of another node: a keepalive has less than a kilobyte.
const LARGEST: usize = 64 << 10;
/// Pause before a port is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// A connection that says nothing is asked whether it lives so often.
const ALIVE: Duration = Duration::from_secs(5);
/// How long connections may take to end.
const FAREWELL: Duration = Duration::from_millis(500);

/// The nodes of the cluster: who may ask anything. One that was removed has a
/// certificate still.
#[derive(Clone)]
pub(crate) struct Members(pub(crate) watch::Receiver<Option<View>>);

impl Members {
    /// The name of the node at the other end.
    pub(crate) fn sender<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let remote = request.extensions().get::<Remote>();
        let remote =
            remote.ok_or_else(|| Status::unauthenticated("this connection is no node's"))?;
        let view = self.0.borrow();
        let name = view.as_ref().and_then(|view| view.name_of(remote.replica));
        name.map(str::to_owned).ok_or_else(|| {
            Status::permission_denied(format!(
                "node number {} is not a member of this cluster: it was removed, or this node has \
                 not heard of it yet",
                remote.replica
            ))
        })
    }
}

/// What other managers tell and ask.
struct Others {
    inputs: mpsc::Sender<Input>,
    members: Members,
}

#[tonic::async_trait]
impl Manager for Others {
    async fn tell(
        &self,
        request: Request<proto::Keepalive>,
    ) -> Result<Response<proto::Heard>, Status> {
        let from = self.members.sender(&request)?;
        let message = request.into_inner().message;
        let heard = self.inputs.send(Input::Keepalive { from, message });
        heard.await.map_err(|_| stops())?;
        Ok(Response::new(proto::Heard {}))
    }

    async fn judge(
        &self,
        request: Request<proto::Question>,
    ) -> Result<Response<proto::Judgement>, Status> {
        self.members.sender(&request)?;
        let node = request.into_inner().node;
        let (answer, judged) = oneshot::channel();
        let asked = self.inputs.send(Input::Judge { node, answer });
        asked.await.map_err(|_| stops())?;
        let gone = judged.await.map_err(|_| stops())?;
        Ok(Response::new(proto::Judgement { gone }))
    }
}

fn stops() -> Status {
    Status::unavailable("this recovery manager stops")
}

/// Takes keepalives and questions on the service port, whichever it is.
pub(crate) fn keepalives(inputs: mpsc::Sender<Input>, members: Members) -> Router {
    let others = Others { inputs, members };
    let server = ManagerServer::new(others).max_decoding_message_size(LARGEST);
    builder().add_service(server)
}

/// Takes administrators' requests on the admin RPC port.
pub(crate) fn administration(own: Own, members: Members) -> Router {
    let others = ForOthers { own, members };
    let server = AdministrationServer::new(others).max_decoding_message_size(LARGEST);
    builder().add_service(server)
}

fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(ALIVE))
        .http2_keepalive_timeout(Some(ALIVE))
}

/// Serves on a port of the view for as long as it is that one, and then on the
/// next. A port that is taken is tried again, with an alarm.
pub(crate) async fn listen(
    mut views: watch::Receiver<Option<View>>,
    port: impl Fn(&View) -> u16,
    credentials: Credentials,
    router: impl Fn() -> Router,
    alarms: Alarms,
    stop: CancellationToken,
) {
    const ALARM: &str = "SRMPortUnavailable";
    loop {
        let number = views.borrow_and_update().as_ref().map(&port);
        let moved = async {
            // Ends with the driver, which stops this, too.
            let other = |view: &Option<View>| view.as_ref().map(&port) != number;
            let _ = views.wait_for(other).await;
        };
        let Some(number) = number else {
            tokio::select! {
                () = stop.cancelled() => return,
                () = moved => continue,
            }
        };
        let round = stop.child_token();
        let served = async {
            let listener = peer::listen(number).await?;
            alarms.clear(ALARM);
            let incoming = peer::accept(listener, &credentials);
            let ended = round.clone().cancelled_owned();
            router()
                .serve_with_incoming_shutdown(incoming, ended)
                .await?;
            anyhow::Ok(())
        };
        tokio::pin!(served);
        let ended = tokio::select! {
            ended = &mut served => Some(ended),
            () = moved => None,
            () = stop.cancelled() => None,
        };
        round.cancel();
        if let Some(Err(error)) = &ended {
            let text = format!(
                "Other nodes cannot reach this one's recovery manager: port {number} cannot be \
                 listened on ({error:#})."
            );
            alarms.raise(ALARM, Severity::Error, &text);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => continue,
            }
        }
        if ended.is_none() {
            // A node that hangs with a request of its own must not hold this up.
            let _ = tokio::time::timeout(FAREWELL, served).await;
        }
        if stop.is_cancelled() {
            return;
        }
    }
}
