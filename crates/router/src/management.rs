//! Stream management (XEP-0198): the router counts, keeps and resends, so that
//! the death of a connection manager loses nothing.

use std::collections::BTreeSet;

use xmpp::{Builder, Condition, Header, StreamError, ns};

use crate::connect::Told;
use crate::event::ConnectionId;
use crate::router::{Connection, Router, Timer};
use crate::session::{Management, Resuming};
use crate::slab::Key;
use crate::stanza::StanzaError;

/// Unacknowledged stanzas after which an acknowledgement is asked for at once.
const ASK_AFTER: usize = 16;
/// Milliseconds for which a resumption waits for what is being stored: more
/// than a restart of the database takes. Then it goes on without.
const RESUME_WAIT: u64 = 30_000;
/// Asks for an acknowledgement.
const ASK: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";

/// Reads a resumption id: a session's key and its secret.
fn read_id(id: &str) -> Option<(Key, u64)> {
    let (key, secret) = id.split_once('-')?;
    Some((
        Key::from_u64(u64::from_str_radix(key, 16).ok()?),
        u64::from_str_radix(secret, 16).ok()?,
    ))
}

fn number(header: &Header<'_>, name: &str) -> Option<u32> {
    xmpp::Element::parse(header.bytes())
        .ok()?
        .attribute(name)?
        .parse()
        .ok()
}

impl Router {
    pub(crate) fn failed(
        &mut self,
        connection: ConnectionId,
        error: StanzaError,
        handled: Option<u32>,
    ) {
        let mut xml = Builder::new();
        xml.start("failed")
            .attribute("xmlns", ns::STREAM_MANAGEMENT)
            .maybe("h", handled.map(|count| count.to_string()).as_deref());
        xml.start(error.name())
            .attribute("xmlns", ns::STANZA_ERRORS);
        self.out.element(connection, &[&xml.finish()]);
    }

