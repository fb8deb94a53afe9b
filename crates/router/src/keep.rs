//! Messages that wait for a client are stored, too, so that nothing that a
//! sender was told to be handled is lost with the router's memory.
//!
//! A message to a client with stream management holds its sender's count back
//! until the client has acknowledged it. Where that takes too long it is
//! stored instead: when the client's connection is gone, when it comes while
//! there is none, when the client does not acknowledge in time, and when its
//! sender resumes and has to be told a count. The row goes when the client
//! has acknowledged.

use std::collections::{HashMap, HashSet};

use xmpp::{Header, Rewrite};

use crate::message;
use crate::router::{Later, Router, Timer, Undelivered};
use crate::rows::Write;
use crate::session::{Copy, Unacked};
use crate::slab::Key;
use crate::stanza;
use crate::user::{Effect, Receipt};

/// Largest message that is stored.
pub(crate) const STORED: usize = database::tables::LARGEST_STANZA;

/// Milliseconds after which what could not be stored is tried again.
const AGAIN: u64 = 1000;

impl Router {
    /// Stores the messages that a session has not acknowledged and that are
    /// not stored yet.
    pub(crate) fn keep(&mut self, key: Key) {
        self.keep_from(key, 0);
    }

    /// Stores what came for a session without a connection since the last
    /// message that was stored for it.
    pub(crate) fn keep_newest(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if session.connection.is_some() || self.config.offline_messages == 0 {
            return;
        }
        let from = session
            .management
            .as_ref()
            .and_then(|management| {
                let stored = |unacked: &Unacked| unacked.copy.sequence().is_some();
                management.unacked.iter().rposition(stored)
            })
            .map_or(0, |at| at + 1);
        self.keep_from(key, from);
    }

    fn keep_from(&mut self, key: Key, from: usize) {
        let (unix, slot) = (self.now.unix, self.slot());
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let owner = session.user;
        let Some(user) = self.users.get_mut(owner) else {
            return;
        };
        let loading = user.busy && user.journal.is_none();
        let Some(data) = user.data.as_mut().filter(|_| !loading) else {
            // The rows are being read; `keep_again` follows.
            return;
        };
        let bare = session.bare().to_owned();
        let Some(management) = session.management.as_mut() else {
            return;
        };
        let mut writes = Vec::new();
        let mut effects = Vec::new();
        let mut settled: Vec<Receipt> = Vec::new();
        let mut shared = HashMap::new();
        for unacked in management.unacked.iter_mut().skip(from) {
            let share = match unacked.copy {
                Copy::Only => None,
                Copy::Message(share) => Some(share),
                Copy::Shared | Copy::Carbon(_) | Copy::Stored(_) | Copy::Kept { .. } => continue,
            };
            let Some(stanza) = storable(&unacked.stanza, &bare) else {
                // Never stored, so there is nothing that its sender waits for.
                settled.extend(unacked.receipt.take());
                continue;
            };
            let row = data.add(stanza, &stanza::stamp(unacked.at), unix, slot);
            let sequence = row.sequence;
            data.in_delivery.push(sequence);
            unacked.copy = Copy::Kept { sequence, share };
            if let Some(share) = share {
                shared.insert(share.number, effects.len());
            }
            effects.push(Effect::Kept {
                sequence,
                stanza: unacked.stanza.clone(),
                receipts: unacked.receipt.take().into_iter().collect(),
            });
            writes.push(Write::Offline(row));
        }
        if !shared.is_empty() {
            self.share_rows(owner, &shared, &mut effects);
        }
        for receipt in settled {
            self.settle(Some(receipt));
        }
        if !writes.is_empty() {
            self.commit(owner, writes, effects);
        }
    }

    /// Copies of a stored message in the user's other sessions are copies of
    /// the same row.
    fn share_rows(&mut self, user: Key, rows: &HashMap<u64, usize>, effects: &mut [Effect]) {
        let mut at = 0;
        while let Some(other) = self.session_at(user, at) {
            at += 1;
            for unacked in self.unacked_mut(other) {
                if let Copy::Message(share) = unacked.copy
                    && let Some(Effect::Kept {
                        sequence, receipts, ..
                    }) = rows
                        .get(&share.number)
                        .and_then(|row| effects.get_mut(*row))
                {
                    unacked.copy = Copy::Kept {
                        sequence: *sequence,
                        share: Some(share),
                    };
                    receipts.extend(unacked.receipt.take());
                }
            }
        }
    }

    fn unacked_mut(&mut self, key: Key) -> impl Iterator<Item = &mut Unacked> {
        self.sessions
            .get_mut(key)
            .and_then(|session| session.management.as_mut())
            .into_iter()
            .flat_map(|management| management.unacked.iter_mut())
    }

