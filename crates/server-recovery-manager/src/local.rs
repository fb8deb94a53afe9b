//! The node's own sockets: on one the router learns whose users it serves, on
//! the other administration asks for any group of the cluster.

use std::time::Duration;

use peer::Credentials;
use service::uds;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status as Refused};

use crate::admin::{Own, document};
use crate::driver::Input;
use crate::group::{Group, View};
use crate::links::Target;
use crate::proto;
use crate::proto::administration_client::AdministrationClient;
use crate::proto::administration_server::{Administration, AdministrationServer};
use crate::proto::local_server::{Local, LocalServer};
use crate::proto::serving_server::{Serving as Follow, ServingServer};
use crate::serving::Serving;

/// How long another node may take with a request.
const ANSWER: Duration = Duration::from_secs(5);

/// Serves the router's socket until told to stop.
pub(crate) async fn serve_router(
    socket: UnixListener,
    serving: watch::Receiver<Serving>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let words = Words {
        serving,
        stop: stop.clone(),
    };
    tonic::transport::Server::builder()
        .add_service(ServingServer::new(words))
        .serve_with_incoming_shutdown(uds::incoming(socket), stop.cancelled_owned())
        .await?;
    Ok(())
}

/// Serves the socket of administration until told to stop.
pub(crate) async fn serve(
    socket: UnixListener,
    own: Own,
    views: watch::Receiver<Option<View>>,
    credentials: Credentials,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let door = Door {
        own,
        views,
        credentials,
    };
    let local = LocalServer::new(door.clone());
    tonic::transport::Server::builder()
        .add_service(local)
        .add_service(AdministrationServer::new(door))
        .serve_with_incoming_shutdown(uds::incoming(socket), stop.cancelled_owned())
        .await?;
    Ok(())
}

struct Words {
    serving: watch::Receiver<Serving>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Follow for Words {
    type FollowStream =
        std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<proto::Homes, Refused>> + Send>>;

    async fn follow(
        &self,
        _: Request<proto::ServingRequest>,
    ) -> Result<Response<Self::FollowStream>, Refused> {
        let words = WatchStream::new(self.serving.clone());
        let words = words.map(|serving| Ok(proto::Homes::from(&serving)));
        // Without an end of its own it would hold the stop up.
        let stop = self.stop.clone().cancelled_owned();
        let words = futures::StreamExt::take_until(words, stop);
        Ok(Response::new(Box::pin(words)))
    }
}

#[derive(Clone)]
struct Door {
    own: Own,
    views: watch::Receiver<Option<View>>,
    credentials: Credentials,
}

#[tonic::async_trait]
impl Local for Door {
    async fn leave(
        &self,
        _: Request<proto::LeaveRequest>,
    ) -> Result<Response<proto::LeaveReply>, Refused> {
        self.own.ask(Input::Leaving).await?;
        Ok(Response::new(proto::LeaveReply {}))
    }
}

impl Door {
    fn view(&self) -> Result<View, Refused> {
        let view = self.views.borrow().clone();
        view.ok_or_else(|| {
            Refused::unavailable(
                "this node does not know its redundancy group yet; try again in some seconds",
            )
        })
    }

    /// The administration of another node.
    fn other(&self, view: &View, node: &str) -> Result<AdministrationClient<Channel>, Refused> {
        let place = view.nodes.get(node).filter(|place| place.replica != 0);
        let place = place.ok_or_else(|| {
            Refused::not_found(format!(
                "no node {node:?} has joined this cluster; \"show network cluster\" lists its nodes"
            ))
        })?;
        let target = Target::new(place, view.parameters.admin_port);
        Ok(AdministrationClient::new(target.channel(&self.credentials)))
    }
}

/// The group of that name, or of the node of that name; without a name the own
/// one.
fn group<'a>(view: &'a View, name: &str) -> Result<&'a Group, Refused> {
    if name.is_empty() || view.group.name == name {
        return Ok(&view.group);
    }
    let groups = || view.groups.iter();
    let found = groups().find(|group| group.name == name);
    let found = found.or_else(|| groups().find(|group| group.nodes().any(|node| node == name)));
    found.ok_or_else(|| {
        let names: Vec<_> = view
            .groups
            .iter()
            .map(|group| group.name.as_str())
            .collect();
        Refused::not_found(format!(
            "there is no redundancy group {name:?}; there are {}",
            names.join(", ")
        ))
    })
}

/// The answer of another node, or why there is none.
async fn within<T>(
    node: &str,
    call: impl Future<Output = Result<Response<T>, Refused>>,
) -> Result<Response<T>, Refused> {
    let silent = |why: &str| {
        Refused::unavailable(format!(
            "the recovery manager of {node} does not answer ({why}); check the node and the network"
        ))
    };
    match tokio::time::timeout(ANSWER, call).await {
        Err(_) => Err(silent(&format!("not within {} s", ANSWER.as_secs()))),
        Ok(Err(status)) if status.code() == tonic::Code::Unavailable => {
            Err(silent(status.message()))
        }
        Ok(answer) => answer,
    }
}

