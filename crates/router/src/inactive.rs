//! A client's second connection, at the node that takes its user over when
//! the one that serves it fails (`DUAL.md`): it is not routed to, sees nobody,
//! and becomes a session when this node begins to serve its user.

use std::collections::HashMap;
use std::sync::Arc;

use xcp::DUAL;
use xmpp::{Builder, Condition, Header, StreamError, ns};

use crate::cluster::Server;
use crate::connect::{stream_error, wanted_resource};
use crate::event::ConnectionId;
use crate::link::local_part;
use crate::mutation::Mutation;
use crate::router::{Connection, Router};
use crate::session::Session;
use crate::slab::Key;
use crate::stanza::StanzaError;
use crate::user::Held;

/// An inactive connection.
#[derive(Debug)]
pub(crate) struct Inactive {
    /// Local part of the user's address.
    pub(crate) user: Box<str>,
    pub(crate) peer: Box<str>,
    /// Full address, once a resource is bound.
    jid: Option<Box<str>>,
}

/// Inactive connections by the full address that they are bound to.
pub(crate) type Bound = HashMap<Box<str>, ConnectionId>;

impl Router {
    /// Whether a user's clients may be connected here as a precaution: another
    /// node serves them, and this one takes them over.
    fn waits_for(&self, name: &str) -> bool {
        match self.cluster.server_of(name) {
            Some(Server::There(node)) => self
                .cluster
                .stand_in(name)
                .is_some_and(|other| other.number == node),
            // It is being decided who does.
            Some(Server::Nobody) => self.cluster.stand_in(name).is_some(),
            Some(Server::Here) | None => false,
        }
    }

    /// A client signed in and wants its connection to be inactive. Tells
    /// whether it is; otherwise it is one as any other.
    pub(crate) fn keep_inactive(
        &mut self,
        connection: ConnectionId,
        name: &str,
        peer: &str,
    ) -> bool {
        if self.serves(name) {
            self.tell_active(connection);
            return false;
        }
        if !self.waits_for(name) {
            return false;
        }
        let inactive = Inactive {
            user: name.into(),
            peer: peer.into(),
            jid: None,
        };
        let inactive = Connection::Inactive(Box::new(inactive));
        self.connections.insert(connection, inactive);
        true
    }

    fn tell_active(&mut self, connection: ConnectionId) {
        let mut xml = Builder::new();
        xml.start("active").attribute("xmlns", DUAL);
        self.out.element(connection, &[&xml.finish()]);
    }

    /// An element on an inactive connection: it may bind the resource that the
    /// active one has, and nothing else.
    pub(crate) fn inactive_element(&mut self, connection: ConnectionId, element: &[u8]) {
        let Some(Connection::Inactive(inactive)) = self.connections.get(&connection) else {
            return;
        };
        let Ok(header) = Header::parse(element) else {
            return;
        };
        if header.xmlns() == ns::STREAM_MANAGEMENT {
            if matches!(header.name(), "enable" | "resume") {
                self.failed(connection, StanzaError::UnexpectedRequest, None);
            }
            return;
        }
        let asks = header
            .kind()
            .is_some_and(|kind| kind == "set" || kind == "get");
        if !header.is_stanza("iq") || !asks {
            return;
        }
        let wanted = wanted_resource(&header).flatten();
        let bare = format!("{}@{}", inactive.user, self.domain);
        let jid = wanted
            .filter(|_| inactive.jid.is_none())
            .and_then(|resource| xmpp::Jid::new(&format!("{bare}/{resource}")).ok());
        let Some(jid) = jid else {
            let text = "The connection is inactive: it binds the active one's resource, and waits.";
            let error = StanzaError::UnexpectedRequest;
            return self.refuse_bind(connection, &header, error, text);
        };
        let jid: Box<str> = jid.as_str().into();
        if let Some(Connection::Inactive(inactive)) = self.connections.get_mut(&connection) {
            inactive.jid = Some(jid.clone());
        }
        if let Some(older) = self.inactive.insert(jid.clone(), connection) {
            let error = StreamError::new(
                Condition::Conflict,
                "The resource was bound by a newer connection.",
            );
            self.end_connection(older, error);
        }
        self.grant_bind(connection, &header, &jid);
    }

    /// An inactive connection is not there any more.
    pub(crate) fn forget_inactive(&mut self, connection: ConnectionId, inactive: &Inactive) {
        if let Some(jid) = &inactive.jid
            && self.inactive.get(jid) == Some(&connection)
        {
            self.inactive.remove(jid);
        }
    }

