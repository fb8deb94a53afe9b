//! A walk: a cluster to which things happen, and what must hold when they have
//! stopped.
//!
//! A *mild* walk does to the pair what people are not to notice: failovers and
//! fallbacks by hand, a node that is lost and taken over, managers and stores
//! that die. Nobody may be seen to go. A *wild* one does everything at once.

use recovery::{Node as Place, Request, Standing, State, explain};

use crate::client::USERS;
use crate::mutation::Mutation;
use crate::routing::PHANTOM;
use crate::stores::STORES;
use crate::world::{Due, NAMES, NODES, PAIR, World};

/// How long a pair may take until it rests, and the whole cluster until it is
/// well, in ms.
const REST: u64 = 60_000;
const WELL: u64 = 1000 * PHANTOM + 30_000;

pub(crate) struct Walk {
    pub(crate) world: World,
}

impl Walk {
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut world = World::new(seed, mutation);
        world.mild = world.random.percent(30);
        Self { world }
    }

    /// The whole walk; words and trace for what is wrong.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let world = &mut self.world;
        // Nobody is there yet, so nobody can be seen to go.
        world.run(14_000);
        world.chatting = true;
        world.after(1, Due::Chat);
        let faults = match world.mild {
            true => world.random.between(2, 5),
            false => world.random.between(4, 16),
        };
        // Sometimes somebody does not come back.
        let leaves = (!world.mild && world.random.percent(30)).then(|| world.random.below(faults));
        for fault in 0..faults {
            if leaves == Some(fault) {
                let plain: Vec<usize> = (0..USERS.len())
                    .filter(|who| !self.world.clients[*who].dual)
                    .collect();
                let who = self.world.random.which(plain.len());
                self.world.lose_for_good(plain[who]);
            }
            let pause = match (self.world.mild, self.world.random.percent(50)) {
                (true, _) => self.world.random.between(32_000, 45_000),
                (false, true) => self.world.random.below(1500),
                (false, false) => self.world.random.below(15_000),
            };
            match self.world.mild {
                true => self.mishap(),
                false => self.disturb(),
            }
            self.world.run(pause);
        }
        self.mend();
        self.end();
        match self.world.violations.is_empty() {
            true => Ok(()),
            false => Err(self.report()),
        }
    }

    fn report(&self) -> String {
        let world = &self.world;
        let kind = if world.mild { "mild" } else { "wild" };
        let mut lines = world.violations.clone();
        lines.push(format!("A {kind} walk:"));
        lines.extend(world.trace.iter().cloned());
        lines.join("\n")
    }

    /// Something that nobody is to notice.
    fn mishap(&mut self) {
        let world = &mut self.world;
        let node = world.random.which(PAIR);
        match world.random.below(100) {
            // A node that an administrator failed over takes nobody over.
            0..25 if !world.is_idle(1 - node) => {
                world.power_off(node);
                let pause = world.random.between(8000, 25_000);
                world.power_on(node, pause);
            }
            25..45 => drop(world.ask(node, Request::Failover)),
            0..25 | 45..70 => {
                for node in 0..PAIR {
                    let _ = world.ask(node, Request::Fallback);
                }
            }
            70..76 => {
                world.say(format!("{}: manager killed", NAMES[node]));
                world.kill_manager(node, 800);
            }
            76..82 => {
                let ms = world.random.below(6000);
                world.stall_manager(node, ms);
            }
            82..88 => {
                let ms = world.random.between(2000, 20_000);
                world.slow_disk(node, ms);
            }
            88..92 => {
                let store = world.random.which(STORES.len());
                world.kill_store(node, store);
            }
            92..95 => {
                let store = world.random.which(STORES.len());
                world.say(format!("connections of {} break", STORES[store]));
                world.break_feeds(store);
            }
            _ => {
                let (who, away) = (world.random.which(USERS.len()), 15_000);
                let away = world.random.below(away);
                world.lose(who, away);
            }
        }
    }

    /// Something goes wrong, or right again, or is asked for.
    fn disturb(&mut self) {
        let world = &mut self.world;
        let (node, any) = (world.random.which(PAIR), world.random.which(NODES));
        let ms = world.random.below(8000);
        match world.random.below(100) {
            0..7 => {
                world.power_off(any);
                world.power_on(any, 1000 + 3 * ms);
            }
            7..10 => {
                world.shut_down(any);
                // It is off by then.
                world.run(3001);
                world.power_on(any, 1000 + 3 * ms);
            }
            10..17 => {
                world.kill_router(any);
            }
            17..21 => {
                world.say(format!("{}: the router cannot run", NAMES[node]));
                world.nodes[node].broken = true;
                world.kill_router(node);
            }
            21..25 => {
                world.say(format!("{}: manager killed", NAMES[node]));
                world.kill_manager(node, ms);
            }
            25..29 => world.stall_manager(node, ms),
            29..35 => world.stall(any, ms),
            35..45 => self.cut(node, any),
            45..55 => self.mend_some(),
            55..59 => {
                let loss = world.random.below(50);
                let delay = 1 + world.random.below(400);
                world.say(format!("bad ways: {loss} % lost, up to {delay} ms"));
                let network = &mut world.network;
                (network.loss, network.doubles, network.delay) = (loss, 30, delay);
            }
            59..63 => {
                let other = (any + 1 + world.random.which(NODES - 1)) % NODES;
                world.say(format!(
                    "{} and {}: connections reset",
                    NAMES[any], NAMES[other]
                ));
                world.reset(any, other);
            }
            63..67 => {
                let store = world.random.which(STORES.len());
                world.kill_store(node, store);
            }
            67..70 => {
                let store = world.random.which(STORES.len());
                world.say(format!("connections of {} break", STORES[store]));
                world.break_feeds(store);
            }
            70..74 => world.slow_disk(any, 2 * ms),
            74..77 => {
                world.say(format!("{}: connection manager killed", NAMES[any]));
                world.kill_component(any);
            }
            77..82 => {
                let who = world.random.which(USERS.len());
                if !world.clients[who].gone {
                    world.lose(who, 2 * ms);
                }
            }
            82..90 => {
                let _ = world.ask(node, Request::Failover);
                // The worst time to lose a way is while users go over.
                if world.random.percent(40) {
                    let pause = world.random.below(30);
                    world.run(pause);
                    self.cut(node, 1 - node);
                }
            }
            90..98 => drop(world.ask(node, Request::Fallback)),
            _ => drop(world.ask(node, Request::Recover)),
        }
    }

    fn cut(&mut self, node: usize, any: usize) {
        let world = &mut self.world;
        let other = 1 - node;
        let text = match world.random.below(4) {
            0 => {
                world.network.cut(node, other);
                format!("nothing passes from {} to {}", NAMES[node], NAMES[other])
            }
            1 => {
                world.network.cut(node, other);
                world.network.cut(other, node);
                "the link of the pair is cut".to_owned()
            }
            2 => {
                let to = (any + 1 + world.random.which(NODES - 1)) % NODES;
                world.network.cut(any, to);
                format!("nothing passes from {} to {}", NAMES[any], NAMES[to])
            }
            _ => {
                for to in (0..NODES).filter(|to| *to != any) {
                    world.network.cut(any, to);
                    world.network.cut(to, any);
                }
                format!("{} is cut off", NAMES[any])
            }
        };
        world.say(text);
    }

    fn mend_some(&mut self) {
        let world = &mut self.world;
        world.say("all ways are mended");
        world.network.mend();
        world.resume_streams();
        for node in 0..NODES {
            world.nodes[node].broken = false;
        }
    }

    /// Mends everything.
    fn mend(&mut self) {
        self.mend_some();
        let world = &mut self.world;
        world.say("everything is mended");
        for node in 0..NODES {
            world.nodes[node].slow_until = 0;
            world.power_on(node, 2000);
        }
        world.run(3000);
        world.chatting = false;
    }

    fn pair(&self) -> [Option<Standing>; 2] {
        [0, 1].map(|node| self.world.nodes[node].manager.standing())
    }

    /// The pair rests in a legal row of the table, and its advice leads to
    /// Normal; then all is well with everybody.
    fn end(&mut self) {
        for _ in 0..5 {
            self.rest();
            if !self.world.violations.is_empty() {
                return;
            }
            let states = self.pair().map(|standing| standing.map(|it| it.state));
            if states == [Some(State::Normal); 2] {
                return self.well();
            }
            for (node, state) in states.into_iter().enumerate() {
                let request = match state {
                    Some(State::RunningInFailedMode) => Request::Recover,
                    Some(state) if state.is_failed_over() => Request::Fallback,
                    _ => continue,
                };
                if let Err(refusal) = self.world.ask(node, request) {
                    return self.world.wrong(format!("advice is refused: {refusal}"));
                }
                break;
            }
        }
        let pair = self.pair();
        self.world
            .wrong(format!("advice does not lead to Normal: {pair:?}"));
    }

    fn rest(&mut self) {
        let settled = |world: &World| {
            let standing = |node: usize| world.nodes[node].manager.standing();
            let stable =
                |standing: Option<Standing>| standing.is_some_and(|it| it.state.is_stable());
            stable(standing(0))
                && stable(standing(1))
                && explain(standing(0), standing(1)).is_some()
                && Place::BOTH.into_iter().all(|home| {
                    let known = |node: usize| world.nodes[node].manager.ownership(home);
                    known(0) == known(1)
                })
        };
        // A pair that has not noticed yet what happened does not rest.
        self.world.run(5000);
        if !self.world.until(REST, settled) {
            let pair = self.pair();
            return self
                .world
                .wrong(format!("the pair does not come to rest: {pair:?}"));
        }
        self.world.run(3000);
        if !self.world.until(REST, settled) {
            let pair = self.pair();
            self.world
                .wrong(format!("the pair does not stay at rest: {pair:?}"));
        }
    }

    fn well(&mut self) {
        self.world
            .until(WELL, |world| world.complaints().is_empty());
        if self.world.violations.is_empty() {
            for complaint in self.world.complaints() {
                self.world.wrong(complaint);
            }
        }
    }
}

impl World {
    fn is_idle(&self, node: usize) -> bool {
        let standing = self.nodes[node].manager.standing();
        standing.is_none_or(|it| it.state == State::Idle || !it.state.is_stable())
    }
}
