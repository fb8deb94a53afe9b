//! Every order of events of a small pair: a model check (stateright).
//!
//! Time goes in steps of a keepalive interval, each node's clock on its own and
//! at most one step apart. Each direction of the link holds one message, which
//! may be delivered, lost, or overtaken by the next.

use std::time::Duration;

use stateright::{Checker, Model, Property};

use crate::simulation::ROUTER;
use crate::{
    Action, Arbiter, Epoch, Event, Keepalive, Machine, Memory, Node, Parameters, Reason, Request,
    Settings, Standing, State, Verdict,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    machine: Machine,
    disk: Memory,
    /// The message on its way to this node.
    inbox: Option<Keepalive>,
    serving: [Option<Epoch>; 2],
    ticks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pair {
    hosts: [Host; 2],
    /// How much may still go wrong or be asked for.
    budget: u8,
    cut: bool,
    /// A node served what its disk does not say.
    unwritten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Tick(Node),
    Deliver(Node),
    Lose(Node),
    Restart(Node),
    Cut,
    Mend,
    ServiceDown(Node),
    ServiceUp(Node),
    Ask(Node, Request),
}

struct Small {
    arbiter: Arbiter,
    ticks: u64,
    budget: u8,
}

impl Small {
    fn settings(&self) -> Settings {
        let second = Duration::from_secs(1);
        Settings {
            enabled: true,
            arbiter: self.arbiter,
            parameters: Parameters {
                keepalive_interval: second,
                keepalive_timeout: 2 * second,
                initial_timeout: 2 * second,
                critical_service_delay: second,
                ..Parameters::default()
            },
            critical: [ROUTER.to_owned()].into(),
        }
    }

    fn start(&self, node: Node, disk: Option<Memory>, ticks: u64) -> (Machine, Vec<Action>) {
        let now = Duration::from_secs(ticks);
        Machine::start(node, "group", self.settings(), disk, "boot", now)
    }

    fn step(&self, pair: &mut Pair, node: Node, event: Event) {
        let host = &mut pair.hosts[node.index()];
        let now = Duration::from_secs(host.ticks);
        let actions = host.machine.step(event, now);
        self.carry_out(pair, node, actions);
    }

    fn carry_out(&self, pair: &mut Pair, node: Node, actions: Vec<Action>) {
        for action in actions {
            let host = &mut pair.hosts[node.index()];
            match action {
                Action::Persist(memory) => host.disk = memory,
                Action::Yield { home, .. } => host.serving[home.index()] = None,
                Action::Serve { home, epoch } => {
                    let written = host.disk.ownership[home.index()];
                    pair.unwritten |= written.epoch() != epoch;
                    host.serving[home.index()] = Some(epoch);
                    let result = Ok(());
                    self.step(
                        pair,
                        node,
                        Event::Served {
                            home,
                            epoch,
                            result,
                        },
                    );
                }
                Action::Send(message) => {
                    if !pair.cut {
                        pair.hosts[node.peer().index()].inbox = Some(message);
                    }
                }
                Action::Verify { round } => {
                    // Both nodes always run, so a third one hears both.
                    let verdict = match self.arbiter {
                        Arbiter::ThirdNode => Verdict::Denied,
                        Arbiter::KnownHosts => Verdict::Confirmed,
                    };
                    self.step(pair, node, Event::Verdict { round, verdict });
                }
                Action::Start(_) => self.step(pair, node, router(true)),
                Action::Stop(_) => self.step(pair, node, router(false)),
                Action::Restart => self.restart(pair, node),
                Action::Raise(_) | Action::Clear(_) | Action::Record(_) | Action::Answer(_) => {}
            }
        }
    }

    fn restart(&self, pair: &mut Pair, node: Node) {
        let host = &pair.hosts[node.index()];
        let (machine, actions) = self.start(node, Some(host.disk.clone()), host.ticks);
        pair.hosts[node.index()].machine = machine;
        self.carry_out(pair, node, actions);
        self.step(pair, node, router(true));
    }
}

fn router(running: bool) -> Event {
    let id = ROUTER.to_owned();
    Event::Service { id, running }
}

fn state(pair: &Pair, node: Node) -> State {
    pair.hosts[node.index()].machine.standing().state
}

impl Model for Small {
    type State = Pair;
    type Action = Step;

    /// Both nodes Normal.
    fn init_states(&self) -> Vec<Pair> {
        let mut first = Vec::new();
        let hosts = Node::BOTH.map(|node| {
            let (machine, actions) = self.start(node, None, 0);
            first.push((node, actions));
            Host {
                machine,
                disk: Memory::first("boot"),
                inbox: None,
                serving: [None; 2],
                ticks: 0,
            }
        });
        let mut pair = Pair {
            hosts,
            budget: self.budget,
            cut: false,
            unwritten: false,
        };
        for (node, actions) in first {
            self.carry_out(&mut pair, node, actions);
            self.step(&mut pair, node, router(true));
        }
        for _ in 0..6 {
            for node in Node::BOTH {
                if let Some(message) = pair.hosts[node.index()].inbox.take() {
                    self.step(&mut pair, node, Event::Message(message));
                }
            }
        }
        assert!(
            Node::BOTH
                .iter()
                .all(|node| state(&pair, *node) == State::Normal)
        );
        vec![pair]
    }

    fn actions(&self, pair: &Pair, steps: &mut Vec<Step>) {
        for node in Node::BOTH {
            let (host, other) = (&pair.hosts[node.index()], &pair.hosts[node.peer().index()]);
            if host.ticks < self.ticks && host.ticks <= other.ticks {
                steps.push(Step::Tick(node));
            }
            if host.inbox.is_some() {
                steps.push(Step::Deliver(node));
            }
            if pair.budget > 0 {
                if host.inbox.is_some() {
                    steps.push(Step::Lose(node));
                }
                steps.push(Step::Restart(node));
                steps.push(Step::ServiceDown(node));
                steps.push(Step::ServiceUp(node));
                steps.push(Step::Ask(node, Request::Failover));
                steps.push(Step::Ask(node, Request::Fallback));
            }
        }
        if pair.cut {
            steps.push(Step::Mend);
        } else if pair.budget > 0 {
            steps.push(Step::Cut);
        }
    }

    fn next_state(&self, pair: &Pair, step: Step) -> Option<Pair> {
        let mut next = pair.clone();
        if !matches!(step, Step::Tick(_) | Step::Deliver(_) | Step::Mend) {
            next.budget -= 1;
        }
        match step {
            Step::Tick(node) => {
                next.hosts[node.index()].ticks += 1;
                self.step(&mut next, node, Event::Tick);
            }
            Step::Deliver(node) => {
                let message = next.hosts[node.index()].inbox.take()?;
                self.step(&mut next, node, Event::Message(message));
            }
            Step::Lose(node) => next.hosts[node.index()].inbox = None,
            Step::Restart(node) => self.restart(&mut next, node),
            Step::Cut => {
                next.cut = true;
                next.hosts.iter_mut().for_each(|host| host.inbox = None);
            }
            Step::Mend => next.cut = false,
            Step::ServiceDown(node) => self.step(&mut next, node, router(false)),
            Step::ServiceUp(node) => self.step(&mut next, node, router(true)),
            Step::Ask(node, request) => self.step(&mut next, node, Event::Request(request)),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("one owner in one epoch", |_, pair| {
                let [one, two] = &pair.hosts;
                let both = one.serving.iter().zip(&two.serving);
                both.into_iter()
                    .all(|(one, two)| one.is_none() || one != two)
            }),
            Property::<Self>::always("written before served", |_, pair| !pair.unwritten),
            Property::<Self>::always("served as known", |_, pair| {
                Node::BOTH.into_iter().all(|node| {
                    let host = &pair.hosts[node.index()];
                    Node::BOTH.into_iter().all(|home| {
                        let known = host.machine.ownership(home);
                        let served = host.serving[home.index()];
                        served.is_none_or(|epoch| known.admits(epoch))
                    })
                })
            }),
            Property::<Self>::sometimes("a failover by hand is complete", |_, pair| {
                state(pair, Node::One) == State::Idle && state(pair, Node::Two).is_backup()
            }),
            Property::<Self>::sometimes("users are taken back", |_, pair| {
                let one = &pair.hosts[0].machine;
                one.standing().state == State::Normal
                    && one.ownership(Node::One).epoch().number() > 2
            }),
        ];
        match self.arbiter {
            // It hears both all the time.
            Arbiter::ThirdNode => properties.push(Property::<Self>::always(
                "nobody is taken over whom a third node hears",
                |_, pair| {
                    pair.hosts.iter().all(|host| {
                        let Standing { state, reason } = host.machine.standing();
                        let over = state == State::TakingOver || state.is_backup();
                        !over || reason != Reason::PeerDown
                    })
                },
            )),
            Arbiter::KnownHosts => properties.push(Property::<Self>::sometimes(
                "each node has taken the other over",
                |_, pair| Node::BOTH.iter().all(|node| state(pair, *node).is_backup()),
            )),
        }
        properties
    }
}

fn check(arbiter: Arbiter, ticks: u64, budget: u8) {
    let model = Small {
        arbiter,
        ticks,
        budget,
    };
    let checker = model.checker().spawn_bfs().join();
    println!(
        "{} states, {} of them different",
        checker.state_count(),
        checker.unique_state_count()
    );
    checker.assert_properties();
}

#[test]
fn every_order_of_events_of_two_nodes_alone() {
    check(Arbiter::KnownHosts, 2, 2);
}

#[test]
fn every_order_of_events_with_a_third_node() {
    check(Arbiter::ThirdNode, 2, 2);
}
