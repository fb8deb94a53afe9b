//! The real-time stores of the pair: what routers write to them, how they keep
//! each other's rows, and what is taken over.

use std::collections::BTreeMap;

use bytes::Bytes;
use datastore::{Batch, Change, Feed, LOGIN, PRESENCE, ROUTE, Replica, Row, Store};
use router::{Actions, Event, Soft, left};

use crate::mutation::Mutation;
use crate::network::Stream;
use crate::world::{Due, FeedStream, NAMES, PAIR, World};

pub(crate) const STORES: [&str; 3] = [LOGIN, ROUTE, PRESENCE];
/// How long a take-over waits for a copy that is on its way.
const ARRIVAL: u64 = 2000;
/// How long it waits for a store that is not there.
const ABSENT: u64 = 5000;

/// A store's process.
pub(crate) struct StoreProcess {
    life: u64,
    store: Store,
    feed: Feed,
    replica: Replica,
    /// Number of its connection to the peer.
    sending: Option<u64>,
}

impl StoreProcess {
    /// Rows: owner, epoch, key and value.
    fn rows(rows: Vec<Row>) -> Vec<(String, u64, String, Bytes)> {
        let row = |row: Row| {
            let (owner, key) = (row.owner.to_string(), row.key.to_string());
            (owner, row.epoch, key, row.value)
        };
        let mut rows: Vec<_> = rows.into_iter().map(row).collect();
        rows.sort();
        rows
    }

    /// What was written here.
    pub(crate) fn own(&self) -> Vec<(String, u64, String, Bytes)> {
        Self::rows(self.store.own_rows(|_| true))
    }

    /// Copies of what was written at the peer.
    pub(crate) fn copies(&self) -> Vec<(String, u64, String, Bytes)> {
        let rows = self.store.list("", "", 1000).into_iter();
        Self::rows(rows.filter(|row| row.copied).collect())
    }
}

/// A router's stream to one of its node's stores.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    /// The store has heard of this owner.
    up: bool,
    sequence: u64,
    /// Number of its beginning at the store.
    round: u64,
    pending: BTreeMap<Box<str>, Option<Bytes>>,
    /// Everything was told, which is still to be said.
    synced: bool,
    flushing: bool,
}

/// A take-over that is under way.
#[derive(Debug)]
pub(crate) struct Adoption {
    homes: Vec<Box<str>>,
    began: u64,
    /// What the stores of sessions and of presence gave.
    rows: [Option<Vec<Row>>; 2],
}

impl Adoption {
    pub(crate) fn new(homes: Vec<Box<str>>, began: u64) -> Self {
        Self {
            homes,
            began,
            rows: [None, None],
        }
    }
}

fn of(id: &str) -> usize {
    STORES
        .iter()
        .position(|store| *store == id)
        .unwrap_or_default()
}

impl World {
    pub(crate) fn start_store(&mut self, node: usize, store: usize, boot: u64) {
        let it = &self.nodes[node];
        if !it.powered || it.boot != boot || it.stores[store].is_some() {
            return;
        }
        let life = self.life();
        // The clock makes the epoch.
        let mut feed = Feed::new(self.now);
        let mut replica = Replica::default();
        if let Some(Mutation::Datastore(rule)) = self.mutation {
            feed.break_rule(rule);
            replica.break_rule(rule);
        }
        self.nodes[node].stores[store] = Some(StoreProcess {
            life,
            store: Store::default(),
            feed,
            replica,
            sending: None,
        });
        self.begin_later(node, store, 100);
    }

    /// The store's process ends, with all that it held.
    pub(crate) fn kill_store(&mut self, node: usize, store: usize) {
        if self.nodes[node].stores[store].take().is_none() {
            return;
        }
        self.say(format!("{}: {} ends", NAMES[node], STORES[store]));
        self.end_feeds(node, store);
        self.nodes[node].router.owners[store] = Owner::default();
        let boot = self.nodes[node].boot;
        let pause = self.random.between(200, 2000);
        self.after(pause, Due::StoreStart(node, store, boot));
    }

