//! Random walks: whatever breaks, no two nodes serve the same users in one
//! epoch; and when nothing breaks any more, the pair comes to rest in a row of
//! the table whose advice leads back to Normal.

use std::time::Duration;

use crate::mutation::Mutation;
use crate::simulation::{ROUTER, Random, World};
use crate::{Arbiter, DATABASE, Node, Parameters, Reason, Request, Standing, State, explain};

/// Walks of an ordinary run; `RECOVERY_SEEDS` asks for more.
const SEEDS: u64 = 1000;
/// A broken rule must be noticed within so many.
const SEEDS_OF_A_MUTATION: u64 = 200;

/// A walk: what went wrong, as sentences.
struct Walk {
    world: World,
    random: Random,
    log: Vec<String>,
}

impl Walk {
    fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut random = Random(seed);
        let fast = random.percent(50);
        let mut parameters = match fast {
            true => Parameters::fast(),
            false => Parameters::default(),
        };
        // Half of the walks are about services that come and go.
        if random.percent(50) {
            parameters.critical_service_delay = Duration::from_secs(10);
        }
        parameters.automatic_fallback = random.percent(30);
        let arbiter = match random.percent(60) {
            true => Arbiter::ThirdNode,
            false => Arbiter::KnownHosts,
        };
        let mut world = World::dark(parameters, arbiter, random.below(u64::MAX), mutation);
        for node in Node::BOTH {
            world.set_clock(node, random.below(1_000_000_000), 980 + random.below(41));
            world.power_on(node, random.below(60_000));
        }
        Self {
            world,
            random,
            log: Vec::new(),
        }
    }

    /// One thing goes wrong, or right again, or is asked for.
    fn disturb(&mut self) {
        let node = self.random.node();
        let world = &mut self.world;
        let kind = self.random.below(100);
        let ms = self.random.below(20_000);
        let id = if self.random.percent(30) {
            DATABASE
        } else {
            ROUTER
        };
        let what = match kind {
            0..=5 => {
                world.kill_manager(node, ms);
                "manager killed"
            }
            6..=9 => {
                world.power_off(node);
                world.power_on(node, 5 * ms);
                "power cut"
            }
            10 => {
                world.power_off(node);
                "power lost"
            }
            11..=13 => {
                world.shut_down(node);
                world.power_on(node, 5 * ms);
                "reboot"
            }
            14..=21 => {
                world.cut(node, true);
                "link from it cut"
            }
            22..=25 => {
                for node in Node::BOTH {
                    world.cut(node, true);
                }
                "both links cut"
            }
            26..=33 => {
                for node in Node::BOTH {
                    world.cut(node, false);
                    world.isolate(node, false);
                }
                "links mended"
            }
            34..=36 => {
                world.isolate(node, true);
                "isolated"
            }
            37..=40 => {
                let (loss, doubles) = (self.random.below(60), self.random.below(60));
                world.quality(loss, doubles, 1 + self.random.below(30_000));
                "bad link"
            }
            41..=45 => {
                world.quality(0, 0, 100);
                "good link"
            }
            46..=51 => {
                world.stall(node, 2 * ms);
                "stalled"
            }
            52..=54 => {
                world.jump(node, 200 * ms);
                "clock jumped"
            }
            55..=64 => {
                world.break_service(node, id);
                "service broken"
            }
            65..=77 => {
                world.mend_service(node, DATABASE);
                world.mend_service(node, ROUTER);
                "services mended"
            }
            78 => {
                world.refuse_moves(node, true);
                "users cannot be moved to it"
            }
            79..=80 => {
                world.refuse_moves(node, false);
                "users can be moved to it"
            }
            81 => {
                let mut settings = world.settings.clone();
                settings.enabled ^= self.random.percent(50);
                world.configure(settings);
                "availability switched"
            }
            82..=87 => {
                let _ = world.request(node, Request::Failover);
                "failover asked for"
            }
            88..=95 => {
                let _ = world.request(node, Request::Fallback);
                "fallback asked for"
            }
            96..=98 => {
                let _ = world.request(node, Request::Recover);
                "recovery asked for"
            }
            _ => {
                world.power_on(node, 0);
                "power back"
            }
        };
        self.log
            .push(format!("{} s: {node}: {what}", self.world.time / 1000));
    }

    /// Mends everything.
    fn mend(&mut self) {
        let world = &mut self.world;
        world.quality(0, 0, 50);
        for node in Node::BOTH {
            world.cut(node, false);
            world.isolate(node, false);
            world.refuse_moves(node, false);
            world.power_on(node, 0);
            world.repair(node);
            // What an administrator stopped stays so.
            let stopped = world
                .standing(node)
                .is_some_and(|Standing { state, reason }| {
                    state == State::Idle
                        || state == State::FailingOver && reason == Reason::OnAdminRequest
                });
            world.mend_service(node, DATABASE);
            if !stopped {
                world.mend_service(node, ROUTER);
            }
        }
        let mut settings = world.settings.clone();
        settings.enabled = true;
        world.configure(settings);
        self.log
            .push(format!("{} s: all mended", self.world.time / 1000));
    }

    /// The time within which a pair comes to rest: starting, and one failover
    /// after another until both know all.
    fn bound(&self) -> u64 {
        let parameters = &self.world.settings.parameters;
        let longest = parameters.initial_timeout
            + 2 * parameters.critical_service_delay
            + 4 * parameters.keepalive_timeout;
        longest.as_secs() + 60
    }

    fn pair(&self) -> [Option<Standing>; 2] {
        Node::BOTH.map(|node| self.world.standing(node))
    }

    /// What is wrong with a pair that is to have come to rest.
    fn rest(&mut self) -> Result<(), String> {
        self.world.seconds(self.bound());
        let pair = self.pair();
        self.world.seconds(120);
        // Users may be just on their way home by themselves.
        let moving = |pair: &[Option<Standing>; 2]| {
            pair.iter()
                .any(|standing| standing.is_none_or(|standing| !standing.state.is_stable()))
        };
        if self.world.settings.parameters.automatic_fallback && self.pair() != pair {
            self.world.seconds(60);
        } else if self.pair() != pair {
            return Err(format!("no rest: {pair:?}, then {:?}", self.pair()));
        }
        let [one, two] = self.pair();
        if moving(&[one, two]) || explain(one, two).is_none() {
            return Err(format!("no legal pair: {one:?} / {two:?}"));
        }
        for home in Node::BOTH {
            let [known, also] = Node::BOTH.map(|node| self.world.machine(node).ownership(home));
            let servers = self.world.servers(home);
            let failed = one.is_some_and(|one| one.state == State::RunningInFailedMode);
            if known != also {
                return Err(format!("they do not agree on {home}: {known:?}, {also:?}"));
            }
            if servers.len() > 1 || servers.first().copied() != known.owner() {
                return Err(format!(
                    "{home} is served by {servers:?}, owned by {known:?}"
                ));
            }
            if servers.is_empty() && !failed {
                return Err(format!("nobody serves {home}: {one:?} / {two:?}"));
            }
        }
        Ok(())
    }

    /// Follows the table's advice.
    fn follow(&mut self) -> Result<(), String> {
        for _ in 0..4 {
            self.rest()?;
            let [one, two] = self.pair();
            let states = [one, two].map(|standing| standing.map(|standing| standing.state));
            if states == [Some(State::Normal); 2] {
                return Ok(());
            }
            for (node, state) in Node::BOTH.into_iter().zip(states) {
                let request = match state {
                    Some(State::RunningInFailedMode) => Request::Recover,
                    Some(state) if state.is_failed_over() => Request::Fallback,
                    _ => continue,
                };
                self.log
                    .push(format!("{} s: {node}: {request:?}", self.world.time / 1000));
                if let Err(refusal) = self.world.request(node, request) {
                    return Err(format!("{node} refuses {request:?}: {refusal}"));
                }
                break;
            }
        }
        Err(format!("advice does not lead to Normal: {:?}", self.pair()))
    }

    /// The whole walk; words for what is wrong.
    fn run(mut self) -> Result<(), String> {
        let pause = self.world.settings.parameters.keepalive_timeout.as_secs() + 20;
        for _ in 0..5 + self.random.below(25) {
            let ms = match self.random.percent(30) {
                true => self.random.below(2_000),
                false => self.random.below(2 * 1000 * pause),
            };
            self.world.run(ms);
            self.disturb();
            if !self.world.violations.is_empty() {
                break;
            }
        }
        self.world.run(self.random.below(5000));
        self.mend();
        let end = self.follow();
        let mut wrong = self.world.violations.clone();
        wrong.extend(end.err());
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(self.report(&wrong)),
        }
    }

    fn report(&self, wrong: &[String]) -> String {
        let mut lines = wrong.to_vec();
        lines.extend(self.log.iter().cloned());
        for node in Node::BOTH {
            for one in self.world.history(node) {
                lines.push(format!(
                    "{node} at {:?}: {} -> {} | {} | {}",
                    one.at, one.from, one.to, one.seen, one.decided
                ));
            }
        }
        lines.join("\n")
    }
}

