//! Connections of XMPP clients: TCP, TLS, stream negotiation and framing.
//!
//! A client is taken as far as its SASL success and the features that follow;
//! from there on the router has it, and this service only cuts its stream into
//! checked elements, passes them on, and writes what comes back. Sessions and
//! stream management live in the router, so that nothing is lost with a
//! connection, or with this whole service.
//!
//! Connections are divided among shards, one for each thread: a shard has
//! listening sockets of its own (the system spreads connections over them) and
//! a link of its own to the router, so that threads share nothing that they
//! would have to wait for.

mod admission;
mod connection;
mod dual;
mod session;
mod settings;
mod shard;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use database::{Access, Database};
use service::Context;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use xcp::Link;
use xmpp_config_manager::Report;

use crate::admission::Admission;
use crate::settings::Settings;
use crate::shard::{Counters, Shard, keep_house};
use crate::tls::Tls;

/// Port where a client begins in plain text and must begin TLS.
const PORT: u16 = 5222;
/// Port where TLS comes first.
const DIRECT_PORT: u16 = 5223;
/// More threads than this one router cannot keep busy.
const MOST_SHARDS: usize = 8;
/// Clients that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Runs the service until it is stopped.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let node = context.node()?;
    let domain = node.domain;
    let tls = Tls::load(&credentials()?)?;
    let database = Database::open(context.paths(), Access::Settings);
    let settings = Settings::default();
    let mut own = database.parameters(context.id());
    let mut authentication = database.parameters("authentication-service");
    tokio::select! {
        () = async { tokio::join!(own.loaded(), authentication.loaded()); } => {}
        () = context.stopping() => return Ok(()),
    }
    settings.update(&own, &authentication);
    let group = dual::follow(database.clone(), node.name, settings.clone());
    let threads: usize = own.get("Threads", 0);
    let running = [("domain", &*domain), ("Threads", &threads.to_string())];
    let _report = Report::start(context.paths(), context.id(), &running);
    let follow = {
        let settings = settings.clone();
        async move {
            loop {
                tokio::select! {
                    () = own.changed() => {}
                    () = authentication.changed() => {}
                }
                settings.update(&own, &authentication);
            }
        }
    };
    let manager = Manager {
        counters: Counters::new(context.perf()),
        admission: Admission::default(),
        context,
        domain,
        tls,
        settings,
    };
    tokio::select! {
        result = manager.run(shards(threads), listen_all) => result,
        () = follow => Ok(()),
        () = group => Ok(()),
    }
}

/// The folder of our certificate and key.
fn credentials() -> anyhow::Result<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(PathBuf::from)
        .context("CREDENTIALS_DIRECTORY is not set; the unit's LoadCredential= lines set it")
}

/// What all shards share.
#[derive(Clone, Debug)]
struct Manager {
    context: Context,
    domain: String,
    tls: Tls,
    settings: Settings,
    counters: Counters,
    admission: Admission,
}

/// The listening sockets of one shard: where TLS comes second, and first.
type Listeners = [(TcpListener, bool); 2];

/// How many shards to run: as many as are wished, or, for 0, half as many as
/// there are processors. The router and the other services need the rest.
fn shards(wished: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let number = if wished == 0 { processors / 2 } else { wished };
    number.clamp(1, MOST_SHARDS)
}

impl Manager {
    /// Runs that many shards, the first on this thread, each with listening
    /// sockets of its own on the same ports.
    async fn run(
        self,
        number: usize,
        listen: impl Fn() -> anyhow::Result<Listeners> + Clone + Send + 'static,
    ) -> anyhow::Result<()> {
        let others: Vec<_> = (1..number)
            .map(|number| {
                let manager = self.clone();
                let listen = listen.clone();
                std::thread::Builder::new()
                    .name(format!("shard-{number}"))
                    .spawn(move || manager.run_thread(listen))
            })
            .collect::<Result<_, _>>()?;
        self.run_shard(listen()?).await?;
        for other in others {
            // Each has had the same time to end; a panic ends the process.
            other
                .join()
                .map_err(|_| anyhow::anyhow!("a shard's thread panicked"))??;
        }
        Ok(())
    }

    /// Runs a further shard on a thread of its own.
    fn run_thread(self, listen: impl Fn() -> anyhow::Result<Listeners>) -> anyhow::Result<()> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async {
                let stop = self.context.stop_token().clone();
                let result = match listen() {
                    Ok(listeners) => self.run_shard(listeners).await,
                    Err(error) => Err(error),
                };
                if result.is_err() {
                    // Without it, a part of the clients would find nobody.
                    stop.cancel();
                }
                result
            })
    }

    /// Runs one shard with these listeners, until the service is stopped.
    async fn run_shard(self, listeners: Listeners) -> anyhow::Result<()> {
        let paths = self.context.paths();
        let shard = Shard::new(
            &self.domain,
            self.tls,
            self.settings,
            self.counters,
            authentication::Client::connect(&paths.authentication_socket()),
            self.admission,
        );
        let link = Link::open(&paths.router_socket(), self.context.id(), instance());
        let mut following = JoinSet::new();
        following.spawn(shard.clone().follow(link));
        following.spawn(report(self.context.clone(), shard.ups_and_downs()));
        let mut accepting = JoinSet::new();
        for (listener, direct) in listeners {
            accepting.spawn(shard.clone().accept(listener, direct));
        }
        let heartbeat = self.context.heartbeat("connections");
        keep_house(&shard, self.context.stop_token(), || heartbeat.tick()).await;
        // No new connection; then an end for those there are, while the link
        // still carries what they have to tell.
        drop(accepting);
        shard.close().await;
        Ok(())
    }
}

/// Says when the service serves, and when it does not.
async fn report(context: Context, mut up: watch::Receiver<bool>) {
    loop {
        let now = *up.borrow_and_update();
        if !now {
            context.status("Waits for the router.");
        } else if context.is_ready() {
            context.status("Serving XMPP clients.");
        } else {
            context.ready("Serving XMPP clients.");
        }
        if up.changed().await.is_err() {
            return;
        }
    }
}

/// A number that differs at each start.
fn instance() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
        ^ u64::from(std::process::id())
}

/// A shard's sockets on the ports that clients know.
fn listen_all() -> anyhow::Result<Listeners> {
    Ok([(listen(PORT)?, false), (listen(DIRECT_PORT)?, true)])
}

/// Listens for IPv6 and IPv4 alike, or for IPv4 alone where there is no IPv6.
fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let bind = |socket: TcpSocket, address: SocketAddr| {
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    TcpSocket::new_v6()
        .and_then(|socket| bind(socket, (Ipv6Addr::UNSPECIFIED, port).into()))
        .or_else(|_| bind(TcpSocket::new_v4()?, (Ipv4Addr::UNSPECIFIED, port).into()))
        .with_context(|| format!("port {port} cannot be listened on; is another program there?"))
}