    // What a router writes.

    /// The router reaches the store within so many ms, if both are there.
    pub(crate) fn begin_later(&mut self, node: usize, store: usize, ms: u64) {
        let it = &self.nodes[node];
        let router = it.router.life;
        if let Some(life) = it.stores[store].as_ref().map(|it| it.life) {
            let pause = self.random.between(ms, 2 * ms);
            self.after(pause, Due::OwnerBegin(node, store, router, life));
        }
    }

    /// The router's stream to a store, if both are those of before.
    fn pair(&self, node: usize, store: usize, lives: (u64, u64)) -> bool {
        let it = &self.nodes[node];
        let life = it.stores[store].as_ref().map(|it| it.life);
        it.router.is_running() && (it.router.life, life) == (lives.0, Some(lives.1))
    }

    /// The store wants everything that the router has.
    pub(crate) fn begin(&mut self, node: usize, store: usize, router: u64, life: u64) {
        if !self.pair(node, store, (router, life)) || self.nodes[node].router.owners[store].up {
            return;
        }
        let owner = format!("{}/xmpp-router", NAMES[node]);
        let it = &mut self.nodes[node];
        let epoch = it.router.epoch();
        let Some(process) = it.stores[store].as_mut() else {
            return;
        };
        let round = match process.store.begin(&owner, epoch) {
            Ok(round) => round,
            Err(error) => return self.wrong(format!("{}: {error}", NAMES[node])),
        };
        it.router.owners[store] = Owner {
            up: true,
            round,
            synced: true,
            ..Owner::default()
        };
        let mut all = Actions::default();
        it.router.publish(&mut all);
        for news in all.soft {
            let row = news.row(NAMES[node]);
            if of(row.store) == store {
                let pending = &mut self.nodes[node].router.owners[store].pending;
                pending.insert(row.key, row.value);
            }
        }
        self.flush_later(node, store);
    }

    fn flush_later(&mut self, node: usize, store: usize) {
        let it = &mut self.nodes[node];
        let Some(life) = it.stores[store].as_ref().map(|it| it.life) else {
            return;
        };
        let router = it.router.life;
        if !std::mem::replace(&mut it.router.owners[store].flushing, true) {
            self.after(20, Due::Flush(node, store, router, life));
        }
    }

    /// A piece of news of the router.
    pub(crate) fn tell_stores(&mut self, node: usize, news: Soft) {
        let row = news.row(NAMES[node]);
        let store = of(row.store);
        let owner = &mut self.nodes[node].router.owners[store];
        if owner.up {
            owner.pending.insert(row.key, row.value);
            self.flush_later(node, store);
        }
    }

    /// What the router wrote arrives at the store.
    pub(crate) fn flush(&mut self, node: usize, store: usize, router: u64, life: u64) {
        if !self.pair(node, store, (router, life)) {
            return;
        }
        let now = self.now;
        let it = &mut self.nodes[node];
        let epoch = it.router.epoch();
        let owner = &mut it.router.owners[store];
        owner.flushing = false;
        owner.sequence += 1;
        let mut batch = Batch {
            sequence: owner.sequence,
            synced: std::mem::take(&mut owner.synced),
            ..Batch::default()
        };
        for (key, value) in std::mem::take(&mut owner.pending) {
            match value {
                Some(value) => batch.puts.push((key.into(), value, 0)),
                None => batch.deletes.push(key.into()),
            }
        }
        let Some(process) = it.stores[store].as_mut() else {
            return;
        };
        let name = format!("{}/xmpp-router", NAMES[node]);
        match process.store.batch(&name, epoch, batch, now) {
            Ok(changes) => process.tell(changes, now),
            Err(error) => return self.wrong(format!("{}: {error}", NAMES[node])),
        }
        self.pump(node, store);
    }

