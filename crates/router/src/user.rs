//! A user as far as the router knows one: loaded on demand, forgotten when
//! idle.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{ConnectionId, Left};
use crate::rows::{OfflineRow, RosterRow, UserRows, Write};
use crate::slab::Key;
use crate::waiting::{Waiting, Weight};

/// Something that waits until its user can be looked at.
#[derive(Debug)]
pub(crate) enum Held {
    /// An element of one of the user's own connections.
    Element(ConnectionId, Bytes),
    /// A stanza for the user, with `from` and `to`.
    Stanza(Box<[u8]>, Option<Receipt>),
    /// A session of the user that another node had.
    Left(Box<Left>),
    /// An inactive connection of the user becomes a session.
    Activation(ConnectionId),
    /// A session that the user saw, by its full address, is gone with its node.
    Gone(Box<str>),
}

impl Weight for Held {
    fn bytes(&self) -> usize {
        match self {
            Self::Element(_, element) => element.len(),
            Self::Stanza(stanza, _) => stanza.len(),
            Self::Gone(jid) => jid.len(),
            Self::Activation(_) => 0,
            Self::Left(left) => left.presence.as_ref().map_or(0, |presence| presence.len()),
        }
    }
}

/// Who waits for a stanza to be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A session here, with stream management.
    Session(Key),
    /// The router of another node, by the number of its stream.
    Peer(u32),
}

/// A received stanza that counts as handled only when this is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) sender: Sender,
    /// Its count there.
    pub(crate) number: u64,
    /// The session that has it and has not acknowledged it.
    pub(crate) holder: Option<Key>,
}

/// What is to happen when a write is durable.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Answer a request of a session: the reply if it worked, else an error
    /// to `request`.
    Reply {
        session: Key,
        reply: Box<[u8]>,
        request: Box<[u8]>,
    },
    /// Send this to the user's sessions that asked for the roster.
    PushRoster(Box<str>),
    /// Send this to the user's sessions that asked for the block list.
    PushBlocks(Box<[u8]>),
    /// Route a stanza that has `from` and `to`.
    Route(Box<[u8]>),
    /// Deliver a stanza to the user's available sessions.
    Deliver(Box<[u8]>),
    /// Deliver presence that only waited for its turn, also when what it waited
    /// for could not be written.
    Show(Box<[u8]>),
    /// Send the presence of the user's sessions to an address.
    Introduce(Box<str>),
    /// Tell an address that the user's sessions are unavailable.
    Withdraw(Box<str>),
    /// Ask for the presence of a contact on behalf of all sessions.
    Probe(Box<str>),
    /// A message that no session has was stored; bounce it if that failed.
    Stored {
        row: OfflineRow,
        receipt: Option<Receipt>,
    },
    /// A message that sessions have was stored, too: it is handled.
    Kept {
        sequence: i64,
        stanza: Box<[u8]>,
        receipts: Vec<Receipt>,
    },
    /// The stanza is handled.
    Settle(Receipt),
}

/// A step of a user's journal. Steps are carried out one after the other.
#[derive(Debug)]
pub(crate) enum Step {
    Write(Vec<Write>, Vec<Effect>),
    Offline,
    Roster,
    VCard(VCardRequest),
}

/// Who asked for a vCard.
#[derive(Debug)]
pub(crate) struct VCardRequest {
    /// The request, with `from` and `to`.
    pub(crate) request: Box<[u8]>,
    /// A session to answer; otherwise the answer is routed to `from`.
    pub(crate) session: Option<Key>,
    pub(crate) receipt: Option<Receipt>,
}

/// Requests to the database, in order and one at a time.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) under_way: Option<Step>,
    /// Since when that is under way, in milliseconds.
    pub(crate) since: u64,
    pub(crate) next: VecDeque<Step>,
}

