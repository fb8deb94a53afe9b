//! The routers of the other nodes: what waits to be handled by each, and what
//! each has sent. One connection for each direction, made by the sender.
//!
//! A frame is kept until the other router says that it is handled, and sent
//! again over the next connection if this one ends. Numbers tell the receiver
//! what it has already.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use xcp::{LinkId, PeerFrame};

use crate::user::Receipt;

/// Milliseconds between two questions whether the other is there.
pub(crate) const PING: u64 = 1000;
/// Milliseconds of silence after which a connection is given up.
pub(crate) const SILENCE: u64 = 4000;
/// Milliseconds without a connection after which a node counts as lost: a
/// router that restarts is back before.
pub(crate) const GRACE: u64 = 4000;
/// Most frames, and most bytes of them, that wait to be handled: more than
/// the presence of everybody whom a node serves. A node that lags farther
/// behind counts as lost.
const MOST: usize = 100_000;
const MOST_BYTES: usize = 64 << 20;

/// A frame that is not handled.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) number: u64,
    /// `None` once it is handled, until those before it are.
    pub(crate) frame: Option<PeerFrame>,
    pub(crate) receipt: Option<Receipt>,
}

/// Towards a node.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) link: Option<LinkId>,
    /// The other router has taken the connection.
    pub(crate) up: bool,
    /// The other router's instance when it last did.
    pub(crate) instance: Option<u64>,
    last: u64,
    unhandled: VecDeque<Sent>,
    bytes: usize,
    /// Nothing is kept for it: what cannot be stored fails.
    pub(crate) lost: bool,
    /// It has missed presence.
    pub(crate) stale: bool,
    /// When it last answered, or the connection ended; monotonic.
    pub(crate) heard: u64,
    /// Users for whom something was stored since the node was lost, and the
    /// last sequence.
    pub(crate) stored: BTreeMap<Box<str>, i64>,
}

impl Outgoing {
    fn new(now: u64) -> Self {
        Self {
            link: None,
            up: false,
            instance: None,
            last: 0,
            unhandled: VecDeque::new(),
            bytes: 0,
            lost: false,
            stale: true,
            heard: now,
            stored: BTreeMap::new(),
        }
    }

    /// Keeps a frame, which `make` makes with its number. Returns it.
    pub(crate) fn keep(
        &mut self,
        receipt: Option<Receipt>,
        make: impl FnOnce(u64) -> PeerFrame,
    ) -> PeerFrame {
        self.last += 1;
        let frame = make(self.last);
        self.bytes += size(&frame);
        self.unhandled.push_back(Sent {
            number: self.last,
            frame: Some(frame.clone()),
            receipt,
        });
        frame
    }

    /// Whether more waits than may.
    pub(crate) fn is_full(&self) -> bool {
        self.unhandled.len() > MOST || self.bytes > MOST_BYTES
    }

    /// Takes a frame out that the other router is done with.
    pub(crate) fn done(&mut self, number: u64) -> Option<(PeerFrame, Option<Receipt>)> {
        let at = self
            .unhandled
            .binary_search_by_key(&number, |sent| sent.number)
            .ok()?;
        let sent = self.unhandled.get_mut(at)?;
        let frame = sent.frame.take()?;
        let receipt = sent.receipt.take();
        self.bytes -= size(&frame);
        while self
            .unhandled
            .front()
            .is_some_and(|sent| sent.frame.is_none())
        {
            self.unhandled.pop_front();
        }
        if self.unhandled.is_empty() && self.unhandled.capacity() > 64 {
            self.unhandled = VecDeque::new();
        }
        Some((frame, receipt))
    }

    /// What is to be sent again, in order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &PeerFrame> {
        self.unhandled.iter().filter_map(|sent| sent.frame.as_ref())
    }

    /// Whether nothing waits.
    pub(crate) fn is_settled(&self) -> bool {
        self.unhandled.is_empty()
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> VecDeque<Sent> {
        self.bytes = 0;
        std::mem::take(&mut self.unhandled)
    }
}

fn size(frame: &PeerFrame) -> usize {
    match frame {
        PeerFrame::Stanza { element, .. } => element.len(),
        PeerFrame::Presence { element, to, .. } => element.len() + 32 * to.len(),
        _ => 32,
    }
}

