//! A pair of nodes, a third one and a network in simulated time, for tests.
//!
//! It carries the machines' actions out, breaks what it is told to break, and
//! keeps an eye on what must never happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use crate::{
    Action, Arbiter, DATABASE, Epoch, Event, Keepalive, Machine, Memory, Node, Ownership,
    Parameters, Reason, Refusal, Request, Settings, Standing, State, Transition, Verdict, Witness,
};

use crate::mutation::Mutation;

pub(crate) const ROUTER: &str = "xmpp-router";

/// A small generator of numbers (SplitMix64), so that a seed is all it takes to
/// see a walk again.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn node(&mut self) -> Node {
        Node::BOTH[usize::from(self.percent(50))]
    }
}

/// Something that is under way.
#[derive(Clone, Debug)]
enum Due {
    Tick(Node, u64),
    Message(Node, Keepalive),
    /// The third node hears.
    Heard(Node),
    Verdict(Node, u64, u64, Verdict),
    Served(Node, u64, Node, Epoch, bool),
    Service(Node, String, bool),
    Start(Node),
    Wake(Node),
    Watchdog(Node, u64),
}

/// One of the two nodes.
struct Host {
    machine: Option<Machine>,
    /// Counts the machines; what was due for an earlier one is dropped.
    life: u64,
    powered: bool,
    boot: u64,
    disk: Option<Memory>,
    services: BTreeMap<String, bool>,
    /// Services that do not start.
    broken: BTreeSet<String>,
    /// What the node's services really do.
    serving: [Option<Epoch>; 2],
    /// Whether users cannot be moved to this node.
    immovable: bool,
    /// Its clock: how much ahead, and how fast in thousandths.
    ahead: u64,
    rate: u64,
    stalled: bool,
    /// Since when it talks without a break.
    talks_since: u64,
    /// The highest that it ever knew, and what it knew before its last step.
    known: [Ownership; 2],
    knew: [Ownership; 2],
    /// The last question about its peer, and when that was answered with yes.
    asked: u64,
    confirmed: Option<u64>,
    /// Incarnation and number of the latest message that it got.
    latest: (u64, u64),
    moves: Vec<u64>,
    alarms: BTreeMap<&'static str, String>,
    history: Vec<Transition>,
}

pub(crate) struct World {
    pub(crate) time: u64,
    pub(crate) random: Random,
    pub(crate) settings: Settings,
    pub(crate) mutation: Option<Mutation>,
    hosts: [Host; 2],
    witness: Witness,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<u64, Due>,
    count: u64,
    /// Percent of messages that are lost, that come twice.
    pub(crate) loss: u64,
    pub(crate) doubles: u64,
    /// Longest delay in ms.
    pub(crate) delay: u64,
    /// Whether messages from that node to its peer are cut off.
    cut: [bool; 2],
    /// Whether a node does not reach the third node and other hosts.
    isolated: [bool; 2],
    /// Since when messages from that node to its peer arrive without fault.
    clean_since: [u64; 2],
    pub(crate) violations: Vec<String>,
    /// How many ms longer than usual it takes to move users.
    pub(crate) slow_moves: u64,
}

impl World {
    /// Two nodes that are switched on, their services running.
    pub(crate) fn new(parameters: Parameters, arbiter: Arbiter, seed: u64) -> Self {
        let mut world = Self::dark(parameters, arbiter, seed, None);
        for node in Node::BOTH {
            world.power_on(node, 0);
        }
        world
    }

    /// Two nodes that are switched off.
    pub(crate) fn dark(
        parameters: Parameters,
        arbiter: Arbiter,
        seed: u64,
        mutation: Option<Mutation>,
    ) -> Self {
        let witness = Witness::new(
            parameters.keepalive_interval,
            parameters.keepalive_timeout,
            Duration::ZERO,
        );
        let services = || {
            let ids = [DATABASE, ROUTER];
            ids.into_iter().map(|id| (id.to_owned(), false)).collect()
        };
        let host = || Host {
            machine: None,
            life: 0,
            powered: false,
            boot: 0,
            disk: None,
            services: services(),
            broken: BTreeSet::new(),
            serving: [None; 2],
            immovable: false,
            ahead: 0,
            rate: 1000,
            stalled: false,
            talks_since: 0,
            known: Node::BOTH.map(Ownership::first),
            knew: Node::BOTH.map(Ownership::first),
            asked: 0,
            confirmed: None,
            latest: (0, 0),
            moves: Vec::new(),
            alarms: BTreeMap::new(),
            history: Vec::new(),
        };
        Self {
            time: 1_000_000,
            random: Random(seed),
            settings: Settings {
                enabled: true,
                arbiter,
                parameters,
                critical: services().into_keys().collect(),
            },
            mutation,
            hosts: [host(), host()],
            witness,
            queue: BinaryHeap::new(),
            due: BTreeMap::new(),
            count: 0,
            loss: 0,
            doubles: 0,
            delay: 2,
            cut: [false; 2],
            isolated: [false; 2],
            clean_since: [0; 2],
            violations: Vec::new(),
            slow_moves: 0,
        }
    }

