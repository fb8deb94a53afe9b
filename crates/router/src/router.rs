//! The core: events go in, actions come out. No I/O, no clock.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use xcp::{LinkId, ToComponent, ToRouter};
use xmpp::{Condition, Header, StreamError};

use crate::Config;
use crate::address::Address;
use crate::adopt::Doubt;
use crate::cluster::{Cluster, Server};
use crate::event::{Actions, ConnectionId, Event, Left, Time};
use crate::inactive::{Bound, Inactive};
use crate::link::PeerLink;
use crate::mutation::Mutation;
use crate::peer::Peer;
use crate::quota::Quotas;
use crate::remote::Moving;
use crate::session::Session;
use crate::slab::{Key, Slab};
use crate::stanza::{self, StanzaError};
use crate::stats::Stats;
use crate::user::{Held, Receipt, Sender, User};

/// A connection that signed in.
#[derive(Debug)]
pub(crate) enum Connection {
    /// No resource is bound yet.
    Fresh { user: Key, peer: Box<str> },
    /// It carries a session.
    Bound(Key),
    /// It waits for this node to serve its user.
    Inactive(Box<Inactive>),
}

/// A stanza that a session did not get, and what its sender's count waits for.
#[derive(Debug)]
pub(crate) struct Undelivered {
    pub(crate) stanza: Box<[u8]>,
    pub(crate) receipt: Option<Receipt>,
    /// When it came, in Unix milliseconds.
    pub(crate) at: i64,
}

/// What is done at the end of an event, so that nothing recurses.
#[derive(Debug)]
pub(crate) enum Later {
    /// Route a stanza with `from` and `to`.
    Route(Box<[u8]>),
    /// Find a new place for what a user's session could not take.
    Reroute(Key, Vec<Undelivered>),
    /// Handle what waits for a user.
    Drain(Key),
    /// End a session whose queue is full.
    Overflow(Key),
    /// Find another way for a stanza that its node did not take.
    Astray(Bytes, Option<Receipt>, Option<u64>),
    /// A node lags too far behind.
    Lost(u64),
    /// Forget a user whom another node serves.
    LetGo(Key),
}

/// Who is to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Session(Key),
    /// A resumption of a session waits.
    Resuming(Key),
    User(Key),
    /// Messages of a user could not be stored.
    Keep(Key),
    /// Stored messages of a user wait to be read.
    Unread(Key),
    /// What another node stored for a user has not arrived.
    Awaits(Key),
    /// The client of a session that another node had has not come back.
    Phantom(Key),
    /// Sessions that other nodes had have not been told of.
    Doubt,
    /// The routers of other nodes are to be asked whether they are there.
    Peers,
}

/// Where a stanza goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The router itself.
    Server,
    /// A user of the domain.
    Account,
    /// A host that a component serves.
    Host(LinkId),
    /// Nowhere that is known here.
    Remote,
}

/// A source of random numbers.
pub type Random = Box<dyn FnMut() -> u64 + Send>;

