//! Random walks of two stores that send each other their rows: connections
//! break, what was on an older one comes after a newer one was made, stores
//! lose everything, clocks go back, one takes the other's rows over. When it
//! stops, each has what the other's owners wrote.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use datastore::{Batch, Broken, Feed, Have, Message, Replica, Row, State, Store};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Put {
        node: usize,
        key: u8,
        value: u8,
        ttl: u64,
    },
    Delete {
        node: usize,
        key: u8,
    },
    /// The owner was restarted, and sends what it has: nothing.
    Refill(usize),
    /// A connection is made, in place of the one before.
    Connect(usize),
    /// The sender hears that its connection ended; what is on its way still
    /// comes, unless it is lost.
    Break {
        node: usize,
        lost: bool,
    },
    /// A message is sent.
    Send(usize),
    /// One arrives, on one of the connections that there were.
    Deliver(usize),
    /// An answer arrives.
    Answer(usize),
    /// The store is restarted. Its epoch may be lower than before.
    Restart {
        node: usize,
        epoch: u64,
    },
    /// It takes the other's rows over.
    Adopt(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0usize..2;
    let ttl = || prop_oneof![4 => Just(0u64), 1 => 1u64..60];
    prop_oneof![
        12 => (node(), 0u8..5, any::<u8>(), ttl())
            .prop_map(|(node, key, value, ttl)| Step::Put { node, key, value, ttl }),
        5 => (node(), 0u8..5).prop_map(|(node, key)| Step::Delete { node, key }),
        1 => node().prop_map(Step::Refill),
        4 => node().prop_map(Step::Connect),
        2 => (node(), any::<bool>()).prop_map(|(node, lost)| Step::Break { node, lost }),
        14 => node().prop_map(Step::Send),
        16 => (0usize..6).prop_map(Step::Deliver),
        10 => node().prop_map(Step::Answer),
        1 => (node(), 1u64..6).prop_map(|(node, epoch)| Step::Restart { node, epoch }),
        1 => node().prop_map(Step::Adopt),
        2 => (1u64..40).prop_map(Step::Wait),
    ]
}

/// A connection.
struct Pipe {
    from: usize,
    messages: VecDeque<Message>,
    answers: VecDeque<Have>,
    /// Number at the receiver, once something arrived.
    link: Option<u64>,
}

struct Node {
    store: Store,
    feed: Feed,
    replica: Replica,
    owner_epoch: u64,
    sequence: u64,
    /// Number of its connection.
    pipe: Option<u64>,
}

impl Node {
    fn new(epoch: u64) -> Self {
        Self {
            store: Store::default(),
            feed: Feed::new(epoch),
            replica: Replica::default(),
            owner_epoch: 0,
            sequence: 0,
            pipe: None,
        }
    }
}

struct Pair {
    nodes: [Node; 2],
    pipes: BTreeMap<u64, Pipe>,
    last: u64,
    now: u64,
    /// Makes epochs differ that a walk chose equal.
    lives: u64,
}

fn owner(node: usize) -> String {
    format!("node{node}/router")
}

type Rows = Vec<(String, String, u64, Bytes)>;