#[tonic::async_trait]
impl Administration for Door {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::Document>, Refused> {
        let view = self.view()?;
        let name = &request.get_ref().group;
        let group = group(&view, name)?;
        // A node that is named is asked first: nobody knows more of it.
        let mut nodes: Vec<&str> = group.nodes().collect();
        nodes.sort_by_key(|node| (*node != name, *node != view.own));
        let mut why = Refused::not_found(format!("group {name} has no nodes"));
        for node in nodes {
            if node == view.own {
                return document(&self.own.status().await?);
            }
            let mut other = self.other(&view, node)?;
            let group = name.clone();
            match within(node, other.status(proto::StatusRequest { group })).await {
                Ok(answer) => return Ok(answer),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn act(
        &self,
        request: Request<proto::ActRequest>,
    ) -> Result<Response<proto::ActReply>, Refused> {
        let view = self.view()?;
        let request = request.into_inner();
        // A recovery begins on one node of the group, and the other follows.
        let nodes: Vec<&str> = match request.verb() {
            proto::Verb::Recover => group(&view, &request.subject)?.nodes().collect(),
            _ => vec![request.subject.as_str()],
        };
        let mut why = Refused::not_found("the group has no nodes");
        for node in nodes {
            let answer = if node == view.own {
                let (verb, caller) = (request.verb(), request.caller.clone());
                self.own.act(verb, caller).await.map(Response::new)
            } else {
                let mut other = self.other(&view, node)?;
                within(node, other.act(request.clone())).await
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn history(
        &self,
        request: Request<proto::HistoryRequest>,
    ) -> Result<Response<proto::Document>, Refused> {
        let view = self.view()?;
        let node = request.into_inner().node;
        if node.is_empty() || node == view.own {
            return document(&self.own.history());
        }
        let mut other = self.other(&view, &node)?;
        let asked = proto::HistoryRequest { node: node.clone() };
        within(&node, other.history(asked)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use certificates::{Authority, Identity, Names, Subject};
    use service::Paths;
    use time::OffsetDateTime;

    use super::*;
    use crate::client::{Client, Verb};
    use crate::driver_tests::{Lab, Running};
    use crate::history::History;

    fn credentials() -> Credentials {
        let now = OffsetDateTime::now_utc();
        let subject = Subject::default();
        let authority = Authority::create("test", &subject, now).unwrap();
        let identity = Identity {
            replica: 1,
            cluster: "c".into(),
        };
        let names = Names {
            dns: vec![identity.host_name()],
            addresses: Vec::new(),
        };
        let issued = authority.issue(&subject, &names, now).unwrap();
        let trusted = authority.certificate_pem();
        Credentials::from_pem(&issued.certificate_pem, &issued.key_pem, trusted).unwrap()
    }

    /// The socket of the first of three nodes, with its manager behind it.
    fn serve_node1(folder: &std::path::Path) -> (Lab, Running, Client, CancellationToken) {
        let lab = Lab::new(3);
        let running = lab.power_on("node1");
        let history = History::open(&folder.join("history")).unwrap();
        let own = Own {
            inputs: running.inputs.clone(),
            history: Arc::new(Mutex::new(history)),
        };
        let paths = Paths::below(folder);
        let socket = uds::listen(&paths.recovery_socket()).unwrap();
        let (_, views) = watch::channel(Some(lab.view("node1")));
        let stop = CancellationToken::new();
        let served = serve(socket, own, views, credentials(), stop.clone());
        tokio::spawn(served);
        let socket = uds::listen(&paths.homes_socket()).unwrap();
        let serving = running.serving.clone();
        tokio::spawn(serve_router(socket, serving, stop.clone()));
        (lab, running, Client::open(&paths), stop)
    }

    #[tokio::test]
    async fn administration_asks_for_any_group_and_hears_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let (_lab, _running, client, _stop) = serve_node1(folder.path());
        let own = client.status(None).await.unwrap();
        assert_eq!((own.group.as_str(), own.nodes.len()), ("group", 2));
        for name in ["group", "node1", "node2"] {
            assert_eq!(client.status(Some(name)).await.unwrap(), own);
        }
        let refused = client
            .act(Verb::Failover, "node1", "admin")
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(refused.message().contains("Normal"), "{refused}");
        let unknown = client.status(Some("nothing")).await.unwrap_err();
        assert!(unknown.message().contains("there are"), "{unknown}");
        let unknown = client
            .act(Verb::Fallback, "nothing", "admin")
            .await
            .unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
        // Nobody is at the other nodes' address.
        let silent = client.history(Some("node2")).await.unwrap_err();
        assert_eq!(silent.code(), tonic::Code::Unavailable);
        assert!(
            silent
                .message()
                .starts_with("the recovery manager of node2"),
            "{silent}"
        );
        assert_eq!(client.history(None).await.unwrap(), []);
    }
    #[tokio::test]
    async fn the_router_learns_whose_users_it_serves() {
        let folder = tempfile::tempdir().unwrap();
        let (_lab, running, _client, stop) = serve_node1(folder.path());
        let mut homes = crate::homes(&Paths::below(folder.path()));
        assert_eq!(*homes.borrow(), None);
        let serving = running.serving.clone();
        let told = homes.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(told, Some(serving.borrow().served()));
        // The last word holds while the manager is away.
        stop.cancel();
        assert!(!homes.has_changed().unwrap());
    }
}