impl Journal {
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.next.is_empty()
    }

    /// What is to happen when writes are durable, in their order.
    pub(crate) fn effects_mut(&mut self) -> impl Iterator<Item = &mut Effect> {
        let steps = self.under_way.iter_mut().chain(&mut self.next);
        steps.flat_map(|step| match step {
            Step::Write(_, effects) => effects.as_mut_slice(),
            Step::Offline | Step::Roster | Step::VCard(_) => &mut [],
        })
    }

    /// Whether clients will be told something of the roster, or of presence
    /// behind that.
    pub(crate) fn has_news(&self) -> bool {
        let steps = self.under_way.iter().chain(&self.next);
        steps
            .filter_map(|step| match step {
                Step::Write(_, effects) => Some(effects),
                Step::Offline | Step::Roster | Step::VCard(_) => None,
            })
            .flatten()
            .any(|effect| {
                matches!(
                    effect,
                    Effect::PushRoster(_) | Effect::Deliver(_) | Effect::Show(_)
                )
            })
    }

    /// Whether stored messages are still to be read.
    pub(crate) fn will_read_stored(&self) -> bool {
        self.next.iter().any(|step| matches!(step, Step::Offline))
    }

    /// Whether something is still to be read that everything else waits for.
    pub(crate) fn will_read(&self) -> bool {
        self.next
            .iter()
            .any(|step| matches!(step, Step::Offline | Step::Roster))
    }

    /// Adds a write; it joins the one that waits last.
    pub(crate) fn write(&mut self, writes: Vec<Write>, effects: Vec<Effect>) {
        if let Some(Step::Write(all, wanted)) = self.next.back_mut()
            && all.len() < 64
        {
            all.extend(writes);
            wanted.extend(effects);
            return;
        }
        self.next.push_back(Step::Write(writes, effects));
    }
}

/// What is loaded of a user.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) roster: BTreeMap<Box<str>, RosterRow>,
    pub(crate) blocks: Vec<Box<str>>,
    /// Sequence and size of each stored message, in order.
    pub(crate) offline: VecDeque<(i64, usize)>,
    pub(crate) offline_bytes: usize,
    /// Highest sequence ever given, so that order survives removal.
    pub(crate) last_sequence: i64,
    /// Stored messages that a session has and that are not known to be read.
    pub(crate) in_delivery: Vec<i64>,
    /// The newest message that each node is known to have stored, by its slot.
    newest: Vec<(u16, i64)>,
}

/// The lowest bits of a sequence say which node stored the message, those
/// above when: each node gives its own, and they follow each other as the
/// messages did.
const SLOT: u32 = 16;

/// Which node stored a message.
pub(crate) fn slot_of(sequence: i64) -> u16 {
    (sequence & 0xffff) as u16
}

impl Data {
    pub(crate) fn new(mut rows: UserRows) -> Self {
        rows.offline.sort_unstable();
        let offline: VecDeque<_> = rows.offline.into();
        let mut data = Self {
            roster: rows
                .roster
                .into_iter()
                .map(|row| (row.contact.clone(), row))
                .collect(),
            blocks: rows.blocks,
            offline_bytes: offline.iter().map(|(_, size)| size).sum(),
            last_sequence: offline.back().map_or(0, |(sequence, _)| *sequence),
            offline,
            in_delivery: Vec::new(),
            newest: Vec::new(),
        };
        let sequences: Vec<i64> = data.offline.iter().map(|(known, _)| *known).collect();
        for sequence in sequences {
            data.note(sequence);
        }
        data
    }

