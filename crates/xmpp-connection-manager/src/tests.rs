//! The whole service on loopback: real TLS, the real authentication service
//! and database, and the router's end of the link played by the test.

mod client;
mod conversation;
mod hostile;
mod shards;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use authentication::derive_keys;
use database::Transaction;
use database::tables::EndUser;
use database::testing::TestDatabase;
use rustls::pki_types::CertificateDer;
use service::Context;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use xcp::{Listener, Outbox, RouterEvent, ToComponent, ToRouter};

use crate::Manager;
use crate::admission::Admission;
use crate::settings::Settings;
use crate::shard::Counters;
use crate::tls::Tls;

const DOMAIN: &str = "example.com";

/// A router of which the test is the mind.
pub(super) struct Router {
    /// None after the router has gone.
    listener: Option<Listener>,
    out: Option<Outbox>,
    waiting: std::collections::VecDeque<ToRouter>,
}

impl Router {
    fn bind(paths: &service::Paths, instance: u64) -> Self {
        Self {
            listener: Some(Listener::bind(&paths.router_socket(), instance, DOMAIN).unwrap()),
            out: None,
            waiting: std::collections::VecDeque::new(),
        }
    }

    /// The next frame of the connection manager.
    pub(super) async fn next(&mut self) -> ToRouter {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return frame;
            }
            match within(self.listener.as_mut().unwrap().next()).await {
                RouterEvent::Up { out, component, .. } => {
                    assert_eq!(component, "xmpp-connection-manager");
                    self.out = Some(out);
                }
                RouterEvent::Frames { frames, .. } => self.waiting.extend(frames),
                RouterEvent::Down { .. } => panic!("the link went down"),
            }
        }
    }

    /// Waits for a user; gives the connection.
    pub(super) async fn user(&mut self, user: &str) -> u64 {
        match self.next().await {
            ToRouter::Authenticated {
                connection,
                user: who,
                secure,
                ..
            } => {
                assert!(secure);
                assert_eq!(who, user);
                connection
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits for an element of that connection.
    pub(super) async fn element(&mut self, of: u64) -> String {
        match self.next().await {
            ToRouter::Element {
                connection,
                element,
            } => {
                assert_eq!(connection, of);
                String::from_utf8(element.to_vec()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn send(&self, frame: &ToComponent) {
        self.out.as_ref().unwrap().push(frame).unwrap();
    }

    pub(super) fn write(&self, connection: u64, element: &str) {
        self.send(&ToComponent::Element {
            connection,
            element: element.as_bytes().to_vec().into(),
        });
    }
}

/// What connection managers need beside a router: a database with alice in it,
/// the authentication service, a certificate.
pub(super) struct Surroundings {
    database: TestDatabase,
    authentication: (Context, JoinHandle<anyhow::Result<()>>),
    pub(super) certificate: CertificateDer<'static>,
}

impl Surroundings {
    pub(super) async fn start() -> Self {
        let database = TestDatabase::start().await.unwrap();
        let paths = database.paths().clone();
        std::fs::create_dir_all(paths.etc()).unwrap();
        let node = service::Node {
            name: "alpha".into(),
            domain: DOMAIN.into(),
            address: "192.0.2.9".into(),
            role: service::Role::Publisher,
            product: "imp".into(),
            size: "5K".into(),
            cluster: "00000000-0000-4000-8000-000000000000".into(),
        };
        std::fs::write(paths.node_file(), toml::to_string(&node).unwrap()).unwrap();
        put_user(&database, "alice", "pencil").await;
        let certificate = certificate(paths.etc());
        let context = Context::new("authentication-service", paths);
        let task = tokio::spawn(authentication::serve(context.clone()));
        Self {
            database,
            authentication: (context, task),
            certificate,
        }
    }

    pub(super) fn paths(&self) -> &service::Paths {
        self.database.paths()
    }

    /// Writes a row.
    pub(super) async fn put<T: database::Table>(&self, row: &T) {
        let put = Transaction::new().put(row).unwrap();
        self.database.client().transact(put).await.unwrap();
    }

    pub(super) async fn stop(self) {
        self.authentication.0.stop();
        within(self.authentication.1).await.unwrap().unwrap();
        self.database.stop().await.unwrap();
    }
}

/// Everything around one connection manager.
pub(super) struct World {
    pub(super) router: Router,
    pub(super) context: Context,
    pub(super) settings: Settings,
    pub(super) starttls: SocketAddr,
    pub(super) direct: SocketAddr,
    around: Surroundings,
    task: JoinHandle<anyhow::Result<()>>,
}

impl World {
    pub(super) async fn start() -> Self {
        let around = Surroundings::start().await;
        let paths = around.paths().clone();
        let mut router = Router::bind(&paths, 1);

        let context = Context::new("xmpp-connection-manager", paths);
        let settings = Settings::default();
        let manager = Manager {
            context: context.clone(),
            domain: DOMAIN.into(),
            tls: Tls::load(context.paths().etc()).unwrap(),
            settings: settings.clone(),
            counters: Counters::new(context.perf()),
            admission: Admission::default(),
        };
        let listeners = [listener().await, listener().await];
        let [starttls, direct] = listeners
            .each_ref()
            .map(|listener| listener.local_addr().unwrap());
        let [one, two] = listeners;
        let task = tokio::spawn(manager.run_shard([(one, false), (two, true)]));
        let both = [context.clone(), around.authentication.0.clone()];
        let ready = async {
            while !both.iter().all(Context::is_ready) {
                // Hears of the link coming up.
                if let Some(event) = router.listener.as_mut().unwrap().try_next() {
                    let RouterEvent::Up { out, .. } = event else {
                        panic!("{event:?}")
                    };
                    router.out = Some(out);
                }
                tokio::task::yield_now().await;
            }
        };
        within(ready).await;
        Self {
            router,
            context,
            settings,
            starttls,
            direct,
            around,
            task,
        }
    }

    /// Stops everything in order and sees that it does.
    pub(super) async fn stop(self) {
        self.context.stop();
        within(self.task).await.unwrap().unwrap();
        drop(self.router);
        self.around.stop().await;
    }

    pub(super) fn count(&self, name: &str) -> i64 {
        let samples = self.context.perf().samples();
        let sample = samples.iter().find(|sample| sample.name == name);
        sample.map_or(0, |sample| sample.value)
    }

    /// Waits until a counter has a value.
    pub(super) async fn counted(&self, name: &str, value: i64) {
        let reached = async {
            while self.count(name) != value {
                tokio::task::yield_now().await;
            }
        };
        within(reached).await;
    }
}

/// Real time for what must happen soon.
pub(super) async fn within<T>(something: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), something)
        .await
        .unwrap()
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn put_user(database: &TestDatabase, user: &str, password: &str) {
    let keys = derive_keys(password, 4096).unwrap();
    let row = EndUser {
        user: user.into(),
        name: user.into(),
        mail: String::new(),
        enabled: true,
        node: String::new(),
        scram_sha1: Some(keys.sha1),
        scram_sha256: Some(keys.sha256),
    };
    let put = Transaction::new().put(&row).unwrap();
    database.client().transact(put).await.unwrap();
}

/// Writes `tls.crt` and `tls.key`.
fn certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([DOMAIN.to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}
