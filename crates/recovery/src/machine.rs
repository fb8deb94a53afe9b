//! The recovery manager of one node: events and the time go in, actions come
//! out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::{Action, Event, Refusal, Request, Settings, Verdict};
use crate::flapping::Flapping;
use crate::health::Health;
use crate::history::Transition;
use crate::memory::Memory;
use crate::message::{Keepalive, VERSION};
use crate::mutation::Mutation;
use crate::ownership::{Epoch, Node, Ownership};
use crate::peer::Peer;
use crate::rules::Decision;
use crate::state::{Reason, Standing, State};
use crate::table;

/// One event leads to a few decisions in a row at most.
const MANY: usize = 12;

/// How a manager ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    /// With its node.
    Leaving,
    /// To start anew.
    Restart,
}

/// The machine of one node.
///
/// [`Machine::step`] is a function of the machine, the event and the time and
/// of nothing else. The rules are in `rules.rs`, state by state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    pub(crate) node: Node,
    group: String,
    boot: String,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    at: Duration,
    standing: Standing,
    /// When this state began.
    pub(crate) since: Duration,
    pub(crate) health: Health,
    replication: u8,
    pub(crate) peer: Peer,
    ownership: [Ownership; 2],
    /// How the latest order to serve ended, and in which epoch.
    adopted: [Option<(Epoch, Result<(), String>)>; 2],
    /// What the last step left in force; nothing is known at the start.
    served: [Option<Option<Epoch>>; 2],
    incarnation: u64,
    sequence: u64,
    sent: Option<(Keepalive, Duration)>,
    /// Whether the peer is to have a message at once.
    waited_for: bool,
    pub(crate) manual: bool,
    pub(crate) recovery: u64,
    pub(crate) flapping: Flapping,
    /// The node was switched on since the memory was written: its services
    /// hold nothing yet.
    fresh: bool,
    pub(crate) error: Option<String>,
    end: Option<End>,
    written: Option<(Memory, Flapping)>,
    pub(crate) raised: BTreeMap<&'static str, String>,
    #[cfg(any(test, feature = "mutation"))]
    mutation: Option<Mutation>,
}

impl Machine {
    /// The machine of a manager that starts. `memory` is what the last
    /// [`Action::Persist`] wrote, `boot` the identity of the node's boot, `now`
    /// a time on any clock that only grows.
    pub fn start(
        node: Node,
        group: &str,
        settings: Settings,
        memory: Option<Memory>,
        boot: &str,
        now: Duration,
    ) -> (Self, Vec<Action>) {
        let fresh = memory.as_ref().is_none_or(|memory| memory.boot != boot);
        let memory = memory.unwrap_or_else(|| Memory::first(boot));
        let clock = Clock::new(now);
        let lived = clock.now();
        let mut machine = Self {
            node,
            group: group.into(),
            boot: boot.into(),
            health: Health::new(settings.critical.clone(), lived),
            settings,
            clock,
            at: now,
            standing: Standing::new(State::Initializing, Reason::Initialization),
            since: lived,
            replication: 0,
            peer: Peer::new(memory.peer_incarnation, lived),
            ownership: memory.ownership,
            adopted: [None, None],
            served: [None, None],
            incarnation: memory.incarnation + 1,
            sequence: 0,
            sent: None,
            waited_for: false,
            manual: memory.manual,
            recovery: memory.recovery,
            flapping: Flapping::restore(&memory.failovers, memory.hold, lived),
            fresh,
            error: None,
            end: None,
            written: None,
            raised: BTreeMap::new(),
            #[cfg(any(test, feature = "mutation"))]
            mutation: None,
        };
        let actions = machine.step(Event::Tick, now);
        (machine, actions)
    }

    /// Breaks a rule from now on: for tests that must notice.
    #[cfg(any(test, feature = "mutation"))]
    pub fn break_rule(&mut self, rule: Mutation) {
        self.mutation = Some(rule);
    }

    /// State and reason.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// What is known of who serves that node's users.
    pub fn ownership(&self, home: Node) -> Ownership {
        self.ownership[home.index()]
    }

