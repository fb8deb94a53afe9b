//! A publisher and nodes that join, over TLS on loopback.

use std::net::SocketAddr;

use certificates::{Authority, Certificate, Component, Identity, Names, Subject};
use database::tables::ProcessNode;
use database::testing::TestDatabase;
use database::{Database, Transaction};
use peer::Credentials;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use crate::rpc::cluster_client::ClusterClient;
use crate::rpc::cluster_server::{Cluster, ClusterServer};
use crate::rpc::{HelloReply, HelloRequest, JoinReply, JoinRequest};
use crate::serve::{accept, welcome};
use crate::{Candidate, JoinError, Joined, Manager, Materials, Secret, join, tls, try_out};

const CLUSTER: &str = "11111111-2222-3333-4444-555555555555";
const PASSWORD: &str = "security password";

struct Publisher {
    database: TestDatabase,
    authority: String,
    own: Credentials,
    address: SocketAddr,
    _stop: DropGuard,
}

fn row(name: &str, role: &str, address: &str, replica: i64) -> ProcessNode {
    ProcessNode {
        name: name.into(),
        domain: "example.org".into(),
        address: address.into(),
        role: role.into(),
        product: "imp".into(),
        replica,
    }
}

fn candidate() -> Candidate {
    Candidate {
        name: "node2".into(),
        address: "192.0.2.12".into(),
        product: "imp".into(),
        domain: "example.org".into(),
        mtu: 1500,
    }
}

impl Publisher {
    async fn start() -> Self {
        let database = TestDatabase::start().await.unwrap();
        let rows = Transaction::new()
            .put(&row("node1", "publisher", "192.0.2.11", 1))
            .and_then(|all| all.put(&row("node2", "subscriber", "192.0.2.12", 0)));
        database.client().transact(rows.unwrap()).await.unwrap();
        let now = OffsetDateTime::now_utc();
        let subject = Subject::default();
        let authority = Authority::create("test", &subject, now).unwrap();
        let identity = Identity {
            replica: 1,
            cluster: CLUSTER.into(),
        };
        let names = Names {
            dns: vec![identity.host_name()],
            addresses: Vec::new(),
        };
        let issued = authority.issue(&subject, &names, now).unwrap();
        let certificate = authority.certificate_pem().to_owned();
        let own =
            Credentials::from_pem(&issued.certificate_pem, &issued.key_pem, &certificate).unwrap();
        let node = service::Node {
            name: "node1".into(),
            domain: "example.org".into(),
            address: "192.0.2.11".into(),
            role: service::Role::Publisher,
            product: "imp".into(),
            size: "5K".into(),
            cluster: CLUSTER.into(),
        };
        let materials = Materials {
            node,
            secret: Secret::derive(PASSWORD).unwrap(),
            authority,
            subject,
            mtu: Some(1500),
        };
        let config = tls::server(&issued.certificate_pem, &issued.key_pem).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let manager = Manager::new(materials, database.client());
        tokio::spawn(welcome(
            manager,
            listener,
            TlsAcceptor::from(config),
            stop.clone(),
        ));
        Self {
            database,
            authority: certificate,
            own,
            address,
            _stop: stop.drop_guard(),
        }
    }

    fn database(&self) -> Database {
        self.database.client()
    }

    async fn join(&self, candidate: &Candidate, password: &str) -> Result<Joined, JoinError> {
        join(candidate, &self.address.to_string(), password).await
    }

    async fn number(&self, name: &str) -> i64 {
        let row = self.database().get::<ProcessNode>(&[name]).await.unwrap();
        row.unwrap().replica
    }
}

#[tokio::test]
async fn a_node_that_was_added_joins_and_is_trusted() {
    let publisher = Publisher::start().await;
    let at = publisher.address.to_string();
    try_out(&candidate(), &at, PASSWORD).await.unwrap();
    assert_eq!(
        publisher.number("node2").await,
        0,
        "a trial changes nothing"
    );
    let joined = publisher.join(&candidate(), PASSWORD).await.unwrap();
    assert_eq!((joined.replica, joined.cluster.as_str()), (2, CLUSTER));
    assert_eq!(publisher.number("node2").await, 2);
    assert_eq!(joined.authority, publisher.authority);
    let pair = |component: Component| {
        let found = joined
            .pairs
            .iter()
            .find(|one| one.component == component.name());
        found.unwrap()
    };
    let web = Certificate::from_pem(&pair(Component::Tomcat).certificate).unwrap();
    assert_eq!(web.dns, ["node2.example.org", "node2", "example.org"]);
    // It connects to the publisher by its certificate, and is known by it.
    let cluster = pair(Component::Cluster);
    let theirs =
        Credentials::from_pem(&cluster.certificate, &cluster.key, &joined.authority).unwrap();
    assert_eq!(theirs.identity().replica, 2);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tonic::transport::Server::builder()
        .add_service(ClusterServer::new(Mirror))
        .serve_with_incoming(peer::accept(listener, &publisher.own));
    tokio::spawn(serving);
    let mut right = ClusterClient::new(peer::channel(&theirs, 1, &address));
    let seen = right.hello(HelloRequest {}).await.unwrap().into_inner();
    assert_eq!(seen.function, "node 2");
    // It wanted another node than the one that is there.
    let mut wrong = ClusterClient::new(peer::channel(&theirs, 3, &address));
    let refused = wrong.hello(HelloRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
}

/// Tells who asks.
struct Mirror;

#[tonic::async_trait]
impl Cluster for Mirror {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let remote = request.extensions().get::<peer::Remote>().unwrap();
        Ok(Response::new(HelloReply {
            function: format!("node {}", remote.replica),
            ..HelloReply::default()
        }))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        Err(Status::unimplemented("nobody joins here"))
    }
}

