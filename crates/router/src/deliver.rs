//! Delivery to sessions: written at once, kept until acknowledged, or queued
//! while the connection takes nothing. All of it bounded.

use xcp::ToComponent;
use xmpp::{Condition, Header, Rewrite, StreamError};

use crate::connect::Told;
use crate::keep::STORED;
use crate::router::{Later, Router, Timer, Undelivered};
use crate::rows::{OfflineRow, Write};
use crate::session::{Copy, Queued, Unacked};
use crate::slab::Key;
use crate::stanza::{self, StanzaError, names};
use crate::user::{Effect, Held, Receipt, Step};

/// How long a write may take, in milliseconds, before the database counts as away.
const PATIENCE: u64 = 1000;

impl Router {
    /// Gives a stanza to a session.
    pub(crate) fn deliver(&mut self, key: Key, stanza: &[u8], copy: Copy) {
        self.give(key, stanza, copy, None);
    }

    /// Gives a message that is worth storing to a session. With stream
    /// management, its sender's count waits until the client has it or it is
    /// stored. Without, all that can be known is that it is on its way.
    /// [`Router::keep_newest`] is to follow when all sessions were given it.
    pub(crate) fn deliver_message(&mut self, key: Key, message: &[u8], copy: Copy) {
        let managed = self
            .sessions
            .get(key)
            .is_some_and(|session| session.management.is_some());
        let held = managed && self.config.offline_messages > 0;
        let receipt = if held { self.defer(Some(key)) } else { None };
        self.give(key, message, copy, receipt);
    }

    fn give(&mut self, key: Key, stanza: &[u8], copy: Copy, receipt: Option<Receipt>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let (most, most_bytes) = (self.config.queue_stanzas, self.config.queue_bytes);
        if let Some(management) = session.management.as_mut() {
            management.unacked.push_back(Unacked {
                stanza: stanza.into(),
                copy,
                receipt,
                at: self.now.unix,
            });
            match copy {
                Copy::Stored(_) => management.stored += 1,
                _ => management.bytes += stanza.len(),
            }
            if let Some(connection) = session.connection
                && !session.congested
            {
                management.written += 1;
                self.out.element(connection, &[stanza]);
            }
            let waiting = management.unacked.len() - management.stored;
            if waiting > most || management.bytes > most_bytes {
                self.later.push_back(Later::Overflow(key));
            }
            self.want_ack(key, receipt.is_some());
        } else if let Some(connection) = session.connection {
            if session.congested || !session.queue.is_empty() {
                session.queue_bytes += stanza.len();
                session.queue.push_back(Queued::Stanza(stanza.into()));
                if session.queue.len() > most || session.queue_bytes > most_bytes {
                    self.later.push_back(Later::Overflow(key));
                }
            } else {
                self.out.element(connection, &[stanza]);
            }
        }
    }

