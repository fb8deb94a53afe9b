//! The side of the node that joins.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certificates::{Certificate, Component, Identity, NodeKey, verify};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::rpc::cluster_client::ClusterClient;
use crate::rpc::{HelloRequest, JoinRequest};
use crate::secret::{Secret, Side};
use crate::tls;

/// How long the publisher may take with anything.
const LIMIT: Duration = Duration::from_secs(20);

/// A node that wants to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Host name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Kind of node.
    pub product: String,
    /// XMPP domain.
    pub domain: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

/// Certificate and private key of a component, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// Name of the component.
    pub component: &'static str,
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// What a node has when it has joined.
#[derive(Clone)]
pub struct Joined {
    /// Identity of the cluster.
    pub cluster: String,
    /// The node's number in the replication log.
    pub replica: u64,
    /// Certificate of the cluster's authority, PEM.
    pub authority: String,
    /// The node's certificates and keys.
    pub pairs: Vec<Pair>,
    /// The cluster's secret.
    pub secret: Secret,
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined")
            .field("cluster", &self.cluster)
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}

/// Why a node did not join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Nobody answers there.
    #[error(
        "the publisher {0} cannot be reached: {1}. Check its address, that it is up, and that \
         port {port} of it can be reached from here", port = crate::PORT
    )]
    Unreachable(String, String),
    /// The passwords differ.
    #[error(
        "the publisher does not accept the security password. Give the one that the publisher was \
         set up with"
    )]
    Password,
    /// The publisher will not have the node.
    #[error("the publisher refuses this node: {0}")]
    Refused(String),
    /// The other side took our proof and had none of its own.
    #[error(
        "{0} did not prove that it has the security password; it is not the publisher of your \
         cluster. Nothing was taken from it. Check the address"
    )]
    Impostor(String),
    /// Something that should not be.
    #[error("the node cannot join: {0}")]
    Failed(String),
}

impl From<Status> for JoinError {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated => Self::Password,
            Code::FailedPrecondition | Code::ResourceExhausted => Self::Refused(text),
            _ => Self::Failed(format!("the publisher did not answer as it should: {text}")),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> JoinError {
    JoinError::Failed(error.to_string())
}

/// Joins the cluster whose publisher is at `publisher` (`host:port`). When this
/// returns, the publisher has given the node a number and expects it.
pub async fn join(
    candidate: &Candidate,
    publisher: &str,
    password: &str,
) -> Result<Joined, JoinError> {
    let mut keys = Vec::new();
    for component in Component::ALL {
        keys.push((component.name(), NodeKey::create().map_err(failed)?));
    }
    let public: Vec<_> = keys
        .iter()
        .map(|(component, key)| ((*component).to_owned(), key.public_pem.clone()))
        .collect();
    let request = JoinRequest {
        keys: public.into_iter().collect(),
        ..request(candidate)
    };
    let (mut reply, secret) = ask(request, publisher, password).await?;
    let mut pairs = Vec::new();
    for (component, key) in keys {
        let certificate = reply.certificates.remove(component);
        pairs.push(Pair {
            component,
            certificate: certificate
                .ok_or_else(|| failed(format!("the publisher gave no {component} certificate")))?,
            key: key.private_pem,
        });
    }
    let joined = Joined {
        cluster: reply.cluster,
        replica: reply.replica,
        authority: reply.authority,
        pairs,
        secret,
    };
    check(&joined)?;
    Ok(joined)
}

/// Tells whether the node could join, and changes nothing.
pub async fn try_out(
    candidate: &Candidate,
    publisher: &str,
    password: &str,
) -> Result<(), JoinError> {
    let request = JoinRequest {
        trial: true,
        ..request(candidate)
    };
    ask(request, publisher, password).await.map(drop)
}

fn request(candidate: &Candidate) -> JoinRequest {
    JoinRequest {
        name: candidate.name.clone(),
        address: candidate.address.clone(),
        product: candidate.product.clone(),
        domain: candidate.domain.clone(),
        mtu: candidate.mtu,
        version: env!("CARGO_PKG_VERSION").into(),
        time: OffsetDateTime::now_utc().unix_timestamp(),
        ..JoinRequest::default()
    }
}

/// What was issued must be what the node will be known by.
fn check(joined: &Joined) -> Result<(), JoinError> {
    let identity = Identity {
        replica: joined.replica,
        cluster: joined.cluster.clone(),
    };
    for pair in &joined.pairs {
        let certificate = Certificate::from_pem(&pair.certificate).map_err(failed)?;
        let own = pair.component == Component::Cluster.name();
        let name = if own {
            identity.host_name()
        } else {
            certificate.dns.first().cloned().unwrap_or_default()
        };
        let now = OffsetDateTime::now_utc();
        verify(&pair.certificate, &joined.authority, &name, now).map_err(failed)?;
    }
    Ok(())
}

/// One conversation with the publisher: proofs both ways, and the request.
async fn ask(
    request: JoinRequest,
    publisher: &str,
    password: &str,
) -> Result<(crate::rpc::JoinReply, Secret), JoinError> {
    let conversation = async {
        let (channel, connection) = connect(publisher).await?;
        let mut client = ClusterClient::new(channel);
        let hello = client.hello(HelloRequest {}).await?.into_inner();
        let password = password.to_owned();
        // Costly on purpose.
        let derived = tokio::task::spawn_blocking(move || {
            let costs = (hello.memory, hello.passes, hello.lanes);
            Secret::derive_as_told(&password, &hello.function, &hello.salt, costs)
        });
        let secret = derived.await.map_err(failed)?.map_err(failed)?;
        let request = JoinRequest {
            proof: secret.prove(Side::Candidate, &connection),
            ..request
        };
        let reply = client.join(request).await?.into_inner();
        if !secret.accepts(Side::Publisher, &connection, &reply.proof) {
            return Err(JoinError::Impostor(publisher.into()));
        }
        Ok((reply, secret))
    };
    match tokio::time::timeout(LIMIT, conversation).await {
        Ok(done) => done,
        Err(_) => {
            let text = format!("it did not answer in {} s", LIMIT.as_secs());
            Err(JoinError::Unreachable(publisher.into(), text))
        }
    }
}

/// A channel over one connection, and the connection's name. It is never made
/// again: another connection would have another name.
async fn connect(publisher: &str) -> Result<(Channel, [u8; 32]), JoinError> {
    let unreachable =
        |error: io::Error| JoinError::Unreachable(publisher.into(), error.to_string());
    let name = ServerName::try_from("publisher.invalid").map_err(failed)?;
    let stream = async {
        let stream = TcpStream::connect(publisher).await?;
        let config = tls::client().map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    };
    let stream = stream.await.map_err(unreachable)?;
    let connection = tls::connection(stream.get_ref().1).map_err(unreachable)?;
    let once: Arc<Mutex<Option<TlsStream<TcpStream>>>> = Arc::new(Mutex::new(Some(stream)));
    let channel = Endpoint::from_static("http://publisher.invalid")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let stream = once.lock().ok().and_then(|mut once| once.take());
            async move {
                let ended = || io::Error::other("the publisher closed the connection");
                stream.map(TokioIo::new).ok_or_else(ended)
            }
        }))
        .await
        .map_err(failed)?;
    Ok((channel, connection))
}
