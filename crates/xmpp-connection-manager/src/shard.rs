//! The connections of one thread, and their link to the router.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use authentication::Outcome;
use service::{Counter, Perf};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xcp::{Event, Link, LinkDown, Outbox, ToComponent, ToRouter};
use xmpp::sasl::Failure;
use xmpp::{Condition, StreamError};

use crate::admission::Admission;
use crate::connection::{Connection, Ending, Step, bindings_of};
use crate::session::Surroundings;
use crate::settings::Settings;
use crate::tls::Tls;
use crate::transport::Transport;

/// Bytes on their way to the router above which clients are not read.
const CROWDED: usize = 1 << 20;
/// How long the last words to a client may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a client may take to close its side after that.
const LINGER: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing for so long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(90);
/// An idle peer is asked after so long whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// What monitoring tools know this service by.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    connected: Counter,
    total: Counter,
    pub(crate) failed: Counter,
    refused: Counter,
    live: Counter,
}

impl Counters {
    pub(crate) fn new(perf: &Perf) -> Self {
        let counter = |name| perf.counter("Cisco XCP CM", "", name);
        Self {
            connected: counter("CmConnectedSockets"),
            total: counter("CmTotalSockets"),
            failed: counter("CmFailedRequests"),
            refused: counter("CmRefusedSockets"),
            live: counter("CmAuthenticatedSockets"),
        }
    }
}

/// A thread's connections.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) domain: String,
    pub(crate) tls: Tls,
    pub(crate) settings: Settings,
    pub(crate) counters: Counters,
    authentication: authentication::Client,
    admission: Admission,
    /// The link to the router, while it is up.
    router: Mutex<Option<Outbox>>,
    up: watch::Sender<bool>,
    /// More is on its way to the router than it reads.
    crowded: AtomicBool,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    last: AtomicU64,
    tasks: TaskTracker,
}

impl Shard {
    pub(crate) fn new(
        domain: &str,
        tls: Tls,
        settings: Settings,
        counters: Counters,
        authentication: authentication::Client,
        admission: Admission,
    ) -> Arc<Self> {
        Arc::new(Self {
            domain: domain.into(),
            tls,
            settings,
            counters,
            authentication,
            admission,
            router: Mutex::new(None),
            up: watch::Sender::new(false),
            crowded: AtomicBool::new(false),
            connections: Mutex::default(),
            last: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        })
    }

    /// Whether the router is there.
    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// The same, with word of each change.
    pub(crate) fn ups_and_downs(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// What a session must know.
    pub(crate) fn surroundings(&self, transport: &Transport) -> Surroundings<'_> {
        Surroundings {
            domain: &self.domain,
            bindings: bindings_of(transport),
            plain: self.settings.plain(),
            element: self.settings.element(),
            router: self.is_up(),
            dual: self.settings.dual(),
        }
    }

    /// Tells the router of a connection, if it is there.
    pub(crate) fn hand(
        &self,
        tell: impl FnOnce(&Outbox) -> Result<(), LinkDown>,
    ) -> Option<Outbox> {
        let router = lock(&self.router).clone()?;
        tell(&router).ok()?;
        self.counters.live.increment();
        Some(router)
    }

    fn get(&self, number: u64) -> Option<Arc<Connection>> {
        lock(&self.connections).get(&number).cloned()
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        lock(&self.connections).values().cloned().collect()
    }

