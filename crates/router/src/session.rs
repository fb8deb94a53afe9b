//! A client's session, from resource binding to its end.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::{ConnectionId, Time};
use crate::slab::Key;
use crate::unhandled::{Unhandled, before};
use crate::user::Receipt;

/// Something that waits to go out on a congested connection.
#[derive(Debug)]
pub(crate) enum Queued {
    /// A stanza.
    Stanza(Box<[u8]>),
    /// A mark, behind stored messages that were delivered.
    Mark(u64),
}

/// A session. What most sessions never need is behind a pointer.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) user: Key,
    /// Full address.
    pub(crate) jid: Arc<str>,
    /// Length of the bare address in it.
    pub(crate) bare: u16,
    /// `None` while the client may come back and resume.
    pub(crate) connection: Option<ConnectionId>,
    /// The last available presence; `None` when unavailable.
    pub(crate) presence: Option<Arc<[u8]>>,
    /// The presence is that of a session that another node had: the client has
    /// not told its own here.
    pub(crate) inherited: bool,
    pub(crate) priority: i8,
    /// Asked for the roster: gets pushes.
    pub(crate) interested: bool,
    /// Asked for the block list: gets pushes.
    pub(crate) blocks: bool,
    pub(crate) carbons: bool,
    /// The connection takes nothing for now.
    pub(crate) congested: bool,
    /// Addresses that got directed presence (RFC 6121, 4.6).
    pub(crate) directed: Vec<Box<str>>,
    pub(crate) management: Option<Box<Management>>,
    /// Stanzas that wait for a congested connection; only without stream
    /// management, which has a queue of its own.
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: usize,
    /// Stored messages written behind these marks.
    pub(crate) marks: Vec<(u64, Vec<i64>)>,
    pub(crate) peer: Box<str>,
    /// When it began, in Unix milliseconds.
    pub(crate) since: i64,
    /// When the client last sent something, monotonic.
    pub(crate) active: u64,
}

impl Session {
    /// A session that has no client yet. `bare` is the length of the bare
    /// address in `jid`.
    pub(crate) fn new(user: Key, jid: Arc<str>, bare: usize, peer: Box<str>, now: Time) -> Self {
        Self {
            user,
            jid,
            // A bare address has 2047 bytes at most.
            bare: u16::try_from(bare).unwrap_or(u16::MAX),
            connection: None,
            presence: None,
            inherited: false,
            priority: 0,
            interested: false,
            blocks: false,
            carbons: false,
            congested: false,
            directed: Vec::new(),
            management: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            marks: Vec::new(),
            peer,
            since: now.unix,
            active: now.monotonic,
        }
    }

    pub(crate) fn bare(&self) -> &str {
        &self.jid[..usize::from(self.bare)]
    }

    pub(crate) fn resource(&self) -> &str {
        &self.jid[usize::from(self.bare) + 1..]
    }

    pub(crate) fn is_available(&self) -> bool {
        self.presence.is_some() && !self.inherited
    }

    /// Whether the session was taken over from another node, and no client has
    /// come back to it.
    pub(crate) fn is_phantom(&self) -> bool {
        self.inherited && self.connection.is_none() && self.management.is_none()
    }

    /// Whether messages to the bare address may go here.
    pub(crate) fn takes_messages(&self) -> bool {
        self.is_available() && self.priority >= 0
    }
}

/// A message that several sessions of a user got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Number of the message; the same in every session that got it.
    pub(crate) number: u64,
    /// One of the clients has it, as far as can be known.
    pub(crate) had: bool,
}

/// Where else a delivered stanza is, should its session end before the client
/// has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// Nowhere.
    Only,
    /// Other sessions of the user got it, too, or it matters to this one only.
    Shared,
    /// A carbon of the message with this number, which another session got.
    Carbon(u64),
    /// A message that other sessions of the user got, too.
    Message(Share),
    /// In the database, from where it came, under this sequence.
    Stored(i64),
    /// In the database, under this sequence, since it waits for the client;
    /// `share` when other sessions of the user got it, too.
    Kept { sequence: i64, share: Option<Share> },
}

impl Copy {
    /// The row in the database.
    pub(crate) fn sequence(self) -> Option<i64> {
        match self {
            Self::Stored(sequence) | Self::Kept { sequence, .. } => Some(sequence),
            Self::Only | Self::Shared | Self::Carbon(_) | Self::Message(_) => None,
        }
    }

    /// Who else got the message, if it is one that others got.
    pub(crate) fn share(self) -> Option<Share> {
        match self {
            Self::Message(share) => Some(share),
            Self::Kept { share, .. } => share,
            Self::Only | Self::Shared | Self::Carbon(_) | Self::Stored(_) => None,
        }
    }

    /// Number of the message that a client has when it has this.
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            Self::Carbon(number) => Some(number),
            _ => self.share().map(|share| share.number),
        }
    }

    /// Notes that one of the clients has the message.
    pub(crate) fn mark_had(&mut self) {
        if let Self::Message(share)
        | Self::Kept {
            share: Some(share), ..
        } = self
        {
            share.had = true;
        }
    }
}

