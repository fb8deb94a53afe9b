//! Sessions that go from one node of a redundancy group to the other with the
//! users whom it serves.
//!
//! The node that begins to serve a home makes phantoms of what the other one
//! had: sessions without a client, shown to contacts as they were, until their
//! client signs in again, another one says that it is unavailable, or time is
//! over. Messages meanwhile are stored. The node that serves a home no longer
//! ends its sessions and tells nobody: whoever saw them keeps doing so, unless
//! the other node does not tell of them within some time.

use std::sync::Arc;

use xmpp::Header;

use crate::cluster::Server;
use crate::connect::Told;
use crate::event::{Left, Soft};
use crate::link::local_part;
use crate::mutation::Mutation;
use crate::presence::priority_of;
use crate::router::{Router, Timer};
use crate::session::Session;
use crate::slab::Key;
use crate::user::Held;

/// Milliseconds within which a node that begins to serve users tells of the
/// sessions that it took over.
const ADOPTION: u64 = 20_000;

/// A session that a node had which does not serve its user any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    /// When it is gone unless somebody has told of it, monotonic.
    due: u64,
    /// This node had it, and its rows are still in the real-time stores.
    own: bool,
}

impl Router {
    /// What other routers left, asked for when these homes were claimed. The
    /// stores hand everything out at once: what is of users whom this node
    /// serves by now is taken, too, and what is of users whom it is about to
    /// serve is kept for that moment.
    pub(crate) fn adopted(&mut self, homes: &[Box<str>], sessions: Vec<Left>) {
        let forgets = self.broken(Mutation::PhantomsNotAdopted);
        let due = self.now.monotonic + ADOPTION;
        let mut early = std::mem::take(&mut self.early);
        early.retain(|(due, left)| {
            let same = |fresh: &Left| self.home_of(fresh) == self.home_of(left);
            // What the stores have of a home now is newer.
            *due > self.now.monotonic && !sessions.iter().any(same)
        });
        let fresh = sessions.into_iter().map(|left| (due, left));
        let mut number = 0;
        for (due, left) in fresh.chain(early).filter(|_| !forgets) {
            let name: Box<str> = local_part(&left.jid).into();
            if self.cluster.server_of(&name) == Some(Server::Here) {
                number += 1;
                let key = self.user(&name);
                self.in_turn(key, Held::Left(Box::new(left)));
            } else if self.cluster.stand_in(&name).is_some() {
                self.early.push((due, left));
            }
        }
        if number > 0 {
            tracing::info!(
                ?homes,
                sessions = number,
                "Sessions of another node are taken over."
            );
        }
        self.activate_all();
    }

    fn home_of(&self, left: &Left) -> Option<&str> {
        let home = self.cluster.home_of(local_part(&left.jid))?;
        Some(&home.name)
    }

    /// Makes a phantom of a session that another node had.
    pub(crate) fn adopt(&mut self, user: Key, left: Left) {
        let Some(address) = self.read((&*left.jid).into()) else {
            return;
        };
        let bare = address.bare().len();
        let Some(resource) = address.resource() else {
            return;
        };
        let presence = left
            .presence
            .filter(|presence| is_presence_of(presence, &left.jid));
        // Its client was faster, or nobody knew of it.
        let known = self.find_session(user, resource).is_some();
        if known || (presence.is_none() && left.directed.is_empty()) {
            return;
        }
        let jid: Arc<str> = (&*left.jid).into();
        let presence: Option<Arc<[u8]>> = presence.map(Into::into);
        let header = presence.as_ref().map(|presence| Header::parse(presence));
        let priority = header.and_then(|header| priority_of(&header.ok()?));
        let session = Session {
            presence: presence.clone(),
            inherited: true,
            priority: priority.unwrap_or_default(),
            directed: left.directed,
            since: left.since,
            ..Session::new(user, jid.clone(), bare, left.peer, self.now)
        };
        let key = self.sessions.insert(session);
        if let Some(user) = self.users.get_mut(user) {
            user.sessions.push(key);
        }
        let due = self.now.monotonic + self.config.phantom_seconds * 1000;
        self.timers.insert((due, Timer::Phantom(key)));
        self.announce(key);
        self.announce_route(user);
        self.announce_presence(key);
        let Some(presence) = presence else { return };
        let (own, away) = self.split(self.watchers(user));
        self.show_away(&presence, away);
        // Who saw it still does.
        let seen = self.is_seen(&jid) || self.doubtful.contains_key(&*jid);
        if let (false, Ok(header)) = (seen, Header::parse(&presence)) {
            for contact in own {
                self.show(&header, &contact);
            }
        }
    }

    pub(crate) fn is_phantom(&self, key: Key) -> bool {
        self.sessions.get(key).is_some_and(Session::is_phantom)
    }

    /// A phantom of a user, for a client that names no resource.
    pub(crate) fn phantom_of(&self, user: Key) -> Option<Key> {
        let mut sessions = self.users.get(user)?.sessions.iter().copied();
        sessions.find(|key| self.is_phantom(*key))
    }

