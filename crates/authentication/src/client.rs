//! Asking the service.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tonic::Status;
use tonic::transport::Channel;
use xmpp::sasl::{ChannelBinding, Failure};

use crate::proto;
use crate::proto::authentication_client::AuthenticationClient;

/// How an exchange begins.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Registered name of the mechanism.
    pub mechanism: String,
    /// The client's initial response, decoded.
    pub initial: Option<Vec<u8>>,
    /// Every channel binding that was offered.
    pub bindings: Vec<ChannelBinding>,
    /// The domain that the client asked for.
    pub domain: String,
    /// Address of the client.
    pub peer: IpAddr,
}

/// What one step of an exchange came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client must answer this.
    Challenge {
        /// Number of the exchange, to go on with.
        exchange: u64,
        /// What to send.
        data: Vec<u8>,
    },
    /// The client is who it says.
    Success {
        /// Its bare JID.
        user: String,
        /// What to send along.
        data: Option<Vec<u8>>,
    },
    /// It is not, or it did not keep to the protocol.
    Failure {
        /// What to tell it.
        failure: Failure,
        /// How long to wait before that.
        delay: Duration,
    },
}

/// A client of the authentication service. Cheap to clone; connects when it is
/// used, and again after a restart of the service.
#[derive(Clone, Debug)]
pub struct Client(AuthenticationClient<Channel>);

impl Client {
    /// A client of the service at that socket.
    pub fn connect(socket: &Path) -> Self {
        Self(AuthenticationClient::new(service::uds::connect(socket)))
    }

    /// Begins an exchange.
    pub async fn begin(&self, begin: Begin) -> Result<Outcome, Status> {
        let request = proto::BeginRequest {
            mechanism: begin.mechanism,
            initial: begin.initial,
            bindings: begin
                .bindings
                .into_iter()
                .map(|binding| proto::ChannelBinding {
                    kind: binding.kind,
                    data: binding.data,
                })
                .collect(),
            domain: begin.domain,
            peer: begin.peer.to_string(),
        };
        outcome(self.0.clone().begin(request).await?.into_inner())
    }

    /// Goes on with an exchange that was answered with a challenge.
    pub async fn answer(&self, exchange: u64, response: Vec<u8>) -> Result<Outcome, Status> {
        let request = proto::ContinueRequest { exchange, response };
        outcome(self.0.clone().r#continue(request).await?.into_inner())
    }

    /// Forgets an exchange.
    pub async fn abort(&self, exchange: u64) -> Result<(), Status> {
        let request = proto::AbortRequest { exchange };
        self.0.clone().abort(request).await.map(|_| ())
    }
}

fn outcome(step: proto::Step) -> Result<Outcome, Status> {
    match step.outcome {
        Some(proto::step::Outcome::Challenge(challenge)) => Ok(Outcome::Challenge {
            exchange: challenge.exchange,
            data: challenge.data,
        }),
        Some(proto::step::Outcome::Success(success)) => Ok(Outcome::Success {
            user: success.user,
            data: success.data,
        }),
        Some(proto::step::Outcome::Failure(failure)) => Ok(Outcome::Failure {
            failure: Failure::from_name(&failure.condition)
                .unwrap_or(Failure::TemporaryAuthFailure),
            delay: Duration::from_millis(failure.delay_milliseconds.into()),
        }),
        None => Err(Status::internal(
            "the authentication service answered nothing; restart it after an upgrade",
        )),
    }
}