    /// A message that waits for a client could not be stored: it is in memory
    /// only, as before.
    pub(crate) fn unkept(
        &mut self,
        user: Key,
        sequence: i64,
        stanza: Box<[u8]>,
        mut receipts: Vec<Receipt>,
    ) {
        let mut found = false;
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            for unacked in self.unacked_mut(key) {
                if let Copy::Kept {
                    sequence: known,
                    share,
                } = unacked.copy
                    && known == sequence
                {
                    found = true;
                    // What came before there was a session has no holder.
                    let own = receipts
                        .iter()
                        .position(|receipt| receipt.holder.is_none_or(|holder| holder == key));
                    unacked.receipt = own.map(|at| receipts.swap_remove(at));
                    unacked.copy = share.map_or(Copy::Only, Copy::Message);
                }
            }
        }
        // Without a row a session that ended meanwhile left it nowhere; if
        // the client has it, the row was forgotten, and if it is on its way to
        // one without stream management, that has to do.
        let data = self.users.get(user).and_then(|user| user.data.as_ref());
        let waits = data.is_some_and(|data| {
            let known = data.offline.iter().any(|(row, _)| *row == sequence);
            known && !data.in_delivery.contains(&sequence)
        });
        let lost = !found && waits;
        if lost {
            let undelivered = Undelivered {
                stanza,
                receipt: receipts.pop(),
                at: self.now.unix,
            };
            match self.later.back_mut() {
                // Together they keep their order.
                Some(Later::Reroute(known, all)) if *known == user => all.push(undelivered),
                _ => self
                    .later
                    .push_back(Later::Reroute(user, vec![undelivered])),
            }
        }
        for receipt in receipts {
            self.settle(Some(receipt));
        }
    }

    /// Stores again, some time later, what could not be stored.
    pub(crate) fn keep_later(&mut self, key: Key) {
        let due = self.now.monotonic + AGAIN;
        if let Some(user) = self.users.get_mut(key)
            && !std::mem::replace(&mut user.keeping, true)
        {
            self.timers.insert((due, Timer::Keep(key)));
        }
    }

    /// Stores what a user's sessions without a connection wait for, and what
    /// holds a sender's count back.
    pub(crate) fn keep_again(&mut self, user: Key) {
        if let Some(user) = self.users.get_mut(user) {
            user.keeping = false;
        }
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            let gone = self.config.offline_messages > 0
                && self
                    .sessions
                    .get(key)
                    .is_some_and(|session| session.connection.is_none());
            if gone
                || self
                    .unacked_mut(key)
                    .any(|unacked| unacked.receipt.is_some())
            {
                self.keep(key);
            }
        }
    }

    /// The client has these stanzas: their rows go, and so does what held
    /// their senders' counts back.
    pub(crate) fn received(&mut self, user: Key, done: Vec<Unacked>) {
        let numbers = done.iter().filter_map(|unacked| unacked.copy.number());
        self.mark_had(user, &numbers.collect());
        let copies = done.iter().map(|unacked| unacked.copy);
        let elsewhere = self.shares_elsewhere(user, copies, true);
        let waits = |copy: Copy| copy.number().is_some_and(|it| elsewhere.contains(&it));
        let rows: Vec<_> = done
            .iter()
            .filter(|unacked| !waits(unacked.copy))
            .filter_map(|unacked| unacked.copy.sequence())
            .collect();
        for unacked in done {
            self.settle(unacked.receipt);
        }
        self.read_by_client(user, rows.into_iter());
    }

    /// One of a user's clients has these messages: a session that still waits
    /// for one need not hand it on when it ends.
    fn mark_had(&mut self, user: Key, numbers: &HashSet<u64>) {
        self.change_copies(user, numbers, Copy::mark_had);
    }

    /// These messages are handed on for all sessions of a user that wait for
    /// them: a client that comes back gets its own copy.
    pub(crate) fn unshare(&mut self, user: Key, numbers: &HashSet<u64>) {
        self.change_copies(user, numbers, |copy| {
            if copy.share().is_some() {
                *copy = Copy::Shared;
            }
        });
    }

    /// Changes the copies of these messages in all sessions of a user.
    fn change_copies(&mut self, user: Key, numbers: &HashSet<u64>, change: impl Fn(&mut Copy)) {
        if numbers.is_empty() {
            return;
        }
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            for unacked in self.unacked_mut(key) {
                let number = unacked.copy.number();
                if number.is_some_and(|number| numbers.contains(&number)) {
                    change(&mut unacked.copy);
                }
            }
        }
    }

    /// Numbers of the shared messages that sessions of a user wait for, those
    /// that `lost` their connection included or not; only looked up when one of
    /// the copies is of such a message.
    pub(crate) fn shares_elsewhere(
        &self,
        user: Key,
        mut copies: impl Iterator<Item = Copy>,
        lost: bool,
    ) -> HashSet<u64> {
        if !copies.any(|copy| copy.share().is_some()) {
            return HashSet::new();
        }
        let Some(user) = self.users.get(user) else {
            return HashSet::new();
        };
        user.sessions
            .iter()
            .filter_map(|key| self.sessions.get(*key))
            .filter(|session| lost || session.connection.is_some())
            .filter_map(|session| session.management.as_ref())
            .flat_map(|management| &management.unacked)
            .filter_map(|unacked| Some(unacked.copy.share()?.number))
            .collect()
    }
}

/// The text of a message to store it for its user; `None` when it is none or
/// is not to be stored.
fn storable(stanza: &[u8], bare: &str) -> Option<Box<str>> {
    let header = Header::parse(stanza).ok()?;
    if header.name() != "message" || !message::is_kept(&header) {
        return None;
    }
    let mut out = Vec::new();
    header.write(&Rewrite::new().to(Some(bare)), &mut out);
    if out.len() > STORED {
        return None;
    }
    String::from_utf8(out).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::STORED;

    /// Room for the addresses that the router writes into a stanza.
    const ADDRESSES: u64 = 8 << 10;

    #[test]
    fn whatever_a_client_may_send_can_be_stored() {
        let largest = xmpp_config_manager::declared("xmpp-connection-manager", "MaxStanzaBytes");
        let parameter::Values::Number(_, most, _) = largest.unwrap().definition.values else {
            panic!("it is a number");
        };
        assert!(most + ADDRESSES <= STORED as u64);
    }
}