    /// State and reason of the peer, unless it is silent or has left.
    pub fn peer_standing(&self) -> Option<Standing> {
        self.heard().map(|peer| peer.standing)
    }

    /// Whether failovers came too often, so that nothing moves by itself.
    pub fn held(&self) -> bool {
        self.flapping.held()
    }

    /// Takes an event at `now`.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.end.is_some() {
            return actions;
        }
        self.at = now;
        let longest = match self.broken(Mutation::CountStalls) {
            true => Duration::MAX,
            false => self.settings.parameters.keepalive_interval,
        };
        self.clock.advance(now, longest);
        self.flapping.expire(self.clock.now());
        let mut answer = self.note(event, &mut actions);
        for _ in 0..MANY {
            // Who leaves has let everybody go, and claims nobody anew.
            let leaving = self.end == Some(End::Leaving);
            let Some(decision) = self.decide().filter(|_| !leaving) else {
                break;
            };
            self.apply(decision, &mut actions);
        }
        self.question(&mut actions);
        self.ensue(&mut actions);
        actions.append(&mut answer);
        if self.end == Some(End::Restart) {
            actions.push(Action::Restart);
        }
        actions
    }

    /// Takes the event in; gives what is to be done after all else.
    fn note(&mut self, event: Event, actions: &mut Vec<Action>) -> Vec<Action> {
        let now = self.clock.now();
        match event {
            Event::Tick => {}
            Event::Configure(settings) => {
                self.health.expect(settings.critical.clone(), now);
                self.settings = settings;
            }
            Event::Service { id, running } => self.health.observe(id, running, now),
            Event::Replication(state) => self.replication = state,
            Event::Message(message) => self.hear(message, actions),
            Event::Verdict { round, verdict } => {
                let lenient = self.broken(Mutation::StaleVerdict);
                self.peer.answer(round, verdict, now, lenient);
            }
            Event::Served {
                home,
                epoch,
                result,
            } => {
                if epoch == self.ownership(home).epoch() {
                    self.adopted[home.index()] = Some((epoch, result));
                }
            }
            Event::Request(request) => {
                let answer = self.request(request);
                let result = answer.map(|decision| {
                    self.flapping.acknowledge();
                    self.apply(decision, actions);
                });
                return vec![Action::Answer(result)];
            }
            Event::Leaving => self.leave(actions),
            Event::InternalError(error) => self.error = Some(error),
        }
        Vec::new()
    }

    fn hear(&mut self, message: Keepalive, actions: &mut Vec<Action>) {
        if message.node == self.node {
            return;
        }
        // A node that lost its memory counts its starts on from what its peer
        // has heard; it would not be listened to otherwise.
        if message.heard.is_some_and(|heard| heard > self.incarnation) {
            self.incarnation = message.heard.unwrap_or_default() + 1;
        }
        let (ownership, recovery) = (message.ownership, message.recovery);
        // A manager that starts, or does not know this one, waits for a word.
        let before = self.peer.last().map(|before| before.incarnation);
        self.waited_for =
            before != Some(message.incarnation) || message.heard != Some(self.incarnation);
        if !self.peer.hear(message, self.clock.now()) {
            return;
        }
        for (mine, theirs) in self.ownership.iter_mut().zip(ownership) {
            *mine = theirs.max(*mine);
        }
        if self.broken(Mutation::OlderNews) {
            self.ownership = ownership;
        }
        if recovery > self.recovery {
            self.recovery = recovery;
            if self.standing.state == State::RunningInFailedMode {
                let seen = format!("An administrator has {} recover.", self.node.peer());
                let decision = self.recover(seen);
                self.apply(decision, actions);
            }
        }
    }

    /// Lets everybody go before the node goes down.
    fn leave(&mut self, actions: &mut Vec<Action>) {
        self.end = Some(End::Leaving);
        if self.settings.enabled && self.standing.state != State::Initializing {
            let Standing { state, reason } = self.standing;
            let decision = Decision::to(state, reason, "This node shuts down.")
                .release(self.node)
                .release(self.node.peer());
            self.apply(decision, actions);
        }
    }

    /// What an administrator's request leads to.
    fn request(&mut self, request: Request) -> Result<Decision, Refusal> {
        let state = self.standing.state;
        let refuse = |text: String| Err(Refusal(text));
        if !self.settings.enabled {
            return refuse("high availability is off; enable it for the group first".into());
        }
        let seen = "An administrator asked for it.";
        match request {
            Request::Failover if state == State::Normal => match self.heard() {
                Some(peer) if peer.standing.state == State::Normal && peer.healthy() => {
                    Ok(self.fail_over(Reason::OnAdminRequest, seen))
                }
                Some(peer) => refuse(format!(
                    "{} cannot take the users over: it is {}, and these critical services are \
                     down: {}",
                    self.node.peer(),
                    peer.standing,
                    down(peer)
                )),
                None => refuse(format!(
                    "{} is not heard; check it and the network",
                    self.node.peer()
                )),
            },
            Request::Fallback if matches!(state, State::Idle | State::FailedOver) => {
                Ok(Decision::to(State::TakingBack, Reason::OnAdminRequest, seen).start())
            }
            Request::Fallback if state.is_failed_over() => refuse(format!(
                "critical services of {} are down ({}); start them first",
                self.node,
                self.health.words()
            )),
            Request::Recover if state == State::RunningInFailedMode => {
                if !self.broken(Mutation::LonelyRecovery) {
                    self.recovery += 1;
                }
                Ok(self.recover(seen.into()))
            }
            Request::Failover | Request::Fallback => refuse(format!(
                "{} is {}; it can fail over only while it is Normal, and fall back only while it \
                 is Idle or Failed Over",
                self.node, self.standing
            )),
            Request::Recover => refuse(format!(
                "{} is {}; only nodes in failed mode are recovered",
                self.node, self.standing
            )),
        }
    }

    /// Leaves failed mode: the services are started, and the manager anew.
    fn recover(&mut self, seen: String) -> Decision {
        self.end = Some(End::Restart);
        let Standing { state, reason } = self.standing;
        Decision::to(state, reason, seen).start()
    }

    fn apply(&mut self, decision: Decision, actions: &mut Vec<Action>) {
        let now = self.clock.now();
        let from = self.standing;
        let mut words = vec![decision.to.to_string()];
        for home in Node::BOTH {
            let ownership = &mut self.ownership[home.index()];
            let mine = ownership.owner() == Some(self.node);
            if decision.release[home.index()] && mine {
                *ownership = ownership.released();
                words.push(format!("let the users of {home} go"));
            }
            if decision.claim[home.index()] && !mine {
                *ownership = ownership.claimed(self.node);
                let epoch = ownership.epoch();
                words.push(format!("serve the users of {home} in epoch {epoch}"));
            }
        }
        let Standing { state, reason } = decision.to;
        self.standing = decision.to;
        if state != from.state {
            self.since = now;
            let moves = matches!(
                state,
                State::FailingOver
                    | State::TakingOver
                    | State::FailoverAffectedServices
                    | State::BackupActivated
            );
            if moves && reason.is_failure() && !self.broken(Mutation::NoHold) {
                self.flapping.count(now);
            }
            let by_hand = reason == Reason::OnAdminRequest;
            self.manual = match state {
                State::Idle => true,
                State::FailingOver => by_hand,
                State::Initializing => self.manual,
                _ => false,
            };
        }
        if decision.start {
            self.manual = false;
            self.health.begin(now);
            words.push("start the critical services".into());
            actions.push(Action::Start(self.health.critical().clone()));
        }
        if decision.stop {
            words.push("stop the critical services".into());
            actions.push(Action::Stop(self.health.stoppable()));
        }
        let peer = self.peer_standing();
        actions.push(Action::Record(Transition {
            at: self.at,
            from,
            to: self.standing,
            peer,
            seen: decision.seen,
            decided: format!("{}.", words.join("; ")),
            advice: table::explain(Some(self.standing), peer).map_or(&[], |row| row.advice),
        }));
    }

    /// Asks about a peer that is silent, if that can make a difference.
    fn question(&mut self, actions: &mut Vec<Action>) {
        let matters = !matches!(
            self.standing.state,
            State::Unknown
                | State::RunningInFailedMode
                | State::RunningInBackupMode
                | State::BackupActivated
                | State::TakingOver
        );
        if self.settings.enabled && self.lost() && matters && self.end.is_none() {
            let interval = self.settings.parameters.keepalive_interval;
            if let Some(round) = self.peer.question(self.clock.now(), interval) {
                actions.push(Action::Verify { round });
            }
        }
    }

    /// Brings the world in line with what was decided: what is written first,
    /// then what is let go and taken, then what is told.
    fn ensue(&mut self, decided: &mut Vec<Action>) {
        let mut actions = Vec::new();
        self.write(&mut actions);
        for home in Node::BOTH {
            let wanted = self.wanted(home);
            let served = &mut self.served[home.index()];
            if *served == Some(wanted) {
                continue;
            }
            *served = Some(wanted);
            if wanted.is_some() {
                self.adopted[home.index()] = None;
            }
            let latest = self.ownership[home.index()].epoch();
            actions.push(match wanted {
                Some(epoch) => Action::Serve { home, epoch },
                None => Action::Yield {
                    home,
                    epoch: latest,
                },
            });
        }
        // Users are let go before others are taken.
        actions.sort_by_key(|action| matches!(action, Action::Serve { .. }));
        let (records, orders): (Vec<_>, Vec<_>) = decided
            .drain(..)
            .partition(|action| matches!(action, Action::Record(_)));
        actions.extend(orders);
        self.tell(&mut actions);
        self.alarm(&mut actions);
        actions.extend(records);
        *decided = actions;
    }

    fn write(&mut self, actions: &mut Vec<Action>) {
        let mut memory = Memory {
            incarnation: self.incarnation,
            boot: self.boot.clone(),
            peer_incarnation: self.peer.incarnation(),
            ownership: self.ownership,
            manual: self.manual,
            recovery: self.recovery,
            failovers: Vec::new(),
            hold: None,
        };
        if self.broken(Mutation::Forgetful) {
            memory.ownership = Node::BOTH.map(Ownership::first);
        }
        // The times left change all the time; what they are times of does not.
        let news = (memory.clone(), self.flapping.clone());
        if self.written.as_ref() != Some(&news) {
            self.written = Some(news);
            (memory.failovers, memory.hold) = self.flapping.left(self.clock.now());
            actions.push(Action::Persist(memory));
        }
    }

    /// The epoch in which this node is to serve these users.
    fn wanted(&self, home: Node) -> Option<Epoch> {
        let ownership = self.ownership(home);
        let mine = ownership.owner() == Some(self.node);
        // After a reboot the memory may be old: the peer has that long to say
        // that it took over meanwhile.
        let early = self.standing.state == State::Initializing
            && self.fresh
            && self.clock.now() < self.settings.parameters.keepalive_timeout;
        let going = self.broken(Mutation::ServeWhileFailingOver)
            && self.standing.state == State::FailingOver
            && ownership.epoch().owner() == self.node;
        if self.broken(Mutation::NoYield) && !mine {
            return self.served[home.index()].flatten();
        }
        (mine && !early || going).then(|| ownership.epoch())
    }

    fn tell(&mut self, actions: &mut Vec<Action>) {
        let now = self.clock.now();
        let parameters = &self.settings.parameters;
        let silence = self.peer.silence(now);
        let message = Keepalive {
            version: VERSION,
            group: self.group.clone(),
            node: self.node,
            boot: self.boot.clone(),
            incarnation: self.incarnation,
            sequence: self.sequence + 1,
            heard: (self.peer.incarnation() > 0).then(|| self.peer.incarnation()),
            silent: u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
            standing: self.standing,
            ownership: self.ownership,
            services: self.health.services(),
            sick: self.sick().is_some(),
            replication: self.replication,
            held: self.held(),
            recovery: self.recovery,
            leaving: self.end == Some(End::Leaving),
        };
        let due = self.sent.as_ref().is_none_or(|(sent, at)| {
            !sent.same_news(&message)
                || now.saturating_sub(*at) >= parameters.keepalive_interval
                || self.waited_for
        });
        if due {
            self.waited_for = false;
            self.sequence += 1;
            self.sent = Some((message.clone(), now));
            actions.push(Action::Send(message));
        }
    }
}

