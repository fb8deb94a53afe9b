//! The routers: their processes, whose users they serve, the connections between
//! them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use recovery::{Home, Serving};
use router::{Actions, Config, Event, Router, Time};
use xcp::{Decoder, LinkId, PeerFrame, PeerReply, ToComponent};

use crate::client::USERS;
use crate::database::PUBLISHER;
use crate::mutation::Mutation;
use crate::network::Stream;
use crate::requests::PATIENCE;
use crate::stores::{Adoption, Owner, STORES};
use crate::world::{DOMAIN, Due, NAMES, NODES, PAIR, World};

/// The link of each node's connection manager.
pub(crate) const COMPONENT: LinkId = 1;
/// Seconds for which a phantom waits for its client.
pub(crate) const PHANTOM: u64 = 40;

/// A router's process.
pub(crate) struct RouterProcess {
    core: Option<Router>,
    pub(crate) life: u64,
    started: u64,
    actions: Actions,
    /// What it knows of the recovery manager's word, and what it made of it.
    known: Serving,
    pub(crate) told: Option<BTreeMap<String, u64>>,
    serves: BTreeSet<String>,
    /// When it was told something new.
    told_at: u64,
    /// Homes whose sessions it has not taken over.
    gained: Vec<String>,
    /// It knows nodes and users.
    ready: bool,
    tick_at: u64,
    stopping: bool,
    pub(crate) owners: [Owner; STORES.len()],
}

impl RouterProcess {
    pub(crate) fn new() -> Self {
        Self {
            core: None,
            life: 0,
            started: 0,
            actions: Actions::default(),
            known: Serving::default(),
            told: None,
            serves: BTreeSet::new(),
            told_at: 0,
            gained: Vec::new(),
            ready: false,
            tick_at: u64::MAX,
            stopping: false,
            owners: Default::default(),
        }
    }

    pub(crate) fn end(&mut self) {
        let life = self.life;
        *self = Self::new();
        // What was due for it is due for nobody.
        self.life = life;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.core.is_some()
    }

    /// Whether clients can sign in.
    pub(crate) fn is_open(&self) -> bool {
        self.core.is_some() && self.ready && !self.stopping
    }

    pub(crate) fn core(&self) -> Option<&Router> {
        self.core.as_ref()
    }

    /// Tells everything that the real-time stores are to know.
    pub(crate) fn publish(&mut self, all: &mut Actions) {
        if let Some(core) = self.core.as_mut() {
            core.publish(all);
        }
    }

    /// When it began; no two lives of a node's router begin at the same time.
    pub(crate) fn epoch(&self) -> u64 {
        self.started
    }
}

/// A node by its name.
fn of(name: &str) -> usize {
    let at = NAMES.iter().position(|known| *known == name);
    at.unwrap_or(NODES)
}

fn config() -> Config {
    Config {
        cover_seconds: 18,
        phantom_seconds: PHANTOM,
        resume_seconds: 30,
        unload_seconds: 20,
        ..Config::default()
    }
}

impl World {
    fn time(&self) -> Time {
        Time {
            monotonic: self.now,
            unix: 1_700_000_000_000 + i64::try_from(self.now).unwrap_or_default(),
        }
    }

    pub(crate) fn start_router(&mut self, node: usize, boot: u64) {
        let it = &self.nodes[node];
        if !it.powered || it.boot != boot || it.router.is_running() || !it.wanted {
            return;
        }
        if it.broken {
            return self.after(1000, Due::RouterStart(node, boot));
        }
        let life = self.life();
        let mut random = crate::random::Random(life << 32);
        let mut core = Router::new(
            DOMAIN,
            config(),
            Box::new(move || random.next()),
            self.time(),
        );
        if let Some(Mutation::Router(rule)) = self.mutation {
            core.break_rule(rule);
        }
        let process = &mut self.nodes[node].router;
        *process = RouterProcess::new();
        (process.core, process.life) = (Some(core), life);
        process.started = self.now;
        self.say(format!("{}: router begins", NAMES[node]));
        let nodes = (0..NODES).map(|number| router::Node {
            name: NAMES[number].into(),
            number: number as u64 + 1,
            address: format!("192.0.2.{}", number + 1).into(),
            publisher: number == PUBLISHER,
            stand_in: (number < PAIR).then(|| NAMES[1 - number].into()),
        });
        let known = Event::Nodes {
            own: NAMES[node].into(),
            nodes: nodes.collect(),
        };
        let users = USERS.iter().zip(crate::client::HOMES);
        let users = users.map(|(user, home)| ((*user).into(), Some(NAMES[home].into())));
        let read = Event::UsersRead(users.collect());
        let up = Event::LinkUp {
            link: COMPONENT,
            component: "simulation".into(),
        };
        let mut pause = 0;
        for event in [known, read, up] {
            pause += self.random.between(1, 40);
            self.after(pause, Due::Router(node, life, Box::new(event)));
        }
        self.tell_router(node, 250);
        for store in 0..STORES.len() {
            self.begin_later(node, store, 50);
        }
    }

