//! Connections: sign-in, resource binding, conflicts, the end.

use std::collections::HashSet;

use xmpp::{Builder, Condition, Header, StreamError, ns};

use crate::config::Conflict;
use crate::event::{Actions, ConnectionId, Soft};
use crate::router::{Connection, Later, Router, Undelivered};
use crate::session::{Copy, Queued, Session};
use crate::slab::Key;
use crate::stanza::{self, StanzaError};

/// A stream error without the end of the stream, which is the component's.
pub(crate) fn stream_error(error: StreamError) -> Vec<u8> {
    let mut xml = Builder::new();
    xml.start("stream:error")
        .attribute("xmlns:stream", ns::STREAM);
    xml.start(error.condition.name())
        .attribute("xmlns", ns::STREAM_ERRORS)
        .end();
    if !error.text.is_empty() {
        xml.start("text")
            .attribute("xmlns", ns::STREAM_ERRORS)
            .attribute("xml:lang", "en")
            .text(error.text)
            .end();
    }
    xml.finish()
}

/// A stream error that names the node to connect to instead (RFC 6120,
/// 4.9.3.19). The client asks there for the same domain, and checks the
/// certificate for it.
pub(crate) fn see_other_host(address: &str) -> Vec<u8> {
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let mut xml = Builder::new();
    xml.start("stream:error")
        .attribute("xmlns:stream", ns::STREAM);
    xml.start("see-other-host")
        .attribute("xmlns", ns::STREAM_ERRORS)
        .text(&host);
    xml.finish()
}

/// What a request to bind a resource wants: `None` for anything else, and a
/// resource only if it names one.
pub(crate) fn wanted_resource(request: &Header<'_>) -> Option<Option<String>> {
    let is_set = request.is_stanza("iq") && request.kind().is_some_and(|kind| kind == "set");
    let bind = request.child("bind", ns::BIND).filter(|_| is_set)?;
    let bind = xmpp::Element::parse_in(bind.bytes, ns::BIND).ok();
    let resource = bind.and_then(|bind| bind.child("resource", ns::BIND).map(xmpp::Element::text));
    Some(resource.filter(|resource| !resource.is_empty()))
}

/// Who is told that a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Contacts and the real-time stores.
    All,
    /// Nobody: another node may go on with it.
    Nobody,
}