/// A stanza that the client has not acknowledged.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub(crate) stanza: Box<[u8]>,
    pub(crate) copy: Copy,
    /// What its sender's count waits for.
    pub(crate) receipt: Option<Receipt>,
    /// When it came, in Unix milliseconds.
    pub(crate) at: i64,
}

/// Stream management (XEP-0198) of a session.
#[derive(Debug, Default)]
pub(crate) struct Management {
    /// Random half of the id by which the session is resumed.
    pub(crate) secret: u64,
    pub(crate) resumable: bool,
    /// Stanzas received since it was enabled, modulo 2^32.
    pub(crate) received: u32,
    /// Of those, the ones not handled yet.
    pub(crate) unhandled: Unhandled,
    /// The client asked when it had sent this many, and was told fewer.
    pub(crate) answer_owed: Option<u32>,
    /// Count of the last acknowledged stanza, modulo 2^32.
    pub(crate) acked: u32,
    /// What follows it.
    pub(crate) unacked: VecDeque<Unacked>,
    /// Bytes in `unacked`, without messages that came from the database.
    pub(crate) bytes: usize,
    /// Messages in `unacked` that came from the database.
    pub(crate) stored: usize,
    /// How many of `unacked` were written on this connection.
    pub(crate) written: usize,
    /// An acknowledgement was asked for and has not come: when the connection
    /// is given up.
    pub(crate) asked: Option<u64>,
    /// The last acknowledgement covered nothing new though something waited.
    pub(crate) unmoved: bool,
    /// When a timer is due: to ask, to store what is not acknowledged, to give
    /// the connection up, or to end the session, by the state it is in.
    pub(crate) due: Option<u64>,
    /// A resumption that waits for unhandled stanzas.
    pub(crate) resuming: Option<Resuming>,
}

/// A resumption that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resuming {
    pub(crate) connection: ConnectionId,
    /// What the client has received: its h.
    pub(crate) count: u32,
    /// When it is given up, monotonic.
    pub(crate) due: u64,
}

impl Management {
    /// The count to tell the client: everything before the first stanza that
    /// is not handled.
    pub(crate) fn handled(&self) -> u32 {
        match self.unhandled.first() {
            // After a resumption that did not wait, some of what was sent
            // before is not sent again yet.
            Some(number) if before(number, self.received.wrapping_add(1)) => number.wrapping_sub(1),
            _ => self.received,
        }
    }

    /// Whether everything up to a count is handled.
    pub(crate) fn handled_to(&self, count: u32) -> bool {
        // Counts wrap: what is still to be handled is at most what followed.
        self.received.wrapping_sub(self.handled()) <= self.received.wrapping_sub(count)
    }

    /// Takes the client's count. Returns what is acknowledged by it, or how
    /// many were sent if the count claims more.
    pub(crate) fn acknowledge(&mut self, count: u32) -> Result<Vec<Unacked>, u32> {
        let number = count.wrapping_sub(self.acked) as usize;
        if number > self.unacked.len() {
            let sent = u32::try_from(self.unacked.len()).unwrap_or(u32::MAX);
            return Err(self.acked.wrapping_add(sent));
        }
        self.acked = count;
        self.written = self.written.saturating_sub(number);
        let done: Vec<_> = self.unacked.drain(..number).collect();
        for unacked in &done {
            match unacked.copy {
                Copy::Stored(_) => self.stored -= 1,
                _ => self.bytes -= unacked.stanza.len(),
            }
        }
        if self.unacked.is_empty() {
            // An idle session keeps no buffer.
            self.unacked = VecDeque::new();
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: u32, unacked: usize) -> Management {
        Management {
            acked: count,
            unacked: (0..unacked)
                .map(|_| Unacked {
                    stanza: Box::default(),
                    copy: Copy::Only,
                    receipt: None,
                    at: 0,
                })
                .collect(),
            ..Management::default()
        }
    }

    #[test]
    fn counts_wrap() {
        let mut management = with(u32::MAX, 3);
        assert_eq!(management.acknowledge(1).unwrap().len(), 2);
        assert_eq!(management.acknowledge(1).unwrap().len(), 0);
        assert_eq!(management.acknowledge(3).unwrap_err(), 2);
        // A count that goes back claims nearly 2^32 stanzas.
        assert_eq!(management.acknowledge(0).unwrap_err(), 2);
    }

    #[test]
    fn the_first_unhandled_stanza_holds_the_count_back() {
        let mut management = with(0, 0);
        management.received = 2;
        assert_eq!(management.handled(), 2);
        let receipt = |number| Receipt {
            sender: crate::user::Sender::Session(Key::from_u64(0)),
            number,
            holder: None,
        };
        // Numbers 0xffffffff, 0 and 1 came before number 2.
        management.unhandled.push(receipt(1));
        management.unhandled.push(receipt(u64::from(u32::MAX)));
        assert_eq!(management.handled(), u32::MAX - 1);
        management.unhandled.remove(receipt(u64::from(u32::MAX)));
        assert_eq!(management.handled(), 0);
    }
}