    /// Accepts connections until the shard stops.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener, direct: bool) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer, direct),
                Err(error) => {
                    tracing::warn!(%error, "A connection could not be accepted.");
                    // Out of files, most likely: those there are must end
                    // before another can be.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, direct: bool) {
        self.counters.total.increment();
        let limits = self.settings.limits();
        let Some(admitted) = self.admission.admit(peer.ip(), &limits) else {
            self.counters.refused.increment();
            return;
        };
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%error, "A connection was gone at once.");
            return;
        }
        let transport = if direct {
            match self.tls.accept(true) {
                Ok(tls) => Transport::Tls(tls),
                Err(error) => {
                    tracing::error!(%error, "TLS could not be begun; check certificate and key.");
                    return;
                }
            }
        } else {
            Transport::Plain(Vec::new())
        };
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let deadline = Instant::now() + self.settings.patience();
        let connection = Connection::new(number, stream, peer, transport, deadline, admitted);
        let connection = Arc::new(connection);
        lock(&self.connections).insert(number, connection.clone());
        self.counters.connected.increment();
        self.tasks.spawn(run(self.clone(), connection));
    }

    /// Ends connections that have not signed in in time.
    pub(crate) fn sweep(&self, now: Instant) {
        for connection in self.all() {
            if connection.deadline <= now && !connection.is_live() {
                let error =
                    StreamError::new(Condition::ConnectionTimeout, "Signing in took too long.");
                connection.fail(self, error);
            }
        }
    }

    /// Carries what the router sends, for as long as the shard lives.
    pub(crate) async fn follow(self: Arc<Self>, mut link: Link) {
        loop {
            match link.next().await {
                Event::Up { out, domain, .. } => {
                    if domain != self.domain {
                        tracing::error!(
                            ours = self.domain,
                            domain,
                            "The router serves another domain; restart both."
                        );
                    }
                    *lock(&self.router) = Some(out);
                    self.up.send_replace(true);
                    tracing::info!("The link to the router is up.");
                }
                Event::Down => self.orphan(),
                Event::Frames(frames) => self.carry(frames),
            }
        }
    }

    fn carry(&self, frames: Vec<ToComponent>) {
        let mut dirty = Vec::new();
        let mut current: Option<Arc<Connection>> = None;
        for frame in frames {
            let (ToComponent::Element { connection, .. }
            | ToComponent::Mark { connection, .. }
            | ToComponent::Close { connection, .. }) = frame
            else {
                // Stanzas are for components that serve a host of their own.
                continue;
            };
            if current
                .as_ref()
                .is_none_or(|last| last.number != connection)
            {
                current = self.get(connection);
            }
            // Else it ended while the frame was on its way.
            let Some(connection) = &current else { continue };
            let first = match frame {
                ToComponent::Element { element, .. } => connection.deliver(&element),
                ToComponent::Mark { token, .. } => connection.mark(token),
                ToComponent::Close { last, .. } => {
                    connection.close_by_router(&last);
                    false
                }
                _ => false,
            };
            if first {
                dirty.push(connection.clone());
            }
        }
        for connection in dirty {
            connection.flush(self);
        }
    }

    /// The router is gone, and with it every session: clients are to come
    /// again.
    fn orphan(&self) {
        tracing::warn!("The link to the router is down; its clients are closed.");
        self.up.send_replace(false);
        *lock(&self.router) = None;
        for connection in self.all() {
            if connection.is_live() {
                let error = StreamError::new(
                    Condition::SystemShutdown,
                    "The service restarts; connect again.",
                );
                connection.fail(self, error);
            }
        }
    }

    /// Closes every connection, so that sessions can be resumed.
    pub(crate) async fn close(&self) {
        for connection in self.all() {
            if connection.is_live() {
                connection.drop_quietly();
            } else {
                connection.fail(self, Condition::SystemShutdown.into());
            }
        }
        self.tasks.close();
        let _ = timeout(FAREWELL, self.tasks.wait()).await;
    }

    /// The link to wait for before more is read, if too much is on its way.
    pub(crate) fn crowded(&self, router: Option<&Outbox>) -> Option<Outbox> {
        let router = router?;
        self.crowded.load(Ordering::Relaxed).then(|| router.clone())
    }

    /// Takes note of how much is on its way to the router.
    pub(crate) fn on_their_way(&self, bytes: usize) {
        self.crowded.store(bytes > CROWDED, Ordering::Relaxed);
    }

    fn forget(&self, connection: &Connection) {
        lock(&self.connections).remove(&connection.number);
        self.counters.connected.add(-1);
        if connection.is_live() {
            self.counters.live.add(-1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the system notice a peer that is gone without a word.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(Duration::from_secs(30))
            .with_retries(3),
    )
}

/// A connection's task.
async fn run(shard: Arc<Shard>, connection: Arc<Connection>) {
    let ending = drive(&shard, &connection).await;
    shard.forget(&connection);
    if let Some(router) = connection.router() {
        // A link that is down has ended its connections by itself.
        if ending != Ending::Router {
            let _ = router.push(&ToRouter::Closed {
                connection: connection.number,
                clean: ending == Ending::Clean,
            });
        }
    }
    if ending != Ending::Lost {
        // Boxed: no connection is to have room for this while it lives.
        let _ = Box::pin(timeout(FAREWELL, farewell(&connection))).await;
    }
}

async fn drive(shard: &Shard, connection: &Connection) -> Ending {
    loop {
        match connection.pump(shard) {
            Step::End(ending) => return ending,
            Step::Again => tokio::task::yield_now().await,
            Step::Wait => wait(connection).await,
            Step::Room(router) => {
                let _ = unless_ending(connection, router.has_room()).await;
                shard.on_their_way(0);
            }
            Step::Begin(begin) => {
                // Boxed, as it is large and rare.
                let call = Box::pin(shard.authentication.begin(begin));
                decide(shard, connection, call).await;
            }
            Step::Answer { exchange, response } => {
                let call = Box::pin(shard.authentication.answer(exchange, response));
                decide(shard, connection, call).await;
            }
            Step::Abort(exchange) => {
                let call = Box::pin(shard.authentication.abort(exchange));
                let _ = unless_ending(connection, call).await;
            }
        }
    }
}

/// Waits for the socket, or for somebody to kick.
async fn wait(connection: &Connection) {
    let interest = if connection.is_blocked() {
        Interest::READABLE | Interest::WRITABLE
    } else {
        Interest::READABLE
    };
    tokio::select! {
        biased;
        () = connection.kick.notified() => {}
        // A socket in error is readable, and reading tells.
        _ = connection.stream.ready(interest) => {}
    }
}

/// Waits for something, but not when the connection is to end.
async fn unless_ending<T>(
    connection: &Connection,
    something: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(something);
    loop {
        tokio::select! {
            biased;
            () = connection.kick.notified() => {
                if connection.is_ending() {
                    return None;
                }
            }
            value = &mut something => return Some(value),
        }
    }
}

/// Waits for the authentication service and tells the client.
async fn decide<E: std::fmt::Display>(
    shard: &Shard,
    connection: &Connection,
    call: impl Future<Output = Result<Outcome, E>>,
) {
    let outcome = match unless_ending(connection, call).await {
        None => return,
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => {
            tracing::warn!(%error, "The authentication service did not answer.");
            Outcome::Failure {
                failure: Failure::TemporaryAuthFailure,
                delay: Duration::ZERO,
            }
        }
    };
    if let Outcome::Failure { delay, .. } = &outcome
        && !delay.is_zero()
        && unless_ending(connection, sleep(*delay)).await.is_none()
    {
        return;
    }
    connection.decided(shard, &outcome);
}

/// Says the last words, and lets them arrive.
async fn farewell(connection: &Connection) -> std::io::Result<()> {
    loop {
        connection.write_last()?;
        if !connection.is_blocked() {
            break;
        }
        connection.stream.writable().await?;
    }
    SockRef::from(&connection.stream).shutdown(std::net::Shutdown::Write)?;
    // A socket closed with unread input resets, and the peer may lose what
    // was written last.
    let drain = async {
        let mut waste = [0; 512];
        for _ in 0..256 {
            connection.stream.readable().await?;
            match connection.stream.try_read(&mut waste) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        Ok(())
    };
    timeout(LINGER, drain).await.unwrap_or(Ok(()))
}

/// The chores of a shard until it is to stop.
pub(crate) async fn keep_house(shard: &Shard, stop: &CancellationToken, beat: impl Fn()) {
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            now = clock.tick() => {
                beat();
                shard.sweep(now);
            }
        }
    }
}
