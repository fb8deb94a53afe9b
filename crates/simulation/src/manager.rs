//! The recovery managers of the pair, and the third node, which is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use recovery::{
    Action, Epoch, Event, Home, Keepalive, Machine, Memory, Node as Place, Ownership, Refusal,
    Request, Serving, Standing, State, Verdict, Witness,
};

use crate::mutation::Mutation;
use crate::world::{Due, ManagerDue, NAMES, PAIR, World};

/// A silence at the third node of this many ms can make it say that a node is
/// gone; keepalives come closer together.
const NOTICED: u64 = 1800;
/// For so long after such a silence its word may still be acted upon.
const ACTED_UPON: u64 = 5000;

/// The recovery manager of a node.
pub(crate) struct Manager {
    machine: Option<Machine>,
    pub(crate) life: u64,
    /// What is on the disk.
    disk: Option<Memory>,
    /// What it tells its router.
    pub(crate) word: Serving,
    pub(crate) stalled_until: u64,
    /// The highest that it ever knew.
    known: [Ownership; 2],
    /// Numbers of the orders to serve that are carried out.
    orders: [u64; 2],
    seen: BTreeMap<&'static str, bool>,
    /// When it last heard its peer.
    heard: u64,
}

impl Manager {
    pub(crate) fn new() -> Self {
        Self {
            machine: None,
            life: 0,
            disk: None,
            word: Serving::default(),
            stalled_until: 0,
            known: Place::BOTH.map(Ownership::first),
            orders: [0; 2],
            seen: BTreeMap::new(),
            heard: 0,
        }
    }

    pub(crate) fn end(&mut self) {
        self.machine = None;
        self.word = Serving::default();
        self.stalled_until = 0;
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        self.machine.as_ref().map(Machine::standing)
    }

    pub(crate) fn ownership(&self, home: Place) -> Option<Ownership> {
        self.machine.as_ref().map(|machine| machine.ownership(home))
    }
}

pub(crate) fn place(node: usize) -> Place {
    Place::BOTH[node]
}

