//! Three routers in one process, with simulated connections between them, one
//! database, and a client of each user that keeps the rules of stream
//! management.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    dead_code,
    reason = "a harness of tests fails loudly"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use router::{
    Actions, Config, Event, Left, Node, Router, Soft, StoreRequest, Subscription, Time, Write,
};
use xcp::{Decoder, LinkId, PeerFrame, PeerReply, ToComponent, ToRouter};

use crate::world::{Database, Rows, answer};

pub const NODES: usize = 3;
pub const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const NAMES: [&str; NODES] = ["one", "two", "three"];
/// The link of each node's connection manager.
const COMPONENT: LinkId = 1;
/// How often a router tries to connect.
const AGAIN: u64 = 200;

/// A connection between two routers.
struct Pipe {
    from: usize,
    to: usize,
    /// Bytes on their way, with the time of arrival, in each direction.
    forth: VecDeque<(u64, Bytes)>,
    back: VecDeque<(u64, Bytes)>,
    frames: Decoder<PeerFrame>,
    replies: Decoder<PeerReply>,
    /// The side that has not heard of the end yet.
    half: Option<usize>,
}

pub struct Client {
    /// Where it is connected, or was.
    pub node: usize,
    pub up: bool,
    /// Who it sees.
    pub seen: BTreeSet<String>,
    /// Who it saw go.
    pub gone: Vec<String>,
    /// Stanzas that came back.
    pub errors: Vec<String>,
    number: u64,
    id: Option<String>,
    received: u32,
    acked: u32,
    unacked: Vec<String>,
    /// Stanzas at the beginning of a session that are not kept.
    extra: u32,
    handled: usize,
    /// The first stanza of a session is the answer to binding, uncounted.
    last: String,
    pub retry: u64,
}

pub struct Fleet {
    now: Time,
    routers: Vec<Router>,
    actions: Vec<Actions>,
    rows: BTreeMap<String, Rows>,
    homes: Vec<usize>,
    claims: Vec<Option<BTreeMap<Box<str>, u64>>>,
    /// Nodes one and two stand in for each other.
    paired: bool,
    /// Who of the two serves each one's home.
    serves: [usize; 2],
    epoch: u64,
    /// Nodes that are lost.
    down: BTreeSet<usize>,
    /// What each router told its real-time stores, and the copy that the other
    /// node of the pair has of it.
    stores: [Sessions; 2],
    copies: [Sessions; 2],
    /// Sessions that are about to be taken over: when, where, of which homes.
    adoptions: VecDeque<(u64, usize, Vec<Box<str>>)>,
    pipes: BTreeMap<LinkId, Pipe>,
    last_link: LinkId,
    cuts: BTreeSet<(usize, usize)>,
    delays: BTreeMap<(usize, usize), u64>,
    connect_at: u64,
    pending: VecDeque<(usize, Event)>,
    busy: bool,
    feed: VecDeque<(u64, Event)>,
    pub feed_delay: u64,
    pub clients: Vec<Client>,
    last_number: u64,
    last_message: u32,
    pub sent: BTreeMap<(usize, usize), Vec<u32>>,
    pub got: BTreeMap<(usize, usize), Vec<u32>>,
}

/// Sessions by their full addresses.
type Sessions = BTreeMap<Box<str>, Left>;