    /// Stream management before a resource is bound: only resumption.
    pub(crate) fn fresh_management(
        &mut self,
        connection: ConnectionId,
        user: Key,
        header: &Header<'_>,
    ) {
        if header.name() != "resume" {
            self.failed(connection, StanzaError::UnexpectedRequest, None);
            return;
        }
        let Ok(request) = xmpp::Element::parse(header.bytes()) else {
            return;
        };
        let found = request
            .attribute("previd")
            .and_then(read_id)
            .and_then(|(key, secret)| {
                let session = self.sessions.get(key)?;
                let management = session.management.as_ref()?;
                let same =
                    session.user == user && management.resumable && management.secret == secret;
                same.then_some(key)
            });
        let count = request.attribute("h").and_then(|h| h.parse().ok());
        let (Some(key), Some(count)) = (found, count) else {
            self.failed(connection, StanzaError::ItemNotFound, None);
            return;
        };
        let due = self.now.monotonic + RESUME_WAIT;
        let Some(management) = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.management.as_mut())
        else {
            return;
        };
        // What the client has, it has, whatever becomes of the resumption.
        let done = match management.acknowledge(count) {
            Ok(done) => done,
            Err(sent) => {
                self.too_high(connection, count, sent);
                return;
            }
        };
        // Answered once everything is handled: else the client would send
        // again what is being stored.
        let older = management.resuming.take();
        let waits = !management.unhandled.is_empty();
        if waits {
            management.resuming = Some(Resuming {
                connection,
                count,
                due,
            });
            self.timers.insert((due, Timer::Resuming(key)));
        }
        // What waits for a recipient is stored now.
        let holders: BTreeSet<Key> = management
            .unhandled
            .iter()
            .filter_map(|receipt| receipt.holder)
            .collect();
        self.received(user, done);
        for holder in holders {
            self.keep(holder);
        }
        if let Some(older) = older {
            let error = StreamError::new(Condition::Conflict, "The session was resumed elsewhere.");
            self.end_connection(older.connection, error);
        }
        if !waits {
            self.resume(key, connection, count);
        }
    }

    /// What a client sent could not be stored while its resumption waited. It
    /// is told what is handled, and sends the rest again: two clients that
    /// wrote to each other would otherwise wait for each other while nothing
    /// can be stored. What comes twice by that has the same id.
    pub(crate) fn resuming_timer(&mut self, key: Key, due: u64) {
        let Some(management) = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.management.as_mut())
        else {
            return;
        };
        if let Some(resuming) = management.resuming.take_if(|known| known.due == due) {
            management.received = management.handled();
            self.resume(key, resuming.connection, resuming.count);
        }
    }

    /// Puts a session on a new connection and sends again what is missing.
    pub(crate) fn resume(&mut self, key: Key, connection: ConnectionId, count: u32) {
        if !matches!(
            self.connections.get(&connection),
            Some(Connection::Fresh { .. })
        ) {
            return;
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(management) = session.management.as_mut() else {
            return;
        };
        let done = match management.acknowledge(count) {
            Ok(done) => done,
            Err(sent) => {
                self.too_high(connection, count, sent);
                return;
            }
        };
        management.written = 0;
        management.asked = None;
        management.answer_owed = None;
        let handled = management.handled();
        let secret = management.secret;
        session.congested = false;
        let old = session.connection.replace(connection);
        let user = session.user;
        if let Some(Connection::Fresh { peer, .. }) = self.connections.remove(&connection)
            && let Some(session) = self.sessions.get_mut(key)
        {
            session.peer = peer;
        }
        self.connections.insert(connection, Connection::Bound(key));
        if let Some(user) = self.users.get_mut(user) {
            user.fresh.retain(|known| *known != connection);
        }
        if let Some(old) = old {
            self.connections.remove(&old);
            let error = StreamError::new(Condition::Conflict, "The session was resumed elsewhere.");
            self.out.close(old, crate::connect::stream_error(error));
        }
        let mut xml = Builder::new();
        xml.start("resumed")
            .attribute("xmlns", ns::STREAM_MANAGEMENT)
            .attribute("previd", &format!("{:x}-{secret:016x}", key.to_u64()))
            .attribute("h", &handled.to_string());
        self.out.element(connection, &[&xml.finish()]);
        self.stats.resumed += 1;
        self.received(user, done);
        self.set_due(key, None);
        self.flush(key);
        self.announce(key);
        // Another node may have stored something meanwhile.
        self.fetch_stored(user);
    }

    /// Stream management on a session.
    pub(crate) fn session_management(&mut self, key: Key, header: &Header<'_>) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let Some(connection) = session.connection else {
            return;
        };
        match (header.name(), session.management.is_some()) {
            ("enable", false) => self.enable(key, connection, header),
            ("r", true) => self.answer(key),
            ("a", true) => self.acknowledged(key, connection, header),
            // Counts of a stream without management mean nothing.
            ("r" | "a", false) => {}
            _ => self.failed(connection, StanzaError::UnexpectedRequest, None),
        }
    }

    fn enable(&mut self, key: Key, connection: ConnectionId, header: &Header<'_>) {
        let Ok(request) = xmpp::Element::parse(header.bytes()) else {
            return;
        };
        let resume = matches!(request.attribute("resume"), Some("true" | "1"));
        let limit = self.config.resume_seconds;
        let resumable = resume && limit > 0;
        let secret = (self.random)();
        let mut xml = Builder::new();
        xml.start("enabled")
            .attribute("xmlns", ns::STREAM_MANAGEMENT);
        if resumable {
            xml.attribute("id", &format!("{:x}-{secret:016x}", key.to_u64()))
                .attribute("resume", "true")
                .attribute("max", &limit.to_string());
        }
        self.out.element(connection, &[&xml.finish()]);
        if let Some(session) = self.sessions.get_mut(key) {
            session.management = Some(Box::new(Management {
                secret,
                resumable,
                ..Management::default()
            }));
        }
    }

    /// Tells the client how many of its stanzas are handled.
    pub(crate) fn answer(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let (Some(connection), Some(management)) =
            (session.connection, session.management.as_mut())
        else {
            return;
        };
        // When they are handled, the client is told unasked.
        management.answer_owed = (!management.unhandled.is_empty()).then_some(management.received);
        let count = management.handled().to_string();
        let pieces: [&[u8]; 3] = [b"<a xmlns='urn:xmpp:sm:3' h='", count.as_bytes(), b"'/>"];
        self.out.element(connection, &pieces);
    }

    fn acknowledged(&mut self, key: Key, connection: ConnectionId, header: &Header<'_>) {
        let Some(count) = number(header, "h") else {
            self.end_connection(connection, Condition::BadFormat.into());
            return;
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let user = session.user;
        let Some(management) = session.management.as_mut() else {
            return;
        };
        match management.acknowledge(count) {
            Ok(done) => {
                management.asked = None;
                let more = !management.unacked.is_empty();
                let moved = !done.is_empty();
                let stuck = std::mem::replace(&mut management.unmoved, more && !moved);
                self.set_due(key, None);
                if moved && more {
                    self.want_ack(key, false);
                } else if more {
                    // It answers, and has nothing new: asked again at once, it
                    // would answer at once, for ever.
                    let due = self.now.monotonic + self.config.ack_request_ms;
                    self.set_due(key, Some(due));
                }
                self.received(user, done);
                if stuck && more && !moved {
                    // Senders wait for this client no longer.
                    self.keep(key);
                }
            }
            Err(sent) => self.too_high(connection, count, sent),
        }
    }

    fn too_high(&mut self, connection: ConnectionId, count: u32, sent: u32) {
        let mut xml = Builder::new();
        xml.start("stream:error")
            .attribute("xmlns:stream", ns::STREAM);
        xml.start("undefined-condition")
            .attribute("xmlns", ns::STREAM_ERRORS)
            .end();
        xml.start("handled-count-too-high")
            .attribute("xmlns", ns::STREAM_MANAGEMENT)
            .attribute("h", &count.to_string())
            .attribute("send-count", &sent.to_string());
        let last = xml.finish();
        self.out.close(connection, last);
        match self.connections.remove(&connection) {
            Some(Connection::Bound(key)) => {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.connection = None;
                }
                self.end_session(key, None, Told::All);
            }
            Some(Connection::Fresh { user, .. }) => {
                if let Some(user) = self.users.get_mut(user) {
                    user.fresh.retain(|known| *known != connection);
                }
            }
            // It has no counts.
            Some(Connection::Inactive(_)) | None => {}
        }
    }

    /// Sees to it that the client is asked for an acknowledgement soon. `held`
    /// when the newest stanza holds its sender's count back.
    pub(crate) fn want_ack(&mut self, key: Key, held: bool) {
        let hold = self.now.monotonic + self.config.hold_ms;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(management) = session.management.as_mut() else {
            return;
        };
        if session.connection.is_none() {
            return;
        }
        if let Some(give_up) = management.asked {
            if held && management.due == Some(give_up) {
                self.set_due(key, Some(hold.min(give_up)));
            }
        } else if management.unacked.len() >= ASK_AFTER {
            self.ask(key);
        } else if management.due.is_none() {
            let due = self.now.monotonic + self.config.ack_request_ms;
            self.set_due(key, Some(due));
        }
    }

    fn ask(&mut self, key: Key) {
        let give_up = self.now.monotonic + self.config.ack_timeout_seconds * 1000;
        let hold = self.now.monotonic + self.config.hold_ms;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let (Some(connection), Some(management)) =
            (session.connection, session.management.as_mut())
        else {
            return;
        };
        management.asked = Some(give_up);
        let held = management
            .unacked
            .iter()
            .any(|unacked| unacked.receipt.is_some());
        self.out.element(connection, &[ASK]);
        self.set_due(key, Some(if held { hold.min(give_up) } else { give_up }));
    }

    /// Moves a session's timer.
    pub(crate) fn set_due(&mut self, key: Key, due: Option<u64>) {
        let Some(management) = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.management.as_mut())
        else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut management.due, due) {
            self.timers.remove(&(old, Timer::Session(key)));
        }
        if let Some(due) = due {
            self.timers.insert((due, Timer::Session(key)));
        }
    }

    pub(crate) fn session_timer(&mut self, key: Key, due: u64) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let connection = session.connection;
        let Some(management) = session.management.as_mut() else {
            return;
        };
        if management.due != Some(due) {
            return;
        }
        management.due = None;
        match (connection, management.asked) {
            (None, _) => {
                tracing::debug!(session = %session.jid, "The client did not come back.");
                self.end_session(key, None, Told::All);
            }
            (Some(_), Some(give_up)) if due < give_up => {
                // Senders wait for this client no longer.
                self.set_due(key, Some(give_up));
                self.keep(key);
            }
            (Some(connection), Some(_)) => {
                // The client does not answer: its connection is dead, its
                // session may be resumed.
                let error = StreamError::new(
                    Condition::ConnectionTimeout,
                    "An acknowledgement did not come in time.",
                );
                self.out
                    .close(connection, crate::connect::stream_error(error));
                self.connection_ended(connection, false);
            }
            (Some(_), None) => {
                if !management.unacked.is_empty() {
                    self.ask(key);
                }
            }
        }
    }

    /// Keeps a session without its connection, if the client may resume it.
    pub(crate) fn detach(&mut self, key: Key) -> bool {
        let due = self.now.monotonic + u64::from(self.config.resume_seconds) * 1000;
        let Some(session) = self.sessions.get_mut(key) else {
            return true;
        };
        let Some(management) = session
            .management
            .as_mut()
            .filter(|management| management.resumable)
        else {
            return false;
        };
        management.written = 0;
        management.asked = None;
        session.connection = None;
        session.congested = false;
        self.set_due(key, Some(due));
        self.announce(key);
        if self.config.offline_messages > 0 {
            self.keep(key);
        }
        true
    }
}