    fn host(&mut self, node: Node) -> &mut Host {
        &mut self.hosts[node.index()]
    }

    pub(crate) fn standing(&self, node: Node) -> Option<Standing> {
        let machine = self.hosts[node.index()].machine.as_ref();
        machine.map(Machine::standing)
    }

    pub(crate) fn machine(&self, node: Node) -> &Machine {
        let machine = self.hosts[node.index()].machine.as_ref();
        machine.unwrap_or_else(|| panic!("{node} has no manager"))
    }

    pub(crate) fn history(&self, node: Node) -> &[Transition] {
        &self.hosts[node.index()].history
    }

    /// The words of an alarm that is raised.
    pub(crate) fn alarm(&self, node: Node, id: &str) -> Option<&str> {
        self.hosts[node.index()].alarms.get(id).map(String::as_str)
    }

    /// The node's disk is lost.
    pub(crate) fn lose_disk(&mut self, node: Node) {
        let host = self.host(node);
        host.disk = None;
        host.known = Node::BOTH.map(Ownership::first);
    }

    /// The nodes that really serve these users.
    pub(crate) fn servers(&self, home: Node) -> Vec<Node> {
        let serves = |node: &Node| self.hosts[node.index()].serving[home.index()].is_some();
        Node::BOTH.into_iter().filter(serves).collect()
    }

    pub(crate) fn is_running(&self, node: Node, service: &str) -> bool {
        self.hosts[node.index()].services[service]
    }

    pub(crate) fn is_up(&self, node: Node) -> bool {
        let host = &self.hosts[node.index()];
        host.powered && host.machine.is_some() && !host.stalled
    }

    fn after(&mut self, ms: u64, due: Due) {
        self.count += 1;
        self.queue.push(Reverse((self.time + ms, self.count)));
        self.due.insert(self.count, due);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.time + ms;
        while let Some(Reverse((at, id))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.time = self.time.max(at);
            let due = self.due.remove(&id).unwrap_or_else(|| panic!("{id}"));
            self.happen(due);
        }
        self.time = end;
    }

    pub(crate) fn seconds(&mut self, seconds: u64) {
        self.run(1000 * seconds);
    }

    fn happen(&mut self, due: Due) {
        if let Due::Message(node, _) | Due::Verdict(node, ..) | Due::Served(node, ..) = &due
            && self.host(*node).stalled
        {
            // It waits in the socket.
            let pause = 200 + self.random.below(400);
            return self.after(pause, due);
        }
        match due {
            Due::Tick(node, life) => {
                if self.host(node).life != life {
                    return;
                }
                self.step(node, Event::Tick);
                let pause = self.settings.parameters.keepalive_interval.as_millis() / 3;
                let pause = u64::try_from(pause).unwrap_or(u64::MAX);
                let jitter = self.random.below(pause / 4);
                self.after(pause - jitter, Due::Tick(node, life));
            }
            Due::Message(node, message) => {
                let host = self.host(node);
                let number = (message.incarnation, message.sequence);
                if number > host.latest {
                    (host.latest, host.confirmed) = (number, None);
                }
                self.step(node, Event::Message(message));
            }
            Due::Heard(node) => {
                let name = node.to_string();
                self.witness.hear(&name, Duration::from_millis(self.time));
            }
            Due::Verdict(node, life, round, verdict) => {
                let time = self.time;
                let host = self.host(node);
                if host.life == life {
                    if round == host.asked {
                        host.confirmed = (verdict == Verdict::Confirmed).then_some(time);
                    }
                    self.step(node, Event::Verdict { round, verdict });
                }
            }
            Due::Served(node, life, home, epoch, moved) => {
                if self.host(node).life == life {
                    let result = match moved {
                        true => Ok(()),
                        false => Err("the datastore refused a row".into()),
                    };
                    self.step(
                        node,
                        Event::Served {
                            home,
                            epoch,
                            result,
                        },
                    );
                }
            }
            Due::Service(node, id, running) => {
                let host = self.host(node);
                if host.powered && (!running || !host.broken.contains(&id)) {
                    self.set_service(node, &id, running);
                }
            }
            Due::Start(node) => self.start(node),
            Due::Wake(node) => {
                let time = self.time;
                let host = self.host(node);
                host.stalled = false;
                host.talks_since = time;
                self.report(node);
            }
            Due::Watchdog(node, life) => {
                if self.host(node).stalled && self.host(node).life == life {
                    self.kill_manager(node, 1000);
                }
            }
        }
    }