    /// The connection takes bytes again.
    pub(crate) fn relieved(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.congested = false;
        }
        self.flush(key);
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(connection) = session.connection else {
            return;
        };
        session.queue_bytes = 0;
        for queued in std::mem::take(&mut session.queue) {
            match queued {
                Queued::Stanza(stanza) => self.out.element(connection, &[&stanza]),
                Queued::Mark(token) => {
                    let frame = ToComponent::Mark {
                        connection: connection.number,
                        token,
                    };
                    self.out.frame(connection.link, &frame);
                }
            }
        }
        if let Some(management) = session.management.as_mut() {
            for unacked in management.unacked.iter().skip(management.written) {
                self.out.element(connection, &[&unacked.stanza]);
            }
            management.written = management.unacked.len();
            if !management.unacked.is_empty() {
                self.want_ack(key, false);
            }
        }
    }

    /// A session's queue is full: it ends, and what it holds is stored.
    pub(crate) fn overflow(&mut self, key: Key) {
        if let Some(session) = self.sessions.get(key) {
            tracing::warn!(session = %session.jid, "The client takes too little; ending its session.");
        }
        let error = StreamError::new(
            Condition::ResourceConstraint,
            "Too many stanzas wait for the client.",
        );
        self.end_session(key, Some(error), Told::All);
    }

    /// Delivers to every available session of a user.
    pub(crate) fn deliver_to_available(&mut self, user: Key, stanza: &[u8]) {
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            if self
                .sessions
                .get(key)
                .is_some_and(crate::session::Session::is_available)
            {
                self.deliver(key, stanza, Copy::Shared);
            }
        }
    }

    /// The n-th session of a user; for loops that change the router.
    pub(crate) fn session_at(&self, user: Key, at: usize) -> Option<Key> {
        self.users.get(user)?.sessions.get(at).copied()
    }

    /// Finds a new place for what a session did not receive, before anything
    /// that came for the user since.
    pub(crate) fn reroute(&mut self, key: Key, stanzas: Vec<Undelivered>) {
        let Some(user) = self.users.get(key) else {
            for Undelivered {
                stanza, receipt, ..
            } in stanzas
            {
                if let Ok(header) = Header::parse(&stanza) {
                    self.bounce(&header, StanzaError::ServiceUnavailable, "");
                }
                self.settle(receipt);
            }
            return;
        };
        let bare = format!("{}@{}", user.name, self.domain);
        let mut messages: Vec<Undelivered> = Vec::new();
        for undelivered in stanzas {
            let Ok(header) = Header::parse(&undelivered.stanza) else {
                continue;
            };
            match header.name() {
                "message" => {
                    let kind = header.kind().map(|kind| kind.get());
                    let copied = header.children().any(|child| child.xmlns == names::CARBONS);
                    if !copied
                        && !matches!(kind.as_deref(), Some("error" | "headline" | "groupchat"))
                    {
                        let mut out = Vec::new();
                        header.write(&Rewrite::new().to(Some(&bare)), &mut out);
                        let stanza = out.into();
                        messages.push(Undelivered {
                            stanza,
                            ..undelivered
                        });
                        continue;
                    }
                }
                "iq" => self.bounce(&header, StanzaError::ServiceUnavailable, ""),
                _ => {}
            }
            self.settle(undelivered.receipt);
        }
        let user = self.users.get(key);
        let away = user
            .filter(|user| !self.serves(&user.name))
            .map(|user| user.name.clone());
        let ready = user.is_some_and(|user| user.is_ready());
        if let Some(name) = away {
            for Undelivered {
                stanza, receipt, ..
            } in messages
            {
                if let Ok(header) = Header::parse(&stanza) {
                    self.current = receipt;
                    self.stanza_to_account(&name, &header);
                    self.current = None;
                }
                self.settle(receipt);
            }
        } else if ready {
            for undelivered in messages {
                if let Ok(header) = Header::parse(&undelivered.stanza) {
                    self.current = undelivered.receipt;
                    self.came = Some(undelivered.at);
                    self.stanza_to_user(key, &header);
                    self.came = None;
                    self.current = None;
                }
                self.settle(undelivered.receipt);
            }
        } else if let Some(user) = self.users.get_mut(key) {
            for Undelivered {
                stanza, receipt, ..
            } in messages.into_iter().rev()
            {
                user.held.push_front(Held::Stanza(stanza, receipt));
            }
        }
    }

    /// Fetches stored messages if there are any and a session takes them.
    pub(crate) fn fetch_stored(&mut self, key: Key) {
        let takes = self.takes_stored(key);
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        let waiting = user.data.as_ref().is_some_and(|data| data.has_waiting());
        if !waiting || user.busy || !takes {
            return;
        }
        // Everything else for the user waits, so that what comes now does not
        // overtake what was stored.
        user.busy = true;
        self.step(key, Step::Offline);
        self.unread_timer(key);
    }

    /// Whether a session of the user takes stored messages now.
    pub(crate) fn takes_stored(&self, user: Key) -> bool {
        let sessions = self.users.get(user).map_or(&[][..], |user| &user.sessions);
        sessions
            .iter()
            .filter_map(|key| self.sessions.get(*key))
            .any(|session| session.takes_messages() && session.connection.is_some())
    }

    /// Stored messages may wait to be read behind what is being written. If
    /// that lasts, the database is away, and what has not reached it is given
    /// out from here; not before, since another node may have stored something
    /// older that is not known here yet.
    pub(crate) fn unread_timer(&mut self, key: Key) {
        let Some(journal) = self.users.get(key).and_then(|user| user.journal.as_ref()) else {
            return;
        };
        if !journal.will_read_stored() {
            return;
        }
        let due = journal.since + PATIENCE;
        if due > self.now.monotonic {
            self.timers.insert((due, Timer::Unread(key)));
        } else if self.takes_stored(key) && self.deliver_unwritten(key) {
            if let Some(journal) = self
                .users
                .get_mut(key)
                .and_then(|user| user.journal.as_mut())
            {
                journal.next.retain(|step| !matches!(step, Step::Offline));
            }
            self.read_done(key);
            self.drain_later(key);
        }
    }

    /// Gives what is on its way to the database to the session that takes
    /// messages, unless more than that waits. From then on it is kept for the
    /// session as what came to it is. Tells whether it was given.
    fn deliver_unwritten(&mut self, key: Key) -> bool {
        let Some(user) = self.users.get_mut(key) else {
            return false;
        };
        let (Some(data), Some(journal)) = (user.data.as_ref(), user.journal.as_mut()) else {
            return false;
        };
        let unwritten = |effect: &&mut Effect| matches!(effect, Effect::Stored { .. });
        let count = journal.effects_mut().filter(unwritten).count();
        // What is older and stored has to be read, and comes first.
        if count != data.offline.len() - data.in_delivery.len() {
            return false;
        }
        let mut rows = Vec::with_capacity(count);
        for effect in journal.effects_mut() {
            if let Effect::Stored { row, receipt } = effect {
                let row = row.clone();
                *effect = Effect::Kept {
                    sequence: row.sequence,
                    stanza: row.stanza.as_bytes().into(),
                    receipts: receipt.take().into_iter().collect(),
                };
                rows.push(row);
            }
        }
        self.deliver_rows(key, rows, |sequence| Copy::Kept {
            sequence,
            share: None,
        });
        true
    }

    /// Stored messages were read: they go to the session that takes messages.
    pub(crate) fn deliver_stored(&mut self, user: Key, rows: Vec<OfflineRow>) {
        self.deliver_rows(user, rows, Copy::Stored);
    }

    fn deliver_rows(&mut self, user: Key, rows: Vec<OfflineRow>, copy: impl Fn(i64) -> Copy) {
        let Some(session) = self.best_session(user) else {
            return;
        };
        let Some(data) = self.users.get_mut(user).and_then(|user| user.data.as_mut()) else {
            return;
        };
        let mut sequences = Vec::new();
        let mut stanzas = Vec::new();
        for row in rows {
            if data.in_delivery.contains(&row.sequence) {
                continue;
            }
            data.in_delivery.push(row.sequence);
            sequences.push(row.sequence);
            let delay = stanza::delay(&self.domain, &row.stamp);
            stanzas.push(stanza::with_child(row.stanza.as_bytes(), &delay));
        }
        if sequences.is_empty() {
            return;
        }
        let managed = self
            .sessions
            .get(session)
            .is_some_and(|session| session.management.is_some());
        for (stanza, sequence) in stanzas.iter().zip(&sequences) {
            self.deliver(session, stanza, copy(*sequence));
        }
        if managed {
            return;
        }
        // Without acknowledgements, written to the socket has to do.
        self.last_mark += 1;
        let token = self.last_mark;
        let Some(known) = self.sessions.get_mut(session) else {
            return;
        };
        known.marks.push((token, sequences));
        if known.congested || !known.queue.is_empty() {
            known.queue.push_back(Queued::Mark(token));
        } else if let Some(connection) = known.connection {
            let frame = ToComponent::Mark {
                connection: connection.number,
                token,
            };
            self.out.frame(connection.link, &frame);
        }
    }

    /// Everything before a mark was written to the client's socket.
    pub(crate) fn mark_reached(&mut self, key: Key, token: u64) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let user = session.user;
        let mut done = Vec::new();
        session.marks.retain_mut(|(known, sequences)| {
            if *known == token {
                done.append(sequences);
            }
            *known != token
        });
        if session.marks.is_empty() {
            session.marks = Vec::new();
        }
        self.read_by_client(user, done.into_iter());
    }

    /// Stored messages reached the client: their rows are removed.
    pub(crate) fn read_by_client(&mut self, user: Key, sequences: impl Iterator<Item = i64>) {
        let Some(data) = self.users.get_mut(user).and_then(|user| user.data.as_mut()) else {
            return;
        };
        let writes: Vec<_> = sequences
            .filter(|sequence| data.forget(*sequence))
            .map(Write::RemoveOffline)
            .collect();
        if !writes.is_empty() {
            self.commit(user, writes, Vec::new());
        }
    }

    /// Stores a message for later, or says why not.
    pub(crate) fn store_message(&mut self, key: Key, header: &Header<'_>) {
        let (most, most_bytes) = (self.config.offline_messages, self.config.offline_bytes);
        let (unix, slot) = (self.now.unix, self.slot());
        let stamp = stanza::stamp(self.came.unwrap_or(unix));
        let Some(data) = self.users.get_mut(key).and_then(|user| user.data.as_mut()) else {
            return;
        };
        let Ok(stanza) = std::str::from_utf8(header.bytes()) else {
            return;
        };
        if most == 0 {
            self.bounce(header, StanzaError::ServiceUnavailable, "");
            return;
        }
        if stanza.len() > STORED {
            self.bounce(
                header,
                StanzaError::NotAcceptable,
                "A message of this size is not stored for later.",
            );
            return;
        }
        if data.offline.len() >= most || data.offline_bytes + stanza.len() > most_bytes {
            self.bounce(
                header,
                StanzaError::ResourceConstraint,
                "Too many messages wait for this user already.",
            );
            return;
        }
        let from = header.from().map(|from| from.get()).unwrap_or_default();
        let sender = from.split('/').next().unwrap_or_default();
        let most = self.config.offline_bytes_per_sender;
        let now = self.now.monotonic;
        if !self.quotas.take(sender, stanza.len(), most, now) {
            self.bounce(
                header,
                StanzaError::ResourceConstraint,
                "Too much of what you sent waits for others already; try again in an hour.",
            );
            return;
        }
        let row = data.add(stanza.into(), &stamp, unix, slot);
        let effect = Effect::Stored {
            row: row.clone(),
            receipt: self.defer(None),
        };
        self.commit(key, vec![Write::Offline(row)], vec![effect]);
    }

    /// The session that messages to the bare address reach first.
    pub(crate) fn best_session(&self, user: Key) -> Option<Key> {
        self.users
            .get(user)?
            .sessions
            .iter()
            .copied()
            .filter_map(|key| Some((key, self.sessions.get(key)?)))
            .filter(|(_, session)| session.takes_messages())
            .max_by_key(|(_, session)| (session.priority, session.active))
            .map(|(key, _)| key)
    }
}
