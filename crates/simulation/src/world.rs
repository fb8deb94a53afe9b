//! The cluster: three nodes, a network, a database, clients, and time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use datastore::{Have, Message};
use recovery::{Action, Epoch, Keepalive, Memory, Parameters, Settings, Verdict, Witness};
use router::{Event, StoreRequest};
use xcp::{LinkId, ToComponent, ToRouter};

use crate::client::Client;
use crate::database::Database;
use crate::mutation::Mutation;
use crate::network::{Network, Stream};
use crate::node::Node;
use crate::random::Random;
use crate::stores::{Adoption, STORES};

pub(crate) const NODES: usize = 3;
/// The first two nodes are a redundancy group; the third one is alone.
pub(crate) const PAIR: usize = 2;
pub(crate) const NAMES: [&str; NODES] = ["one", "two", "three"];
pub(crate) const DOMAIN: &str = "ex";
/// How often connections are made, and their ends noticed, in ms.
const CONNECT: u64 = 200;

/// A node that is behind the publisher for so many ms keeps no order.
const LAG: u64 = 4000;

/// What is to happen at some time. A process is told by its life: what was due
/// for an earlier one is dropped.
#[derive(Debug)]
pub(crate) enum Due {
    Boot(usize),
    Manager(usize, u64, ManagerDue),
    ManagerStart(usize),
    Watchdog(usize, u64),
    /// What a node hears of another one.
    Keepalive(usize, Box<Keepalive>),
    /// The third node hears of another one.
    Heard(usize),
    Listen(u64),
    PowerOff(usize, u64),
    Wake,
    RouterStart(usize, u64),
    /// The router hears whose users it serves.
    Word(usize, u64),
    RouterTick(usize, u64),
    Router(usize, u64, Box<Event>),
    RouterEnd(usize, u64),
    Request(usize, u64, StoreRequest, u64),
    /// The publisher, in that boot, writes what a node asked for.
    Commit(u64, usize, u64, StoreRequest, u64),
    /// A change is to arrive on the node that asked for it.
    Arrival(usize, u64, Box<str>, usize, u64),
    Follow(usize),
    StoreStart(usize, usize, u64),
    OwnerBegin(usize, usize, u64, u64),
    Flush(usize, usize, u64, u64),
    Adopt(usize, u64, Adoption),
    Arrive(LinkId),
    FeedArrive(u64),
    Connect,
    ToClient(u64, ToComponent),
    FromClient(usize, u64, ToRouter),
    Dropped(u64),
    Retry(usize, u64),
    Spare(usize, u64),
    Watch(usize),
    Chat,
}

/// What is due for a manager.
#[derive(Debug)]
pub(crate) enum ManagerDue {
    Tick,
    Verdict(u64, Verdict),
    Ready(recovery::Node, Epoch, u64),
    Persisted(Box<Memory>, Vec<Action>),
    Observe,
}

impl Due {
    /// The node that must run for it to happen.
    fn node(&self) -> Option<usize> {
        match self {
            Self::Manager(node, ..)
            | Self::Keepalive(node, _)
            | Self::ManagerStart(node)
            | Self::Watchdog(node, _)
            | Self::RouterStart(node, _)
            | Self::Word(node, _)
            | Self::RouterTick(node, _)
            | Self::Router(node, ..)
            | Self::RouterEnd(node, _)
            | Self::Request(node, ..)
            | Self::Arrival(node, ..)
            | Self::Follow(node)
            | Self::StoreStart(node, ..)
            | Self::OwnerBegin(node, ..)
            | Self::Flush(node, ..)
            | Self::Adopt(node, ..)
            | Self::FromClient(node, ..) => Some(*node),
            Self::Heard(_) | Self::Listen(_) => Some(PAIR),
            Self::Commit(..) => Some(crate::database::PUBLISHER),
            Self::Boot(_)
            | Self::PowerOff(..)
            | Self::Wake
            | Self::Arrive(_)
            | Self::FeedArrive(_)
            | Self::Connect
            | Self::ToClient(..)
            | Self::Dropped(_)
            | Self::Retry(..)
            | Self::Spare(..)
            | Self::Watch(_)
            | Self::Chat => None,
        }
    }
}

/// A connection between two real-time stores.
#[derive(Debug)]
pub(crate) struct FeedStream {
    pub(crate) store: usize,
    pub(crate) stream: Stream<Message, Have>,
    /// Its number at the receiver, once something arrived.
    pub(crate) link: Option<u64>,
}