    fn set_service(&mut self, node: Node, id: &str, running: bool) {
        self.host(node).services.insert(id.into(), running);
        let event = Event::Service {
            id: id.into(),
            running,
        };
        self.step(node, event);
    }

    /// A service ends and starts only when somebody starts it.
    pub(crate) fn fail_service(&mut self, node: Node, id: &str) {
        self.set_service(node, id, false);
    }

    /// A service ends and cannot be started.
    pub(crate) fn break_service(&mut self, node: Node, id: &str) {
        self.host(node).broken.insert(id.into());
        self.set_service(node, id, false);
    }

    /// A service can be started, and is.
    pub(crate) fn mend_service(&mut self, node: Node, id: &str) {
        self.host(node).broken.remove(id);
        if self.host(node).powered {
            self.set_service(node, id, true);
        }
    }

    /// What was broken could be started again.
    pub(crate) fn repair(&mut self, node: Node) {
        self.host(node).broken.clear();
    }

    /// The manager ends and is started again after so many ms.
    pub(crate) fn kill_manager(&mut self, node: Node, pause: u64) {
        let host = self.host(node);
        if host.machine.take().is_some() {
            host.life += 1;
            host.stalled = false;
            self.after(pause, Due::Start(node));
        }
    }

    /// The manager stands still for so many ms, if systemd lets it.
    pub(crate) fn stall(&mut self, node: Node, ms: u64) {
        if !self.is_up(node) {
            return;
        }
        let watchdog = self.settings.parameters.watchdog.as_millis();
        let watchdog = u64::try_from(watchdog).unwrap_or(u64::MAX);
        let host = self.host(node);
        host.stalled = true;
        let life = host.life;
        self.after(ms, Due::Wake(node));
        self.after(watchdog, Due::Watchdog(node, life));
    }

    /// The node's clock jumps ahead.
    pub(crate) fn jump(&mut self, node: Node, ms: u64) {
        self.host(node).ahead += ms;
    }

    pub(crate) fn set_clock(&mut self, node: Node, ahead: u64, rate: u64) {
        let host = self.host(node);
        (host.ahead, host.rate) = (ahead, rate);
    }

    pub(crate) fn power_off(&mut self, node: Node) {
        let host = self.host(node);
        host.powered = false;
        host.machine = None;
        host.stalled = false;
        host.life += 1;
        host.serving = [None; 2];
        host.services
            .values_mut()
            .for_each(|running| *running = false);
    }

    /// The node boots; its services start a little later.
    pub(crate) fn power_on(&mut self, node: Node, ms: u64) {
        let host = self.host(node);
        if host.powered {
            return;
        }
        host.powered = true;
        host.boot += 1;
        self.after(ms + 1, Due::Start(node));
        for id in [DATABASE, ROUTER] {
            self.after(ms + 50, Due::Service(node, id.into(), true));
        }
    }

    /// The manager is told that its node shuts down, which takes its time.
    pub(crate) fn leave(&mut self, node: Node) {
        self.step(node, Event::Leaving);
    }

    /// The node shuts down in good order.
    pub(crate) fn shut_down(&mut self, node: Node) {
        self.leave(node);
        self.power_off(node);
    }

    pub(crate) fn cut(&mut self, from: Node, cut: bool) {
        self.cut[from.index()] = cut;
        self.judge_link(from);
    }

    fn judge_link(&mut self, from: Node) {
        let clean = !self.cut[from.index()] && self.loss == 0 && self.delay <= 300;
        let since = &mut self.clean_since[from.index()];
        *since = match clean {
            false => u64::MAX,
            true if *since == u64::MAX => self.time,
            true => *since,
        };
    }

    pub(crate) fn isolate(&mut self, node: Node, isolated: bool) {
        self.isolated[node.index()] = isolated;
    }

    /// The quality of the links between the two.
    pub(crate) fn quality(&mut self, loss: u64, doubles: u64, delay: u64) {
        (self.loss, self.doubles, self.delay) = (loss, doubles, delay);
        for node in Node::BOTH {
            self.judge_link(node);
        }
    }

    pub(crate) fn refuse_moves(&mut self, node: Node, refuse: bool) {
        self.host(node).immovable = refuse;
    }

