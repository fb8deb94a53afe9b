//! The service as its clients see it, with a real database behind it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::IpAddr;
use std::time::Duration;

use authentication::{Begin, Client, Outcome, derive_keys};
use database::tables::{EndUser, ServiceParameter, SharedSecret};
use database::testing::TestDatabase;
use database::{Database, Transaction};
use service::Context;
use xmpp::sasl::{self, ChannelBinding, Failure, Hash};

const ID: &str = "authentication-service";
const HERE: &str = "192.0.2.1";

struct Fixture {
    database: TestDatabase,
    context: Context,
    client: Client,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Fixture {
    async fn start() -> Self {
        let database = TestDatabase::start().await.unwrap();
        let paths = database.paths().clone();
        std::fs::create_dir_all(paths.etc()).unwrap();
        let node = service::Node {
            name: "alpha".into(),
            domain: "example.com".into(),
            address: "192.0.2.9".into(),
            role: service::Role::Publisher,
            product: "imp".into(),
            size: "5K".into(),
            cluster: "00000000-0000-4000-8000-000000000000".into(),
        };
        std::fs::write(paths.node_file(), toml::to_string(&node).unwrap()).unwrap();
        put(&database.client(), "alice", "pencil", true).await;
        let context = Context::new(ID, paths.clone());
        let task = tokio::spawn(authentication::serve(context.clone()));
        while !context.is_ready() {
            assert!(!task.is_finished(), "{:?}", task.await);
            tokio::task::yield_now().await;
        }
        let client = Client::connect(&paths.authentication_socket());
        Self {
            database,
            context,
            client,
            task,
        }
    }

    async fn stop(self) {
        self.context.stop();
        drop(self.client);
        self.task.await.unwrap().unwrap();
        self.database.stop().await.unwrap();
    }

    fn count(&self, name: &str) -> i64 {
        let samples = self.context.perf().samples();
        let sample = samples.iter().find(|sample| sample.name == name);
        sample.map_or(0, |sample| sample.value)
    }

    async fn begin(&self, mechanism: &str, initial: Option<&[u8]>, peer: &str) -> Outcome {
        let begin = Begin {
            mechanism: mechanism.into(),
            initial: initial.map(<[u8]>::to_vec),
            bindings: vec![exporter(b"channel")],
            domain: "example.com".into(),
            peer: peer.parse::<IpAddr>().unwrap(),
        };
        self.client.begin(begin).await.unwrap()
    }

    async fn plain(&self, message: &str, peer: &str) -> Outcome {
        self.begin("PLAIN", Some(message.as_bytes()), peer).await
    }

    /// A whole SCRAM exchange.
    async fn scram(
        &self,
        hash: Hash,
        binding: Option<ChannelBinding>,
        user: &str,
        password: &str,
        peer: &str,
    ) -> Outcome {
        let name = match (hash, binding.is_some()) {
            (Hash::Sha1, false) => "SCRAM-SHA-1",
            (Hash::Sha1, true) => "SCRAM-SHA-1-PLUS",
            (Hash::Sha256, false) => "SCRAM-SHA-256",
            (Hash::Sha256, true) => "SCRAM-SHA-256-PLUS",
        };
        let (mut exchange, first) =
            sasl::Client::begin(hash, user, password, "nonce", binding).unwrap();
        let (number, challenge) = match self.begin(name, Some(first.as_bytes()), peer).await {
            Outcome::Challenge { exchange, data } => (exchange, data),
            other => return other,
        };
        let response = exchange.answer(&challenge).unwrap();
        let outcome = self.client.answer(number, response.into()).await.unwrap();
        if let Outcome::Success { data, .. } = &outcome {
            exchange.verify(data.as_deref().unwrap()).unwrap();
        }
        outcome
    }
}

fn exporter(data: &[u8]) -> ChannelBinding {
    ChannelBinding {
        kind: "tls-exporter".into(),
        data: data.into(),
    }
}

async fn put(database: &Database, user: &str, password: &str, enabled: bool) {
    let keys = derive_keys(password, 4096).unwrap();
    let row = EndUser {
        user: user.into(),
        name: user.into(),
        mail: String::new(),
        enabled,
        node: String::new(),
        scram_sha1: Some(keys.sha1),
        scram_sha256: Some(keys.sha256),
    };
    let put = Transaction::new().put(&row).unwrap();
    database.transact(put).await.unwrap();
}

fn success(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Success { user, .. } if user == "alice@example.com")
}