/// What the rules ask.
impl Machine {
    pub(crate) fn state(&self) -> State {
        self.standing.state
    }

    pub(crate) fn reason(&self) -> Reason {
        self.standing.reason
    }

    pub(crate) fn own(&self) -> Option<Node> {
        self.ownership(self.node).owner()
    }

    pub(crate) fn foreign(&self) -> Option<Node> {
        self.ownership(self.node.peer()).owner()
    }

    /// The peer's last message, unless it is silent or has left.
    pub(crate) fn heard(&self) -> Option<&Keepalive> {
        let last = self.peer.last()?;
        (!last.leaving && !self.lost()).then_some(last)
    }

    /// Whether the peer has been silent for too long.
    pub(crate) fn lost(&self) -> bool {
        let parameters = &self.settings.parameters;
        let timeout = match self.standing.state {
            State::Initializing => parameters.initial_timeout,
            _ => parameters.keepalive_timeout,
        };
        self.silence() >= timeout
    }

    /// For how long the peer has been silent.
    pub(crate) fn silence(&self) -> Duration {
        self.peer.silence(self.clock.now())
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let interval = self.settings.parameters.keepalive_interval;
        self.peer.verdict(self.clock.now(), interval)
    }

    /// Whether the peer is gone, and why: it said goodbye, or it is silent and
    /// the arbiter agrees.
    pub(crate) fn gone(&self) -> Option<Reason> {
        if self.peer.last().is_some_and(|peer| peer.leaving) {
            return Some(Reason::PeerReboot);
        }
        let agreed = self.verdict() == Some(Verdict::Confirmed) || self.broken(Mutation::NoVerdict);
        (self.lost() && agreed).then_some(match self.standing.state {
            State::Initializing => Reason::PeerDownDuringInitialization,
            _ => Reason::PeerDown,
        })
    }

