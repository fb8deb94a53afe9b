//! Presence (RFC 6121, section 4): broadcast, probes, directed presence.

use std::sync::Arc;

use xmpp::{Header, Rewrite, ns};

use crate::router::{Later, Place, Router};
use crate::session::Copy;
use crate::slab::Key;
use crate::stanza::{self, StanzaError};
use crate::subscription::Request;
use crate::user::Effect;

/// Most addresses that a session's directed presence is remembered for.
const DIRECTED: usize = 500;

/// The priority in a presence stanza; `None` when it is none (RFC 6121, 4.7.2.3).
pub(crate) fn priority_of(header: &Header<'_>) -> Option<i8> {
    match header.child("priority", ns::CLIENT) {
        None => Some(0),
        Some(child) => {
            let priority = xmpp::Element::parse(child.bytes).ok()?;
            priority.text().trim().parse().ok()
        }
    }
}

impl Router {
    /// A presence stanza of one of our clients.
    pub(crate) fn presence_from(&mut self, key: Key, header: &Header<'_>) {
        let kind = header.kind().map(|kind| kind.get());
        let Some(to) = header.to() else {
            match kind.as_deref() {
                None => self.available(key, header),
                Some("unavailable") => self.become_unavailable(key, Some(header)),
                _ => self.reply_error(key, header, StanzaError::BadRequest, ""),
            }
            return;
        };
        let Some(address) = self.read(to.get()) else {
            self.reply_error(key, header, StanzaError::JidMalformed, "");
            return;
        };
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let (user, jid) = (session.user, session.jid.clone());
        if let Some(request) = kind.as_deref().and_then(Request::read) {
            self.subscription_from(key, request, address.bare(), header);
            return;
        }
        match kind.as_deref() {
            None | Some("unavailable") => {
                if self.is_blocked(user, address.as_str()) {
                    self.reply_error(key, header, StanzaError::Blocked, "");
                    return;
                }
                let target: Box<str> = address.as_str().into();
                self.note_directed(key, &target, kind.is_none());
                let stanza = stanza::addressed(header, &jid, Some(&target));
                self.route(&stanza);
            }
            Some("probe" | "error") => {
                let stanza = stanza::addressed(header, &jid, Some(address.as_str()));
                self.route(&stanza);
            }
            Some(_) => self.reply_error(key, header, StanzaError::BadRequest, ""),
        }
    }