fn failure(outcome: &Outcome) -> Failure {
    match outcome {
        Outcome::Failure { failure, .. } => *failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_mechanism_signs_in() {
    let fixture = Fixture::start().await;
    for hash in [Hash::Sha1, Hash::Sha256] {
        for binding in [None, Some(exporter(b"channel"))] {
            let outcome = fixture.scram(hash, binding, "Alice", "pencil", HERE).await;
            assert!(success(&outcome), "{outcome:?}");
        }
        let elsewhere = Some(exporter(b"another channel"));
        let outcome = fixture
            .scram(hash, elsewhere, "alice", "pencil", HERE)
            .await;
        assert_eq!(failure(&outcome), Failure::NotAuthorized);
    }
    assert!(success(&fixture.plain("\0alice\0pencil", HERE).await));
    assert!(success(
        &fixture
            .plain("alice@EXAMPLE.com\0alice\0pencil", HERE)
            .await
    ));
    // Without an initial response there is an empty challenge first.
    let Outcome::Challenge { exchange, data } = fixture.begin("PLAIN", None, HERE).await else {
        panic!("no challenge")
    };
    assert!(data.is_empty());
    let response = b"\0alice\0pencil".to_vec();
    let outcome = fixture
        .client
        .answer(exchange, response.clone())
        .await
        .unwrap();
    assert!(success(&outcome));
    let again = fixture.client.answer(exchange, response).await.unwrap();
    assert_eq!(failure(&again), Failure::TemporaryAuthFailure);
    assert_eq!(fixture.count("AuthSucceeded"), 7);
    assert_eq!(fixture.count("AuthOpenExchanges"), 0);
    fixture.stop().await;
}

#[tokio::test]
async fn whatever_is_wrong_is_refused() {
    let fixture = Fixture::start().await;
    put(&fixture.database.client(), "carol", "pencil", false).await;
    for (message, expected) in [
        ("\0alice\0wrong", Failure::NotAuthorized),
        ("\0ghost\0pencil", Failure::NotAuthorized),
        ("\0carol\0pencil", Failure::AccountDisabled),
        ("\0carol\0wrong", Failure::NotAuthorized),
        ("\0al ice\0pencil", Failure::NotAuthorized),
        ("bob@example.com\0alice\0pencil", Failure::InvalidAuthzid),
        ("alice@other.org\0alice\0pencil", Failure::InvalidAuthzid),
        ("admin\0alice\0pencil", Failure::InvalidAuthzid),
        ("alice\0pencil", Failure::MalformedRequest),
    ] {
        let outcome = fixture.plain(message, HERE).await;
        assert_eq!(failure(&outcome), expected, "{message:?}");
    }
    let outcome = fixture.begin("DIGEST-MD5", None, HERE).await;
    assert_eq!(failure(&outcome), Failure::InvalidMechanism);
    let foreign = b"n,a=bob@example.com,n=alice,r=x";
    let outcome = fixture.begin("SCRAM-SHA-1", Some(foreign), HERE).await;
    assert_eq!(failure(&outcome), Failure::InvalidAuthzid);
    let outcome = fixture
        .scram(Hash::Sha256, None, "carol", "pencil", "192.0.2.77")
        .await;
    assert_eq!(failure(&outcome), Failure::AccountDisabled);
    fixture.stop().await;
}

#[tokio::test]
async fn a_change_is_effective_with_the_next_exchange() {
    let fixture = Fixture::start().await;
    let database = fixture.database.client();
    put(&database, "alice", "brush", true).await;
    assert!(!success(&fixture.plain("\0alice\0pencil", HERE).await));
    assert!(success(&fixture.plain("\0alice\0brush", HERE).await));
    let delete = Transaction::new().delete::<EndUser>(&["alice"]);
    database.transact(delete).await.unwrap();
    let outcome = fixture.plain("\0alice\0brush", HERE).await;
    assert_eq!(failure(&outcome), Failure::NotAuthorized);
    fixture.stop().await;
}

#[tokio::test]
async fn who_does_not_exist_looks_like_who_does() {
    let fixture = Fixture::start().await;
    let challenge = async |fixture: &Fixture, user: &str| {
        let first = format!("n,,n={user},r=abc");
        match fixture
            .begin("SCRAM-SHA-256", Some(first.as_bytes()), HERE)
            .await
        {
            Outcome::Challenge { data, .. } => String::from_utf8(data).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    // The part after the nonce: salt and iterations.
    let shape = |challenge: &str| challenge.split_once(",s=").unwrap().1.to_owned();
    let ghost = challenge(&fixture, "ghost").await;
    let alice = challenge(&fixture, "alice").await;
    assert_eq!(ghost.len(), alice.len());
    assert!(ghost.ends_with(",i=4096") && alice.ends_with(",i=4096"));
    assert_eq!(shape(&ghost), shape(&challenge(&fixture, "ghost").await));
    assert_eq!(shape(&alice), shape(&challenge(&fixture, "alice").await));
    let outcome = fixture
        .scram(Hash::Sha256, None, "ghost", "pencil", HERE)
        .await;
    let theirs = fixture
        .scram(Hash::Sha256, None, "alice", "wrong", HERE)
        .await;
    assert_eq!(outcome, theirs);
    fixture.stop().await;
}

#[tokio::test]
async fn every_node_of_a_cluster_answers_alike_for_nobody() {
    let ghost = async |fixture: &Fixture| {
        let (_, first) = sasl::Client::begin(Hash::Sha256, "ghost", "p", "n", None).unwrap();
        match fixture
            .begin("SCRAM-SHA-256", Some(first.as_bytes()), HERE)
            .await
        {
            Outcome::Challenge { data, .. } => {
                let text = String::from_utf8(data).unwrap();
                text.split_once(",s=").unwrap().1.to_owned()
            }
            other => panic!("{other:?}"),
        }
    };
    let mut fixture = Fixture::start().await;
    let first = ghost(&fixture).await;
    let database = fixture.database.client();
    let row = database.get::<SharedSecret>(&["decoys"]).await.unwrap();
    assert!(row.is_some());
    // Another node of the cluster has the same database, and no files of this.
    fixture.context.stop();
    fixture.task.await.unwrap().unwrap();
    let paths = fixture.database.paths().clone();
    let _ = std::fs::remove_dir_all(paths.state(ID));
    fixture.context = Context::new(ID, paths);
    fixture.task = tokio::spawn(authentication::serve(fixture.context.clone()));
    while !fixture.context.is_ready() {
        assert!(!fixture.task.is_finished());
        tokio::task::yield_now().await;
    }
    assert_eq!(ghost(&fixture).await, first);
    assert_eq!(
        database.get::<SharedSecret>(&["decoys"]).await.unwrap(),
        row
    );
    drop(database);
    fixture.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_and_the_rules_are_hot() {
    let fixture = Fixture::start().await;
    let mut delays = Vec::new();
    for _ in 0..5 {
        match fixture.plain("\0alice\0wrong", HERE).await {
            Outcome::Failure {
                failure: Failure::NotAuthorized,
                delay,
            } => delays.push(delay),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        delays.is_sorted() && delays[4] >= Duration::from_secs(4),
        "{delays:?}"
    );
    // Now even the right password is not looked at, here; elsewhere it is.
    let outcome = fixture.plain("\0alice\0pencil", HERE).await;
    assert_eq!(failure(&outcome), Failure::TemporaryAuthFailure);
    assert_eq!(fixture.count("AuthRefusedUnchecked"), 1);
    assert!(success(
        &fixture.plain("\0alice\0pencil", "198.51.100.1").await
    ));

    let parameter = ServiceParameter {
        service: ID.into(),
        name: "AllowPlain".into(),
        value: "false".into(),
    };
    let put = Transaction::new().put(&parameter).unwrap();
    fixture.database.client().transact(put).await.unwrap();
    let refused = async {
        loop {
            let outcome = fixture.plain("\0alice\0pencil", "198.51.100.1").await;
            if let Outcome::Failure { failure, .. } = outcome {
                return failure;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await;
    assert_eq!(refused.unwrap(), Failure::InvalidMechanism);
    fixture.stop().await;
}

/// What the service logs, as text.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_sign_in_that_is_refused_unchecked_is_audited_and_tells_nothing() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    // The runtime of this test has one thread, the service's tasks included.
    let _guard = tracing::subscriber::set_default(subscriber);
    let fixture = Fixture::start().await;
    for (name, peer) in [("alice", "192.0.2.1"), ("ghost", "192.0.2.2")] {
        let message = format!("\0{name}\0wrong");
        for _ in 0..6 {
            assert!(!success(&fixture.plain(&message, peer).await));
        }
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = |name: &str, peer: &str| {
        let name = format!("{name:?}");
        let found = text
            .lines()
            .find(|line| line.contains(" audit: ") && line.contains(&name));
        let line = found.unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(peer), "{line}");
        line.replace(&name, "NAME").replace(peer, "PEER")
    };
    assert_eq!(line("alice", "192.0.2.1"), line("ghost", "192.0.2.2"));
    fixture.stop().await;
}