impl World {
    fn clock(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    pub(crate) fn start_manager(&mut self, node: usize) {
        let it = &self.nodes[node];
        if !it.powered || it.manager.machine.is_some() {
            return;
        }
        let life = self.life();
        let boot = format!("boot {}", self.nodes[node].boot);
        let memory = self.nodes[node].manager.disk.clone();
        let settings = self.settings.clone();
        let now = self.clock();
        let (mut machine, actions) =
            Machine::start(place(node), "group", settings, memory, &boot, now);
        if let Some(Mutation::Recovery(rule)) = self.mutation {
            machine.break_rule(rule);
        }
        let manager = &mut self.nodes[node].manager;
        manager.machine = Some(machine);
        manager.life = life;
        manager.seen.clear();
        self.carry_out(node, actions, &mut None);
        self.observe(node);
        self.after(1, Due::Manager(node, life, ManagerDue::Tick));
        self.observe_later(node, life);
        self.tell_router(node, 250);
    }

    pub(crate) fn manager_due(&mut self, node: usize, life: u64, due: ManagerDue) {
        let manager = &self.nodes[node].manager;
        if manager.machine.is_none() || manager.life != life {
            return;
        }
        match due {
            ManagerDue::Tick => {
                self.step(node, Event::Tick);
                let pause = 333 - self.random.below(80);
                self.after(pause, Due::Manager(node, life, ManagerDue::Tick));
            }
            ManagerDue::Verdict(round, verdict) => {
                self.step(node, Event::Verdict { round, verdict });
            }
            ManagerDue::Ready(home, epoch, order) => {
                let manager = &mut self.nodes[node].manager;
                let latest = manager.ownership(home).map(Ownership::epoch);
                if manager.orders[home.index()] != order {
                    return;
                }
                if latest == Some(epoch) {
                    self.publish(node, home, epoch, true);
                }
                let result = Ok(());
                self.step(
                    node,
                    Event::Served {
                        home,
                        epoch,
                        result,
                    },
                );
            }
            ManagerDue::Persisted(memory, rest) => {
                self.nodes[node].manager.disk = Some(*memory);
                self.carry_out(node, rest, &mut None);
            }
            ManagerDue::Observe => {
                self.observe(node);
                self.observe_later(node, life);
            }
        }
    }

    fn observe(&mut self, node: usize) {
        for (id, running) in self.services(node) {
            if self.nodes[node].manager.seen.insert(id, running) != Some(running) {
                let id = id.into();
                self.step(node, Event::Service { id, running });
            }
        }
    }

    pub(crate) fn keepalive(&mut self, node: usize, message: Keepalive) {
        if self.nodes[node].powered {
            self.nodes[node].manager.heard = self.now;
            self.step(node, Event::Message(message));
        }
    }

    /// The node goes down in good order.
    pub(crate) fn leave(&mut self, node: usize) {
        if node < PAIR {
            self.step(node, Event::Leaving);
        }
    }

    /// An administrator asks.
    pub(crate) fn ask(&mut self, node: usize, request: Request) -> Result<(), Refusal> {
        let mut answer = None;
        self.act(node, Event::Request(request), &mut answer);
        let answer = answer.unwrap_or_else(|| Err(Refusal("nobody answers".into())));
        let words = match &answer {
            Ok(()) => "it is done".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        self.say(format!("{}: asked for {request:?}: {words}", NAMES[node]));
        answer
    }

    fn step(&mut self, node: usize, event: Event) {
        self.act(node, event, &mut None);
    }

    fn act(&mut self, node: usize, event: Event, answer: &mut Option<Result<(), Refusal>>) {
        let now = self.clock();
        let manager = &mut self.nodes[node].manager;
        let Some(machine) = manager.machine.as_mut() else {
            return;
        };
        let actions = machine.step(event, now);
        let (mut back, mut claims) = (Vec::new(), Vec::new());
        for home in Place::BOTH {
            let (known, knows) = (&mut manager.known[home.index()], machine.ownership(home));
            if knows > *known && knows.owner() == Some(place(node)) {
                claims.push((home.index(), knows.epoch().number()));
            }
            if knows < *known {
                back.push(format!(
                    "{} went back from {known:?} to {knows:?}",
                    NAMES[node]
                ));
            }
            *known = knows.max(*known);
        }
        for text in back {
            self.wrong(text);
        }
        for claim in claims {
            let alone = claim.0 == node && self.hears_nobody(node);
            if alone || !self.awake(1 - node) || self.was_missed(1 - node) {
                self.alone.insert(claim);
                continue;
            }
            let (home, other) = (place(claim.0), 1 - node);
            let theirs = self.nodes[other].manager.ownership(home);
            // Two that each took the other over may claim without asking.
            let state = self.nodes[node].manager.standing().map(|it| it.state);
            let moves = matches!(state, Some(State::TakingOver | State::TakingBack));
            let hears = |node: usize| self.now - self.nodes[node].manager.heard < 1500;
            if moves
                && hears(node)
                && hears(other)
                && theirs.and_then(Ownership::owner) == Some(place(other))
            {
                self.wrong(format!(
                    "{} claims {} from {}, though they hear each other",
                    NAMES[node], NAMES[claim.0], NAMES[other]
                ));
            }
        }
        self.carry_out(node, actions, answer);
        self.refuse_older(node);
    }

    /// The driver makes epochs known of those who are not served here.
    fn refuse_older(&mut self, node: usize) {
        for home in Place::BOTH {
            let manager = &mut self.nodes[node].manager;
            let Some(epoch) = manager.ownership(home).map(|it| it.epoch().number()) else {
                return;
            };
            let name = NAMES[home.index()];
            let older = |known: &Home| !known.served && known.epoch < epoch;
            if manager.word.get(name).as_ref().is_some_and(older) {
                let served = false;
                manager.word.set(name, Home { epoch, served });
                self.tell_router(node, 5);
            }
        }
    }

    fn publish(&mut self, node: usize, home: Place, epoch: Epoch, served: bool) {
        let epoch = epoch.number();
        let word = &mut self.nodes[node].manager.word;
        word.set(NAMES[home.index()], Home { epoch, served });
        self.tell_router(node, 5);
    }

    /// The router hears the word within so many ms.
    pub(crate) fn tell_router(&mut self, node: usize, ms: u64) {
        let pause = 1 + self.random.below(ms);
        let life = self.nodes[node].router.life;
        self.after(pause, Due::Word(node, life));
    }

    fn carry_out(
        &mut self,
        node: usize,
        actions: Vec<Action>,
        answer: &mut Option<Result<(), Refusal>>,
    ) {
        let life = self.nodes[node].manager.life;
        let mut actions = actions.into_iter();
        while let Some(action) = actions.next() {
            match action {
                Action::Persist(memory) if self.is_slow(node) => {
                    // Less than the watchdog's time.
                    let pause = self.random.between(100, 1200);
                    for action in actions.as_slice() {
                        if let Action::Answer(given) = action {
                            *answer = Some(given.clone());
                        }
                    }
                    let rest = actions.collect();
                    let due = ManagerDue::Persisted(Box::new(memory), rest);
                    self.nodes[node].manager.stalled_until = self.now + pause;
                    return self.after(pause, Due::Manager(node, life, due));
                }
                Action::Persist(memory) => self.nodes[node].manager.disk = Some(memory),
                Action::Yield { home, epoch } => {
                    self.nodes[node].manager.orders[home.index()] += 1;
                    self.publish(node, home, epoch, false);
                }
                Action::Serve { home, epoch } => self.serve(node, home, epoch),
                Action::Start(services) if services.contains(crate::node::ROUTER) => {
                    self.want_router(node, true);
                }
                Action::Stop(services) if services.contains(crate::node::ROUTER) => {
                    self.want_router(node, false);
                }
                Action::Send(message) => self.send_keepalive(node, &message),
                Action::Verify { round } => self.verify(node, round),
                Action::Record(transition) => {
                    let it = format!(
                        "{}: {} -> {}: {} {}",
                        NAMES[node],
                        transition.from,
                        transition.to,
                        transition.seen,
                        transition.decided
                    );
                    self.say(it);
                }
                Action::Answer(given) => *answer = Some(given),
                Action::Restart => self.kill_manager(node, 500),
                Action::Start(_) | Action::Stop(_) | Action::Raise(_) | Action::Clear(_) => {}
            }
        }
    }

    fn serve(&mut self, node: usize, home: Place, epoch: Epoch) {
        let manager = &mut self.nodes[node].manager;
        let disk = manager.disk.as_ref();
        let written = disk.map(|disk| disk.ownership[home.index()]);
        let fits =
            |written: Ownership| written.epoch() == epoch && written.owner() == Some(place(node));
        manager.orders[home.index()] += 1;
        let order = manager.orders[home.index()];
        let life = manager.life;
        if !written.is_some_and(fits) {
            self.wrong(format!(
                "{} is to serve {home} in epoch {epoch}, which is not on its disk",
                NAMES[node]
            ));
        }
        let pause = self.random.between(5, 50);
        let due = ManagerDue::Ready(home, epoch, order);
        self.after(pause, Due::Manager(node, life, due));
    }

    fn send_keepalive(&mut self, node: usize, message: &Keepalive) {
        let other = 1 - node;
        if self.network.passes(node, other) {
            for pause in self.network.datagram(&mut self.random) {
                self.after(pause, Due::Keepalive(other, Box::new(message.clone())));
            }
        }
        if self.network.passes(node, PAIR) {
            for pause in self.network.datagram(&mut self.random) {
                self.after(pause, Due::Heard(node));
            }
        }
    }

    /// The third node is asked about the other one of the pair.
    fn verify(&mut self, node: usize, round: u64) {
        let life = self.nodes[node].manager.life;
        let (pause, verdict) = if self.reach(node, PAIR) {
            let name = NAMES[1 - node];
            let verdict = self.witness.judge(name, self.clock());
            (self.random.between(2, 20), verdict)
        } else {
            // It is waited for in vain.
            (1000, Verdict::Isolated)
        };
        let due = ManagerDue::Verdict(round, verdict);
        self.after(pause, Due::Manager(node, life, due));
    }

    /// The manager ends and is started again after so many ms.
    pub(crate) fn kill_manager(&mut self, node: usize, ms: u64) {
        let manager = &mut self.nodes[node].manager;
        if manager.machine.is_some() {
            manager.end();
            self.after(ms, Due::ManagerStart(node));
        }
    }

    /// The manager stands still, if systemd lets it.
    pub(crate) fn stall_manager(&mut self, node: usize, ms: u64) {
        self.say(format!("{}: manager stands still for {ms} ms", NAMES[node]));
        let watchdog = self.settings.parameters.watchdog.as_millis();
        let watchdog = u64::try_from(watchdog).unwrap_or(u64::MAX);
        let manager = &mut self.nodes[node].manager;
        manager.stalled_until = self.now + ms;
        let life = manager.life;
        self.after(watchdog, Due::Watchdog(node, life));
    }

    pub(crate) fn watchdog(&mut self, node: usize, life: u64) {
        let manager = &self.nodes[node].manager;
        if manager.life == life && manager.stalled_until > self.now {
            self.kill_manager(node, 1000);
        }
    }

    /// The third node begins to listen.
    pub(crate) fn begin_to_listen(&mut self) {
        let parameters = &self.settings.parameters;
        self.witness = Witness::new(
            parameters.keepalive_interval,
            parameters.keepalive_timeout,
            self.clock(),
        );
        self.heard = [self.now; PAIR];
        let boot = self.nodes[PAIR].boot;
        self.after(300, Due::Listen(boot));
    }

    pub(crate) fn listen(&mut self, boot: u64) {
        if self.nodes[PAIR].powered && self.nodes[PAIR].boot == boot {
            self.witness.tick(self.clock());
            self.after(300, Due::Listen(boot));
        }
    }

    pub(crate) fn witness_hears(&mut self, node: usize) {
        if !self.nodes[PAIR].powered {
            return;
        }
        if self.now - self.heard[node] >= NOTICED {
            self.missed[node] = self.now;
        }
        self.heard[node] = self.now;
        self.witness.hear(NAMES[node], self.clock());
    }

    /// Whether a node knows nothing of its peer: one that starts serves its own
    /// users then, rather twice than not at all.
    fn hears_nobody(&self, node: usize) -> bool {
        self.now - self.nodes[node].manager.heard >= 5000
    }

    /// Whether the third node may have missed a node of late.
    fn was_missed(&self, node: usize) -> bool {
        self.now - self.heard[node] >= NOTICED || self.now - self.missed[node] <= ACTED_UPON
    }
}
