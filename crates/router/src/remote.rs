//! Stanzas for users whom other nodes serve: sent there, or, when nobody can
//! be reached, stored for them here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use xcp::{ADDRESSEES, PeerFrame};
use xmpp::{Condition, Header, Rewrite, StreamError};

use crate::cluster::Server;
use crate::connect::{Told, see_other_host, stream_error};
use crate::link::local_part;
use crate::router::{Connection, Later, Place, Router, Timer};
use crate::slab::Key;
use crate::stanza::StanzaError;
use crate::subscription::Request;
use crate::user::{Held, Receipt, Sender, User, slot_of};
use crate::waiting::{Waiting, Weight};

/// Milliseconds for which what is sent to a user waits until what another node
/// stored has arrived in this one's database.
const ARRIVAL: u64 = 5000;

/// A user whom another node than before serves: what comes now waits until
/// what was sent to the old one is handled or comes back.
#[derive(Debug, Default)]
pub(crate) struct Moving {
    /// Nodes and numbers of what is on its way.
    before: BTreeSet<(u64, u64)>,
    held: Waiting<(Bytes, Option<Receipt>)>,
}

impl Weight for (Bytes, Option<Receipt>) {
    fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl Router {
    /// A message for a user who moved.
    pub(crate) fn hold_behind(&mut self, name: &str, header: &Header<'_>) {
        if self
            .moving
            .get(name)
            .is_some_and(|it| !it.held.has_room(header.bytes().len()))
        {
            let busy = "The server is busy.";
            return self.bounce(header, StanzaError::ResourceConstraint, busy);
        }
        let receipt = self.defer(None);
        let stanza = Bytes::copy_from_slice(header.bytes());
        if let Some(moving) = self.moving.get_mut(name) {
            moving.held.push_back((stanza, receipt));
        }
    }

    /// Nodes are done with these frames: who waited for them goes on.
    pub(crate) fn passed(&mut self, node: u64, numbers: &[u64]) {
        if self.moving.is_empty() {
            return;
        }
        for moving in self.moving.values_mut() {
            for number in numbers {
                moving.before.remove(&(node, *number));
            }
        }
        for (_, moving) in self.moving.extract_if(.., |_, it| it.before.is_empty()) {
            for (stanza, receipt) in moving.held {
                self.later.push_back(Later::Astray(stanza, receipt, None));
            }
        }
    }

    /// Users are served by other nodes than before: what waits for a node that
    /// is not reached finds another way; what was sent to one that is comes
    /// before anything else.
    pub(crate) fn redistribute(&mut self) {
        let mut astray = Vec::new();
        for (node, peer) in &self.peers {
            for frame in peer.out.waiting() {
                let PeerFrame::Stanza { number, element } = frame else {
                    continue;
                };
                let Ok(header) = Header::parse(element) else {
                    continue;
                };
                let Some(address) = header.to().and_then(|to| self.read(to.get())) else {
                    continue;
                };
                let name = address.node().unwrap_or_default();
                if self.cluster.server_of(name) == Some(Server::There(*node)) {
                    continue;
                }
                if !peer.out.up {
                    astray.push((*node, *number));
                } else if header.name() == "message" {
                    let moving = self.moving.entry(name.into()).or_default();
                    moving.before.insert((*node, *number));
                }
            }
        }
        for (node, number) in astray {
            let done = self
                .peers
                .get_mut(&node)
                .and_then(|peer| peer.out.done(number));
            if let Some((PeerFrame::Stanza { element, .. }, receipt)) = done {
                self.later.push_back(Later::Astray(element, receipt, None));
            }
            self.passed(node, &[number]);
        }
    }

    /// Whether this node serves a user. Who is not known may be one who was
    /// added just now: the database will say.
    pub(crate) fn serves(&self, name: &str) -> bool {
        self.cluster.serves(name)
    }

    /// The other node that serves the user of an address.
    pub(crate) fn away(&self, bare: &str) -> Option<u64> {
        let name = bare.strip_suffix(&*self.domain)?.strip_suffix('@')?;
        match self.cluster.server_of(name) {
            Some(Server::There(node)) => Some(node),
            _ => None,
        }
    }

    /// A stanza for a user whom another node serves.
    pub(crate) fn forward(&mut self, node: u64, name: &str, header: &Header<'_>) {
        let reached = self.peers.get(&node).is_some_and(|peer| !peer.out.lost);
        // What is being stored comes first; what never is goes on.
        let kind = header.kind().map(|kind| kind.get());
        let stored = !matches!(kind.as_deref(), Some("error" | "headline" | "groupchat"));
        let stores = header.name() == "message" && stored && self.names.contains_key(name);
        if !reached || stores {
            self.take_care(name, header);
            return;
        }
        let receipt = self.defer(None);
        let element = Bytes::copy_from_slice(header.bytes());
        self.post(node, receipt, |number| PeerFrame::Stanza {
            number,
            element,
        });
    }

    /// A stanza for a user whose node is not reached: what the user's rows can
    /// hold is put there, the rest fails.
    pub(crate) fn take_care(&mut self, name: &str, header: &Header<'_>) {
        let kind = header.kind().map(|kind| kind.get());
        match header.name() {
            "message" => match kind.as_deref() {
                Some("headline" | "error") => {}
                Some("groupchat") => {
                    self.bounce(header, StanzaError::RecipientUnavailable, UNREACHED);
                }
                _ => {
                    // Which sessions the user has is not known here.
                    let bare = format!("{name}@{}", self.domain);
                    let mut out = Vec::new();
                    header.write(&Rewrite::new().to(Some(&bare)), &mut out);
                    if let Ok(header) = Header::parse(&out) {
                        self.stanza_to_own(name, &header);
                    }
                }
            },
            "presence" => {
                if kind.as_deref().and_then(Request::read).is_some() {
                    self.stanza_to_own(name, header);
                }
            }
            _ => self.bounce(header, StanzaError::RemoteServerTimeout, UNREACHED),
        }
    }

    /// A stanza that another router sent. Whether it is for a user of this
    /// node; it is never sent on.
    pub(crate) fn stanza_from_peer(&mut self, header: &Header<'_>) -> bool {
        let Some(address) = header.to().and_then(|to| self.read(to.get())) else {
            return true;
        };
        match (self.place(&address), address.node()) {
            (Place::Account, Some(name)) => {
                let serves = self.serves(name);
                if serves {
                    self.stanza_to_own(name, header);
                }
                serves
            }
            // Components are reached through their own node only.
            _ => {
                self.bounce(header, StanzaError::RemoteServerNotFound, "");
                true
            }
        }
    }

    /// A presence stanza of another router for several users. Nobody is loaded
    /// for it.
    pub(crate) fn presence_from_peer(&mut self, header: &Header<'_>, to: &[String]) {
        for name in to {
            let here = self
                .names
                .get(&**name)
                .and_then(|key| self.users.get(*key))
                .is_some_and(|user| {
                    !user.sessions.is_empty() || !user.held.is_empty() || user.data.is_none()
                });
            if !here || !self.serves(name) {
                continue;
            }
            let bare = format!("{name}@{}", self.domain);
            let mut out = Vec::new();
            header.write(&Rewrite::new().to(Some(&bare)), &mut out);
            if let Ok(header) = Header::parse(&out) {
                self.stanza_to_own(name, &header);
            }
        }
    }

    /// A stanza that did not reach its node finds another way; `not` is the
    /// node that does not take it.
    pub(crate) fn astray(&mut self, stanza: &[u8], receipt: Option<Receipt>, not: Option<u64>) {
        let header = Header::parse(stanza).ok();
        let address = header
            .as_ref()
            .and_then(|header| self.read(header.to()?.get()));
        let name = address.as_ref().and_then(|address| address.node());
        if let (Some(header), Some(name)) = (&header, name) {
            // One hop: what came from another node goes to no third.
            let guest = receipt.is_some_and(|it| matches!(it.sender, Sender::Peer(_)));
            self.current = receipt;
            match self.cluster.server_of(name) {
                None | Some(Server::Here) => self.stanza_to_own(name, header),
                Some(Server::There(node)) if Some(node) != not && !guest => {
                    self.forward(node, name, header);
                }
                _ => self.take_care(name, header),
            }
            self.current = None;
        }
        self.settle(receipt);
    }

    /// Sends a presence stanza without `to` to users of other nodes: one frame
    /// for each node.
    pub(crate) fn show_away(&mut self, stanza: &[u8], contacts: Vec<(u64, String)>) {
        let mut nodes: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (node, contact) in contacts {
            nodes.entry(node).or_default().push(contact);
        }
        for (node, users) in nodes {
            self.post_presence(node, stanza, users);
        }
    }

    pub(crate) fn post_presence(&mut self, node: u64, stanza: &[u8], mut users: Vec<String>) {
        // A node that is lost is told everything when it is back.
        if users.is_empty() || self.peers.get(&node).is_none_or(|peer| peer.out.lost) {
            return;
        }
        let element = Bytes::copy_from_slice(stanza);
        while !users.is_empty() {
            let rest = users.split_off(users.len().min(ADDRESSEES));
            let to = std::mem::replace(&mut users, rest);
            let element = element.clone();
            self.post(node, None, |number| PeerFrame::Presence {
                number,
                element,
                to,
            });
        }
    }

    /// Splits addresses into those of this node's users and others, and those
    /// of users whom other nodes serve, by node.
    pub(crate) fn split(&self, contacts: Vec<Box<str>>) -> (Vec<Box<str>>, Vec<(u64, String)>) {
        let mut own = Vec::new();
        let mut away = Vec::new();
        for contact in contacts {
            match self.away(&contact) {
                Some(node) => away.push((node, local_part(&contact).to_owned())),
                None => own.push(contact),
            }
        }
        (own, away)
    }

    /// How a client learns that another node serves its user.
    pub(crate) fn farewell(&self, name: &str) -> Vec<u8> {
        let server = match self.cluster.server_of(name) {
            Some(Server::There(node)) => self.cluster.node(node),
            _ => self.cluster.stand_in(name),
        };
        match server {
            Some(node) => see_other_host(&node.address),
            None => stream_error(StreamError::new(
                Condition::RemoteConnectionFailed,
                "No node serves the user now; try again later.",
            )),
        }
    }

    /// Ends the sessions of a user whom another node serves now. What they did
    /// not receive is sent there, or stored.
    pub(crate) fn send_away(&mut self, key: Key, told: Told) {
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        let name = user.name.clone();
        let sessions = user.sessions.clone();
        let fresh = std::mem::take(&mut user.fresh);
        let last = self.farewell(&name);
        for session in sessions {
            // What is handled need not be sent again.
            self.answer(session);
            let connection = self
                .sessions
                .get_mut(session)
                .and_then(|session| session.connection.take());
            if let Some(connection) = connection {
                self.connections.remove(&connection);
                self.out.close(connection, last.clone());
            }
            self.end_session(session, None, told);
        }
        for connection in fresh {
            if let Some(Connection::Fresh { .. }) = self.connections.remove(&connection) {
                self.out.close(connection, last.clone());
            }
        }
        self.rest(key);
    }

    /// A user who was loaded is served by another node: what waits goes there.
    pub(crate) fn hand_over(&mut self, key: Key) {
        let held = self
            .users
            .get_mut(key)
            .map(|user| std::mem::take(&mut user.held))
            .unwrap_or_default();
        self.send_away(key, Told::All);
        if let Some(user) = self.users.remove(key) {
            self.names.remove(&user.name);
        }
        for waiting in held {
            if let Held::Stanza(stanza, receipt) = waiting {
                self.later
                    .push_back(Later::Astray(Bytes::from(stanza), receipt, None));
            }
        }
    }

    /// Forgets a user whom another node serves, once nothing waits here. That
    /// node learns what was stored.
    pub(crate) fn let_go(&mut self, key: Key) {
        let slot = self.slot();
        let goes = |user: &User| user.is_quiet() && !self.cluster.serves(&user.name);
        if !self.users.get(key).is_some_and(goes) {
            return;
        }
        let Some(user) = self.users.remove(key) else {
            return;
        };
        self.names.remove(&user.name);
        let stored = user.data.and_then(|data| data.newest_of(slot));
        if let (Some(sequence), Some(Server::There(node))) =
            (stored, self.cluster.server_of(&user.name))
        {
            self.tell_stored(node, &user.name, sequence);
        }
    }

    /// What marks the messages that this node stores.
    pub(crate) fn slot(&self) -> u16 {
        // Numbers of nodes are small.
        (self.cluster.own_number() & 0xffff) as u16
    }

    /// Another node stored messages for a user and sends again: those come
    /// first.
    pub(crate) fn await_stored(&mut self, name: &str, sequence: i64) {
        if !self.serves(name) {
            return;
        }
        let key = self.user(name);
        let due = self.now.monotonic + ARRIVAL;
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        if user.data.as_ref().is_some_and(|data| data.knows(sequence)) {
            return;
        }
        user.idle = None;
        user.awaits.push(sequence);
        self.timers.insert((due, Timer::Awaits(key)));
    }

    /// What was awaited did not come; it comes when it comes.
    pub(crate) fn awaits_timer(&mut self, key: Key) {
        if let Some(user) = self.users.get_mut(key)
            && !std::mem::take(&mut user.awaits).is_empty()
        {
            self.drain_later(key);
        }
    }

    /// A message was stored by another node.
    pub(crate) fn stored_elsewhere(&mut self, name: &str, sequence: i64, size: usize) {
        let slot = self.slot();
        if slot_of(sequence) == slot || !self.serves(name) {
            return;
        }
        let Some(key) = self.names.get(name).copied() else {
            return;
        };
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        let Some(data) = user.data.as_mut() else {
            // The answer to the load may be older than this news.
            user.news.push((sequence, size));
            return;
        };
        data.learn(sequence, size);
        self.fetch_stored(key);
        self.check_awaited(key);
    }

    /// Goes on when what another node stored is known here.
    pub(crate) fn check_awaited(&mut self, key: Key) {
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        if let Some(data) = user.data.as_ref()
            && !user.awaits.is_empty()
        {
            user.awaits.retain(|sequence| !data.knows(*sequence));
            if user.awaits.is_empty() {
                self.drain_later(key);
            }
        }
    }
}

const UNREACHED: &str = "The node that serves the user cannot be reached.";