/// From a node.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) link: Option<LinkId>,
    /// The other router has said which instance it is.
    pub(crate) greeted: bool,
    /// Its instance.
    pub(crate) instance: Option<u64>,
    /// Number of this instance's stream here, for receipts.
    pub(crate) stream: u32,
    /// Number of the newest frame.
    pub(crate) last: u64,
    /// Stanzas that are not handled yet, and for how many receipts.
    pub(crate) pending: HashMap<u64, u32>,
    /// What is to be answered.
    pub(crate) handled: Vec<u64>,
    pub(crate) refused: Vec<u64>,
    /// Stanzas that were refused, should they be sent again.
    refusals: BTreeSet<u64>,
    /// When it last sent something, or the connection ended; monotonic.
    pub(crate) heard: u64,
    /// The presence of its users is not known.
    pub(crate) forgot: bool,
    /// Sessions of its users that people here may see; whether they were told
    /// again since the last [`PeerFrame::Resync`].
    pub(crate) seen: BTreeMap<Box<str>, bool>,
}

impl Incoming {
    /// A router connected and said which instance it is.
    pub(crate) fn begin(&mut self, instance: u64, stream: u32) {
        if self.instance != Some(instance) {
            self.instance = Some(instance);
            self.stream = stream;
            self.last = 0;
            self.pending = HashMap::new();
            self.refusals = BTreeSet::new();
        }
        self.handled = Vec::new();
        self.refused = Vec::new();
    }

    /// Whether a frame is new. One that was handled before is answered again.
    pub(crate) fn is_new(&mut self, number: u64) -> bool {
        if number > self.last {
            self.last = number;
            return true;
        }
        if self.refusals.contains(&number) {
            self.refused.push(number);
        } else if !self.pending.contains_key(&number) {
            self.handled.push(number);
        }
        false
    }

    /// A stanza is not for this node.
    pub(crate) fn refuse(&mut self, number: u64) {
        self.refused.push(number);
        self.refusals.insert(number);
        if self.refusals.len() > MOST {
            self.refusals.pop_first();
        }
    }

    /// One receipt of a frame is settled.
    pub(crate) fn settle(&mut self, number: u64) {
        if let Some(count) = self.pending.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.pending.remove(&number);
                self.handled.push(number);
            }
        }
    }
}

/// The router of another node.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) out: Outgoing,
    pub(crate) incoming: Incoming,
}

impl Peer {
    pub(crate) fn new(now: u64) -> Self {
        let incoming = Incoming {
            heard: now,
            forgot: true,
            ..Incoming::default()
        };
        Self {
            out: Outgoing::new(now),
            incoming,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn stanza(number: u64) -> PeerFrame {
        PeerFrame::Stanza {
            number,
            element: Bytes::from_static(b"<message/>"),
        }
    }

    #[test]
    fn what_is_not_handled_is_sent_again_in_order() {
        let mut out = Outgoing::new(0);
        for _ in 0..4 {
            out.keep(None, stanza);
        }
        assert_eq!(out.done(2).unwrap().0, stanza(2));
        assert!(out.done(2).is_none() && out.done(9).is_none());
        let waiting: Vec<_> = out.waiting().cloned().collect();
        assert_eq!(waiting, [stanza(1), stanza(3), stanza(4)]);
        for number in [1, 4, 3] {
            out.done(number).unwrap();
        }
        assert!(out.is_settled() && out.bytes == 0);
        assert_eq!(out.keep(None, stanza), stanza(5));
    }

    #[test]
    fn a_repeated_frame_is_answered_and_not_handled_again() {
        let mut incoming = Incoming::default();
        incoming.begin(7, 1);
        assert!(incoming.is_new(1) && incoming.is_new(2));
        incoming.pending.insert(2, 2);
        // The connection is made again.
        incoming.begin(7, 2);
        assert!(!incoming.is_new(1) && !incoming.is_new(2));
        assert_eq!(incoming.handled, [1]);
        incoming.settle(2);
        assert_eq!(incoming.handled, [1]);
        incoming.settle(2);
        assert_eq!(incoming.handled, [1, 2]);
        assert!(incoming.is_new(3));
        incoming.refuse(3);
        assert!(!incoming.is_new(3));
        assert_eq!(incoming.refused, [3, 3]);
        // The other router started anew.
        incoming.begin(8, 3);
        assert!(incoming.is_new(1));
    }
}