impl Router {
    pub(crate) fn authenticated(
        &mut self,
        connection: ConnectionId,
        bare: &str,
        peer: Box<str>,
        inactive: bool,
    ) {
        if self.connections.contains_key(&connection) || connection.number == 0 {
            self.break_link(connection.link, "a connection number was used twice");
            return;
        }
        let name = bare
            .strip_suffix(&*self.domain)
            .and_then(|node| node.strip_suffix('@'));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            self.break_link(connection.link, "a user of another domain signed in");
            return;
        };
        if self.stopping {
            let error = StreamError::from(Condition::SystemShutdown);
            self.out.close(connection, stream_error(error));
            return;
        }
        if inactive && self.keep_inactive(connection, name, &peer) {
            return;
        }
        if !self.serves(name) {
            let last = self.farewell(name);
            self.out.close(connection, last);
            return;
        }
        let key = self.user(name);
        self.connections
            .insert(connection, Connection::Fresh { user: key, peer });
        if let Some(user) = self.users.get_mut(key) {
            user.fresh.push(connection);
            user.idle = None;
        }
    }

    /// An element before a resource is bound: bind or resume, nothing else.
    pub(crate) fn fresh_element(&mut self, connection: ConnectionId, element: &[u8]) {
        let Some(Connection::Fresh { user, peer }) = self.connections.get(&connection) else {
            return;
        };
        let (user, peer) = (*user, peer.clone());
        let Ok(header) = Header::parse(element) else {
            self.end_connection(connection, Condition::BadFormat.into());
            return;
        };
        if header.xmlns() == ns::STREAM_MANAGEMENT {
            self.fresh_management(connection, user, &header);
            return;
        }
        let Some(wanted) = wanted_resource(&header) else {
            let error = StreamError::new(
                Condition::NotAuthorized,
                "A resource must be bound before anything else is sent.",
            );
            self.end_connection(connection, error);
            return;
        };
        self.bind(connection, user, peer, &header, wanted.as_deref());
    }

    fn bind(
        &mut self,
        connection: ConnectionId,
        user: Key,
        peer: Box<str>,
        request: &Header<'_>,
        wanted: Option<&str>,
    ) {
        let Some(known) = self.users.get(user) else {
            return;
        };
        let bare = format!("{}@{}", known.name, self.domain);
        let limit = self.config.sessions_per_user;
        let phantom = self.phantom_of(user).filter(|_| wanted.is_none());
        let phantom = phantom.and_then(|key| self.sessions.get(key));
        let mut resource = match wanted {
            None => match phantom {
                Some(phantom) => phantom.resource().to_owned(),
                None => self.new_resource(),
            },
            Some(wanted) => match xmpp::Jid::new(&format!("{bare}/{wanted}")) {
                Ok(jid) => jid.resource().unwrap_or_default().to_owned(),
                Err(_) => {
                    self.refuse_bind(connection, request, StanzaError::BadRequest, "");
                    return;
                }
            },
        };
        let taken = self.find_session(user, &resource);
        let phantom = taken.filter(|key| self.is_phantom(*key));
        if let Some(old) = taken.filter(|_| phantom.is_none()) {
            match self.config.conflict {
                Conflict::Replace => {
                    let error = StreamError::new(
                        Condition::Conflict,
                        "The resource was bound by a newer session.",
                    );
                    self.end_session(old, Some(error), Told::All);
                }
                Conflict::Generate => resource = self.new_resource(),
            }
        }
        let sessions = self.users.get(user).into_iter();
        let sessions = sessions.flat_map(|user| &user.sessions);
        if sessions.filter(|key| !self.is_phantom(**key)).count() >= limit {
            self.refuse_bind(connection, request, StanzaError::ResourceConstraint, "");
            return;
        }
        let jid: std::sync::Arc<str> = format!("{bare}/{resource}").into();
        let mut session = Session {
            connection: Some(connection),
            ..Session::new(user, jid.clone(), bare.len(), peer, self.now)
        };
        let place = phantom.and_then(|key| Some((key, self.sessions.get_mut(key)?)));
        let (key, new) = match place {
            // What others see of it stays until the client tells its presence.
            Some((key, phantom)) => {
                session.presence = phantom.presence.take();
                session.directed = std::mem::take(&mut phantom.directed);
                session.inherited = true;
                *phantom = session;
                (key, false)
            }
            None => (self.sessions.insert(session), true),
        };
        self.connections.insert(connection, Connection::Bound(key));
        let user_key = user;
        if let Some(user) = self.users.get_mut(user) {
            user.fresh.retain(|known| *known != connection);
            if new {
                user.sessions.push(key);
            }
        }
        self.announce(key);
        self.announce_route(user_key);
        self.grant_bind(connection, request, &jid);
        tracing::debug!(session = %jid, "A session began.");
    }

    /// Tells the client which full address is bound.
    pub(crate) fn grant_bind(&mut self, connection: ConnectionId, request: &Header<'_>, jid: &str) {
        let mut xml = Builder::new();
        xml.start("iq").attribute("type", "result");
        xml.maybe("id", request.id().map(|id| id.get()).as_deref());
        xml.start("bind").attribute("xmlns", ns::BIND);
        xml.start("jid").text(jid);
        self.out.element(connection, &[&xml.finish()]);
    }

    pub(crate) fn refuse_bind(
        &mut self,
        connection: ConnectionId,
        request: &Header<'_>,
        error: StanzaError,
        text: &str,
    ) {
        let mut xml = Builder::new();
        xml.start("iq").attribute("type", "error");
        xml.maybe("id", request.id().map(|id| id.get()).as_deref());
        stanza::write_error(&mut xml, error, text);
        self.out.element(connection, &[&xml.finish()]);
    }

    fn new_resource(&mut self) -> String {
        format!("{:016x}", (self.random)())
    }

    /// The session of a user with that resource.
    pub(crate) fn find_session(&self, user: Key, resource: &str) -> Option<Key> {
        self.users.get(user)?.sessions.iter().copied().find(|key| {
            self.sessions
                .get(*key)
                .is_some_and(|session| session.resource() == resource)
        })
    }

    /// Tells the real-time store of a session.
    pub(crate) fn announce(&mut self, key: Key) {
        if let Some(session) = self.sessions.get(key) {
            self.out.soft.push(Soft::Session {
                jid: (&*session.jid).into(),
                peer: session.peer.clone(),
                since: session.since,
                connected: session.connection.is_some(),
            });
        }
    }

    /// Tells the real-time store where a user's sessions are.
    pub(crate) fn announce_route(&mut self, user: Key) {
        let Some(user) = self.users.get(user) else {
            return;
        };
        let resources = user
            .sessions
            .iter()
            .filter_map(|key| Some(self.sessions.get(*key)?.resource().into()))
            .collect();
        self.out.soft.push(Soft::Route {
            jid: format!("{}@{}", user.name, self.domain).into(),
            resources,
        });
    }

    /// Tells the real-time store what a session shows others.
    pub(crate) fn announce_presence(&mut self, key: Key) {
        if let Some(session) = self.sessions.get(key) {
            self.out.soft.push(Soft::Presence {
                jid: (&*session.jid).into(),
                stanza: session.presence.as_ref().map(|stanza| (&**stanza).into()),
                directed: session.directed.clone(),
            });
        }
    }

    /// Tells the real-time stores everything, for those that were restarted.
    pub fn publish(&mut self, out: &mut Actions) {
        std::mem::swap(&mut self.out, out);
        let sessions: Vec<Key> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in sessions {
            self.announce(key);
            self.announce_presence(key);
        }
        let users: Vec<Key> = self
            .users
            .iter()
            .filter(|(_, user)| !user.sessions.is_empty())
            .map(|(key, _)| key)
            .collect();
        for user in users {
            self.announce_route(user);
        }
        std::mem::swap(&mut self.out, out);
    }

    /// A connection is gone by itself.
    pub(crate) fn connection_ended(&mut self, connection: ConnectionId, clean: bool) {
        match self.connections.remove(&connection) {
            Some(Connection::Fresh { user, .. }) => {
                if let Some(known) = self.users.get_mut(user) {
                    known.fresh.retain(|known| *known != connection);
                }
                self.rest(user);
            }
            Some(Connection::Bound(key)) if clean => self.end_session(key, None, Told::All),
            Some(Connection::Bound(key)) if !self.detach(key) => {
                self.end_session(key, None, Told::All);
            }
            Some(Connection::Inactive(it)) => self.forget_inactive(connection, &it),
            Some(Connection::Bound(_)) | None => {}
        }
    }

    /// Ends a connection, and its session, with a stream error.
    pub(crate) fn end_connection(&mut self, connection: ConnectionId, error: StreamError) {
        match self.connections.get(&connection) {
            Some(Connection::Bound(key)) => {
                let key = *key;
                self.end_session(key, Some(error), Told::All);
            }
            Some(Connection::Fresh { user, .. }) => {
                let user = *user;
                self.connections.remove(&connection);
                if let Some(known) = self.users.get_mut(user) {
                    known.fresh.retain(|known| *known != connection);
                }
                self.out.close(connection, stream_error(error));
                self.rest(user);
            }
            Some(Connection::Inactive(_)) => self.end_inactive(connection, error),
            None => {}
        }
    }

    /// Ends a session. Its connection, if any, is closed with the error; what
    /// it did not receive finds a new place, or is stored.
    pub(crate) fn end_session(&mut self, key: Key, error: Option<StreamError>, told: Told) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let user = session.user;
        if let Some(connection) = session.connection.take() {
            self.connections.remove(&connection);
            if let Some(error) = error {
                self.out.close(connection, stream_error(error));
            }
        }
        if told == Told::All {
            self.become_unavailable(key, None);
        }
        self.set_due(key, None);
        let Some(mut session) = self.sessions.remove(key) else {
            return;
        };
        let other = |other: &Key| *other != key && !self.is_phantom(*other);
        let others = self
            .users
            .get(user)
            .is_some_and(|user| user.sessions.iter().any(other));
        let mut stored = Vec::new();
        let mut read = Vec::new();
        let mut undelivered = Vec::new();
        if let Some(management) = session.management.take() {
            if let Some(resuming) = management.resuming {
                // A connection that waited to resume this session may bind.
                self.failed(resuming.connection, StanzaError::ItemNotFound, None);
            }
            let copies = management.unacked.iter().map(|unacked| unacked.copy);
            // A client that is there comes before those that may come back.
            let lost = !self.takes_stored(user);
            let elsewhere = self.shares_elsewhere(user, copies, lost);
            let mut handed_on = HashSet::new();
            for unacked in management.unacked {
                let share = unacked.copy.share();
                let waits = share.is_some_and(|share| elsewhere.contains(&share.number));
                let had = share.is_some_and(|share| share.had);
                handed_on.extend(share.filter(|_| !waits && !had).map(|share| share.number));
                match unacked.copy {
                    // Another session waits for it, too.
                    Copy::Kept { .. } if waits => {}
                    // Another client has it.
                    Copy::Kept { sequence, .. } if had => read.push(sequence),
                    Copy::Stored(sequence) | Copy::Kept { sequence, .. } => stored.push(sequence),
                    Copy::Message(_) if waits || had => self.settle(unacked.receipt),
                    // Another session got it, if there is one.
                    Copy::Shared if others => self.settle(unacked.receipt),
                    // The message itself waits elsewhere, or somebody has it.
                    Copy::Carbon(_) => self.settle(unacked.receipt),
                    Copy::Only | Copy::Shared | Copy::Message(_) => {
                        undelivered.push(Undelivered {
                            stanza: unacked.stanza,
                            receipt: unacked.receipt,
                            at: unacked.at,
                        });
                    }
                }
            }
            self.unshare(user, &handed_on);
        }
        for queued in session.queue {
            if let Queued::Stanza(stanza) = queued {
                undelivered.push(Undelivered {
                    stanza,
                    receipt: None,
                    at: self.now.unix,
                });
            }
        }
        for (_, sequences) in session.marks {
            stored.extend(sequences);
        }
        match told {
            Told::All => self.out.soft.push(Soft::SessionEnded {
                jid: (&*session.jid).into(),
            }),
            Told::Nobody => self.leave(&session.jid),
        }
        let unix = self.now.unix;
        if let Some(known) = self.users.get_mut(user) {
            known.sessions.retain(|known| *known != key);
            known.last_seen = unix;
            if let Some(data) = known.data.as_mut() {
                data.in_delivery.retain(|known| !stored.contains(known));
            }
        }
        if told == Told::All {
            self.announce_route(user);
        }
        self.read_by_client(user, read.into_iter());
        if !stored.is_empty() {
            self.fetch_stored(user);
        }
        if !undelivered.is_empty() {
            self.later.push_back(Later::Reroute(user, undelivered));
        }
        tracing::debug!(session = %session.jid, "A session ended.");
        self.rest(user);
    }

    /// The service stops: everybody is told, what is undelivered is stored. The
    /// rows in the real-time stores remain: the other node of the group may take
    /// the users over, and if this one is back before, it begins anew.
    pub(crate) fn shut_down(&mut self) {
        self.stopping = true;
        let error = StreamError::from(Condition::SystemShutdown);
        // Nobody takes messages any more, so that what is rerouted is stored.
        let all: Vec<_> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in &all {
            if let Some(session) = self.sessions.get_mut(*key) {
                session.presence = None;
            }
        }
        for key in all {
            self.end_session(key, Some(error), Told::Nobody);
        }
        let mut rest: Vec<_> = self.connections.keys().copied().collect();
        rest.sort_unstable();
        for connection in rest {
            self.end_connection(connection, error);
        }
        self.say_goodbye();
    }
}