fn note(rows: &mut Sessions, news: Soft) {
    let new = |jid: &str| Left {
        jid: jid.into(),
        peer: "192.0.2.100:1".into(),
        since: 0,
        presence: None,
        directed: Vec::new(),
    };
    match news {
        Soft::Session { jid, .. } => {
            rows.entry(jid.clone()).or_insert_with(|| new(&jid));
        }
        Soft::SessionEnded { jid } => drop(rows.remove(&jid)),
        Soft::Presence {
            jid,
            stanza,
            directed,
        } => {
            if let Some(row) = rows.get_mut(&jid) {
                (row.presence, row.directed) = (stanza, directed);
            }
        }
        Soft::Route { .. } => {}
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn new_router(seed: u64, now: Time) -> Router {
    let mut count = seed << 32;
    let random = Box::new(move || {
        count += 1;
        count
    });
    let config = Config {
        cover_seconds: 20,
        ..Config::default()
    };
    Router::new("ex", config, random, now)
}

impl Fleet {
    /// Everybody is at home, online, and sees everybody else.
    pub fn new() -> Self {
        Self::made(false)
    }

    /// The same; nodes one and two stand in for each other.
    pub fn paired() -> Self {
        let mut fleet = Self::made(true);
        fleet.claim(0, &[("one", 1)]);
        fleet.claim(1, &[("two", 2)]);
        fleet
    }

    fn made(paired: bool) -> Self {
        let now = Time {
            monotonic: 1_000_000,
            unix: 1_700_000_000_000,
        };
        let mut rows = BTreeMap::new();
        for user in USERS {
            let mut own = Rows::default();
            for contact in USERS.iter().filter(|contact| **contact != user) {
                let contact: Box<str> = format!("{contact}@ex").into();
                let row = router::RosterRow {
                    contact: contact.clone(),
                    subscription: Subscription::Both,
                    listed: true,
                    ..router::RosterRow::default()
                };
                own.roster.insert(contact, row);
            }
            rows.insert(user.to_owned(), own);
        }
        // Dave is at alice's node.
        let homes = vec![0, 1, 2, 0];
        let clients = homes.iter().map(|home| Client {
            node: *home,
            up: false,
            seen: BTreeSet::new(),
            gone: Vec::new(),
            errors: Vec::new(),
            number: 0,
            id: None,
            received: 0,
            acked: 0,
            unacked: Vec::new(),
            extra: 0,
            handled: 0,
            last: String::new(),
            retry: 0,
        });
        let mut fleet = Self {
            now,
            routers: Vec::new(),
            actions: (0..NODES).map(|_| Actions::default()).collect(),
            rows,
            clients: clients.collect(),
            homes,
            claims: vec![None; NODES],
            paired,
            serves: [0, 1],
            epoch: 2,
            down: BTreeSet::new(),
            stores: Default::default(),
            copies: Default::default(),
            adoptions: VecDeque::new(),
            pipes: BTreeMap::new(),
            last_link: 1 << 31,
            cuts: BTreeSet::new(),
            delays: BTreeMap::new(),
            connect_at: now.monotonic,
            pending: VecDeque::new(),
            busy: false,
            feed: VecDeque::new(),
            feed_delay: 20,
            last_number: 0,
            last_message: 0,
            sent: BTreeMap::new(),
            got: BTreeMap::new(),
        };
        for node in 0..NODES {
            fleet.routers.push(new_router(node as u64 + 1, now));
        }
        for node in 0..NODES {
            fleet.start(node);
        }
        fleet.come_back();
        fleet
    }

    /// A router that begins learns of the cluster.
    fn start(&mut self, node: usize) {
        let nodes = (0..NODES).map(|number| Node {
            name: NAMES[number].into(),
            number: number as u64 + 1,
            address: format!("192.0.2.{}", number + 1).into(),
            publisher: number == 0,
            stand_in: (self.paired && number < 2).then(|| NAMES[1 - number].into()),
        });
        let event = Event::Nodes {
            own: NAMES[node].into(),
            nodes: nodes.collect(),
        };
        self.event(node, event);
        if let Some(claims) = self.claims[node].clone() {
            let homes = claims.keys().cloned().collect();
            self.event(node, Event::Serving(claims));
            self.adopt_later(node, homes);
        }
        let users = self.homes.iter().zip(USERS);
        let users = users
            .map(|(home, user)| (user.into(), Some(NAMES[*home].into())))
            .collect();
        self.event(node, Event::UsersRead(users));
        self.event(
            node,
            Event::LinkUp {
                link: COMPONENT,
                component: "test".into(),
            },
        );
    }

    /// Something happens to a router. What clients do because of it happens
    /// after it.
    fn event(&mut self, node: usize, event: Event) {
        if self.down.contains(&node) {
            return;
        }
        self.pending.push_back((node, event));
        if std::mem::replace(&mut self.busy, true) {
            return;
        }
        while let Some((node, event)) = self.pending.pop_front() {
            let now = self.now;
            self.routers[node].handle(event, now, &mut self.actions[node]);
            self.carry_out(node);
        }
        self.busy = false;
    }

    fn carry_out(&mut self, node: usize) {
        loop {
            let actions = std::mem::take(&mut self.actions[node]);
            assert_eq!(actions.broken, []);
            for news in actions.soft {
                if let Some(rows) = self.stores.get_mut(node) {
                    note(rows, news);
                }
            }
            let mut idle = actions.store.is_empty();
            for (link, bytes) in actions.links {
                if link == COMPONENT {
                    idle = false;
                    self.hand_to_clients(node, &bytes);
                } else if !bytes.is_empty() {
                    self.send_bytes(node, link, bytes);
                }
            }
            for (link, _) in actions.closed {
                self.close(node, link);
            }
            for request in actions.store {
                if let StoreRequest::Write { user, writes } = &request {
                    for write in writes {
                        if let Write::Offline(row) = write {
                            let news = Event::StoredElsewhere {
                                user: user.clone(),
                                sequence: row.sequence,
                                size: row.stanza.len(),
                            };
                            self.feed
                                .push_back((self.now.monotonic + self.feed_delay, news));
                        }
                    }
                }
                let answer = answer(&mut self.rows, Database::Up, request);
                let now = self.now;
                self.routers[node].handle(answer, now, &mut self.actions[node]);
            }
            if idle {
                return;
            }
        }
    }

    fn send_bytes(&mut self, node: usize, link: LinkId, bytes: BytesMut) {
        let Some(pipe) = self.pipes.get_mut(&link) else {
            return;
        };
        let delay = self.delays.get(&pair(pipe.from, pipe.to)).unwrap_or(&1);
        let due = self.now.monotonic + delay;
        let way = if pipe.from == node {
            &mut pipe.forth
        } else {
            &mut pipe.back
        };
        // What is sent later does not come earlier.
        let due = way.back().map_or(due, |(before, _)| due.max(*before));
        way.push_back((due, bytes.freeze()));
    }

    /// One side ends a connection; the other learns of it when it can.
    fn close(&mut self, node: usize, link: LinkId) {
        let Some(pipe) = self.pipes.get_mut(&link) else {
            return;
        };
        if pipe.half == Some(node) {
            self.pipes.remove(&link);
            return;
        }
        let other = if pipe.from == node {
            pipe.to
        } else {
            pipe.from
        };
        pipe.half = Some(other);
        pipe.forth.clear();
        pipe.back.clear();
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&pair(a, b))
    }

    /// Makes the connections that are missing, and ends those whose other side
    /// has ended them.
    fn connect(&mut self) {
        self.connect_at = self.now.monotonic + AGAIN;
        let ended: Vec<(LinkId, usize)> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| !self.is_cut(pipe.from, pipe.to))
            .filter_map(|(link, pipe)| Some((*link, pipe.half?)))
            .collect();
        for (link, side) in ended {
            self.pipes.remove(&link);
            self.event(side, Event::PeerClosed { link });
        }
        for from in 0..NODES {
            for to in (0..NODES).filter(|to| *to != from) {
                let there = self
                    .pipes
                    .values()
                    .any(|pipe| pipe.from == from && pipe.to == to && pipe.half != Some(to));
                let lost = self.down.contains(&from) || self.down.contains(&to);
                if there || lost || self.is_cut(from, to) {
                    continue;
                }
                self.last_link += 1;
                let link = self.last_link;
                let pipe = Pipe {
                    from,
                    to,
                    forth: VecDeque::new(),
                    back: VecDeque::new(),
                    frames: Decoder::default(),
                    replies: Decoder::default(),
                    half: None,
                };
                self.pipes.insert(link, pipe);
                let node = to as u64 + 1;
                self.event(from, Event::PeerConnected { node, link });
                let node = from as u64 + 1;
                self.event(to, Event::GuestConnected { node, link });
            }
        }
    }

    /// Hands over what has arrived.
    fn arrive(&mut self) {
        let links: Vec<LinkId> = self.pipes.keys().copied().collect();
        for link in links {
            while let Some((node, events)) = self.arrived(link) {
                for event in events {
                    self.event(node, event);
                }
            }
        }
    }

    fn arrived(&mut self, link: LinkId) -> Option<(usize, Vec<Event>)> {
        let now = self.now.monotonic;
        let cut = self
            .pipes
            .get(&link)
            .is_some_and(|pipe| self.is_cut(pipe.from, pipe.to));
        let pipe = self.pipes.get_mut(&link).filter(|_| !cut)?;
        let mut events = Vec::new();
        if pipe.forth.front().is_some_and(|(due, _)| *due <= now) {
            let (_, bytes) = pipe.forth.pop_front()?;
            pipe.frames.buffer().extend_from_slice(&bytes);
            while let Some(frame) = pipe.frames.next_frame().unwrap() {
                events.push(Event::GuestFrame { link, frame });
            }
            return Some((pipe.to, events));
        }
        if pipe.back.front().is_some_and(|(due, _)| *due <= now) {
            let (_, bytes) = pipe.back.pop_front()?;
            pipe.replies.buffer().extend_from_slice(&bytes);
            while let Some(reply) = pipe.replies.next_frame().unwrap() {
                events.push(Event::PeerReply { link, reply });
            }
            return Some((pipe.from, events));
        }
        None
    }

    /// Time goes on.
    pub fn wait(&mut self, milliseconds: u64) {
        let end = self.now.monotonic + milliseconds;
        loop {
            let arrivals = self
                .pipes
                .values()
                .filter(|pipe| !self.is_cut(pipe.from, pipe.to))
                .flat_map(|pipe| pipe.forth.front().into_iter().chain(pipe.back.front()))
                .map(|(due, _)| *due);
            let there = (0..NODES).filter(|node| !self.down.contains(node));
            let timers = there.filter_map(|node| self.routers[node].next_deadline());
            let feed = self.feed.iter().map(|(due, _)| *due);
            let adoptions = self.adoptions.iter().map(|(due, ..)| *due);
            let next = arrivals
                .chain(timers)
                .chain(feed)
                .chain(adoptions)
                .chain([self.connect_at, end])
                .min()
                .unwrap();
            let step = next.saturating_sub(self.now.monotonic);
            self.now.monotonic += step;
            self.now.unix += i64::try_from(step).unwrap();
            self.arrive();
            self.replicate();
            let now = self.now.monotonic;
            while self.adoptions.front().is_some_and(|(due, ..)| *due <= now)
                && let Some((_, node, homes)) = self.adoptions.pop_front()
            {
                let sessions = std::mem::take(&mut self.copies[node]).into_values();
                let sessions = sessions.collect();
                self.event(node, Event::Adopted { homes, sessions });
            }
            let due: Vec<Event> = self
                .feed
                .iter()
                .filter(|(due, _)| *due <= now)
                .map(|(_, event)| event.clone())
                .collect();
            self.feed.retain(|(due, _)| *due > now);
            for event in due {
                for node in 0..NODES {
                    self.event(node, event.clone());
                }
            }
            for node in 0..NODES {
                if self.routers[node]
                    .next_deadline()
                    .is_some_and(|due| due <= now)
                {
                    self.event(node, Event::Tick);
                }
            }
            if self.connect_at <= now {
                self.connect();
                self.come_back();
            }
            if now >= end {
                return;
            }
        }
    }

    // What happens to nodes and the ways between them.

    pub fn cut(&mut self, a: usize, b: usize) {
        self.cuts.insert(pair(a, b));
    }

    pub fn heal(&mut self, a: usize, b: usize) {
        self.cuts.remove(&pair(a, b));
    }

    pub fn delay(&mut self, a: usize, b: usize, delay: u64) {
        self.delays.insert(pair(a, b), delay);
    }

    pub fn reset(&mut self, a: usize, b: usize) {
        let lost: Vec<LinkId> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pair(pipe.from, pipe.to) == pair(a, b))
            .map(|(link, _)| *link)
            .collect();
        for link in lost {
            let half = self.pipes.remove(&link).and_then(|pipe| pipe.half);
            for side in [a, b] {
                if half.is_none_or(|half| half == side) {
                    self.event(side, Event::PeerClosed { link });
                }
            }
        }
    }

    pub fn crash(&mut self, node: usize) {
        self.pending.retain(|(at, _)| *at != node);
        self.actions[node] = Actions::default();
        let seed = self.now.monotonic + node as u64;
        self.routers[node] = new_router(seed, self.now);
        self.adoptions.retain(|(_, at, _)| *at != node);
        if let Some(rows) = self.stores.get_mut(node) {
            rows.clear();
        }
        let lost: Vec<LinkId> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.from == node || pipe.to == node)
            .map(|(link, _)| *link)
            .collect();
        for link in lost {
            self.close(node, link);
        }
        for client in &mut self.clients {
            if client.node == node {
                client.up = false;
            }
        }
        self.start(node);
        self.come_back();
    }

    pub fn move_user(&mut self, user: usize, node: usize) {
        self.homes[user] = node;
        for at in 0..NODES {
            let event = Event::UserChanged {
                user: USERS[user].into(),
                enabled: true,
                home: Some(NAMES[node].into()),
            };
            self.event(at, event);
        }
    }

    /// A node serves these homes now.
    pub fn claim(&mut self, node: usize, homes: &[(&str, u64)]) {
        let homes: BTreeMap<Box<str>, u64> = homes
            .iter()
            .map(|(home, epoch)| ((*home).into(), *epoch))
            .collect();
        let before = self.claims[node].replace(homes.clone()).unwrap_or_default();
        let mut gained: Vec<Box<str>> = homes.keys().cloned().collect();
        gained.retain(|home| !before.contains_key(home));
        self.event(node, Event::Serving(homes));
        if !gained.is_empty() {
            self.adopt_later(node, gained);
        }
    }

    /// A node reads what the other one of the pair left.
    fn adopt_later(&mut self, node: usize, homes: Vec<Box<str>>) {
        if self.paired && node < 2 {
            let due = self.now.monotonic + 30;
            self.adoptions.push_back((due, node, homes));
        }
    }

    /// The real-time stores of the pair copy each other's rows.
    fn replicate(&mut self) {
        if !self.is_cut(0, 1) && self.down.is_empty() {
            for node in 0..2 {
                self.copies[node] = self.stores[1 - node].clone();
            }
        }
    }

    /// Who got directed presence of a session, as a node told its stores.
    pub fn directed(&self, node: usize, jid: &str) -> Vec<String> {
        let row = self.stores[node].get(jid);
        row.map(|row| row.directed.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    }

    /// What a node of the pair is to serve now.
    fn claim_all(&mut self, node: usize) {
        self.epoch += 1;
        let all = (0..2).filter(|home| self.serves[*home] == node);
        let all: Vec<(&str, u64)> = all.map(|home| (NAMES[home], self.epoch)).collect();
        self.claim(node, &all);
    }

    /// The users of a node of the pair go to another; nobody serves them for
    /// some time.
    pub fn hand_over(&mut self, home: usize, to: usize, gap: u64) {
        let from = self.serves[home];
        if from == to || self.down.contains(&to) || self.down.contains(&from) {
            return;
        }
        self.serves[home] = to;
        self.claim_all(from);
        self.wait(gap);
        self.claim_all(to);
    }

    /// A node of the pair is lost, and taken over some time later.
    pub fn lose(&mut self, node: usize, after: u64) {
        if !self.down.is_empty() {
            return;
        }
        self.replicate();
        self.stores[node].clear();
        self.crash(node);
        self.down.insert(node);
        let links: Vec<LinkId> = self.pipes.keys().copied().collect();
        for link in links {
            let pipe = &self.pipes[&link];
            if pipe.from == node || pipe.to == node {
                self.close(node, link);
            }
        }
        for client in &mut self.clients {
            client.up &= client.node != node;
        }
        self.wait(after);
        self.serves = [1 - node; 2];
        self.claim_all(1 - node);
    }

    /// A node that was lost is back, and serves nobody yet.
    pub fn revive(&mut self, node: usize) {
        if self.down.remove(&node) {
            self.claims[node] = Some(BTreeMap::new());
            self.crash(node);
        }
    }

    // Clients.

    /// Who is not connected connects: where it was told to go, else at home.
    fn come_back(&mut self) {
        for user in 0..USERS.len() {
            if !self.clients[user].up && self.clients[user].retry <= self.now.monotonic {
                self.clients[user].retry = self.now.monotonic + 500;
                self.sign_in(user);
            }
        }
    }

    fn sign_in(&mut self, user: usize) {
        let node = match redirected(&self.clients[user].last) {
            Some(node) => node,
            None => self.homes[user],
        };
        let node = match self.down.contains(&node) {
            true => 1 - node,
            false => node,
        };
        self.clients[user].last.clear();
        self.authenticate(user, node);
        if !self.clients[user].up {
            return;
        }
        if let Some(id) = self.clients[user].id.clone() {
            let h = self.clients[user].received;
            self.raw(
                user,
                &format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>"),
            );
            return;
        }
        self.bind(user);
    }

    fn bind(&mut self, user: usize) {
        let client = &mut self.clients[user];
        client.id = None;
        client.received = 0;
        client.acked = 0;
        client.extra = 0;
        client.seen.clear();
        self.raw(
            user,
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>a</resource></bind></iq>",
        );
        self.raw(user, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        self.clients[user].extra = 1;
        self.raw(user, "<presence/>");
        for xml in self.clients[user].unacked.clone() {
            self.raw(user, &xml);
        }
    }

    fn authenticate(&mut self, user: usize, node: usize) {
        self.last_number += 1;
        let client = &mut self.clients[user];
        client.number = self.last_number;
        client.node = node;
        client.up = true;
        let frame = ToRouter::Authenticated {
            connection: client.number,
            user: format!("{}@ex", USERS[user]),
            peer: "192.0.2.100:1".into(),
            secure: true,
            inactive: false,
        };
        self.event(
            node,
            Event::Frame {
                link: COMPONENT,
                frame,
            },
        );
    }

    /// Signs a user in at some node; what the stream was closed with.
    pub fn sign_in_at(&mut self, user: usize, node: usize) -> String {
        self.clients[user].id = None;
        self.authenticate(user, node);
        self.clients[user].last.clone()
    }

    pub fn raw(&mut self, user: usize, xml: &str) {
        let client = &self.clients[user];
        if !client.up {
            return;
        }
        let frame = ToRouter::Element {
            connection: client.number,
            element: Bytes::copy_from_slice(xml.as_bytes()),
        };
        let node = client.node;
        self.event(
            node,
            Event::Frame {
                link: COMPONENT,
                frame,
            },
        );
    }

    /// A client loses its connection, and does not come back by itself.
    pub fn disconnect(&mut self, user: usize) {
        let client = &mut self.clients[user];
        client.up = false;
        client.retry = u64::MAX;
        let frame = ToRouter::Closed {
            connection: client.number,
            clean: false,
        };
        let (link, node) = (COMPONENT, client.node);
        self.event(node, Event::Frame { link, frame });
    }

    pub fn send(&mut self, from: usize, to: usize, bare: bool) {
        if from == to {
            return;
        }
        self.last_message += 1;
        let number = self.last_message;
        let resource = if bare { "" } else { "/a" };
        let xml = format!(
            "<message to='{}@ex{resource}' type='chat' id='{number}'><body>x</body></message>",
            USERS[to]
        );
        self.sent.entry((from, to)).or_default().push(number);
        self.clients[from].unacked.push(xml.clone());
        self.raw(from, &xml);
    }

    /// How many of a user's messages the server has acknowledged.
    pub fn acknowledged(&mut self, user: usize) -> usize {
        self.raw(user, "<r xmlns='urn:xmpp:sm:3'/>");
        self.clients[user].handled
    }

    fn hand_to_clients(&mut self, node: usize, bytes: &[u8]) {
        let mut decoder = Decoder::<ToComponent>::default();
        decoder.buffer().extend_from_slice(bytes);
        while let Some(frame) = decoder.next_frame().unwrap() {
            let number = match &frame {
                ToComponent::Element { connection, .. }
                | ToComponent::Close { connection, .. }
                | ToComponent::Mark { connection, .. } => *connection,
                other => panic!("{other:?}"),
            };
            let user = self
                .clients
                .iter()
                .position(|client| client.number == number && client.node == node && client.up);
            let Some(user) = user else { continue };
            match frame {
                ToComponent::Element { element, .. } => {
                    let xml = String::from_utf8(element.into()).unwrap();
                    self.element(user, &xml);
                }
                ToComponent::Close { last, .. } => {
                    let client = &mut self.clients[user];
                    client.up = false;
                    client.last = String::from_utf8(last.into()).unwrap();
                    if redirected(&client.last).is_some() {
                        // A session stays where it was.
                        client.id = None;
                    }
                    client.retry = self.now.monotonic + 100;
                }
                _ => {}
            }
        }
    }

    fn element(&mut self, user: usize, xml: &str) {
        let element = xmpp::Element::parse(xml.as_bytes()).unwrap();
        let managed = self.clients[user].id.is_some();
        let client = &mut self.clients[user];
        match element.name() {
            "message" | "presence" | "iq" if managed => client.received += 1,
            "enabled" => client.id = element.attribute("id").map(Into::into),
            "failed" => self.bind(user),
            "resumed" => {
                client.acknowledge(element.attribute("h").unwrap());
                for xml in client.unacked.clone() {
                    self.raw(user, &xml);
                }
            }
            "a" => client.acknowledge(element.attribute("h").unwrap()),
            "r" => {
                let h = client.received;
                self.raw(user, &format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
            }
            _ => {}
        }
        let client = &mut self.clients[user];
        let from = element.attribute("from").unwrap_or_default();
        let name = from.split('@').next().unwrap_or_default();
        if element.attribute("type") == Some("error") {
            client.errors.push(xml.into());
            assert_ne!(element.name(), "message", "{xml}");
        } else if element.name() == "message" {
            let from = USERS.iter().position(|known| *known == name).unwrap();
            let number = element.attribute("id").unwrap().parse().unwrap();
            self.got.entry((from, user)).or_default().push(number);
        } else if element.name() == "presence" && name != USERS[user] {
            match element.attribute("type") {
                None => {
                    client.seen.insert(name.into());
                }
                Some("unavailable") => {
                    client.seen.remove(name);
                    client.gone.push(name.into());
                }
                Some(other) => panic!("{other}"),
            }
        }
    }

    /// All is well again, and stays so for a while.
    pub fn end(&mut self) {
        self.cuts.clear();
        for node in 0..2 {
            self.revive(node);
        }
        self.wait(1000);
        if self.paired {
            self.hand_over(0, 0, 10);
            self.hand_over(1, 1, 10);
        }
        for _ in 0..3 {
            self.wait(15_000);
            for user in 0..USERS.len() {
                self.raw(user, "<r xmlns='urn:xmpp:sm:3'/>");
            }
        }
    }
}

impl Client {
    fn acknowledge(&mut self, count: &str) {
        let count: u32 = count.parse().unwrap();
        let number = count - self.acked;
        self.acked = count;
        let extra = self.extra.min(number);
        self.extra -= extra;
        let done = ((number - extra) as usize).min(self.unacked.len());
        self.unacked.drain(..done);
        self.handled += done;
    }
}

/// The node that a stream error names.
fn redirected(last: &str) -> Option<usize> {
    let (_, host) = last.split_once("<see-other-host ")?;
    let (_, host) = host.split_once(">192.0.2.")?;
    let (number, _) = host.split_once('<')?;
    Some(number.parse::<usize>().ok()? - 1)
}
