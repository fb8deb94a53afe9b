//! Towards the managers of other nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peer::Credentials;
use recovery::Verdict;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::group::{Place, View};
use crate::proto;
use crate::proto::manager_client::ManagerClient;

/// A keepalive that takes longer is lost, and its connection is made anew: one
/// that a cut left behind would keep the next ones for longer than the cut.
const LOST: Duration = Duration::from_secs(3);

/// Where the manager of a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    replica: u64,
    address: String,
}

/// `host:port`, where the host may be an IPv6 address.
fn address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

impl Target {
    pub(crate) fn new(place: &Place, port: u16) -> Self {
        Self {
            replica: place.replica,
            address: address(&place.address, port),
        }
    }

    /// A new connection to it.
    pub(crate) fn channel(&self, credentials: &Credentials) -> Channel {
        peer::channel(credentials, self.replica, &self.address)
    }
}

/// Sends keepalives to one node: always the latest, one at a time.
#[derive(Debug)]
struct Link {
    target: Target,
    /// Ends the task with the link.
    latest: watch::Sender<Vec<u8>>,
}

impl Link {
    fn new(credentials: Credentials, target: Target, limit: Duration) -> Self {
        let (latest, mut messages) = watch::channel(Vec::new());
        let to = target.clone();
        tokio::spawn(async move {
            let mut client = ManagerClient::new(to.channel(&credentials));
            while messages.changed().await.is_ok() {
                let message = messages.borrow_and_update().clone();
                let sent = client.tell(proto::Keepalive { message });
                match tokio::time::timeout(limit, sent).await {
                    Ok(Ok(_)) => {}
                    failed => {
                        if let Ok(Err(status)) = failed {
                            tracing::debug!(%status, address = to.address, "A keepalive was lost.");
                        }
                        client = ManagerClient::new(to.channel(&credentials));
                    }
                }
            }
        });
        Self { target, latest }
    }
}

/// The ways to the other nodes' managers.
#[derive(Debug)]
pub(crate) struct Links {
    credentials: Credentials,
    targets: BTreeMap<String, Target>,
    links: BTreeMap<String, Link>,
    limit: Duration,
}

impl Links {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            targets: BTreeMap::new(),
            links: BTreeMap::new(),
            limit: LOST,
        }
    }

    /// Takes new addresses, port and times.
    pub(crate) fn configure(&mut self, view: &View) {
        let joined = view.nodes.iter().filter(|(_, place)| place.replica != 0);
        let port = view.parameters.service_port;
        let target = |(name, place): (&String, &Place)| (name.clone(), Target::new(place, port));
        self.targets = joined.map(target).collect();
        let limit = view.parameters.keepalive_interval.min(LOST);
        let targets = &self.targets;
        let same = limit == self.limit;
        self.limit = limit;
        self.links
            .retain(|name, link| same && targets.get(name) == Some(&link.target));
    }

    /// Sends a keepalive.
    pub(crate) fn send(&mut self, to: &[String], message: &[u8]) {
        for name in to {
            let Some(target) = self.targets.get(name) else {
                continue;
            };
            let link = self
                .links
                .entry(name.clone())
                .or_insert_with(|| Link::new(self.credentials.clone(), target.clone(), self.limit));
            link.latest.send_replace(message.into());
        }
    }

    /// Asks these nodes whether another is gone; the first that answers counts.
    /// When none does, it is this node that is cut off.
    pub(crate) fn ask(
        &self,
        about: &str,
        whom: &[String],
    ) -> impl Future<Output = Verdict> + Send + use<> {
        let mut answers = FuturesUnordered::new();
        for target in whom.iter().filter_map(|name| self.targets.get(name)) {
            let mut client = ManagerClient::new(target.channel(&self.credentials));
            let question = proto::Question { node: about.into() };
            answers.push(async move { client.judge(question).await });
        }
        async move {
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(answer) if answer.get_ref().gone => return Verdict::Confirmed,
                    Ok(_) => return Verdict::Denied,
                    Err(_) => {}
                }
            }
            Verdict::Isolated
        }
    }
}