    /// The router's streams to the stores ended.
    pub(crate) fn owner_left(&mut self, node: usize) {
        let now = self.now;
        let it = &mut self.nodes[node];
        let owner = format!("{}/xmpp-router", NAMES[node]);
        for (store, owned) in it.stores.iter_mut().zip(&it.router.owners) {
            if let Some(store) = store {
                store.store.leave(&owner, owned.round, now);
            }
        }
    }

    // How the stores keep each other's rows.

    /// Makes the connections that are missing, and tells who has not heard of
    /// an end.
    pub(crate) fn connect_stores(&mut self) {
        let all: Vec<u64> = self.feeds.keys().copied().collect();
        for number in all {
            self.review_feed(number);
        }
        for from in 0..PAIR {
            for store in 0..STORES.len() {
                let to = 1 - from;
                let there = self.nodes[to].stores[store].is_some();
                if !there || !self.reach(from, to) {
                    continue;
                }
                let number = self.life();
                let way = self.way();
                let due = self.now + way;
                let now = self.now;
                let Some(process) = self.nodes[from].stores[store].as_mut() else {
                    continue;
                };
                let gone = process.store.expire(now);
                process.tell(gone, now);
                if process.sending.is_some() {
                    continue;
                }
                process.sending = Some(number);
                let mut stream = Stream::new(from, to);
                stream.send(process.feed.connected(), due);
                let link = None;
                self.feeds.insert(
                    number,
                    FeedStream {
                        store,
                        stream,
                        link,
                    },
                );
                self.at(due, Due::FeedArrive(number));
            }
        }
    }

    /// Notices that a connection is over.
    fn review_feed(&mut self, number: u64) {
        let Some(feed) = self.feeds.get(&number) else {
            return;
        };
        let (store, from, to) = (feed.store, feed.stream.from, feed.stream.to);
        if let Some((deaf, other)) = feed.stream.ended() {
            let there = self.nodes[deaf].stores[store].is_some();
            let hears = self.awake(deaf) && self.awake(other) && self.network.passes(other, deaf);
            if !there || hears {
                self.feeds.remove(&number);
                self.feed_ended(number, store, deaf, from);
            }
            return;
        }
        // The receiver has begun anew, or made room for a newer one.
        let newest = self.nodes[to].stores[store].as_ref();
        let newest = newest.map(|process| process.replica.link());
        if feed.link.is_some() && feed.link != newest {
            self.end_feed(number, to);
        }
    }

    /// A side of a connection hears that it is over.
    fn feed_ended(&mut self, number: u64, store: usize, side: usize, from: usize) {
        if let Some(process) = self.nodes[side].stores[store].as_mut()
            && side == from
            && process.sending == Some(number)
        {
            process.sending = None;
            process.feed.disconnected();
        }
    }

    /// A side ends a connection.
    fn end_feed(&mut self, number: u64, side: usize) {
        let arrives = self.random.percent(50);
        let Some(feed) = self.feeds.get_mut(&number) else {
            return;
        };
        let (store, from, link) = (feed.store, feed.stream.from, feed.link);
        if feed.stream.end(side, arrives) {
            self.feeds.remove(&number);
        }
        if side != from
            && let Some(link) = link
            && let Some(process) = self.nodes[side].stores[store].as_mut()
        {
            process.replica.ended(link);
        }
        self.feed_ended(number, store, side, from);
    }

    pub(crate) fn end_feeds(&mut self, node: usize, store: usize) {
        let mine = self.feeds.iter().filter(|(_, feed)| {
            feed.store == store && (feed.stream.from == node || feed.stream.to == node)
        });
        let mine: Vec<u64> = mine.map(|(number, _)| *number).collect();
        for number in mine {
            self.end_feed(number, node);
        }
    }

    /// The connections between the stores of one kind break.
    pub(crate) fn break_feeds(&mut self, store: usize) {
        let side = self.random.which(PAIR);
        self.end_feeds(side, store);
    }