    /// Nobody came back in time, or who came has not said to be there.
    pub(crate) fn phantom_timer(&mut self, key: Key) {
        let stays = self.broken(Mutation::PhantomsStay);
        let inherited = |it: &&Session| it.inherited && !stays;
        let Some(session) = self.sessions.get(key).filter(inherited) else {
            return;
        };
        if session.is_phantom() {
            tracing::debug!(session = %session.jid, "The client of the session did not come back.");
            self.end_session(key, None, Told::All);
        } else {
            self.become_unavailable(key, None);
        }
    }

    /// The session goes to another node with its user.
    pub(crate) fn leave(&mut self, jid: &str) {
        let due = self.now.monotonic + self.config.cover_seconds * 1000;
        self.doubtful.insert(jid.into(), Doubt { due, own: true });
        self.timers.insert((due, Timer::Doubt));
    }

    /// Other nodes serve users than before: the sessions that they had are in
    /// doubt until those that serve them now have told of them.
    pub(crate) fn doubt(&mut self) {
        let due = self.now.monotonic + ADOPTION;
        let cluster = &self.cluster;
        let mut moved = Vec::new();
        for (node, peer) in &mut self.peers {
            let gone = peer.incoming.seen.extract_if(.., |jid, _| {
                match cluster.server_of(local_part(jid)) {
                    Some(Server::There(other)) => other != *node,
                    Some(Server::Here) => true,
                    Some(Server::Nobody) | None => false,
                }
            });
            moved.extend(gone.map(|(jid, _)| jid));
        }
        let mut back = Vec::new();
        for (jid, doubt) in &mut self.doubtful {
            match cluster.server_of(local_part(jid)) {
                Some(Server::Here) if std::mem::take(&mut doubt.own) => back.push(jid.clone()),
                Some(Server::There(_)) => doubt.due = doubt.due.min(due),
                _ => {}
            }
        }
        for jid in back {
            self.forget_rows(&jid);
        }
        let own = false;
        for jid in moved {
            self.doubtful.entry(jid).or_insert(Doubt { due, own });
        }
        if !self.doubtful.is_empty() {
            self.timers.insert((due, Timer::Doubt));
        }
    }

    /// A node told everything again, and these sessions not: they are gone, or
    /// another node is about to tell of them.
    pub(crate) fn not_told(&mut self, node: u64, sessions: Vec<Box<str>>) {
        let due = self.now.monotonic + ADOPTION;
        let (mut gone, own) = (Vec::new(), false);
        for jid in sessions {
            match self.cluster.server_of(local_part(&jid)) {
                None | Some(Server::Here) => gone.push(jid),
                Some(Server::There(server)) if server == node => gone.push(jid),
                Some(Server::There(_) | Server::Nobody) => {
                    self.doubtful.entry(jid).or_insert(Doubt { due, own });
                    self.timers.insert((due, Timer::Doubt));
                }
            }
        }
        self.show_gone(&gone);
    }

    /// Who is in doubt for too long is gone.
    pub(crate) fn doubt_timer(&mut self) {
        let now = self.now.monotonic;
        let over = self.doubtful.extract_if(.., |_, doubt| doubt.due <= now);
        let over: Vec<(Box<str>, Doubt)> = over.collect();
        let rows = over.iter().filter(|(_, doubt)| doubt.own);
        for (jid, _) in rows {
            self.forget_rows(jid);
        }
        let gone: Vec<Box<str>> = over.into_iter().map(|(jid, _)| jid).collect();
        self.show_gone(&gone);
        if let Some(due) = self.doubtful.values().map(|doubt| doubt.due).min() {
            self.timers.insert((due, Timer::Doubt));
        }
    }

    /// Removes what the real-time stores still have of a session that another
    /// node had time to take over.
    fn forget_rows(&mut self, jid: &str) {
        let user = self.names.get(local_part(jid)).copied();
        let resource = jid.split_once('/').map_or("", |(_, resource)| resource);
        if user.is_some_and(|user| self.find_session(user, resource).is_some()) {
            return;
        }
        self.out.soft.push(Soft::SessionEnded { jid: jid.into() });
        self.out.soft.push(Soft::Presence {
            jid: jid.into(),
            stanza: None,
            directed: Vec::new(),
        });
        if user.is_none_or(|user| self.session_at(user, 0).is_none()) {
            let bare = jid.split('/').next().unwrap_or(jid);
            self.out.soft.push(Soft::Route {
                jid: bare.into(),
                resources: Vec::new(),
            });
        }
    }
}

/// Whether a row is an available presence stanza of that session.
fn is_presence_of(stanza: &[u8], jid: &str) -> bool {
    Header::parse(stanza).is_ok_and(|header| {
        let from = header.from().is_some_and(|from| from.get() == jid);
        header.name() == "presence" && header.kind().is_none() && from
    })
}