    /// The process is gone; systemd starts it again if it is to run.
    pub(crate) fn kill_router(&mut self, node: usize) {
        if !self.nodes[node].router.is_running() {
            return;
        }
        self.say(format!("{}: router ends", NAMES[node]));
        self.nodes[node].router.end();
        self.end_pipes(node);
        self.close_component(node, true);
        self.owner_left(node);
        let boot = self.nodes[node].boot;
        let pause = self.random.between(200, 1500);
        self.after(pause, Due::RouterStart(node, boot));
    }

    /// It stops in good order.
    pub(crate) fn stop_router(&mut self, node: usize) {
        self.nodes[node].wanted = false;
        let process = &mut self.nodes[node].router;
        if process.core.is_none() || std::mem::replace(&mut process.stopping, true) {
            return;
        }
        let life = process.life;
        self.router_event(node, life, Event::Shutdown);
        self.after(8000, Due::RouterEnd(node, life));
    }

    pub(crate) fn end_router(&mut self, node: usize, life: u64) {
        let process = &self.nodes[node].router;
        if process.life == life && process.stopping {
            self.kill_router(node);
        }
    }

    pub(crate) fn router_event(&mut self, node: usize, life: u64, event: Event) {
        let now = self.time();
        let process = &mut self.nodes[node].router;
        let Some(core) = process.core.as_mut().filter(|_| process.life == life) else {
            return;
        };
        let knows = matches!(event, Event::UsersRead(_));
        core.handle(event, now, &mut process.actions);
        self.router_acts(node);
        if knows {
            self.nodes[node].router.ready = true;
            self.take_over(node);
        }
    }

    pub(crate) fn tick_router(&mut self, node: usize, life: u64) {
        let process = &mut self.nodes[node].router;
        if process.life != life {
            return;
        }
        process.tick_at = u64::MAX;
        let due = process.core.as_ref().and_then(Router::next_deadline);
        if due.is_some_and(|due| due <= self.now) {
            self.router_event(node, life, Event::Tick);
        }
        self.tick_later(node);
    }

    fn tick_later(&mut self, node: usize) {
        let process = &mut self.nodes[node].router;
        let due = process.core.as_ref().and_then(Router::next_deadline);
        if let Some(due) = due.filter(|due| *due < process.tick_at) {
            process.tick_at = due;
            let life = process.life;
            self.at(due, Due::RouterTick(node, life));
        }
    }

    /// What the router wants done is done.
    fn router_acts(&mut self, node: usize) {
        let process = &mut self.nodes[node].router;
        let life = process.life;
        let actions = std::mem::take(&mut process.actions);
        for news in actions.soft {
            self.tell_stores(node, news);
        }
        for (link, bytes) in actions.links {
            self.digest(&bytes);
            if link == COMPONENT {
                let mut decoder = Decoder::<ToComponent>::default();
                decoder.buffer().extend_from_slice(&bytes);
                while let Some(frame) = decoder.next_frame().unwrap_or_else(|it| panic!("{it}")) {
                    self.component_gets(frame);
                }
            } else if !bytes.is_empty() {
                self.send(node, link, bytes.freeze());
            }
        }
        for (link, reason) in actions.closed {
            self.say(format!("{}: closes a connection: {reason}", NAMES[node]));
            self.close(node, link);
        }
        for (_, reason) in actions.broken {
            self.wrong(format!(
                "{} finds its component at fault: {reason}",
                NAMES[node]
            ));
        }
        for request in actions.store {
            let pause = self.disk(node, 1, 4);
            let until = self.now + PATIENCE;
            self.after(pause, Due::Request(node, life, request, until));
        }
        self.tick_later(node);
        let process = &self.nodes[node].router;
        let settled = process.core.as_ref().is_some_and(Router::is_settled);
        if process.stopping && settled {
            self.after(20, Due::RouterEnd(node, life));
        }
    }