pub(crate) struct World {
    /// Milliseconds.
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) mutation: Option<Mutation>,
    queue: BTreeMap<(u64, u64), Due>,
    count: u64,
    lives: u64,
    pub(crate) nodes: [Node; NODES],
    pub(crate) network: Network,
    pub(crate) database: Database,
    pub(crate) settings: Settings,
    pub(crate) witness: Witness,
    /// When the third node last heard each of the pair, and when a silence
    /// ended there that was long enough to be noticed.
    pub(crate) heard: [u64; PAIR],
    pub(crate) missed: [u64; PAIR],
    /// Homes and epochs that a node claimed when it could not ask its peer.
    pub(crate) alone: BTreeSet<(usize, u64)>,
    pub(crate) pipes: BTreeMap<LinkId, Stream<Bytes, Bytes>>,
    pub(crate) last_link: LinkId,
    pub(crate) feeds: BTreeMap<u64, FeedStream>,
    pub(crate) clients: Vec<Client>,
    pub(crate) messages: u64,
    /// Whether people talk.
    pub(crate) chatting: bool,
    /// For how many ms each node has been behind the publisher.
    behind: [u64; NODES],
    /// Whether that, or what a router wanted written, ever took too long.
    pub(crate) lagged: bool,
    /// Whether nobody may be seen to go.
    pub(crate) mild: bool,
    /// Numbers of the messages of each pair of people, as sent and as they came.
    pub(crate) sent: BTreeMap<(usize, usize), Vec<u64>>,
    pub(crate) got: BTreeMap<(usize, usize), Vec<u64>>,
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// Whose stanzas are in the trace.
    pub(crate) watched: Option<String>,
    /// Of everything that routers said.
    pub(crate) digest: u64,
}

/// The machine's parameters: the fast profile, with shorter waits for what
/// would only make a walk longer.
fn parameters() -> Parameters {
    let seconds = std::time::Duration::from_secs;
    let parameters = Parameters {
        critical_service_delay: seconds(8),
        initial_timeout: seconds(6),
        ..Parameters::fast()
    };
    if let Err(error) = parameters.check() {
        panic!("{error}");
    }
    parameters
}