fn seeds() -> u64 {
    let asked = std::env::var("RECOVERY_SEEDS").ok();
    asked.map_or(SEEDS, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("RECOVERY_SEEDS is {text:?}, not a number"))
    })
}

/// Every fourth seed, beginning with this one: four tests share the cores.
fn walk_from(first: u64) {
    for seed in (first..seeds()).step_by(4) {
        if let Err(report) = Walk::new(seed, None).run() {
            panic!("seed {seed}: {report}");
        }
    }
}

#[test]
fn walks_keep_the_invariants_1() {
    walk_from(0);
}

#[test]
fn walks_keep_the_invariants_2() {
    walk_from(1);
}

#[test]
fn walks_keep_the_invariants_3() {
    walk_from(2);
}

#[test]
fn walks_keep_the_invariants_4() {
    walk_from(3);
}

/// The seed that notices a broken rule.
fn caught(mutation: Mutation) {
    let noticed = (0..SEEDS_OF_A_MUTATION).find_map(|seed| {
        Walk::new(seed, Some(mutation))
            .run()
            .err()
            .map(|report| (seed, report))
    });
    let Some((seed, report)) = noticed else {
        panic!("{mutation:?} is not noticed within {SEEDS_OF_A_MUTATION} seeds");
    };
    let first = report.lines().next().unwrap_or_default();
    println!("{mutation:?}: seed {seed}: {first}");
}

macro_rules! caught {
    ($($name:ident: $mutation:ident,)*) => {
        $(
            #[test]
            fn $name() {
                caught(Mutation::$mutation);
            }
        )*
    };
}

caught! {
    older_news_are_noticed: OlderNews,
    a_takeover_without_a_verdict_is_noticed: NoVerdict,
    a_stale_verdict_is_noticed: StaleVerdict,
    a_forgetful_manager_is_noticed: Forgetful,
    an_owner_that_does_not_yield_is_noticed: NoYield,
    serving_while_failing_over_is_noticed: ServeWhileFailingOver,
    taking_back_at_once_is_noticed: TakeBackAtOnce,
    flapping_without_hold_is_noticed: NoHold,
    counting_stalls_as_silence_is_noticed: CountStalls,
    taking_over_with_services_down_is_noticed: TakeOverSick,
    a_lonely_recovery_is_noticed: LonelyRecovery,
    crossed_nodes_that_stay_so_are_noticed: KeepCrossed,
}
