//! One connection: a socket, its TLS, its session, and what waits to be
//! written.

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use authentication::{Begin, Outcome};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use xcp::{Outbox, ToRouter};
use xmpp::{Condition, StreamError};

use crate::admission::Admitted;
use crate::session::{End, Need, Session, Surroundings};
use crate::shard::Shard;
use crate::tls::Tls;
use crate::transport::{Outgoing, Transport};

/// Bytes that come from a socket with one call, and are decrypted with one.
const READ: usize = 16 << 10;
/// Calls in a row before other connections have their turn.
const TURNS: usize = 4;
/// Bytes on the wire before authentication, TLS and all. What they may say is
/// bounded more tightly by the framer.
const WIRE_BEFORE_AUTHENTICATION: usize = 256 << 10;
/// Waiting bytes above which a connection is dropped, whatever the router
/// sends: more than its largest frame.
const HOPELESS: usize = 32 << 20;

thread_local! {
    /// Read buffers, shared by all connections of a thread: an idle one keeps
    /// none.
    static SCRATCH: RefCell<[Vec<u8>; 2]> = RefCell::new([vec![0; READ], vec![0; READ]]);
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its number on the link to the router.
    pub(crate) number: u64,
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// When it must have signed in.
    pub(crate) deadline: Instant,
    /// Wakes its task for another reason than its socket.
    pub(crate) kick: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    out: Outgoing,
    /// Input that came with what the authentication service is asked about.
    carry: Vec<u8>,
    /// Where the client's elements go, once the router has it.
    router: Option<Outbox>,
    /// Whether the router was told to hold back.
    congested: bool,
    /// Marks of the router that wait for what is before them.
    marks: Vec<u64>,
    /// Whether it is on the list to be flushed.
    dirty: bool,
    wire: usize,
    ending: Option<Ending>,
    admitted: Admitted,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client closed its stream.
    Clean,
    /// We close: an error, a limit or a stop. There is something to say.
    Closed,
    /// The client is gone.
    Lost,
    /// The router closed it.
    Router,
}

/// What a connection's task does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Wait for the socket.
    Wait,
    /// Let others have their turn, then go on.
    Again,
    /// Wait until the router has read what is on its way.
    Room(Outbox),
    /// Ask the authentication service.
    Begin(Begin),
    /// Go on with an exchange.
    Answer { exchange: u64, response: Vec<u8> },
    /// Forget an exchange.
    Abort(u64),
    /// It is over.
    End(Ending),
}