    /// How long the disk takes.
    pub(crate) fn disk(&mut self, node: usize, least: u64, most: u64) -> u64 {
        match self.is_slow(node) {
            true => self.random.between(200, 2500),
            false => self.random.between(least, most),
        }
    }

    // Whose users the router serves.

    /// The router hears what the recovery manager says.
    pub(crate) fn word(&mut self, node: usize, life: u64) {
        if self.nodes[node].router.life != life || !self.nodes[node].router.is_running() {
            return;
        }
        let word = match node < PAIR {
            true => self.nodes[node].manager.word.clone(),
            // It is alone, and its manager never says anything else.
            false => {
                let home = Home {
                    epoch: 1,
                    served: true,
                };
                [(NAMES[node].to_owned(), home)].into_iter().collect()
            }
        };
        if word == Serving::default() {
            return;
        }
        let process = &mut self.nodes[node].router;
        let _ = process.known.take(word);
        let served = process.known.served();
        if process.told.as_ref() == Some(&served) {
            return;
        }
        let before = process.told.replace(served.clone()).unwrap_or_default();
        process.told_at = self.now;
        self.say(format!("{}: serves {served:?}", NAMES[node]));
        self.watch_owners(node, &before, &served);
        let process = &mut self.nodes[node].router;
        let now: BTreeSet<String> = served.keys().cloned().collect();
        let gained: Vec<String> = now.difference(&process.serves).cloned().collect();
        process.gained.extend(gained);
        process.serves = now;
        let homes = served.into_iter().map(|(home, epoch)| (home.into(), epoch));
        self.router_event(node, life, Event::Serving(homes.collect()));
        self.take_over(node);
    }

    /// Never two that serve the same users in one epoch, and two at once only
    /// where one of the claims was made without a word of the other node.
    fn watch_owners(
        &mut self,
        node: usize,
        before: &BTreeMap<String, u64>,
        served: &BTreeMap<String, u64>,
    ) {
        let new = served
            .iter()
            .filter(|(home, epoch)| before.get(*home) != Some(epoch));
        for (home, epoch) in new {
            for other in (0..PAIR).filter(|other| *other != node) {
                let theirs = self.nodes[other].router.told.as_ref();
                let Some(theirs) = theirs.and_then(|told| told.get(home).copied()) else {
                    continue;
                };
                let alone = |epoch: u64| self.alone.contains(&(of(home), epoch));
                if theirs == *epoch {
                    self.wrong(format!("both serve {home} in epoch {epoch}"));
                } else if self.awake(other) && !alone(theirs) && !alone(*epoch) {
                    self.wrong(format!(
                        "{} serves {home} in epoch {epoch} while {} does in {theirs}, and nobody \
                         missed it",
                        NAMES[node], NAMES[other]
                    ));
                }
            }
        }
    }

    /// Whether a node has served a home for so many ms.
    pub(crate) fn has_served(&self, node: usize, home: usize, ms: u64) -> bool {
        let process = &self.nodes[node].router;
        process.serves.contains(NAMES[home]) && self.now - process.told_at >= ms
    }

    /// Takes over what the other router of the pair had.
    fn take_over(&mut self, node: usize) {
        let process = &mut self.nodes[node].router;
        if process.gained.is_empty() || !process.ready {
            return;
        }
        let homes = process.gained.drain(..).map(Into::into).collect();
        let life = process.life;
        let adoption = Adoption::new(homes, self.now);
        self.after(2, Due::Adopt(node, life, adoption));
    }

    // Connections between routers.

    fn send(&mut self, node: usize, link: LinkId, bytes: Bytes) {
        let due = self.now + self.way();
        let Some(pipe) = self.pipes.get_mut(&link) else {
            return;
        };
        let due = match pipe.from == node {
            true => pipe.send(bytes, due),
            false => pipe.reply(bytes, due),
        };
        self.at(due, Due::Arrive(link));
    }

    pub(crate) fn arrive(&mut self, link: LinkId) {
        while let Some((node, events)) = self.arrived(link) {
            let life = self.nodes[node].router.life;
            for event in events {
                self.router_event(node, life, event);
            }
        }
    }