impl World {
    /// A cluster that is switched on.
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let parameters = parameters();
        let witness = Witness::new(
            parameters.keepalive_interval,
            parameters.keepalive_timeout,
            std::time::Duration::ZERO,
        );
        let mut world = Self {
            now: 1_000_000,
            random: Random(seed),
            mutation,
            queue: BTreeMap::new(),
            count: 0,
            lives: 0,
            nodes: std::array::from_fn(|_| Node::new()),
            network: Network::new(),
            database: Database::new(DOMAIN, &crate::client::USERS),
            settings: Settings {
                enabled: true,
                arbiter: recovery::Arbiter::ThirdNode,
                parameters,
                critical: crate::node::critical(),
            },
            witness,
            heard: [0; PAIR],
            missed: [0; PAIR],
            alone: BTreeSet::new(),
            pipes: BTreeMap::new(),
            last_link: 1 << 31,
            feeds: BTreeMap::new(),
            clients: crate::client::everybody(),
            messages: 0,
            chatting: false,
            behind: [0; NODES],
            lagged: false,
            mild: false,
            sent: BTreeMap::new(),
            got: BTreeMap::new(),
            violations: Vec::new(),
            trace: Vec::new(),
            watched: None,
            digest: 0xcbf2_9ce4_8422_2325,
        };
        for node in 0..NODES {
            world.power_on(node, 1);
        }
        world.after(CONNECT, Due::Connect);
        for client in 0..world.clients.len() {
            world.after(3000, Due::Retry(client, 0));
            let phase = world.random.below(1000);
            world.after(3000 + phase, Due::Watch(client));
        }
        world
    }

    pub(crate) fn after(&mut self, ms: u64, due: Due) {
        self.at(self.now + ms, due);
    }

    pub(crate) fn at(&mut self, time: u64, due: Due) {
        self.count += 1;
        self.queue.insert((time.max(self.now), self.count), due);
    }

    /// A number that no process had before.
    pub(crate) fn life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    /// A line of the trace.
    pub(crate) fn say(&mut self, text: impl AsRef<str>) {
        let time = self.now - 1_000_000;
        let line = format!("{:4}.{:03} {}", time / 1000, time % 1000, text.as_ref());
        self.trace.push(line);
    }

    /// A line of the trace about somebody who is watched closely.
    pub(crate) fn note(&mut self, who: &str, text: impl FnOnce() -> String) {
        if self.watched.as_deref() == Some(who) {
            let line = format!("  {who}: {}", text());
            self.say(line);
        }
    }

    /// What must not happen did.
    pub(crate) fn wrong(&mut self, text: impl AsRef<str>) {
        self.say(format!("WRONG: {}", text.as_ref()));
        self.violations.push(text.as_ref().into());
    }

    /// Takes something that was said into the digest (FNV-1a).
    pub(crate) fn digest(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Lets time pass, until something is wrong.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
            && self.violations.is_empty()
        {
            let ((at, _), due) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happen(due);
        }
        self.now = end;
    }

    /// Lets time pass until that is so; tells whether it came so far.
    pub(crate) fn until(&mut self, ms: u64, reached: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + ms;
        while self.now < end && self.violations.is_empty() {
            if reached(self) {
                return true;
            }
            self.run(250);
        }
        reached(self)
    }

    fn happen(&mut self, due: Due) {
        if let Some(node) = due.node() {
            // A node that stands still gets to it later.
            let awake = self.nodes[node].stalled_until;
            if awake > self.now {
                return self.at(awake, due);
            }
        }
        if let Due::Manager(node, ..) | Due::Keepalive(node, _) = &due {
            let awake = self.nodes[*node].manager.stalled_until;
            let persisted = matches!(due, Due::Manager(_, _, ManagerDue::Persisted(..)));
            if awake > self.now && !persisted {
                return self.at(awake, due);
            }
        }
        match due {
            Due::Boot(node) => self.boot(node),
            Due::Manager(node, life, due) => self.manager_due(node, life, due),
            Due::ManagerStart(node) => self.start_manager(node),
            Due::Watchdog(node, life) => self.watchdog(node, life),
            Due::Keepalive(node, message) => self.keepalive(node, *message),
            Due::Heard(node) => self.witness_hears(node),
            Due::Listen(boot) => self.listen(boot),
            Due::PowerOff(node, boot) => self.off(node, boot),
            Due::Wake => self.resume_streams(),
            Due::RouterStart(node, boot) => self.start_router(node, boot),
            Due::Word(node, life) => self.word(node, life),
            Due::RouterTick(node, life) => self.tick_router(node, life),
            Due::Router(node, life, event) => self.router_event(node, life, *event),
            Due::RouterEnd(node, life) => self.end_router(node, life),
            Due::Request(node, life, request, until) => self.request(node, life, request, until),
            Due::Commit(boot, node, life, request, until) => {
                self.commit(boot, (node, life), request, until);
            }
            Due::Arrival(node, life, user, number, until) => {
                self.arrival(node, life, user, number, until);
            }
            Due::Follow(node) => self.follow(node),
            Due::StoreStart(node, store, boot) => self.start_store(node, store, boot),
            Due::OwnerBegin(node, store, router, life) => self.begin(node, store, router, life),
            Due::Flush(node, store, router, life) => self.flush(node, store, router, life),
            Due::Adopt(node, life, adoption) => self.adopt(node, life, adoption),
            Due::Arrive(link) => self.arrive(link),
            Due::FeedArrive(feed) => self.feed_arrive(feed),
            Due::Connect => {
                self.connect_routers();
                self.connect_stores();
                for node in 0..NODES {
                    self.follow(node);
                    self.watch_lag(node);
                }
                self.after(CONNECT, Due::Connect);
            }
            Due::ToClient(number, frame) => self.client_gets(number, frame),
            Due::FromClient(node, life, frame) => self.client_sends(node, life, frame),
            Due::Dropped(number) => self.dropped(number),
            Due::Retry(client, token) => self.retry(client, token),
            Due::Spare(client, token) => self.open_spare(client, token),
            Due::Watch(client) => self.watch(client),
            Due::Chat => self.chat(),
        }
    }

    /// A router waits for some time for what others stored, and not for ever.
    fn watch_lag(&mut self, node: usize) {
        self.behind[node] = match self.database.is_behind(node) {
            true => self.behind[node] + CONNECT,
            false => 0,
        };
        self.lagged |= self.behind[node] >= LAG;
    }

    /// What waited for a way, or for a node, may pass now.
    pub(crate) fn resume_streams(&mut self) {
        let links: Vec<LinkId> = self.pipes.keys().copied().collect();
        for link in links {
            self.after(1, Due::Arrive(link));
        }
        let feeds: Vec<u64> = self.feeds.keys().copied().collect();
        for feed in feeds {
            self.after(1, Due::FeedArrive(feed));
        }
    }

    /// How long something takes from one node to another.
    pub(crate) fn way(&mut self) -> u64 {
        let delay = self.network.delay;
        1 + self.random.below(delay)
    }

    /// Whether a node runs.
    pub(crate) fn awake(&self, node: usize) -> bool {
        self.nodes[node].powered && self.nodes[node].stalled_until <= self.now
    }

    /// Whether two nodes can make a connection.
    pub(crate) fn reach(&self, from: usize, to: usize) -> bool {
        self.awake(from) && self.awake(to) && self.network.reaches(from, to)
    }

    /// Everything of a node that sent or received is gone.
    pub(crate) fn end_streams(&mut self, node: usize) {
        self.end_pipes(node);
        for store in 0..STORES.len() {
            self.end_feeds(node, store);
        }
    }
}
