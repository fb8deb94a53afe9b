//! The other end of the socket.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use service::Paths;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::history::Entry;
use crate::proto;
use crate::proto::administration_client::AdministrationClient;
use crate::proto::local_client::LocalClient;
use crate::proto::serving_client::ServingClient;
use crate::serving::Serving;
use crate::status::Status;

/// Pause before a manager that went away is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// What an administrator can have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Move a node's users to its peer.
    Failover,
    /// Take a node's users back.
    Fallback,
    /// Lead a group out of failed mode.
    Recover,
}

/// A client of this node's recovery manager. Cheap to clone; it connects at
/// first use and again when the manager was restarted.
///
/// Errors are gRPC statuses with a message for people: `NotFound` for a node or
/// group that there is not, `FailedPrecondition` for what the state forbids,
/// `Unavailable` when the manager, or the other node's, does not answer.
#[derive(Clone, Debug)]
pub struct Client {
    local: LocalClient<Channel>,
    administration: AdministrationClient<Channel>,
}

impl Client {
    /// A client of this node's manager. Does not wait for it.
    pub fn open(paths: &Paths) -> Self {
        let channel = service::uds::connect(&paths.recovery_socket());
        Self {
            local: LocalClient::new(channel.clone()),
            administration: AdministrationClient::new(channel),
        }
    }

    /// Says that the node shuts down.
    pub async fn leave(&self) -> Result<(), tonic::Status> {
        let left = self.local.clone().leave(proto::LeaveRequest {}).await;
        left.map(drop)
    }

    /// The state of a redundancy group, by its name or that of one of its nodes,
    /// as that node sees it if it answers; of the own one when none is named.
    pub async fn status(&self, name: Option<&str>) -> Result<Status, tonic::Status> {
        let group = name.unwrap_or_default().to_owned();
        let request = proto::StatusRequest { group };
        read(self.administration.clone().status(request).await?)
    }

    /// Has it done: failover and fallback of a node, recovery of a group.
    /// Answers when it has begun. `caller` is for the log of the node that does
    /// it.
    pub async fn act(&self, verb: Verb, subject: &str, caller: &str) -> Result<(), tonic::Status> {
        let verb = match verb {
            Verb::Failover => proto::Verb::Failover,
            Verb::Fallback => proto::Verb::Fallback,
            Verb::Recover => proto::Verb::Recover,
        };
        let request = proto::ActRequest {
            verb: verb.into(),
            subject: subject.into(),
            caller: caller.into(),
        };
        let refusal = self.administration.clone().act(request).await?;
        let refusal = refusal.into_inner().refusal;
        match refusal.is_empty() {
            true => Ok(()),
            false => Err(tonic::Status::failed_precondition(refusal)),
        }
    }

    /// The event history of a node, the oldest entry first; of this one when
    /// none is named.
    pub async fn history(&self, node: Option<&str>) -> Result<Vec<Entry>, tonic::Status> {
        let node = node.unwrap_or_default().to_owned();
        let request = proto::HistoryRequest { node };
        read(self.administration.clone().history(request).await?)
    }
}

/// The home nodes whose users this node serves, each with the epoch that every
/// write for them carries, kept up to date for as long as the receiver lives:
/// the manager's last word, while it is away; none before its first. A word
/// with an older epoch is refused. Needs a tokio runtime.
pub fn homes(paths: &Paths) -> watch::Receiver<Option<BTreeMap<String, u64>>> {
    let (sender, receiver) = watch::channel(None);
    let mut manager = ServingClient::new(service::uds::connect(&paths.homes_socket()));
    tokio::spawn(async move {
        let mut known = Serving::default();
        let follow = async {
            loop {
                if let Ok(words) = manager.follow(proto::ServingRequest {}).await {
                    let mut words = words.into_inner();
                    while let Ok(Some(word)) = words.message().await {
                        hear(&mut known, word.into(), &sender);
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = sender.closed() => {}
            () = follow => {}
        }
    });
    receiver
}

/// Takes a word over and tells those who wait, if it is news.
fn hear(known: &mut Serving, word: Serving, homes: &watch::Sender<Option<BTreeMap<String, u64>>>) {
    if word == Serving::default() {
        // A manager that has just started has said nothing yet.
        return;
    }
    let refused = known.take(word);
    if !refused.is_empty() {
        tracing::warn!(
            homes = ?refused,
            "The recovery manager told an older epoch than before; it is not believed."
        );
    }
    let served = Some(known.served());
    homes.send_if_modified(|homes| {
        let news = *homes != served;
        *homes = served;
        news
    });
}

fn read<T: DeserializeOwned>(reply: tonic::Response<proto::Document>) -> Result<T, tonic::Status> {
    serde_json::from_slice(&reply.into_inner().json)
        .map_err(|error| tonic::Status::internal(format!("the answer is not readable: {error}")))
}