    /// Notes the newest message that a node stored.
    fn note(&mut self, sequence: i64) {
        let slot = slot_of(sequence);
        match self.newest.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, newest)) => *newest = sequence.max(*newest),
            None => self.newest.push((slot, sequence)),
        }
    }

    /// The newest message that a node is known to have stored.
    pub(crate) fn newest_of(&self, slot: u16) -> Option<i64> {
        let of = |(known, newest): &(u16, i64)| (*known == slot).then_some(*newest);
        self.newest.iter().find_map(of)
    }

    /// Whether a node is known to have stored a message, or a later one.
    pub(crate) fn knows(&self, sequence: i64) -> bool {
        self.newest_of(slot_of(sequence)) >= Some(sequence)
    }

    /// The stored messages were read: gives those that are not removed yet,
    /// and forgets what another node stored and that is gone.
    pub(crate) fn compare(&mut self, rows: Vec<OfflineRow>, slot: u16) -> Vec<OfflineRow> {
        let gone: Vec<i64> = self
            .offline
            .iter()
            .map(|(sequence, _)| *sequence)
            .filter(|known| slot_of(*known) != slot && !self.in_delivery.contains(known))
            .filter(|known| rows.iter().all(|row| row.sequence != *known))
            .collect();
        for sequence in gone {
            self.forget(sequence);
        }
        let mut there = rows;
        there.retain(|row| {
            if !self.knows(row.sequence) {
                self.learn(row.sequence, row.stanza.len());
            }
            let known = |(sequence, _): &(i64, usize)| *sequence == row.sequence;
            self.offline.iter().any(known)
        });
        there
    }

    /// Another node stored a message.
    pub(crate) fn learn(&mut self, sequence: i64, size: usize) {
        self.note(sequence);
        self.last_sequence = self.last_sequence.max(sequence);
        let at = self.offline.partition_point(|(known, _)| *known < sequence);
        if self
            .offline
            .get(at)
            .is_none_or(|(known, _)| *known != sequence)
        {
            self.offline.insert(at, (sequence, size));
            self.offline_bytes += size;
        }
    }

    /// A new row for a message, at a moment in Unix milliseconds. Its sequence
    /// follows all that are known, and is never given by another node.
    pub(crate) fn add(
        &mut self,
        stanza: Box<str>,
        stamp: &str,
        unix: i64,
        slot: u16,
    ) -> OfflineRow {
        let step = (self.last_sequence >> SLOT).max(unix) + 1;
        self.last_sequence = step << SLOT | i64::from(slot);
        self.note(self.last_sequence);
        self.offline.push_back((self.last_sequence, stanza.len()));
        self.offline_bytes += stanza.len();
        OfflineRow {
            sequence: self.last_sequence,
            stanza,
            stamp: stamp.into(),
        }
    }

    /// Whether stored messages wait that no session has.
    pub(crate) fn has_waiting(&self) -> bool {
        self.offline.len() > self.in_delivery.len()
    }

    /// Forgets a stored message; tells whether it was there.
    pub(crate) fn forget(&mut self, sequence: i64) -> bool {
        self.in_delivery.retain(|known| *known != sequence);
        let Some(at) = self
            .offline
            .iter()
            .position(|(known, _)| *known == sequence)
        else {
            return false;
        };
        if let Some((_, size)) = self.offline.remove(at) {
            self.offline_bytes -= size;
        }
        true
    }
}

/// A user.
#[derive(Debug)]
pub(crate) struct User {
    /// Local part of the address.
    pub(crate) name: Arc<str>,
    /// `None` until loaded.
    pub(crate) data: Option<Box<Data>>,
    pub(crate) sessions: Vec<Key>,
    /// Connections that signed in and have not bound a resource.
    pub(crate) fresh: Vec<ConnectionId>,
    pub(crate) journal: Option<Box<Journal>>,
    pub(crate) held: Waiting<Held>,
    /// Rows are being read: everything else waits.
    pub(crate) busy: bool,
    /// Removed or disabled while being loaded.
    pub(crate) gone: bool,
    /// Contacts changed while being loaded: they are read again.
    pub(crate) stale: bool,
    /// Stored messages were to be read when a write before failed.
    pub(crate) unread: bool,
    /// Messages that another node stored and that come before anything else.
    pub(crate) awaits: Vec<i64>,
    /// Messages that another node stored while the user was being loaded, with
    /// their sizes.
    pub(crate) news: Vec<(i64, usize)>,
    /// A time is set at which what could not be stored is tried again.
    pub(crate) keeping: bool,
    /// When nothing was going on any more; forgotten some time after that.
    pub(crate) idle: Option<u64>,
    /// When the last session ended, in Unix milliseconds.
    pub(crate) last_seen: i64,
}

impl User {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            data: None,
            sessions: Vec::new(),
            fresh: Vec::new(),
            journal: None,
            held: Waiting::default(),
            busy: true,
            gone: false,
            stale: false,
            unread: false,
            awaits: Vec::new(),
            news: Vec::new(),
            keeping: false,
            idle: None,
            last_seen: 0,
        }
    }

    /// Whether events for the user can be handled now.
    pub(crate) fn is_ready(&self) -> bool {
        self.data.is_some() && !self.busy && self.awaits.is_empty()
    }

    /// Whether stored messages are still to be read.
    pub(crate) fn take_unread(&mut self) -> bool {
        std::mem::take(&mut self.unread)
    }

    pub(crate) fn journal(&mut self) -> &mut Journal {
        self.journal.get_or_insert_default()
    }
}

impl User {
    /// Whether nothing keeps the user in memory.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_ready()
            && self.sessions.is_empty()
            && self.fresh.is_empty()
            && self.held.is_empty()
            && self.journal.is_none()
    }
}
