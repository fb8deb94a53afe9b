//! What passes between the nodes: datagrams that are lost, doubled and late,
//! and streams that keep their order and wait while a way is cut.

use std::collections::VecDeque;

use crate::random::Random;
use crate::world::NODES;

/// The ways between nodes.
#[derive(Debug)]
pub(crate) struct Network {
    /// Whether nothing passes from one node to another.
    cut: [[bool; NODES]; NODES],
    /// Percent of datagrams that are lost, and that come twice.
    pub(crate) loss: u64,
    pub(crate) doubles: u64,
    /// Longest time on the way, in ms.
    pub(crate) delay: u64,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self {
            cut: [[false; NODES]; NODES],
            loss: 0,
            doubles: 0,
            delay: 3,
        }
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut[from][to] = true;
    }

    pub(crate) fn mend(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        from == to || !self.cut[from][to]
    }

    /// Whether a connection can be made.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        self.passes(from, to) && self.passes(to, from)
    }

    /// Delays of the copies of a datagram that arrive.
    pub(crate) fn datagram(&self, random: &mut Random) -> Vec<u64> {
        let copies = 1 + u64::from(random.percent(self.doubles));
        let mut arrive = Vec::new();
        for _ in 0..copies {
            if !random.percent(self.loss) {
                arrive.push(1 + random.below(self.delay));
            }
        }
        arrive
    }
}

/// A connection: `F` goes from the node that made it, `B` comes back, each in
/// order.
#[derive(Debug)]
pub(crate) struct Stream<F, B> {
    pub(crate) from: usize,
    pub(crate) to: usize,
    forth: VecDeque<(u64, F)>,
    back: VecDeque<(u64, B)>,
    /// The side that has not heard of the end yet.
    deaf: Option<usize>,
}

impl<F, B> Stream<F, B> {
    pub(crate) fn new(from: usize, to: usize) -> Self {
        Self {
            from,
            to,
            forth: VecDeque::new(),
            back: VecDeque::new(),
            deaf: None,
        }
    }

    /// What is sent later does not come earlier. Gives the time of arrival.
    pub(crate) fn send(&mut self, item: F, due: u64) -> u64 {
        queue(&mut self.forth, item, due)
    }

    pub(crate) fn reply(&mut self, item: B, due: u64) -> u64 {
        queue(&mut self.back, item, due)
    }

    pub(crate) fn sent(&mut self, now: u64) -> Option<F> {
        arrived(&mut self.forth, now)
    }

    pub(crate) fn replied(&mut self, now: u64) -> Option<B> {
        arrived(&mut self.back, now)
    }

    /// Whether a side takes the connection for one that is there.
    pub(crate) fn is_open(&self, side: usize) -> bool {
        self.deaf.is_none_or(|deaf| deaf == side)
    }

    /// The side that is to hear of the end, and the one that ended it.
    pub(crate) fn ended(&self) -> Option<(usize, usize)> {
        let deaf = self.deaf?;
        let other = match deaf == self.from {
            true => self.to,
            false => self.from,
        };
        Some((deaf, other))
    }

    /// A side ends it. What it had sent before may still arrive. Tells whether
    /// the connection is over for both.
    pub(crate) fn end(&mut self, side: usize, arrives: bool) -> bool {
        if self.deaf.is_some() {
            return self.deaf == Some(side);
        }
        let forth = side == self.from;
        self.deaf = Some(if forth { self.to } else { self.from });
        if !forth || !arrives {
            self.forth.clear();
        }
        if forth || !arrives {
            self.back.clear();
        }
        false
    }
}

fn queue<T>(way: &mut VecDeque<(u64, T)>, item: T, due: u64) -> u64 {
    let due = way.back().map_or(due, |(before, _)| due.max(*before));
    way.push_back((due, item));
    due
}

fn arrived<T>(way: &mut VecDeque<(u64, T)>, now: u64) -> Option<T> {
    way.front().filter(|(due, _)| *due <= now)?;
    way.pop_front().map(|(_, item)| item)
}