    fn arrived(&mut self, link: LinkId) -> Option<(usize, Vec<Event>)> {
        let pipe = self.pipes.get(&link)?;
        let (from, to) = (pipe.from, pipe.to);
        let (forth, back) = (
            self.network.passes(from, to) && self.awake(to),
            self.network.passes(to, from) && self.awake(from),
        );
        let now = self.now;
        let pipe = self.pipes.get_mut(&link)?;
        if forth && let Some(bytes) = pipe.sent(now) {
            let mut frames = Decoder::<PeerFrame>::default();
            frames.buffer().extend_from_slice(&bytes);
            let mut events = Vec::new();
            while let Some(frame) = frames.next_frame().unwrap_or_else(|it| panic!("{it}")) {
                events.push(Event::GuestFrame { link, frame });
            }
            return Some((to, events));
        }
        if back && let Some(bytes) = pipe.replied(now) {
            let mut replies = Decoder::<PeerReply>::default();
            replies.buffer().extend_from_slice(&bytes);
            let mut events = Vec::new();
            while let Some(reply) = replies.next_frame().unwrap_or_else(|it| panic!("{it}")) {
                events.push(Event::PeerReply { link, reply });
            }
            return Some((from, events));
        }
        None
    }

    /// One side ends a connection; the other learns of it when it can.
    fn close(&mut self, node: usize, link: LinkId) {
        let arrives = self.random.percent(50);
        if let Some(pipe) = self.pipes.get_mut(&link)
            && pipe.end(node, arrives)
        {
            self.pipes.remove(&link);
        }
    }

    pub(crate) fn end_pipes(&mut self, node: usize) {
        let mine = self.pipes.iter();
        let mine = mine.filter(|(_, pipe)| pipe.from == node || pipe.to == node);
        let mine: Vec<LinkId> = mine.map(|(link, _)| *link).collect();
        for link in mine {
            self.close(node, link);
        }
    }

    /// The connections between two routers end.
    pub(crate) fn reset(&mut self, a: usize, b: usize) {
        let between = self.pipes.iter();
        let between = between
            .filter(|(_, pipe)| (pipe.from, pipe.to) == (a, b) || (pipe.from, pipe.to) == (b, a));
        let between: Vec<LinkId> = between.map(|(link, _)| *link).collect();
        for link in between {
            for side in [a, b] {
                if self.pipes.get(&link).is_some_and(|pipe| pipe.is_open(side)) {
                    let life = self.nodes[side].router.life;
                    let event = Box::new(Event::PeerClosed { link });
                    self.after(1, Due::Router(side, life, event));
                }
            }
            self.pipes.remove(&link);
        }
    }

    /// Makes the connections that are missing, and tells who has not heard of
    /// an end.
    pub(crate) fn connect_routers(&mut self) {
        let ended = self.pipes.iter();
        let ended: Vec<(LinkId, (usize, usize))> = ended
            .filter_map(|(link, pipe)| Some((*link, pipe.ended()?)))
            .collect();
        for (link, (deaf, other)) in ended {
            if !self.nodes[deaf].router.is_running() {
                self.pipes.remove(&link);
            } else if self.awake(deaf) && self.awake(other) && self.network.passes(other, deaf) {
                self.pipes.remove(&link);
                let life = self.nodes[deaf].router.life;
                self.router_event(deaf, life, Event::PeerClosed { link });
            }
        }
        for from in 0..NODES {
            for to in (0..NODES).filter(|to| *to != from) {
                let ready = |node: usize| self.nodes[node].router.is_open();
                let mut pipes = self.pipes.values();
                let there =
                    pipes.any(|pipe| (pipe.from, pipe.to) == (from, to) && pipe.is_open(from));
                if there || !ready(from) || !ready(to) || !self.reach(from, to) {
                    continue;
                }
                self.last_link += 1;
                let link = self.last_link;
                self.pipes.insert(link, Stream::new(from, to));
                let life = |node: usize| self.nodes[node].router.life;
                let (here, there) = (life(from), life(to));
                let node = from as u64 + 1;
                self.router_event(to, there, Event::GuestConnected { node, link });
                let node = to as u64 + 1;
                self.router_event(from, here, Event::PeerConnected { node, link });
            }
        }
    }
}