/// The router's core.
pub struct Router {
    pub(crate) domain: Arc<str>,
    pub(crate) config: Config,
    pub(crate) users: Slab<User>,
    pub(crate) names: HashMap<Arc<str>, Key>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) connections: HashMap<ConnectionId, Connection>,
    pub(crate) inactive: Bound,
    pub(crate) hosts: HashMap<Box<str>, LinkId>,
    pub(crate) timers: BTreeSet<(u64, Timer)>,
    pub(crate) random: Random,
    pub(crate) out: Actions,
    pub(crate) now: Time,
    pub(crate) started: u64,
    /// The stanza being handled, if its session counts.
    pub(crate) current: Option<Receipt>,
    /// When that came, in Unix milliseconds, if not now.
    pub(crate) came: Option<i64>,
    pub(crate) later: VecDeque<Later>,
    /// Buffer for the stanza being sent on.
    pub(crate) scratch: Vec<u8>,
    pub(crate) last_mark: u64,
    /// Number of the last message that several sessions got.
    pub(crate) last_shared: u64,
    pub(crate) stopping: bool,
    pub(crate) stats: Stats,
    pub(crate) quotas: Quotas,
    pub(crate) cluster: Cluster,
    /// The routers of other nodes, by the nodes' numbers.
    pub(crate) peers: BTreeMap<u64, Peer>,
    pub(crate) peer_links: HashMap<LinkId, PeerLink>,
    /// Users who moved while messages for them were on their way.
    pub(crate) moving: BTreeMap<Box<str>, Moving>,
    /// Sessions that a node had which does not serve their users any more.
    pub(crate) doubtful: BTreeMap<Box<str>, Doubt>,
    /// Sessions that came out of the real-time stores before this node served
    /// their users, and until when they count.
    pub(crate) early: Vec<(u64, Left)>,
    /// Differs at each start; 0 until other nodes are known.
    pub(crate) instance: u64,
    pub(crate) last_stream: u32,
    /// A time is set at which other routers are looked at.
    pub(crate) watching: bool,
    #[cfg(feature = "mutation")]
    mutation: Option<Mutation>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("domain", &self.domain)
            .field("users", &self.users.len())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl Router {
    /// A router for `domain`, with nobody there.
    pub fn new(domain: &str, config: Config, random: Random, now: Time) -> Self {
        Self {
            domain: domain.into(),
            config,
            users: Slab::default(),
            names: HashMap::new(),
            sessions: Slab::default(),
            connections: HashMap::new(),
            inactive: Bound::new(),
            hosts: HashMap::new(),
            timers: BTreeSet::new(),
            random,
            out: Actions::default(),
            now,
            started: now.monotonic,
            current: None,
            came: None,
            later: VecDeque::new(),
            scratch: Vec::new(),
            last_mark: 0,
            last_shared: 0,
            stopping: false,
            stats: Stats::default(),
            quotas: Quotas::default(),
            cluster: Cluster::default(),
            peers: BTreeMap::new(),
            peer_links: HashMap::new(),
            moving: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            early: Vec::new(),
            instance: 0,
            last_stream: 0,
            watching: false,
            #[cfg(feature = "mutation")]
            mutation: None,
        }
    }

    /// Breaks a rule from now on: for tests that must notice.
    #[cfg(feature = "mutation")]
    pub fn break_rule(&mut self, rule: Mutation) {
        self.mutation = Some(rule);
    }

    pub(crate) fn broken(&self, rule: Mutation) -> bool {
        #[cfg(feature = "mutation")]
        return self.mutation == Some(rule);
        #[cfg(not(feature = "mutation"))]
        rule.never()
    }

    /// Handles one event. What is to be done is added to `out`.
    pub fn handle(&mut self, event: Event, now: Time, out: &mut Actions) {
        self.now = now;
        std::mem::swap(&mut self.out, out);
        match event {
            Event::Frame { link, frame } => self.frame(link, frame),
            Event::LinkUp { link, component } => {
                tracing::info!(link, component, "A component connected.");
            }
            Event::LinkDown { link } => self.link_down(link),
            Event::Loaded { user, rows } => self.loaded(&user, rows),
            Event::Written { user, result } => self.written(&user, result),
            Event::Offline { user, rows } => self.fetched(&user, rows),
            Event::Roster { user, rows } => self.roster_read(&user, rows),
            Event::RosterChanged { user, contact, row } => {
                self.roster_changed(&user, &contact, row.as_ref());
            }
            Event::RostersChanged => self.rosters_changed(),
            Event::VCard { user, xml } => self.vcard_read(&user, xml),
            Event::UserChanged {
                user,
                enabled,
                home,
            } => self.user_changed(&user, enabled, home.as_deref()),
            Event::UsersRead(users) => self.users_read(users),
            Event::StoredElsewhere {
                user,
                sequence,
                size,
            } => self.stored_elsewhere(&user, sequence, size),
            Event::Nodes { own, nodes } => self.nodes_changed(&own, nodes),
            Event::Serving(homes) => self.claims_changed(homes),
            Event::Adopted { homes, sessions } => self.adopted(&homes, sessions),
            Event::PeerConnected { node, link } => self.peer_connected(node, link),
            Event::PeerReply { link, reply } => self.peer_reply(link, reply),
            Event::GuestConnected { node, link } => self.guest_connected(node, link),
            Event::GuestFrame { link, frame } => self.guest_frame(link, frame),
            Event::PeerClosed { link } => self.peer_closed(link),
            Event::Configured(config) => self.config = config,
            Event::Tick => {}
            Event::Shutdown => self.shut_down(),
        }
        self.fire();
        while let Some(later) = self.later.pop_front() {
            match later {
                Later::Route(stanza) => self.route(&stanza),
                Later::Reroute(user, stanzas) => self.reroute(user, stanzas),
                Later::Drain(user) => self.drain(user),
                Later::Overflow(session) => self.overflow(session),
                Later::Astray(stanza, receipt, not) => self.astray(&stanza, receipt, not),
                Later::LetGo(user) => self.let_go(user),
                Later::Lost(node) => self.give_up(node, "it lags too far behind"),
            }
        }
        self.answer_peers();
        std::mem::swap(&mut self.out, out);
    }

    /// When [`Event::Tick`] is due at the latest, in monotonic milliseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Whether nothing waits for the database or another node any more.
    pub fn is_settled(&self) -> bool {
        self.peers.values().all(|peer| peer.out.is_settled())
            && self.users.iter().all(|(_, user)| {
                !user.busy
                    && user
                        .journal
                        .as_ref()
                        .is_none_or(|journal| journal.is_idle())
            })
    }

    /// Names of the users in memory.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// Figures for the counters.
    pub fn stats(&self) -> Stats {
        let connected = |session: &&Session| session.connection.is_some();
        let phantoms = self.sessions.iter().filter(|(_, it)| it.is_phantom());
        let phantoms = phantoms.count();
        Stats {
            sessions: self.sessions.len() - phantoms,
            phantoms,
            inactive: self.inactive.len(),
            users_active: self.users_active(),
            sessions_connected: self
                .sessions
                .iter()
                .map(|(_, session)| session)
                .filter(connected)
                .count(),
            users_loaded: self.users.len(),
            ..self.stats
        }
    }

    /// Users who have a session that is no phantom.
    fn users_active(&self) -> usize {
        let active = |key: &Key| !self.is_phantom(*key);
        let users = self.users.iter();
        users
            .filter(|(_, user)| user.sessions.iter().any(active))
            .count()
    }

    fn frame(&mut self, link: LinkId, frame: ToRouter) {
        match frame {
            ToRouter::Element {
                connection: number,
                element,
            } => self.element(ConnectionId { link, number }, element),
            ToRouter::Authenticated {
                connection: number,
                user,
                peer,
                secure,
                inactive,
            } => {
                let connection = ConnectionId { link, number };
                self.authenticated(connection, &user, peer.into(), inactive && secure);
            }
            ToRouter::Closed {
                connection: number,
                clean,
            } => self.connection_ended(ConnectionId { link, number }, clean),
            ToRouter::Congested { connection: number } => {
                if let Some(key) = self.session_of(ConnectionId { link, number })
                    && let Some(session) = self.sessions.get_mut(key)
                {
                    session.congested = true;
                }
            }
            ToRouter::Relieved { connection: number } => {
                if let Some(key) = self.session_of(ConnectionId { link, number }) {
                    self.relieved(key);
                }
            }
            ToRouter::Written {
                connection: number,
                token,
            } => {
                if let Some(key) = self.session_of(ConnectionId { link, number }) {
                    self.mark_reached(key, token);
                }
            }
            ToRouter::Serve { host } => {
                let host: Box<str> = host.to_ascii_lowercase().into();
                if *host == *self.domain {
                    self.break_link(link, "a component wants to serve the router's own domain");
                } else {
                    self.hosts.insert(host, link);
                }
            }
            ToRouter::Stanza { element } => self.component_stanza(link, &element),
            ToRouter::Hello { .. } => self.break_link(link, "Hello came twice"),
        }
    }

    /// The session on a connection. Frames of ended connections cross ours.
    pub(crate) fn session_of(&self, connection: ConnectionId) -> Option<Key> {
        match self.connections.get(&connection) {
            Some(Connection::Bound(key)) => Some(*key),
            _ => None,
        }
    }

    pub(crate) fn break_link(&mut self, link: LinkId, reason: &'static str) {
        self.out.broken.push((link, reason));
    }

    fn link_down(&mut self, link: LinkId) {
        let mut lost: Vec<_> = self
            .connections
            .keys()
            .filter(|connection| connection.link == link)
            .copied()
            .collect();
        lost.sort_unstable();
        if !lost.is_empty() {
            tracing::warn!(
                link,
                connections = lost.len(),
                "A component's link ended; its sessions may resume."
            );
        }
        for connection in lost {
            self.connection_ended(connection, false);
        }
        self.hosts.retain(|_, served| *served != link);
        self.out.links.retain(|(known, _)| *known != link);
    }

    fn component_stanza(&mut self, link: LinkId, element: &Bytes) {
        let Ok(header) = Header::parse(element) else {
            self.break_link(link, "a component sent something that is no element");
            return;
        };
        let from = header.from().map(|from| from.get());
        let address = from.and_then(|from| Address::read(from, &self.domain));
        let serves = address.is_some_and(|address| self.hosts.get(address.domain()) == Some(&link));
        if !serves || stanza::stanza_name(&header).is_none() || header.to().is_none() {
            self.break_link(
                link,
                "a component sent a stanza of a host that it does not serve",
            );
            return;
        }
        self.route(element);
    }

    /// An element of a client. What cannot be handled yet waits in order.
    fn element(&mut self, connection: ConnectionId, element: Bytes) {
        let user = match self.connections.get(&connection) {
            Some(Connection::Bound(key)) => self.sessions.get(*key).map(|session| session.user),
            Some(Connection::Fresh { user, .. }) => Some(*user),
            Some(Connection::Inactive(_)) => return self.inactive_element(connection, &element),
            None => None,
        };
        let Some(key) = user else { return };
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        if user.is_ready() && user.held.is_empty() {
            self.element_now(connection, &element);
        } else if self.is_count(connection, &element) {
            // Counts touch no rows; held back, they would make a live client
            // look dead.
            self.element_now(connection, &element);
        } else if let Some(user) = self.users.get_mut(key)
            && user.held.has_room(element.len())
        {
            // A copy: the buffer it came in is shared with other frames.
            let element = Bytes::copy_from_slice(&element);
            user.held.push_back(Held::Element(connection, element));
        } else {
            let error = StreamError::new(
                Condition::ResourceConstraint,
                "Too much waits for the database.",
            );
            self.end_connection(connection, error);
        }
    }

    /// Whether an element asks for or gives a count of stream management.
    fn is_count(&self, connection: ConnectionId, element: &[u8]) -> bool {
        let managed = self
            .session_of(connection)
            .and_then(|key| self.sessions.get(key))
            .is_some_and(|session| session.management.is_some());
        managed
            && Header::parse(element).is_ok_and(|header| {
                header.xmlns() == xmpp::ns::STREAM_MANAGEMENT && matches!(header.name(), "a" | "r")
            })
    }

    pub(crate) fn element_now(&mut self, connection: ConnectionId, element: &[u8]) {
        match self.connections.get(&connection) {
            Some(Connection::Bound(key)) => self.session_element(*key, element),
            Some(Connection::Fresh { .. }) => self.fresh_element(connection, element),
            Some(Connection::Inactive(_)) => self.inactive_element(connection, element),
            None => {}
        }
    }

    /// Handles the first of what waits for a user; the next one's turn comes
    /// behind whatever this one causes.
    fn drain(&mut self, key: Key) {
        if let Some(user) = self.users.get_mut(key)
            && user.is_ready()
            && let Some(held) = user.held.pop_front()
        {
            self.drain_later(key);
            self.held_now(key, held);
        }
        self.rest(key);
    }

    /// Handles something for a user now, or behind what waits already.
    pub(crate) fn in_turn(&mut self, key: Key, held: Held) {
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        user.idle = None;
        if user.is_ready() && user.held.is_empty() {
            self.held_now(key, held);
        } else {
            user.held.push_back(held);
        }
    }

    fn held_now(&mut self, key: Key, held: Held) {
        match held {
            Held::Element(connection, element) => self.element_now(connection, &element),
            Held::Stanza(stanza, receipt) => {
                if let Ok(header) = Header::parse(&stanza) {
                    self.current = receipt;
                    self.stanza_to_user(key, &header);
                    self.current = None;
                }
                self.settle(receipt);
            }
            Held::Left(left) => self.adopt(key, *left),
            Held::Activation(connection) => self.activate(key, connection),
            Held::Gone(jid) => self.gone(key, &jid),
        }
    }

    /// Where an address leads.
    pub(crate) fn place(&self, address: &Address<'_>) -> Place {
        if address.domain() == &*self.domain {
            if address.node().is_some() {
                Place::Account
            } else {
                Place::Server
            }
        } else {
            self.hosts
                .get(address.domain())
                .map_or(Place::Remote, |link| Place::Host(*link))
        }
    }

    pub(crate) fn read<'a>(&self, text: Cow<'a, str>) -> Option<Address<'a>> {
        Address::read(text, &self.domain)
    }

    /// Routes a stanza that has `from` and `to`.
    pub(crate) fn route(&mut self, bytes: &[u8]) {
        let Ok(header) = Header::parse(bytes) else {
            return;
        };
        let Some(address) = header.to().and_then(|to| self.read(to.get())) else {
            return;
        };
        match self.place(&address) {
            Place::Server => self.stanza_to_server(&header),
            Place::Account => {
                let node = address.node().unwrap_or_default();
                self.stanza_to_account(node, &header);
            }
            Place::Host(link) => {
                let element = Bytes::copy_from_slice(&stanza::with_namespace(&header));
                self.out.frame(link, &ToComponent::Stanza { element });
            }
            Place::Remote => self.bounce(&header, StanzaError::RemoteServerNotFound, ""),
        }
    }

    /// A stanza for a user of the domain.
    pub(crate) fn stanza_to_account(&mut self, name: &str, header: &Header<'_>) {
        if self.broken(Mutation::InactiveRoutedTo) && self.route_to_inactive(name, header) {
            return;
        }
        if header.name() == "message" && self.moving.contains_key(name) {
            self.hold_behind(name, header);
            return;
        }
        match self.cluster.server_of(name) {
            None | Some(Server::Here) => self.stanza_to_own(name, header),
            Some(Server::There(node)) => self.forward(node, name, header),
            Some(Server::Nobody) => self.take_care(name, header),
        }
    }

    /// A stanza for a user whose rows this node sees to. The user may have to
    /// be loaded first.
    pub(crate) fn stanza_to_own(&mut self, name: &str, header: &Header<'_>) {
        let key = self.user(name);
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        if user.is_ready() && user.held.is_empty() {
            self.stanza_to_user(key, header);
        } else if user.held.has_room(header.bytes().len()) {
            let stanza = header.bytes().into();
            let receipt = self.defer(None);
            if let Some(user) = self.users.get_mut(key) {
                user.held.push_back(Held::Stanza(stanza, receipt));
            }
        } else {
            self.bounce(
                header,
                StanzaError::ResourceConstraint,
                "The server is busy.",
            );
        }
    }

    /// A stanza for a user who is loaded.
    pub(crate) fn stanza_to_user(&mut self, key: Key, header: &Header<'_>) {
        match header.name() {
            "message" => self.message_to_user(key, header),
            "presence" => self.presence_to_user(key, header),
            _ => self.iq_to_user(key, header),
        }
    }

    /// Sends an error back, if the stanza may have one.
    pub(crate) fn bounce(&mut self, header: &Header<'_>, error: StanzaError, text: &str) {
        if !stanza::may_bounce(header) {
            return;
        }
        let Some(from) = header.from().map(|from| from.get()) else {
            return;
        };
        if let Some(reply) = stanza::error_reply(header, &from, error, text) {
            self.later.push_back(Later::Route(reply.into()));
        }
    }

    /// A user by name; one that is not known yet is loaded.
    pub(crate) fn user(&mut self, name: &str) -> Key {
        if let Some(key) = self.names.get(name) {
            return *key;
        }
        let user = User::new(name);
        let known = user.name.clone();
        let key = self.users.insert(user);
        self.names.insert(known, key);
        self.out
            .store
            .push(crate::StoreRequest::Load { user: name.into() });
        key
    }

    /// A loaded user with sessions, by bare address; nothing is loaded.
    pub(crate) fn local_user(&self, bare: &str) -> Option<Key> {
        let name = bare.strip_suffix(&*self.domain)?.strip_suffix('@')?;
        self.names.get(name).copied()
    }

    /// The stanza being handled is not done when the event is: it counts once
    /// the receipt is settled. `holder` is the session that it waits for.
    pub(crate) fn defer(&mut self, holder: Option<Key>) -> Option<Receipt> {
        if self.broken(Mutation::AcknowledgedBeforeStored) {
            return None;
        }
        let receipt = Receipt {
            holder,
            ..self.current?
        };
        match receipt.sender {
            Sender::Session(key) => {
                let management = self.sessions.get_mut(key)?.management.as_mut()?;
                management.unhandled.push(receipt);
            }
            Sender::Peer(stream) => {
                let pending = &mut self.stream(stream)?.incoming.pending;
                *pending.entry(receipt.number).or_default() += 1;
            }
        }
        Some(receipt)
    }

    fn fire(&mut self) {
        while let Some((due, timer)) = self.timers.first().copied()
            && due <= self.now.monotonic
        {
            self.timers.pop_first();
            match timer {
                Timer::Session(key) => self.session_timer(key, due),
                Timer::Resuming(key) => self.resuming_timer(key, due),
                Timer::User(key) => self.user_timer(key),
                Timer::Keep(key) => self.keep_again(key),
                Timer::Unread(key) => self.unread_timer(key),
                Timer::Awaits(key) => self.awaits_timer(key),
                Timer::Phantom(key) => self.phantom_timer(key),
                Timer::Doubt => self.doubt_timer(),
                Timer::Peers => self.watch_peers(),
            }
        }
    }
}