#[tokio::test]
async fn a_node_that_joins_again_gets_a_new_number() {
    let publisher = Publisher::start().await;
    let numbers = async || {
        publisher
            .join(&candidate(), PASSWORD)
            .await
            .unwrap()
            .replica
    };
    assert_eq!(numbers().await, 2);
    assert_eq!(numbers().await, 3);
    // Nor is the number of a node that was removed given again.
    let database = publisher.database();
    let gone = Transaction::new().delete::<ProcessNode>(&["node2"]);
    database.transact(gone).await.unwrap();
    let refused = publisher.join(&candidate(), PASSWORD).await.unwrap_err();
    assert!(refused.to_string().contains("was not added"), "{refused}");
    let again = Transaction::new().put(&row("node2", "subscriber", "192.0.2.12", 0));
    database.transact(again.unwrap()).await.unwrap();
    assert_eq!(numbers().await, 4);
}

#[tokio::test]
async fn a_wrong_password_is_told_and_slowed_down_and_tells_nothing_else() {
    let publisher = Publisher::start().await;
    let stranger = Candidate {
        name: "node9".into(),
        ..candidate()
    };
    for _ in 0..5 {
        let refused = publisher.join(&stranger, "another password").await;
        assert_eq!(refused.unwrap_err(), JoinError::Password);
    }
    let refused = publisher.join(&candidate(), PASSWORD).await.unwrap_err();
    assert!(refused.to_string().contains("too many wrong"), "{refused}");
    assert_eq!(publisher.number("node2").await, 0);
}

#[tokio::test]
async fn a_reason_against_a_node_reaches_it_in_words() {
    let publisher = Publisher::start().await;
    let refused = |change: fn(&mut Candidate)| {
        let mut candidate = candidate();
        change(&mut candidate);
        let publisher = &publisher;
        async move {
            let refused = publisher.join(&candidate, PASSWORD).await;
            refused.unwrap_err().to_string()
        }
    };
    let name = refused(|node| node.name = "node3".into()).await;
    assert!(name.contains("node3 was not added"), "{name}");
    let mtu = refused(|node| node.mtu = 9000).await;
    assert!(mtu.contains("MTU is 9000"), "{mtu}");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = try_out(&candidate(), &address, PASSWORD).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
    assert!(matches!(error, JoinError::Unreachable(..)));
}

/// Takes every proof and has none of its own.
struct Impostor;

#[tonic::async_trait]
impl Cluster for Impostor {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply {
            function: "argon2id".into(),
            memory: 64 * 1024,
            passes: 3,
            lanes: 1,
            salt: vec![7; 16],
        }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        // The best it has is the proof that it was given.
        Ok(Response::new(JoinReply {
            proof: request.into_inner().proof,
            ..JoinReply::default()
        }))
    }
}

#[tokio::test]
async fn a_publisher_that_does_not_know_the_password_is_found_out() {
    let now = OffsetDateTime::now_utc();
    let authority = Authority::create("false", &Subject::default(), now).unwrap();
    let names = Names {
        dns: vec!["publisher.invalid".into()],
        addresses: Vec::new(),
    };
    let issued = authority.issue(&Subject::default(), &names, now).unwrap();
    let config = tls::server(&issued.certificate_pem, &issued.key_pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tonic::transport::Server::builder()
        .add_service(ClusterServer::new(Impostor))
        .serve_with_incoming(accept(listener, TlsAcceptor::from(config)));
    tokio::spawn(serving);
    let error = join(&candidate(), &address, PASSWORD).await.unwrap_err();
    assert_eq!(error, JoinError::Impostor(address));
}