    /// Sends what there is.
    fn pump(&mut self, node: usize, store: usize) {
        let now = self.now;
        let Some(number) = self.nodes[node].stores[store]
            .as_ref()
            .and_then(|it| it.sending)
        else {
            return;
        };
        loop {
            let due = now + self.way();
            let Some(process) = self.nodes[node].stores[store].as_mut() else {
                return;
            };
            let Some(feed) = self.feeds.get_mut(&number) else {
                return;
            };
            let Some(message) = process.feed.next(&process.store, |_| true, now) else {
                return;
            };
            let due = feed.stream.send(message, due);
            self.at(due, Due::FeedArrive(number));
        }
    }

    pub(crate) fn feed_arrive(&mut self, number: u64) {
        while self.feed_arrived(number) {}
    }

    fn feed_arrived(&mut self, number: u64) -> bool {
        let now = self.now;
        let Some(feed) = self.feeds.get(&number) else {
            return false;
        };
        let (store, from, to) = (feed.store, feed.stream.from, feed.stream.to);
        let (forth, back) = (
            self.network.passes(from, to) && self.awake(to),
            self.network.passes(to, from) && self.awake(from),
        );
        let due = now + self.way();
        let Some(feed) = self.feeds.get_mut(&number) else {
            return false;
        };
        if forth && let Some(message) = feed.stream.sent(now) {
            let Some(process) = self.nodes[to].stores[store].as_mut() else {
                return true;
            };
            let link = *feed.link.get_or_insert_with(|| process.replica.accept());
            match process
                .replica
                .receive(link, message, &mut process.store, now)
            {
                Ok((have, changes)) => {
                    process.tell(changes, now);
                    let due = feed.stream.reply(have, due);
                    self.at(due, Due::FeedArrive(number));
                }
                Err(_) => self.end_feed(number, to),
            }
            return true;
        }
        if back && let Some(have) = feed.stream.replied(now) {
            if let Some(process) = self.nodes[from].stores[store].as_mut()
                && process.sending == Some(number)
            {
                process.feed.have(have);
                self.pump(from, store);
            }
            return true;
        }
        false
    }

    // What is taken over.

    pub(crate) fn adopt(&mut self, node: usize, life: u64, mut adoption: Adoption) {
        if self.nodes[node].router.life != life || !self.nodes[node].router.is_running() {
            return;
        }
        let waited = self.now - adoption.began;
        for (rows, id) in adoption.rows.iter_mut().zip([LOGIN, PRESENCE]) {
            if rows.is_some() {
                continue;
            }
            match self.nodes[node].stores[of(id)].as_mut() {
                Some(it) if it.replica.is_copying() && waited < ARRIVAL => {}
                Some(it) => *rows = Some(it.replica.adopt(&mut it.store).0),
                None if waited < ABSENT => {}
                None => *rows = Some(Vec::new()),
            }
        }
        let Adoption {
            rows: [Some(logins), Some(presences)],
            homes,
            ..
        } = adoption
        else {
            return self.after(20, Due::Adopt(node, life, adoption));
        };
        fn told(rows: &[Row]) -> Vec<(&str, &[u8])> {
            let each = rows.iter();
            each.map(|row| (&*row.key, &*row.value)).collect()
        }
        let sessions = left(&told(&logins), &told(&presences));
        let names: Vec<&str> = sessions.iter().map(|left| &*left.jid).collect();
        self.say(format!("{}: takes over {names:?}", NAMES[node]));
        let event = Box::new(Event::Adopted { homes, sessions });
        self.after(5, Due::Router(node, life, event));
    }
}

impl StoreProcess {
    /// Changes are for the peer if they were made here.
    fn tell(&mut self, changes: Vec<Change>, now: u64) {
        let own = changes.into_iter().filter(|change| !change.row().copied);
        self.feed.push(own.collect(), now);
    }
}
