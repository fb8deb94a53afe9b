//! The driver: what was seen goes into the machine, what it decides is carried
//! out.
//!
//! One loop owns machine and witness. What takes time is done beside it by the
//! [`Hands`], whose results come back as an [`Input`], so that the loop never
//! waits for anybody; only what must be on the disk before the next action is
//! written in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use recovery::{
    Action, Alarm, Arbiter, Epoch, Event, Keepalive, Machine, Node, Parameters, Refusal, Request,
    Verdict, Witness,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::disk::Stored;
use crate::group::{Known, Services, View};
use crate::history::Entry;
use crate::serving::{Home, Serving};
use crate::status::{ALONE, NOT_ENABLED, NodeStatus, Status, words};

/// An alarm of the driver's own: a parameter that cannot be used.
const PARAMETER: &str = "SRMParameterInvalid";
/// Another: what the peer says cannot be understood.
const MESSAGE: &str = "SRMPeerMessageRefused";

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A keepalive of that node came.
    Keepalive { from: String, message: Vec<u8> },
    /// Another node asks whether that one is gone.
    Judge {
        node: String,
        answer: oneshot::Sender<bool>,
    },
    /// An administrator asks for something.
    Request {
        request: Request,
        caller: String,
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Somebody wants to see the group's state.
    Status(oneshot::Sender<Status>),
    /// The database told something new.
    Known(Known),
    /// How the services are.
    Services(Services),
    /// State of replication.
    Replication(u8),
    /// The arbiter's answer to a question.
    Verdict { round: u64, verdict: Verdict },
    /// How it ended to get ready for these users.
    Adopted {
        home: Node,
        epoch: Epoch,
        result: Result<(), String>,
    },
    /// The node shuts down.
    Leaving(oneshot::Sender<()>),
}

/// What the driver has others do. None of it waits, but for what is written to
/// the disk.
pub(crate) trait Hands {
    /// Writes the memory; it is on the disk when this returns.
    fn persist(&mut self, stored: &Stored) -> io::Result<()>;
    /// Takes a new view: addresses, ports, the time of the watchdog.
    fn configure(&mut self, view: &View);
    /// Sends a keepalive to these nodes.
    fn send(&mut self, to: &[String], message: Vec<u8>);
    /// Asks about a silent node, for at most that long. Ends with
    /// [`Input::Verdict`].
    fn verify(&mut self, about: &str, thirds: Vec<String>, round: u64, limit: Duration);
    /// Gets this node ready to serve these users, for at most that long. Ends
    /// with [`Input::Adopted`], unless an order for the same home comes before.
    fn adopt(&mut self, home: Node, epoch: Epoch, limit: Duration);
    /// Stops getting ready.
    fn give_up(&mut self, home: Node);
    /// Starts services.
    fn start(&mut self, ids: Vec<String>);
    /// Stops services.
    fn stop(&mut self, ids: Vec<String>);
    /// Raises an alarm, or changes its words.
    fn raise(&mut self, alarm: &Alarm);
    /// Clears an alarm.
    fn clear(&mut self, id: &'static str);
    /// Keeps an entry of the history.
    fn record(&mut self, entry: Entry);
    /// Says that the loop runs.
    fn alive(&mut self);
}

/// Why a driver's loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to.
    Stopped,
    /// The machine wants to be started anew.
    Restart,
}

/// The driver of one node.
pub(crate) struct Driver<H> {
    hands: H,
    /// Identity of the node's boot.
    boot: String,
    origin: Instant,
    view: View,
    services: Services,
    replication: u8,
    machine: Machine,
    witness: Witness,
    epochs: BTreeMap<String, u64>,
    /// What was written last.
    stored: Option<Stored>,
    /// Alarms of the machine that stand.
    raised: BTreeSet<&'static str>,
    /// The last keepalive of the peer.
    peer: Option<Keepalive>,
    serving: watch::Sender<Serving>,
    restart: bool,
}