    pub(crate) fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        for node in Node::BOTH {
            let settings = self.settings.clone();
            self.step(node, Event::Configure(settings));
        }
    }

    pub(crate) fn request(&mut self, node: Node, request: Request) -> Result<(), Refusal> {
        if self.host(node).machine.as_ref().is_some_and(Machine::held) {
            for node in Node::BOTH {
                self.host(node).moves.clear();
            }
        }
        let mut answer = None;
        self.act(node, Event::Request(request), &mut answer);
        answer.unwrap_or_else(|| Err(Refusal("nobody answers".into())))
    }

    pub(crate) fn internal_error(&mut self, node: Node) {
        self.step(node, Event::InternalError("the disk is full".into()));
    }

    fn start(&mut self, node: Node) {
        let time = self.time;
        let settings = self.settings.clone();
        let host = &mut self.hosts[node.index()];
        if !host.powered || host.machine.is_some() {
            return;
        }
        let now = host.now(time);
        let boot = format!("{node}, boot {}", host.boot);
        let memory = host.disk.clone();
        let (mut machine, actions) = Machine::start(node, "group", settings, memory, &boot, now);
        if let Some(rule) = self.mutation {
            machine.break_rule(rule);
        }
        host.machine = Some(machine);
        host.alarms.clear();
        host.talks_since = time;
        let life = host.life;
        self.carry_out(node, actions, &mut None);
        self.report(node);
        self.after(1, Due::Tick(node, life));
    }

    /// Tells a manager what is set and what runs.
    fn report(&mut self, node: Node) {
        let settings = self.settings.clone();
        self.step(node, Event::Configure(settings));
        for (id, running) in self.host(node).services.clone() {
            self.step(node, Event::Service { id, running });
        }
    }

    fn step(&mut self, node: Node, event: Event) {
        self.act(node, event, &mut None);
    }

    fn act(&mut self, node: Node, event: Event, answer: &mut Option<Result<(), Refusal>>) {
        let time = self.time;
        let host = &mut self.hosts[node.index()];
        let now = host.now(time);
        let Some(machine) = host.machine.as_mut().filter(|_| !host.stalled) else {
            return;
        };
        let actions = machine.step(event, now);
        host.knew = host.known;
        for home in Node::BOTH {
            let (known, knows) = (&mut host.known[home.index()], machine.ownership(home));
            if knows < *known {
                let violation = format!("{node} went back from {known:?} to {knows:?}");
                self.violations.push(violation);
            }
            *known = knows;
        }
        self.carry_out(node, actions, answer);
    }

    fn carry_out(
        &mut self,
        node: Node,
        actions: Vec<Action>,
        answer: &mut Option<Result<(), Refusal>>,
    ) {
        for action in actions {
            match action {
                Action::Persist(memory) => self.host(node).disk = Some(memory),
                Action::Yield { home, .. } => self.host(node).serving[home.index()] = None,
                Action::Serve { home, epoch } => self.serve(node, home, epoch),
                Action::Start(services) => {
                    for id in services {
                        let pause = 20 + self.random.below(500);
                        self.after(pause, Due::Service(node, id, true));
                    }
                }
                Action::Stop(services) => {
                    for id in services {
                        let pause = 20 + self.random.below(500);
                        self.after(pause, Due::Service(node, id, false));
                    }
                }
                Action::Send(message) => self.send(node, &message),
                Action::Verify { round } => self.verify(node, round),
                Action::Raise(alarm) => {
                    self.host(node).alarms.insert(alarm.id, alarm.text);
                }
                Action::Clear(id) => {
                    self.host(node).alarms.remove(id);
                }
                Action::Record(transition) => self.record(node, transition),
                Action::Answer(given) => *answer = Some(given),
                Action::Restart => self.kill_manager(node, 500),
            }
        }
    }

    fn send(&mut self, node: Node, message: &Keepalive) {
        let copies = 1 + u64::from(self.random.percent(self.doubles));
        for _ in 0..copies {
            if !self.cut[node.index()] && !self.random.percent(self.loss) {
                // Over the wire and back, as it will be.
                let read = Keepalive::decode(&message.encode(), "group");
                let message = read.unwrap_or_else(|error| panic!("{error}"));
                let delay = 1 + self.random.below(self.delay);
                self.after(delay, Due::Message(node.peer(), message));
            }
        }
        if !self.isolated[node.index()] {
            self.after(1, Due::Heard(node));
        }
    }

    fn verify(&mut self, node: Node, round: u64) {
        let now = Duration::from_millis(self.time);
        let verdict = match (self.isolated[node.index()], self.settings.arbiter) {
            (true, _) => Verdict::Isolated,
            (false, Arbiter::KnownHosts) => Verdict::Confirmed,
            (false, Arbiter::ThirdNode) => self.witness.judge(&node.peer().to_string(), now),
        };
        let host = self.host(node);
        host.asked = round;
        let life = host.life;
        // Answers can be late, too.
        let slow = self.delay > 300 && self.random.percent(30);
        let delay = 1 + if slow {
            self.random.below(20_000)
        } else {
            self.random.below(20)
        };
        self.after(delay, Due::Verdict(node, life, round, verdict));
    }

    fn serve(&mut self, node: Node, home: Node, epoch: Epoch) {
        let host = &self.hosts[node.index()];
        let written = host.disk.as_ref().map(|disk| disk.ownership[home.index()]);
        if written.is_none_or(|written| written.epoch() != epoch || written.owner() != Some(node)) {
            let violation = format!("{node} serves {home} in epoch {epoch}, not on the disk");
            self.violations.push(violation);
        }
        let other = self.hosts[node.peer().index()].serving[home.index()];
        if other == Some(epoch) {
            self.violations
                .push(format!("both serve {home} in {epoch}"));
        }
        let host = &mut self.hosts[node.index()];
        let standing = host.machine.as_ref().map(Machine::standing);
        let agreed = standing.is_some_and(|standing| {
            matches!(standing.state, State::TakingOver | State::TakingBack)
                && matches!(
                    standing.reason,
                    Reason::OnAdminRequest
                        | Reason::AutomaticFallback
                        | Reason::CriticalServicesDown
                        | Reason::DatabaseFailure
                )
        });
        let new = host.serving[home.index()] != Some(epoch);
        // Who gave up waiting cannot know of a claim that came after his word.
        if agreed && new && other == Some(host.knew[home.index()].epoch()) {
            let violation = format!("{node} serves {home} before the other has let go");
            self.violations.push(violation);
        }
        host.serving[home.index()] = Some(epoch);
        let (life, moved) = (host.life, !host.immovable);
        let pause = 5 + self.slow_moves + self.random.below(300);
        self.after(pause, Due::Served(node, life, home, epoch, moved));
    }

    fn record(&mut self, node: Node, transition: Transition) {
        let Standing { state, reason } = transition.to;
        let entered = state != transition.from.state;
        let lost = matches!(
            reason,
            Reason::PeerDown | Reason::PeerDownDuringInitialization
        );
        if entered && state == State::TakingOver && lost && transition.peer.is_none() {
            self.promoted(node);
        }
        if entered && state == State::TakingOver && transition.from.state == State::Normal {
            let host = &self.hosts[node.index()];
            if host.services.values().any(|running| !running) {
                self.violations
                    .push(format!("{node} takes over though it is sick"));
            }
        }
        let moves = matches!(
            state,
            State::TakingOver
                | State::FailingOver
                | State::BackupActivated
                | State::FailoverAffectedServices
        );
        if entered && moves && reason.is_failure() {
            let time = self.time;
            let moves = &mut self.host(node).moves;
            moves.retain(|at| time - at < 50 * 60 * 1000);
            moves.push(time);
            // The fourth may cross the word of the other's hold on its way.
            if moves.len() > 4 {
                self.violations.push(format!("{node} goes to and fro"));
            }
        }
        self.host(node).history.push(transition);
    }

    /// Silence made a node take over: was it right?
    fn promoted(&mut self, node: Node) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let parameters = &self.settings.parameters;
        let interval = millis(parameters.keepalive_interval);
        let valid = 2 * interval + millis(parameters.watchdog);
        let confirmed = self.hosts[node.index()].confirmed;
        if confirmed.is_none_or(|at| at + valid < self.time) {
            self.violations.push(format!("{node} takes over unasked"));
        }
        let span = millis(parameters.keepalive_timeout) + interval + 700;
        let peer = &self.hosts[node.peer().index()];
        let clean_since = self.clean_since[node.peer().index()];
        if peer.stalled && clean_since.saturating_add(span) < self.time {
            let violation = format!("{node} takes over while its peer's manager is stalled");
            self.violations.push(violation);
        }
        let since = peer.talks_since.max(clean_since);
        let talks = peer.machine.is_some() && !peer.stalled;
        if talks && since.saturating_add(span) < self.time {
            let violation = format!("{node} takes over from a peer that talks to it");
            self.violations.push(violation);
        }
    }
}

impl Host {
    fn now(&self, time: u64) -> Duration {
        Duration::from_millis(self.ahead + time * self.rate / 1000)
    }
}