    /// Remembers that an address got directed presence, or got the end of it.
    fn note_directed(&mut self, key: Key, target: &str, sees: bool) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let known = session.directed.iter().position(|it| **it == *target);
        match known {
            None if sees && session.directed.len() < DIRECTED => {
                session.directed.push(target.into());
            }
            Some(at) if !sees => {
                session.directed.remove(at);
            }
            _ => return,
        }
        self.announce_presence(key);
    }

    fn available(&mut self, key: Key, header: &Header<'_>) {
        let Some(priority) = priority_of(header) else {
            self.reply_error(
                key,
                header,
                StanzaError::BadRequest,
                "A priority is a number from -128 to 127.",
            );
            return;
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let user = session.user;
        let mut stanza = Vec::new();
        let changes = Rewrite::new().from(Some(&session.jid)).to(None);
        header.write(&changes, &mut stanza);
        let stanza: Arc<[u8]> = stanza.into();
        let was = session.is_available();
        session.presence = Some(stanza.clone());
        session.inherited = false;
        session.priority = priority;
        self.announce_presence(key);
        self.broadcast(key, &stanza);
        if !was {
            self.look_around(key);
        }
        if priority >= 0 {
            self.fetch_stored(user);
        }
    }

    /// Sends presence to the user's own clients and to the contacts that see
    /// the user.
    fn broadcast(&mut self, key: Key, stanza: &[u8]) {
        let (Some(session), Ok(header)) = (self.sessions.get(key), Header::parse(stanza)) else {
            return;
        };
        let user = session.user;
        let own: Box<str> = session.bare().into();
        let mut out = Vec::new();
        header.write(&Rewrite::new().to(Some(&own)), &mut out);
        let mut at = 0;
        while let Some(other) = self.session_at(user, at) {
            at += 1;
            if self
                .sessions
                .get(other)
                .is_some_and(|other| other.is_available())
            {
                self.deliver(other, &out, Copy::Shared);
            }
        }
        let (own, away) = self.split(self.watchers(user));
        // Who moved to another node and is there already has not gone.
        let moved =
            header.kind().is_some() && header.from().is_some_and(|from| self.is_seen(&from.get()));
        for contact in own.iter().filter(|_| !moved) {
            self.show(&header, contact);
        }
        self.show_away(stanza, away);
    }

    /// The contacts that see a user.
    pub(crate) fn watchers(&self, user: Key) -> Vec<Box<str>> {
        let Some(data) = self.users.get(user).and_then(|user| user.data.as_ref()) else {
            return Vec::new();
        };
        data.roster
            .values()
            .filter(|row| row.subscription.from())
            .filter(|row| data.blocks.is_empty() || !self.is_blocked(user, &row.contact))
            .map(|row| row.contact.clone())
            .collect()
    }

    /// Sends a presence stanza to a contact. Nobody is loaded for it: who has
    /// no session has no client to show it.
    pub(crate) fn show(&mut self, header: &Header<'_>, contact: &str) {
        let changes = Rewrite::new().to(Some(contact));
        match self.local_user(contact) {
            Some(user) => {
                let here = self.users.get(user).is_some_and(|user| {
                    !user.sessions.is_empty() || !user.held.is_empty() || user.data.is_none()
                });
                if here {
                    let mut out = Vec::new();
                    header.write(&changes, &mut out);
                    self.later.push_back(Later::Route(out.into()));
                }
            }
            None => {
                let place = self
                    .read(contact.into())
                    .map(|address| self.place(&address));
                if let Some(Place::Host(_)) = place {
                    let mut out = Vec::new();
                    header.write(&changes, &mut out);
                    self.later.push_back(Later::Route(out.into()));
                }
            }
        }
    }

    /// A client became available: it learns who else is there, and what the
    /// user was asked meanwhile.
    pub(crate) fn look_around(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let user = session.user;
        let jid = session.jid.clone();
        let mut at = 0;
        while let Some(other) = self.session_at(user, at) {
            at += 1;
            if other == key {
                continue;
            }
            let presence = self
                .sessions
                .get(other)
                .and_then(|session| session.presence.clone());
            if let Some(presence) = presence {
                self.deliver_addressed(key, &presence, &jid);
            }
        }
        let Some(data) = self.users.get(user).and_then(|user| user.data.as_ref()) else {
            return;
        };
        let seen: Vec<Box<str>> = data
            .roster
            .values()
            .filter(|row| row.subscription.to())
            .filter(|row| data.blocks.is_empty() || !self.is_blocked(user, &row.contact))
            .map(|row| row.contact.clone())
            .collect();
        let asked: Vec<Box<str>> = data
            .roster
            .values()
            .filter_map(|row| row.pending_in.clone())
            .collect();
        let (own, away) = self.split(seen);
        for contact in own {
            self.probe(key, &contact);
        }
        let mut probe = xmpp::Builder::new();
        probe
            .start("presence")
            .attribute("type", "probe")
            .attribute("from", &jid);
        self.show_away(&probe.finish(), away);
        for request in asked {
            self.deliver(key, request.as_bytes(), Copy::Shared);
        }
    }

    fn deliver_addressed(&mut self, key: Key, stanza: &[u8], to: &str) {
        if let Ok(header) = Header::parse(stanza) {
            let mut out = Vec::new();
            header.write(&Rewrite::new().to(Some(to)), &mut out);
            self.deliver(key, &out, Copy::Shared);
        }
    }

    /// Gets a contact's presence for one client.
    fn probe(&mut self, key: Key, contact: &str) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let user = session.user;
        let jid = session.jid.clone();
        let own: Box<str> = session.bare().into();
        if self.is_blocked(user, contact) {
            return;
        }
        if self.away(contact).is_some() {
            let probe = stanza::presence("probe", &jid, contact);
            self.later.push_back(Later::Route(probe.into()));
            return;
        }
        let Some(other) = self.local_user(contact) else {
            let place = self
                .read(contact.into())
                .map(|address| self.place(&address));
            if let Some(Place::Host(_)) = place {
                let probe = stanza::presence("probe", &jid, contact);
                self.later.push_back(Later::Route(probe.into()));
            }
            return;
        };
        let Some(known) = self.users.get(other) else {
            return;
        };
        let Some(data) = known.data.as_ref() else {
            return;
        };
        if !data
            .roster
            .get(&own)
            .is_some_and(|row| row.subscription.from())
        {
            // The two sides disagree: the contact's word counts.
            let correction = stanza::presence("unsubscribed", contact, &own);
            self.later.push_back(Later::Route(correction.into()));
            return;
        }
        if self.is_blocked(other, &jid) {
            return;
        }
        let presences: Vec<Arc<[u8]>> = known
            .sessions
            .iter()
            .filter_map(|session| self.sessions.get(*session)?.presence.clone())
            .collect();
        for presence in presences {
            self.deliver_addressed(key, &presence, &jid);
        }
    }

    /// Gets a contact's presence for all available clients of a user.
    pub(crate) fn probe_for_all(&mut self, user: Key, contact: &str) {
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            if self
                .sessions
                .get(key)
                .is_some_and(|session| session.is_available())
            {
                self.probe(key, contact);
            }
        }
    }

    /// A client is not available any more: whoever saw it is told.
    pub(crate) fn become_unavailable(&mut self, key: Key, header: Option<&Header<'_>>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let was = session.presence.take().is_some();
        session.inherited = false;
        let directed = std::mem::take(&mut session.directed);
        let jid = session.jid.clone();
        let user = session.user;
        if !was && directed.is_empty() {
            return;
        }
        let mut stanza = Vec::new();
        match header {
            Some(header) => {
                header.write(&Rewrite::new().from(Some(&jid)).to(None), &mut stanza);
            }
            None => {
                let mut xml = xmpp::Builder::new();
                xml.start("presence")
                    .attribute("type", "unavailable")
                    .attribute("from", &jid);
                stanza = xml.finish();
            }
        }
        self.announce_presence(key);
        if was {
            self.broadcast(key, &stanza);
        }
        let Ok(header) = Header::parse(&stanza) else {
            return;
        };
        for target in directed {
            let told = was
                && self
                    .users
                    .get(user)
                    .and_then(|user| user.data.as_ref())
                    .and_then(|data| data.roster.get(&target))
                    .is_some_and(|row| row.subscription.from());
            if !told {
                let mut out = Vec::new();
                header.write(&Rewrite::new().to(Some(&target)), &mut out);
                self.later.push_back(Later::Route(out.into()));
            }
        }
    }

    /// Shows a user's presence to an address.
    pub(crate) fn introduce(&mut self, user: Key, to: &str) {
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            let presence = self
                .sessions
                .get(key)
                .and_then(|session| session.presence.clone());
            if let Some(presence) = presence
                && let Ok(header) = Header::parse(&presence)
            {
                let mut out = Vec::new();
                header.write(&Rewrite::new().to(Some(to)), &mut out);
                self.later.push_back(Later::Route(out.into()));
            }
        }
    }

    /// Hides a user's presence from an address that saw it.
    pub(crate) fn withdraw(&mut self, user: Key, to: &str) {
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            if let Some(session) = self.sessions.get(key)
                && session.presence.is_some()
            {
                let stanza = stanza::presence("unavailable", &session.jid, to);
                self.later.push_back(Later::Route(stanza.into()));
            }
        }
    }

    /// A presence stanza for a user who is loaded.
    pub(crate) fn presence_to_user(&mut self, user: Key, header: &Header<'_>) {
        let kind = header.kind().map(|kind| kind.get());
        if let Some(request) = kind.as_deref().and_then(Request::read) {
            self.subscription_to(user, request, header);
            return;
        }
        let (Some(to), Some(from)) = (header.to(), header.from()) else {
            return;
        };
        if kind.as_deref() == Some("probe") {
            self.answer_probe(user, header);
            return;
        }
        if self.blocks_any(user) && self.is_blocked(user, &from.get()) {
            return;
        }
        let Some(address) = self.read(to.get()) else {
            return;
        };
        match address.resource() {
            Some(resource) => {
                if let Some(key) = self.find_session(user, resource) {
                    self.deliver(key, header.bytes(), Copy::Only);
                }
            }
            None if kind.as_deref() == Some("error") => {}
            None => self.presence_in_turn(user, header.bytes()),
        }
    }

    /// Shows presence to the user's clients: behind what is being written if
    /// that is news of a subscription, which comes before the presence that it
    /// permits.
    pub(crate) fn presence_in_turn(&mut self, user: Key, presence: &[u8]) {
        let journal = self.users.get(user).and_then(|user| user.journal.as_ref());
        if journal.is_some_and(|journal| journal.has_news()) {
            self.commit(user, Vec::new(), vec![Effect::Show(presence.into())]);
        } else {
            self.deliver_to_available(user, presence);
        }
    }

    fn answer_probe(&mut self, user: Key, header: &Header<'_>) {
        let Some(from) = header.from().and_then(|from| self.read(from.get())) else {
            return;
        };
        let Some(known) = self.users.get(user) else {
            return;
        };
        let own = format!("{}@{}", known.name, self.domain);
        // A node that serves the user meanwhile tells of it by itself.
        let served = self.serves(&known.name);
        if !served || own == from.bare() || self.is_blocked(user, from.as_str()) {
            return;
        }
        let seen = known
            .data
            .as_ref()
            .and_then(|data| data.roster.get(from.bare()))
            .is_some_and(|row| row.subscription.from());
        if !seen {
            let reply = stanza::presence("unsubscribed", &own, from.bare());
            self.later.push_back(Later::Route(reply.into()));
            return;
        }
        let before = self.later.len();
        self.introduce(user, from.as_str());
        if self.later.len() == before {
            let reply = stanza::presence("unavailable", &own, from.as_str());
            self.later.push_back(Later::Route(reply.into()));
        }
    }
}