impl<H: Hands> Driver<H> {
    /// The driver of the node that `view` is of, with what was stored last.
    /// `serving` is kept up to date.
    pub(crate) fn start(
        hands: H,
        boot: &str,
        view: View,
        services: Services,
        stored: Option<Stored>,
        serving: watch::Sender<Serving>,
    ) -> io::Result<Self> {
        let origin = Instant::now();
        let now = origin.elapsed();
        let epochs = stored.as_ref().map(|stored| stored.epochs.clone());
        let memory = stored.as_ref().map(|stored| stored.memory_for(&view));
        let settings = view.settings(&services);
        let name = &view.group.name;
        let (machine, actions) = Machine::start(view.place(), name, settings, memory, boot, now);
        let mut driver = Self {
            hands,
            boot: boot.into(),
            origin,
            machine,
            witness: witness(&view.parameters, now),
            view,
            services,
            replication: 0,
            epochs: epochs.unwrap_or_default(),
            stored,
            raised: BTreeSet::new(),
            peer: None,
            serving,
            restart: false,
        };
        driver.configured();
        driver.forget_others();
        driver.carry_out(actions, &mut None)?;
        driver.report()?;
        Ok(driver)
    }

    /// Takes inputs until the channel is closed or the machine wants to be
    /// started anew. An error is one of the disk: what is not written down must
    /// not be acted on.
    pub(crate) async fn run(&mut self, inputs: &mut mpsc::Receiver<Input>) -> io::Result<End> {
        loop {
            self.hands.alive();
            let tick = tokio::time::sleep(self.view.parameters.keepalive_interval / 3);
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take(input)?,
                    None => return Ok(End::Stopped),
                },
                () = tick => {}
            }
            // Messages can come closer together than the pauses of the tick.
            self.witness.tick(self.origin.elapsed());
            self.step(Event::Tick)?;
            if self.restart {
                return Ok(End::Restart);
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn take(&mut self, input: Input) -> io::Result<()> {
        match input {
            Input::Keepalive { from, message } => self.hear(&from, &message),
            Input::Judge { node, answer } => {
                let gone = self.witness.judge(&node, self.now()) == Verdict::Confirmed;
                // Whoever asked may have given up.
                let _ = answer.send(gone);
                Ok(())
            }
            Input::Request {
                request,
                caller,
                answer,
            } => {
                tracing::info!(?request, caller, "An administrator asks the machine.");
                self.act(Event::Request(request), &mut Some(answer))
            }
            Input::Status(answer) => {
                let _ = answer.send(self.status());
                Ok(())
            }
            Input::Known(known) => self.know(&known),
            Input::Services(services) => self.observe(services),
            Input::Replication(state) => {
                self.replication = state;
                self.step(Event::Replication(state))
            }
            Input::Verdict { round, verdict } => self.step(Event::Verdict { round, verdict }),
            Input::Adopted {
                home,
                epoch,
                result,
            } => {
                if result.is_ok() && self.machine.ownership(home).epoch() == epoch {
                    self.publish(home, epoch, true);
                }
                self.step(Event::Served {
                    home,
                    epoch,
                    result,
                })
            }
            Input::Leaving(answer) => {
                tracing::info!("The node shuts down.");
                self.step(Event::Leaving)?;
                let _ = answer.send(());
                Ok(())
            }
        }
    }

    fn step(&mut self, event: Event) -> io::Result<()> {
        self.act(event, &mut None)
    }

    fn act(
        &mut self,
        event: Event,
        answer: &mut Option<oneshot::Sender<Result<(), Refusal>>>,
    ) -> io::Result<()> {
        let now = self.now();
        let actions = self.machine.step(event, now);
        self.carry_out(actions, answer)?;
        self.refuse_older();
        Ok(())
    }

    /// Makes the epochs known of those who are not served here: an older one is
    /// to be refused.
    fn refuse_older(&self) {
        let homes = Node::BOTH.into_iter().filter_map(|place| {
            let epoch = self.machine.ownership(place).epoch().number();
            Some((self.view.home(place)?, epoch))
        });
        let homes: Vec<_> = homes.collect();
        self.serving.send_if_modified(|serving| {
            let mut news = false;
            for (name, epoch) in homes {
                let older = |home: &Home| !home.served && home.epoch < epoch;
                if serving.get(name).as_ref().is_some_and(older) {
                    let served = false;
                    serving.set(name, Home { epoch, served });
                    news = true;
                }
            }
            news
        });
    }

    fn hear(&mut self, from: &str, message: &[u8]) -> io::Result<()> {
        self.witness.hear(from, self.now());
        if self.view.peer() != Some(from) {
            return Ok(());
        }
        match Keepalive::decode(message, &self.view.group.name) {
            Ok(keepalive) if keepalive.node == self.view.place().peer() => {
                self.hands.clear(MESSAGE);
                self.peer = Some(keepalive.clone());
                self.step(Event::Message(keepalive))
            }
            // The two do not have the same table yet.
            Ok(_) => Ok(()),
            Err(error) => {
                self.hands.raise(&Alarm {
                    id: MESSAGE,
                    severity: recovery::Severity::Error,
                    text: format!("What {from} says is not taken: {error}."),
                });
                Ok(())
            }
        }
    }

    /// Takes what the database told. Another group is another machine.
    fn know(&mut self, known: &Known) -> io::Result<()> {
        let view = View::new(&self.view.own, known, &self.view.parameters);
        if view == self.view {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.view, view);
        self.configured();
        let timing = |view: &View| {
            (
                view.parameters.keepalive_interval,
                view.parameters.keepalive_timeout,
            )
        };
        if timing(&before) != timing(&self.view) {
            self.witness = witness(&self.view.parameters, self.now());
        }
        let same =
            (before.homes(), &before.group.name) == (self.view.homes(), &self.view.group.name);
        if same {
            return self.step(Event::Configure(self.view.settings(&self.services)));
        }
        tracing::info!(
            group = self.view.group.name,
            "The redundancy group is another one."
        );
        self.forget_others();
        self.peer = None;
        for id in std::mem::take(&mut self.raised) {
            self.hands.clear(id);
        }
        let memory = self.stored.as_ref();
        let by_hand = memory.is_some_and(|stored| stored.memory.manual);
        let memory = memory.map(|stored| stored.memory_for(&self.view));
        let (machine, actions) = Machine::start(
            self.view.place(),
            &self.view.group.name,
            self.view.settings(&self.services),
            memory,
            &self.boot,
            self.now(),
        );
        self.machine = machine;
        self.carry_out(actions, &mut None)?;
        if by_hand {
            // Nobody could fall back to this node any more.
            let critical = self.services.critical(&self.view.parameters);
            self.hands.start(critical.into_iter().collect());
        }
        self.report()
    }

    /// What is not of the group is not served here.
    fn forget_others(&mut self) {
        let homes = self.view.homes();
        let others: Vec<(String, u64)> = self
            .epochs
            .iter()
            .filter(|(name, _)| !homes.iter().flatten().any(|home| home == *name))
            .map(|(name, epoch)| (name.clone(), *epoch))
            .collect();
        if others.is_empty() {
            return;
        }
        self.serving.send_modify(|serving| {
            for (name, epoch) in others {
                let served = false;
                serving.set(&name, Home { epoch, served });
            }
        });
    }

    fn configured(&mut self) {
        self.hands.configure(&self.view);
        match &self.view.invalid {
            None => self.hands.clear(PARAMETER),
            Some(invalid) => self.hands.raise(&Alarm {
                id: PARAMETER,
                severity: recovery::Severity::Warning,
                text: format!("A parameter cannot be used, and those from before hold: {invalid}."),
            }),
        }
    }

    fn observe(&mut self, services: Services) -> io::Result<()> {
        let before = std::mem::replace(&mut self.services, services);
        if before == self.services {
            return Ok(());
        }
        let parameters = &self.view.parameters;
        if before.critical(parameters) != self.services.critical(parameters) {
            self.step(Event::Configure(self.view.settings(&self.services)))?;
        }
        self.report()
    }

    /// Tells the machine how the services are.
    fn report(&mut self) -> io::Result<()> {
        for (id, seen) in self.services.0.clone() {
            let running = seen.running;
            self.step(Event::Service { id, running })?;
        }
        self.step(Event::Replication(self.replication))
    }

    fn carry_out(
        &mut self,
        actions: Vec<Action>,
        answer: &mut Option<oneshot::Sender<Result<(), Refusal>>>,
    ) -> io::Result<()> {
        for action in actions {
            match action {
                Action::Persist(memory) => {
                    for place in Node::BOTH {
                        if let Some(home) = self.view.home(place) {
                            let epoch = memory.ownership[place.index()].epoch().number();
                            self.epochs.insert(home.into(), epoch);
                        }
                    }
                    let stored = Stored {
                        homes: self.view.homes(),
                        epochs: self.epochs.clone(),
                        memory,
                    };
                    self.hands.persist(&stored)?;
                    self.stored = Some(stored);
                }
                Action::Yield { home, epoch } => {
                    self.hands.give_up(home);
                    self.publish(home, epoch, false);
                }
                Action::Serve { home, epoch } => {
                    // A group of one has no second home.
                    if self.view.home(home).is_some() {
                        let limit = self.view.parameters.critical_service_delay;
                        self.hands.adopt(home, epoch, limit);
                    }
                }
                Action::Start(ids) => self.hands.start(ids.into_iter().collect()),
                Action::Stop(ids) => self.hands.stop(ids.into_iter().collect()),
                Action::Send(message) => {
                    let to = self.audience();
                    if !to.is_empty() {
                        self.hands.send(&to, message.encode());
                    }
                }
                Action::Verify { round } => self.verify(round),
                Action::Raise(alarm) => {
                    self.raised.insert(alarm.id);
                    self.hands.raise(&alarm);
                }
                Action::Clear(id) => {
                    self.raised.remove(id);
                    self.hands.clear(id);
                }
                Action::Record(transition) => {
                    let entry = Entry::new(&self.view.own, &transition, Timestamp::now());
                    tracing::info!(
                        from = entry.from,
                        to = entry.to,
                        decided = entry.decided,
                        "{}",
                        entry.seen
                    );
                    self.hands.record(entry);
                }
                Action::Answer(result) => {
                    if let Some(answer) = answer.take() {
                        let _ = answer.send(result);
                    }
                }
                Action::Restart => self.restart = true,
            }
        }
        Ok(())
    }

    /// Who gets keepalives: the peer, and while the two stand in for each other
    /// those who may be asked about this node.
    fn audience(&self) -> Vec<String> {
        let thirds = self.view.thirds().filter(|_| self.view.enabled());
        let all = self.view.peer().into_iter().chain(thirds);
        all.map(str::to_owned).collect()
    }

    fn verify(&mut self, round: u64) {
        let Some(peer) = self.view.peer() else { return };
        let thirds = match self.view.settings(&self.services).arbiter {
            Arbiter::ThirdNode => self.view.thirds().map(str::to_owned).collect(),
            Arbiter::KnownHosts => Vec::new(),
        };
        let limit = self
            .view
            .parameters
            .keepalive_interval
            .min(LONGEST_QUESTION);
        self.hands.verify(peer, thirds, round, limit);
    }

    fn publish(&mut self, home: Node, epoch: Epoch, served: bool) {
        let Some(name) = self.view.home(home) else {
            return;
        };
        let epoch = epoch.number();
        self.serving.send_modify(|serving| {
            serving.set(name, Home { epoch, served });
        });
    }

    fn status(&self) -> Status {
        let (own, peer) = match self.view.enabled() {
            true => (Some(self.machine.standing()), self.machine.peer_standing()),
            false => (Some(ALONE), Some(NOT_ENABLED)),
        };
        let nodes = Node::BOTH.into_iter().filter_map(|place| {
            let mine = place == self.view.place();
            let name = self.view.home(place)?;
            let mut node = NodeStatus::new(name, if mine { own } else { peer });
            if !mine {
                node.heard = self.machine.peer_standing().is_some();
            }
            let serves = Node::BOTH.into_iter().filter(|home| {
                self.machine.ownership(*home).owner() == Some(place) && (mine || node.heard)
            });
            let serves = serves.filter_map(|home| self.view.home(home));
            node.serves = serves.map(str::to_owned).collect();
            node.down = match mine {
                true => self.down(),
                false => self.peer_down(node.heard),
            };
            Some(node)
        });
        let nodes = nodes.collect();
        let (cause, advice) = match self.view.enabled() {
            true => words(own, peer),
            false => Default::default(),
        };
        Status {
            group: self.view.group.name.clone(),
            high_availability: self.view.enabled(),
            held: self.machine.held(),
            nodes,
            cause,
            advice,
        }
    }

    /// Critical services of this node that do not run.
    fn down(&self) -> Vec<String> {
        let critical = self.services.critical(&self.view.parameters).into_iter();
        let runs = |id: &String| self.services.0.get(id).is_some_and(|seen| seen.running);
        critical.filter(|id| !runs(id)).collect()
    }

    fn peer_down(&self, heard: bool) -> Vec<String> {
        let last = self.peer.as_ref().filter(|_| heard);
        let services = last.into_iter().flat_map(|last| &last.services);
        let down = services.filter(|(_, running)| !**running);
        down.map(|(id, _)| id.clone()).collect()
    }
}

/// An answer about a silent node that takes longer is none.
const LONGEST_QUESTION: Duration = Duration::from_secs(3);

fn witness(parameters: &Parameters, now: Duration) -> Witness {
    Witness::new(
        parameters.keepalive_interval,
        parameters.keepalive_timeout,
        now,
    )
}