    pub(crate) fn healthy(&self) -> bool {
        self.health.healthy() || self.broken(Mutation::TakeOverSick)
    }

    /// The reason to give this node up, if it has lasted for long enough.
    pub(crate) fn sick(&self) -> Option<Reason> {
        let delay = self.settings.parameters.critical_service_delay;
        self.health.sick(self.clock.now(), delay)
    }

    /// Whether nothing may move by itself.
    pub(crate) fn holds(&self) -> bool {
        self.held() || self.heard().is_some_and(|peer| peer.held)
    }

    /// How the move of these users to this node ended, if it has.
    pub(crate) fn adoption(&self, home: Node) -> Option<&Result<(), String>> {
        let (epoch, result) = self.adopted[home.index()].as_ref()?;
        (*epoch == self.ownership(home).epoch()).then_some(result)
    }

    /// For how long the node has been in its state.
    pub(crate) fn age(&self) -> Duration {
        self.clock.now().saturating_sub(self.since)
    }

    #[cfg(any(test, feature = "mutation"))]
    pub(crate) fn broken(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    #[cfg(not(any(test, feature = "mutation")))]
    #[expect(clippy::unused_self, reason = "in tests it is asked")]
    pub(crate) fn broken(&self, _: Mutation) -> bool {
        false
    }
}

/// A peer's critical services that are down, in words.
fn down(peer: &Keepalive) -> String {
    let ids: Vec<&str> = peer
        .services
        .iter()
        .filter(|(_, running)| !**running)
        .map(|(id, _)| id.as_str())
        .collect();
    match ids.is_empty() {
        true => "none".into(),
        false => ids.join(", "),
    }
}