impl Connection {
    pub(crate) fn new(
        number: u64,
        stream: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        deadline: Instant,
        admitted: Admitted,
    ) -> Self {
        let secure = matches!(transport, Transport::Tls(_));
        Self {
            number,
            stream,
            peer,
            deadline,
            kick: Notify::new(),
            inner: Mutex::new(Inner {
                session: Session::new(secure),
                out: Outgoing::new(transport),
                carry: Vec::new(),
                router: None,
                congested: false,
                marks: Vec::new(),
                dirty: false,
                wire: 0,
                ending: None,
                admitted,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and does what can be done without waiting.
    pub(crate) fn pump(&self, shard: &Shard) -> Step {
        let mut inner = self.lock();
        if let Some(ending) = inner.ending {
            return Step::End(ending);
        }
        let step = SCRATCH.with_borrow_mut(|scratch| inner.read(self, shard, scratch));
        inner.settle(self, shard);
        match inner.ending {
            Some(ending) => Step::End(ending),
            None => step,
        }
    }

    /// Whether it must also wait for its socket to take more.
    pub(crate) fn is_blocked(&self) -> bool {
        self.lock().out.is_blocked()
    }

    /// Whether it is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.lock().ending.is_some()
    }

    /// Whether the router has it.
    pub(crate) fn is_live(&self) -> bool {
        self.lock().router.is_some()
    }

    /// The authentication service answered.
    pub(crate) fn decided(&self, shard: &Shard, outcome: &Outcome) {
        let mut inner = self.lock();
        let mut out = Vec::new();
        let world = shard.surroundings(&inner.out.transport);
        let need = match outcome {
            Outcome::Challenge { exchange, data } => {
                inner.session.challenge(*exchange, data, &mut out);
                None
            }
            Outcome::Success { user, data } => {
                inner
                    .session
                    .succeed(user, data.as_deref(), &world, &mut out);
                None
            }
            Outcome::Failure { failure, .. } => {
                shard.counters.failed.increment();
                inner.session.refuse(*failure, &world, &mut out)
            }
        };
        inner.out.push(&out);
        if let Some(Need::End(end)) = need {
            inner.end(end, shard);
        }
        inner.settle(self, shard);
    }

    /// Takes bytes from the router. Says whether the connection must now be
    /// flushed and was not on the list for that yet.
    pub(crate) fn deliver(&self, bytes: &[u8]) -> bool {
        let mut inner = self.lock();
        if inner.ending.is_some() {
            return false;
        }
        inner.out.push(bytes);
        !std::mem::replace(&mut inner.dirty, true)
    }

    /// Takes a mark of the router.
    pub(crate) fn mark(&self, token: u64) -> bool {
        let mut inner = self.lock();
        inner.marks.push(token);
        !std::mem::replace(&mut inner.dirty, true)
    }

    /// Writes what the router sent.
    pub(crate) fn flush(&self, shard: &Shard) {
        let mut inner = self.lock();
        inner.dirty = false;
        let blocked = inner.out.is_blocked();
        inner.settle(self, shard);
        if (inner.out.is_blocked() && !blocked) || inner.ending.is_some() {
            self.kick.notify_one();
        }
    }

    /// The router closes the connection.
    pub(crate) fn close_by_router(&self, last: &[u8]) {
        let mut inner = self.lock();
        if inner.ending.is_none() {
            inner.out.push(last);
            inner.out.push(b"</stream:stream>");
            inner.ending = Some(Ending::Router);
            self.kick.notify_one();
        }
    }

    /// Ends the connection with a stream error.
    pub(crate) fn fail(&self, shard: &Shard, error: StreamError) {
        let mut inner = self.lock();
        if inner.ending.is_none() {
            inner.fail(shard, error);
            self.kick.notify_one();
        }
    }

    /// Ends the connection without a word, so that its session can be resumed.
    pub(crate) fn drop_quietly(&self) {
        let mut inner = self.lock();
        if inner.ending.is_none() {
            inner.ending = Some(Ending::Closed);
            self.kick.notify_one();
        }
    }

    /// Says by TLS that nothing more comes, and writes what it can.
    pub(crate) fn write_last(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.out.close_notify();
        inner.out.flush(&self.stream)
    }

    /// The link that the router has the connection by.
    pub(crate) fn router(&self) -> Option<Outbox> {
        self.lock().router.clone()
    }
}

impl Inner {
    /// Takes input: what was left over, what TLS holds, then the socket.
    fn read(&mut self, connection: &Connection, shard: &Shard, scratch: &mut [Vec<u8>; 2]) -> Step {
        let [wire, plain] = scratch;
        if !self.carry.is_empty() {
            let carry = std::mem::take(&mut self.carry);
            if let Some(step) = self.consume(connection, shard, &carry) {
                return step;
            }
        }
        for _ in 0..TURNS {
            if let Some(step) = self.decrypted(connection, shard, plain) {
                return step;
            }
            if self.ending.is_some() {
                return Step::Again;
            }
            if let Some(router) = shard.crowded(self.router.as_ref()) {
                return Step::Room(router);
            }
            let length = match connection.stream.try_read(wire) {
                Ok(0) => return self.lose(),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Wait,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.lose(),
            };
            if self.session.is_anonymous() {
                self.wire += length;
                if self.wire > WIRE_BEFORE_AUTHENTICATION {
                    self.fail(shard, Condition::PolicyViolation.into());
                    return Step::Again;
                }
            }
            match &mut self.out.transport {
                Transport::Plain(_) => {
                    if let Some(step) = self.consume(connection, shard, &wire[..length]) {
                        return step;
                    }
                }
                Transport::Tls(tls) => {
                    let mut rest = &wire[..length];
                    while !rest.is_empty() {
                        let taken = tls.read_tls(&mut rest);
                        let processed = tls.process_new_packets();
                        if taken.is_err() || processed.is_err() {
                            tracing::debug!(peer = %connection.peer, error = ?processed.err(), "TLS failed.");
                            shard.counters.failed.increment();
                            // There may be an alert to send.
                            self.ending = Some(Ending::Closed);
                            return Step::Again;
                        }
                    }
                }
            }
        }
        Step::Again
    }

    /// Takes what TLS has decrypted.
    fn decrypted(
        &mut self,
        connection: &Connection,
        shard: &Shard,
        plain: &mut [u8],
    ) -> Option<Step> {
        loop {
            let Transport::Tls(tls) = &mut self.out.transport else {
                return None;
            };
            match tls.reader().read(plain) {
                Ok(0) => return Some(self.lose()),
                Ok(length) => {
                    if let Some(step) = self.consume(connection, shard, &plain[..length]) {
                        return Some(step);
                    }
                    if self.ending.is_some() {
                        return None;
                    }
                }
                // Nothing there, or the peer ended TLS badly, which the
                // socket will tell.
                Err(_) => return None,
            }
        }
    }

    /// Gives plaintext to the session.
    fn consume(
        &mut self,
        connection: &Connection,
        shard: &Shard,
        mut input: &[u8],
    ) -> Option<Step> {
        let mut out = Vec::new();
        let mut step = None;
        while step.is_none() && self.ending.is_none() {
            let world = shard.surroundings(&self.out.transport);
            let router = self.router.as_ref();
            let need = self.session.feed(&mut input, &world, &mut out, |element| {
                if let Some(router) = router {
                    let sent = router.with(|frames| {
                        ToRouter::encode_element(frames, connection.number, element);
                    });
                    // A link that is down is told of by itself.
                    if let Ok(bytes) = sent {
                        shard.on_their_way(bytes);
                    }
                }
            });
            match need {
                None => break,
                Some(Need::StartTls) => self.start_tls(connection, shard, input, &mut out),
                Some(Need::Begin { mechanism, initial }) => {
                    let bindings = match &self.out.transport {
                        Transport::Plain(_) => Vec::new(),
                        Transport::Tls(tls) => shard.tls.bindings(tls),
                    };
                    step = Some(Step::Begin(Begin {
                        mechanism,
                        initial,
                        bindings,
                        domain: shard.domain.clone(),
                        peer: connection.peer.ip(),
                    }));
                }
                Some(Need::Answer { exchange, response }) => {
                    step = Some(Step::Answer { exchange, response });
                }
                Some(Need::Abort(exchange)) => step = Some(Step::Abort(exchange)),
                Some(Need::Hand { user, inactive }) => {
                    self.hand(connection, shard, (&user, inactive), &world, &mut out);
                }
                Some(Need::End(end)) => self.end(end, shard),
            }
        }
        self.out.push(&out);
        if step.is_some() {
            self.carry = input.to_vec();
        }
        step
    }

    /// Changes to TLS. Nothing that came in plain text survives that.
    fn start_tls(
        &mut self,
        connection: &Connection,
        shard: &Shard,
        rest: &[u8],
        out: &mut Vec<u8>,
    ) {
        if !rest.is_empty() {
            // Somebody in between may have put this behind the client's
            // request, to have it taken for the client's own words.
            out.clear();
            let error = StreamError::new(
                Condition::PolicyViolation,
                "Wait for the answer before you go on.",
            );
            let world = shard.surroundings(&self.out.transport);
            if let Need::End(end) = self.session.fail(error, &world, out) {
                self.end(end, shard);
            }
            return;
        }
        self.out.push(out);
        out.clear();
        let flushed = self.out.flush(&connection.stream);
        if flushed.is_err() || self.out.pending() > 0 {
            self.ending = Some(Ending::Lost);
            return;
        }
        match shard.tls.accept(false) {
            Ok(tls) => {
                self.out = Outgoing::new(Transport::Tls(tls));
                self.session.secured();
            }
            Err(error) => {
                tracing::error!(%error, "TLS could not be begun; check certificate and key.");
                self.ending = Some(Ending::Lost);
            }
        }
    }

    /// Hands the client to the router.
    fn hand(
        &mut self,
        connection: &Connection,
        shard: &Shard,
        (user, inactive): (&str, bool),
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) {
        let handed = shard.hand(|router| {
            router.push(&ToRouter::Authenticated {
                connection: connection.number,
                user: user.into(),
                peer: connection.peer.to_string(),
                secure: matches!(self.out.transport, Transport::Tls(_)),
                inactive,
            })
        });
        match handed {
            Some(router) => {
                self.router = Some(router);
                self.admitted.signed_in();
            }
            None => {
                let error = Condition::SystemShutdown.into();
                if let Need::End(end) = self.session.fail(error, world, out) {
                    self.end(end, shard);
                }
            }
        }
    }

    fn fail(&mut self, shard: &Shard, error: StreamError) {
        let mut out = Vec::new();
        let world = shard.surroundings(&self.out.transport);
        let need = self.session.fail(error, &world, &mut out);
        self.out.push(&out);
        if let Need::End(end) = need {
            self.end(end, shard);
        }
    }

    fn end(&mut self, end: End, shard: &Shard) {
        self.ending = Some(match end {
            End::Clean => Ending::Clean,
            End::Error(error) => {
                shard.counters.failed.increment();
                tracing::debug!(%error, "A stream ended with an error.");
                Ending::Closed
            }
        });
    }

    fn lose(&mut self) -> Step {
        self.ending = Some(Ending::Lost);
        Step::Again
    }

    /// Writes what waits and tells the router how that went.
    fn settle(&mut self, connection: &Connection, shard: &Shard) {
        if self.out.flush(&connection.stream).is_err() || self.out.pending() > HOPELESS {
            self.ending.get_or_insert(Ending::Lost);
        }
        let Some(router) = &self.router else {
            return;
        };
        let number = connection.number;
        if !self.out.is_blocked() {
            for token in std::mem::take(&mut self.marks) {
                let _ = router.push(&ToRouter::Written {
                    connection: number,
                    token,
                });
            }
        }
        let most = shard.settings.write_buffer();
        if !self.congested && self.out.pending() > most {
            self.congested = true;
            let _ = router.push(&ToRouter::Congested { connection: number });
        } else if self.congested && self.out.pending() <= most / 4 {
            self.congested = false;
            let _ = router.push(&ToRouter::Relieved { connection: number });
        }
    }
}

/// Kinds of channel binding of a transport.
pub(crate) fn bindings_of(transport: &Transport) -> &'static [&'static str] {
    match transport {
        Transport::Plain(_) => &[],
        Transport::Tls(tls) => Tls::kinds(tls),
    }
}