    /// Other nodes serve users than before: who waits here in vain is told
    /// where to go.
    pub(crate) fn review_inactive(&mut self) {
        let vain = self.connections.iter().filter_map(|(connection, it)| {
            let Connection::Inactive(it) = it else {
                return None;
            };
            let here = self.cluster.server_of(&it.user) == Some(Server::Here);
            let waits = here || self.waits_for(&it.user);
            (!waits).then(|| (*connection, it.user.clone()))
        });
        let mut vain: Vec<(ConnectionId, Box<str>)> = vain.collect();
        vain.sort_unstable();
        for (connection, user) in vain {
            let last = self.farewell(&user);
            if let Some(Connection::Inactive(it)) = self.connections.remove(&connection) {
                self.forget_inactive(connection, &it);
            }
            self.out.close(connection, last);
        }
    }

    /// This node serves these users now, and has taken over what the other one
    /// had: inactive connections become sessions.
    pub(crate) fn activate_all(&mut self) {
        if self.broken(Mutation::ActivationForgotten) {
            return;
        }
        let ours = self.connections.iter().filter_map(|(connection, it)| {
            let Connection::Inactive(it) = it else {
                return None;
            };
            let ours = self.cluster.server_of(&it.user) == Some(Server::Here);
            ours.then(|| (*connection, it.user.clone()))
        });
        let mut ours: Vec<(ConnectionId, Box<str>)> = ours.collect();
        ours.sort_unstable();
        for (connection, name) in ours {
            let key = self.user(&name);
            self.in_turn(key, Held::Activation(connection));
        }
    }

    /// Makes a session of an inactive connection: the one that the other node
    /// had, if it is known.
    pub(crate) fn activate(&mut self, user: Key, connection: ConnectionId) {
        let Some(Connection::Inactive(it)) = self.connections.get(&connection) else {
            return;
        };
        let (jid, peer) = (it.jid.clone(), it.peer.clone());
        if let Some(jid) = &jid {
            self.inactive.remove(jid);
        }
        let Some(jid) = jid else {
            // It goes on as any other.
            let fresh = Connection::Fresh { user, peer };
            self.connections.insert(connection, fresh);
            if let Some(user) = self.users.get_mut(user) {
                user.fresh.push(connection);
            }
            return self.tell_active(connection);
        };
        let resource = jid.split_once('/').map_or("", |(_, resource)| resource);
        let known = self.find_session(user, resource);
        let key = match known {
            Some(key) if self.is_phantom(key) => key,
            Some(_) => {
                // The client was faster on another connection.
                self.connections.remove(&connection);
                let error =
                    StreamError::new(Condition::Conflict, "The resource is bound by a session.");
                return self.out.close(connection, stream_error(error));
            }
            None => {
                let jid: Arc<str> = (&*jid).into();
                let bare = jid.len() - resource.len() - 1;
                let session = Session::new(user, jid, bare, peer.clone(), self.now);
                let key = self.sessions.insert(session);
                if let Some(user) = self.users.get_mut(user) {
                    user.sessions.push(key);
                }
                key
            }
        };
        let now = self.now.monotonic;
        if let Some(session) = self.sessions.get_mut(key) {
            session.connection = Some(connection);
            session.inherited = false;
            (session.peer, session.active) = (peer, now);
        }
        self.connections.insert(connection, Connection::Bound(key));
        self.tell_active(connection);
        self.announce(key);
        self.announce_route(user);
        if self.sessions.get(key).is_some_and(Session::is_available) {
            self.look_around(key);
            self.fetch_stored(user);
        }
    }

    /// What [`Mutation::InactiveRoutedTo`] does.
    pub(crate) fn route_to_inactive(&mut self, name: &str, header: &Header<'_>) -> bool {
        let mut bound = self.inactive.iter();
        let found = bound.find(|(jid, _)| local_part(jid) == name);
        let Some(connection) = found.map(|(_, connection)| *connection) else {
            return false;
        };
        self.out.element(connection, &[header.bytes()]);
        true
    }

    /// Ends an inactive connection.
    pub(crate) fn end_inactive(&mut self, connection: ConnectionId, error: StreamError) {
        if let Some(Connection::Inactive(it)) = self.connections.remove(&connection) {
            self.forget_inactive(connection, &it);
            self.out.close(connection, stream_error(error));
        }
    }
}