fn rows(rows: Vec<Row>) -> Rows {
    let row = |row: Row| {
        let (owner, key) = (row.owner.to_string(), row.key.to_string());
        (owner, key, row.epoch, row.value)
    };
    rows.into_iter().map(row).collect()
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            nodes: [Node::new(3), Node::new(3)],
            pipes: BTreeMap::new(),
            last: 0,
            now: 1000,
            lives: 0,
        };
        for node in 0..2 {
            pair.begin(node);
        }
        pair
    }

    fn begin(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.owner_epoch += 1;
        it.sequence = 0;
        it.store.begin(&owner(node), it.owner_epoch).unwrap();
    }

    fn batch(&mut self, node: usize, batch: Batch) {
        let now = self.now;
        let it = &mut self.nodes[node];
        it.sequence += 1;
        let batch = Batch {
            sequence: it.sequence,
            ..batch
        };
        let changes = it.store.batch(&owner(node), it.owner_epoch, batch, now);
        it.feed.push(changes.unwrap(), now);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Put {
                node,
                key,
                value,
                ttl,
            } => self.batch(
                node,
                Batch {
                    puts: vec![(format!("k{key}"), Bytes::from(vec![value]), ttl)],
                    ..Batch::default()
                },
            ),
            Step::Delete { node, key } => self.batch(
                node,
                Batch {
                    deletes: vec![format!("k{key}")],
                    ..Batch::default()
                },
            ),
            Step::Refill(node) => {
                self.begin(node);
                let synced = Batch {
                    synced: true,
                    ..Batch::default()
                };
                self.batch(node, synced);
            }
            Step::Connect(node) => self.connect(node),
            Step::Break { node, lost } => {
                let pipe = self.nodes[node].pipe.take();
                self.nodes[node].feed.disconnected();
                if let Some(pipe) = pipe.filter(|_| lost) {
                    self.pipes.remove(&pipe);
                }
            }
            Step::Send(node) => {
                self.send(node);
            }
            Step::Deliver(which) => {
                let pipes: Vec<u64> = self.pipes.keys().copied().collect();
                if let Some(pipe) = pipes.get(which) {
                    self.deliver(*pipe);
                }
            }
            Step::Answer(node) => {
                self.answer(node);
            }
            Step::Restart { node, epoch } => {
                self.lives += 1;
                self.nodes[node] = Node::new(epoch * 1000 + self.lives);
                self.begin(node);
                // What others sent to it is lost, what it sent is not.
                for pipe in self.pipes.values_mut().filter(|pipe| pipe.from != node) {
                    pipe.messages.clear();
                    pipe.link = Some(u64::MAX);
                }
            }
            Step::Adopt(node) => {
                let it = &mut self.nodes[node];
                let _ = it.replica.adopt(&mut it.store);
            }
            Step::Wait(milliseconds) => {
                self.now += milliseconds;
                let now = self.now;
                for node in &mut self.nodes {
                    let changes = node.store.expire(now);
                    let own = changes.into_iter().filter(|change| !change.row().copied);
                    node.feed.push(own.collect(), now);
                }
            }
        }
    }

    fn connect(&mut self, node: usize) {
        self.last += 1;
        let hello = self.nodes[node].feed.connected();
        let pipe = Pipe {
            from: node,
            messages: VecDeque::from([hello]),
            answers: VecDeque::new(),
            link: None,
        };
        self.pipes.insert(self.last, pipe);
        self.nodes[node].pipe = Some(self.last);
    }

    fn send(&mut self, node: usize) -> bool {
        let now = self.now;
        let it = &mut self.nodes[node];
        let Some(pipe) = it.pipe.and_then(|pipe| self.pipes.get_mut(&pipe)) else {
            return false;
        };
        let message = it.feed.next(&it.store, |_| true, now);
        let any = message.is_some();
        pipe.messages.extend(message);
        any
    }

    fn deliver(&mut self, number: u64) -> bool {
        let now = self.now;
        let Some(pipe) = self.pipes.get_mut(&number) else {
            return false;
        };
        let Some(message) = pipe.messages.pop_front() else {
            return false;
        };
        let it = &mut self.nodes[1 - pipe.from];
        let link = *pipe.link.get_or_insert_with(|| it.replica.accept());
        match it.replica.receive(link, message, &mut it.store, now) {
            Ok((have, _)) => pipe.answers.push_back(have),
            Err(error) => {
                if matches!(error, Broken::OldEpoch { epoch, newest } if epoch >= newest) {
                    panic!("{error}");
                }
                it.replica.ended(link);
                let from = pipe.from;
                self.pipes.remove(&number);
                if self.nodes[from].pipe == Some(number) {
                    self.nodes[from].pipe = None;
                    self.nodes[from].feed.disconnected();
                }
            }
        }
        true
    }

    fn answer(&mut self, node: usize) -> bool {
        let it = &mut self.nodes[node];
        let Some(pipe) = it.pipe.and_then(|pipe| self.pipes.get_mut(&pipe)) else {
            return false;
        };
        let answer = pipe.answers.pop_front();
        let any = answer.is_some();
        if let Some(have) = answer {
            it.feed.have(have);
        }
        any
    }

    /// Faults stop: whatever can happen does, until nothing does. What is over
    /// at the receiver is noticed there.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut any = false;
            for node in 0..2 {
                let link = self.nodes[1 - node].replica.link();
                let over = |pipe: &Pipe| pipe.link.is_some_and(|known| known != link);
                let number = self.nodes[node].pipe;
                let gone = number.is_none_or(|it| self.pipes.get(&it).is_none_or(over));
                if gone {
                    self.nodes[node].feed.disconnected();
                    self.connect(node);
                    any = true;
                }
                while self.send(node) {
                    any = true;
                }
            }
            let pipes: Vec<u64> = self.pipes.keys().copied().collect();
            for pipe in pipes {
                while self.deliver(pipe) {
                    any = true;
                }
            }
            for node in 0..2 {
                while self.answer(node) {
                    any = true;
                }
            }
            if !any {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn check(&self) {
        for node in 0..2 {
            let (from, to) = (&self.nodes[node], &self.nodes[1 - node]);
            let written = rows(from.store.own_rows(|_| true));
            let copied = to.store.list("", "", 1000).into_iter();
            let mut copied = rows(copied.filter(|row| row.copied).collect());
            copied.sort();
            assert_eq!(copied, written, "node {node}'s rows");
            let figures = from.feed.figures(self.now);
            assert_eq!((figures.state, figures.lag), (State::Following, 0));
            let there = to.replica.figures(self.now);
            assert!(there.complete && there.connected && there.refused == 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn both_ends_are_equal_when_faults_stop(steps in proptest::collection::vec(step(), 0..120)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
        }
        pair.settle();
        pair.check();
        // And they stay so.
        pair.step(&Step::Put { node: 0, key: 1, value: 7, ttl: 0 });
        pair.step(&Step::Delete { node: 1, key: 2 });
        pair.settle();
        pair.check();
    }
}

fn put(pair: &mut Pair, node: usize, key: u8) {
    let (value, ttl) = (key, 0);
    pair.step(&Step::Put {
        node,
        key,
        value,
        ttl,
    });
}

#[test]
fn after_a_short_break_only_what_is_missing_is_sent() {
    let mut pair = Pair::new();
    put(&mut pair, 0, 1);
    pair.settle();
    pair.step(&Step::Break {
        node: 0,
        lost: true,
    });
    put(&mut pair, 0, 2);
    assert_eq!(pair.nodes[0].feed.figures(pair.now + 30).lag, 1);
    assert_eq!(pair.nodes[0].feed.figures(pair.now + 30).lag_ms, 30);
    pair.connect(0);
    pair.deliver(pair.last);
    pair.answer(0);
    let next = {
        let it = &mut pair.nodes[0];
        it.feed.next(&it.store, |_| true, pair.now)
    };
    let Some(Message::Changes { sequence: 2, .. }) = &next else {
        panic!("{next:?}");
    };
    let pipe = pair.pipes.get_mut(&pair.last).unwrap();
    pipe.messages.extend(next);
    pair.settle();
    pair.check();
}

#[test]
fn a_store_whose_clock_went_back_is_believed_and_what_it_said_before_is_not() {
    let mut pair = Pair::new();
    pair.step(&Step::Restart { node: 0, epoch: 5 });
    put(&mut pair, 0, 1);
    pair.settle();
    // The connection of its earlier life hangs somewhere.
    pair.connect(0);
    put(&mut pair, 0, 2);
    let late = pair.last;
    pair.step(&Step::Restart { node: 0, epoch: 1 });
    put(&mut pair, 0, 3);
    pair.settle();
    pair.check();
    let stale = Message::Changes {
        epoch: 5001,
        sequence: 2,
        rows: Vec::new(),
    };
    let it = &mut pair.nodes[1];
    let link = it.replica.accept();
    let refused = it.replica.receive(link, stale, &mut it.store, 0);
    assert!(
        matches!(refused, Err(Broken::OldEpoch { epoch: 5001, newest }) if newest > 5001),
        "{refused:?}"
    );
    assert!(
        pair.pipes
            .get(&late)
            .is_none_or(|pipe| pipe.messages.is_empty())
    );
}

#[test]
fn rows_that_were_taken_over_come_again_from_a_peer_that_lives() {
    let mut pair = Pair::new();
    put(&mut pair, 0, 1);
    put(&mut pair, 0, 2);
    pair.settle();
    let it = &mut pair.nodes[1];
    let (taken, gone) = it.replica.adopt(&mut it.store);
    assert_eq!((taken.len(), gone.len()), (2, 2));
    assert!(
        taken
            .iter()
            .all(|row| row.copied && &*row.owner == "node0/router")
    );
    assert_eq!(it.store.figures().rows, 0);
    assert!(!it.replica.figures(pair.now).complete);
    pair.settle();
    pair.check();
    assert_eq!(pair.nodes[1].store.figures().rows, 2);
}

#[test]
fn who_missed_more_than_is_kept_gets_everything() {
    let mut pair = Pair::new();
    put(&mut pair, 0, 1);
    pair.settle();
    pair.step(&Step::Break {
        node: 0,
        lost: true,
    });
    for _ in 0..10_001 {
        put(&mut pair, 0, 2);
    }
    pair.connect(0);
    pair.deliver(pair.last);
    pair.answer(0);
    assert_eq!(pair.nodes[0].feed.figures(pair.now).state, State::Copying);
    pair.settle();
    pair.check();
}
