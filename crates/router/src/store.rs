//! Users and their rows: loaded on demand, written one step after the other,
//! forgotten when idle.

use xmpp::{Condition, Header, StreamError};

use crate::connect::Told;
use crate::event::{StoreFailure, StoreRequest};
use crate::router::{Later, Router, Timer};
use crate::rows::{OfflineRow, UserRows, Write};
use crate::session::Copy;
use crate::slab::Key;
use crate::stanza::StanzaError;
use crate::user::{Data, Effect, Held, Receipt, Sender, Step, User};

const UNSTORED: &str = "The database cannot store it now; try again later.";

impl Router {
    pub(crate) fn loaded(&mut self, name: &str, rows: Result<Option<UserRows>, StoreFailure>) {
        let Some(key) = self.names.get(name).copied() else {
            return;
        };
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        user.busy = false;
        match rows {
            Ok(Some(rows)) if rows.enabled && !user.gone => {
                // The news of a user who was just added may still come.
                if self.cluster.server_of(name).is_none() {
                    self.cluster.set_user(name, rows.home.as_deref());
                    if !self.serves(name) {
                        return self.hand_over(key);
                    }
                }
                let Some(user) = self.users.get_mut(key) else {
                    return;
                };
                let mut data = Data::new(rows);
                for (sequence, size) in std::mem::take(&mut user.news) {
                    data.learn(sequence, size);
                }
                let again = user.data.is_some();
                if let Some(old) = user.data.take() {
                    // Loaded again after a failed write: what sessions have
                    // in their hands stays theirs.
                    data.last_sequence = data.last_sequence.max(old.last_sequence);
                    let kept = |known: &i64| data.offline.iter().any(|(row, _)| row == known);
                    data.in_delivery = old.in_delivery.into_iter().filter(kept).collect();
                }
                user.data = Some(Box::new(data));
                if std::mem::take(&mut user.stale) {
                    self.read_roster(key);
                }
                if again {
                    // Not at once: the next write may fail like the last.
                    self.keep_later(key);
                }
                if self.users.get_mut(key).is_some_and(User::take_unread) {
                    self.fetch_stored(key);
                }
                self.check_awaited(key);
                self.drain_later(key);
            }
            Ok(_) => {
                let error = StreamError::new(
                    Condition::NotAuthorized,
                    "The user does not exist or may not sign in.",
                );
                self.dismiss(key, error, StanzaError::ServiceUnavailable);
            }
            Err(failure) => {
                tracing::error!(user = name, %failure, "A user could not be loaded.");
                let error = StreamError::new(
                    Condition::InternalServerError,
                    "The database does not answer; try again later.",
                );
                self.dismiss(key, error, StanzaError::InternalServerError);
            }
        }
    }

    /// Ends everything of a user who cannot be served, and forgets the user.
    fn dismiss(&mut self, key: Key, error: StreamError, bounce: StanzaError) {
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        let held = std::mem::take(&mut user.held);
        let sessions = std::mem::take(&mut user.sessions);
        let fresh = std::mem::take(&mut user.fresh);
        for session in sessions {
            self.end_session(session, Some(error), Told::All);
        }
        for connection in fresh {
            self.end_connection(connection, error);
        }
        for waiting in held {
            if let Held::Stanza(stanza, receipt) = waiting {
                if let Ok(header) = Header::parse(&stanza)
                    && header.name() != "presence"
                {
                    self.bounce(&header, bounce, "");
                }
                self.settle(receipt);
            }
        }
        self.fail_journal(key);
        if let Some(user) = self.users.remove(key) {
            self.names.remove(&user.name);
        }
    }

    /// Where all users are at home.
    pub(crate) fn users_read(&mut self, users: Vec<(Box<str>, Option<Box<str>>)>) {
        self.cluster.set_users(users);
        self.send_strangers_away(|_, _| Told::All);
    }

    /// An administrator added, changed, moved or removed a user.
    pub(crate) fn user_changed(&mut self, name: &str, enabled: bool, home: Option<&str>) {
        let before = self.cluster.server_of(name);
        if enabled || home.is_some() {
            self.cluster.set_user(name, home);
        } else {
            self.cluster.remove_user(name);
        }
        if self.cluster.server_of(name) != before {
            if !self.serves(name)
                && let Some(key) = self.names.get(name).copied()
            {
                self.send_away(key, Told::All);
            }
            self.redistribute();
        }
        self.review_inactive();
        let Some(key) = self.names.get(name).copied() else {
            return;
        };
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        if user.data.is_none() {
            // The answer to the load may be older than this news.
            user.gone = !enabled;
        } else if !enabled {
            tracing::info!(user = name, "The user may not sign in any more.");
            let error = StreamError::new(
                Condition::NotAuthorized,
                "The user was removed or disabled by an administrator.",
            );
            self.dismiss(key, error, StanzaError::ServiceUnavailable);
        }
    }

    pub(crate) fn drain_later(&mut self, key: Key) {
        self.later.push_back(Later::Drain(key));
    }

    /// Writes rows; the effects follow when they are durable.
    pub(crate) fn commit(&mut self, key: Key, writes: Vec<Write>, effects: Vec<Effect>) {
        if let Some(user) = self.users.get_mut(key) {
            user.idle = None;
            user.journal().write(writes, effects);
            self.pump(key);
        }
    }

    /// Adds a step that reads.
    pub(crate) fn step(&mut self, key: Key, step: Step) {
        if let Some(user) = self.users.get_mut(key) {
            user.idle = None;
            user.journal().next.push_back(step);
            self.pump(key);
        }
    }

    /// Issues the next step of a user's journal if none is under way.
    pub(crate) fn pump(&mut self, key: Key) {
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        let name: Box<str> = (&*user.name).into();
        let Some(journal) = user.journal.as_mut() else {
            return;
        };
        if journal.under_way.is_some() {
            return;
        }
        let Some(mut step) = journal.next.pop_front() else {
            user.journal = None;
            self.rest(key);
            return;
        };
        if let Step::Write(writes, effects) = &mut step
            && writes.is_empty()
        {
            // Only something that had to wait for its turn.
            for effect in std::mem::take(effects) {
                self.take_effect(key, effect);
            }
            return self.pump(key);
        }
        self.out.store.push(match &mut step {
            Step::Write(writes, _) => StoreRequest::Write {
                user: name,
                writes: std::mem::take(writes),
            },
            Step::Offline => StoreRequest::Offline { user: name },
            Step::Roster => StoreRequest::Roster { user: name },
            Step::VCard(_) => StoreRequest::VCard { user: name },
        });
        journal.under_way = Some(step);
        journal.since = self.now.monotonic;
    }

    pub(crate) fn step_done(&mut self, name: &str) -> Option<(Key, Step)> {
        let key = self.names.get(name).copied()?;
        let step = self
            .users
            .get_mut(key)?
            .journal
            .as_mut()?
            .under_way
            .take()?;
        Some((key, step))
    }

    pub(crate) fn written(&mut self, name: &str, result: Result<(), StoreFailure>) {
        let Some((key, Step::Write(_, effects))) = self.step_done(name) else {
            return;
        };
        match result {
            Ok(()) => {
                for effect in effects {
                    self.take_effect(key, effect);
                }
                self.pump(key);
            }
            Err(failure) => {
                tracing::error!(user = name, %failure, "A user's rows could not be written.");
                for effect in effects {
                    self.cancel_effect(key, effect);
                }
                self.reload(key);
            }
        }
    }

    pub(crate) fn fetched(&mut self, name: &str, rows: Result<Vec<OfflineRow>, StoreFailure>) {
        let Some((key, Step::Offline)) = self.step_done(name) else {
            return;
        };
        self.read_done(key);
        match rows {
            Ok(rows) => {
                let slot = self.slot();
                if let Some(data) = self.users.get_mut(key).and_then(|user| user.data.as_mut()) {
                    let rows = data.compare(rows, slot);
                    self.deliver_stored(key, rows);
                }
            }
            Err(failure) => {
                // They stay where they are; the next presence asks again.
                tracing::error!(user = name, %failure, "Stored messages could not be read.");
            }
        }
        self.pump(key);
        self.drain_later(key);
    }

    /// Rows were read; everything else goes on unless there is more to read.
    pub(crate) fn read_done(&mut self, key: Key) {
        if let Some(user) = self.users.get_mut(key) {
            user.busy = user
                .journal
                .as_ref()
                .is_some_and(|journal| journal.will_read());
        }
    }

    pub(crate) fn vcard_read(&mut self, name: &str, xml: Result<Option<String>, StoreFailure>) {
        let Some((key, Step::VCard(request))) = self.step_done(name) else {
            return;
        };
        self.vcard_answer(&request, &xml);
        self.settle(request.receipt);
        self.pump(key);
    }

    /// A write failed, so what is in memory is ahead of the rows: everything
    /// that rests on it fails, too, and the rows are read again.
    fn reload(&mut self, key: Key) {
        let unread = self.fail_journal(key);
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        user.unread |= unread;
        user.busy = true;
        let request = StoreRequest::Load {
            user: (&*user.name).into(),
        };
        self.out.store.push(request);
    }

    /// Fails what a user's journal still holds. Tells whether stored messages
    /// were to be read.
    fn fail_journal(&mut self, key: Key) -> bool {
        let Some(journal) = self.users.get_mut(key).and_then(|user| user.journal.take()) else {
            return false;
        };
        let mut unread = false;
        for step in journal.under_way.into_iter().chain(journal.next) {
            match step {
                Step::Write(_, effects) => {
                    for effect in effects {
                        self.cancel_effect(key, effect);
                    }
                }
                Step::Offline => unread = true,
                Step::Roster => {}
                Step::VCard(request) => {
                    self.vcard_answer(&request, &Err(StoreFailure(UNSTORED.into())));
                    self.settle(request.receipt);
                }
            }
        }
        unread
    }

    fn take_effect(&mut self, key: Key, effect: Effect) {
        match effect {
            Effect::Reply { session, reply, .. } => self.deliver(session, &reply, Copy::Only),
            Effect::PushRoster(contact) => self.push_roster(key, &contact),
            Effect::PushBlocks(payload) => self.push_blocks(key, &payload),
            Effect::Route(stanza) => self.later.push_back(Later::Route(stanza)),
            Effect::Deliver(stanza) | Effect::Show(stanza) => {
                self.deliver_to_available(key, &stanza);
            }
            Effect::Introduce(to) => self.introduce(key, &to),
            Effect::Withdraw(to) => self.withdraw(key, &to),
            Effect::Probe(contact) => self.probe_for_all(key, &contact),
            Effect::Stored { receipt, .. } => {
                self.stats.stored += 1;
                self.settle(receipt);
            }
            Effect::Kept { receipts, .. } => {
                self.stats.stored += 1;
                for receipt in receipts {
                    self.settle(Some(receipt));
                }
            }
            Effect::Settle(receipt) => self.settle(Some(receipt)),
        }
    }

    fn cancel_effect(&mut self, key: Key, effect: Effect) {
        match effect {
            Effect::Reply {
                session, request, ..
            } => {
                if let (Ok(header), Some(jid)) = (
                    Header::parse(&request),
                    self.sessions
                        .get(session)
                        .map(|session| session.jid.clone()),
                ) && let Some(reply) = crate::stanza::error_reply(
                    &header,
                    &jid,
                    StanzaError::InternalServerError,
                    UNSTORED,
                ) {
                    self.deliver(session, &reply, Copy::Only);
                }
            }
            Effect::Stored { row, receipt } => {
                if let Ok(header) = Header::parse(row.stanza.as_bytes()) {
                    self.bounce(&header, StanzaError::InternalServerError, UNSTORED);
                }
                self.settle(receipt);
            }
            Effect::Kept {
                sequence,
                stanza,
                receipts,
            } => self.unkept(key, sequence, stanza, receipts),
            Effect::Settle(receipt) => self.settle(Some(receipt)),
            Effect::Show(stanza) => self.deliver_to_available(key, &stanza),
            Effect::PushRoster(_)
            | Effect::PushBlocks(_)
            | Effect::Route(_)
            | Effect::Deliver(_)
            | Effect::Introduce(_)
            | Effect::Withdraw(_)
            | Effect::Probe(_) => {}
        }
    }

    /// Starts a user's time to be forgotten when nothing is going on.
    pub(crate) fn rest(&mut self, key: Key) {
        let due = self.now.monotonic + self.config.unload_seconds * 1000;
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        if user.is_quiet() && !self.cluster.serves(&user.name) {
            // What its sessions did not receive comes first.
            self.later.push_back(Later::LetGo(key));
        } else if user.is_quiet() && user.idle.is_none() {
            user.idle = Some(due);
            self.timers.insert((due, Timer::User(key)));
        }
    }

    pub(crate) fn user_timer(&mut self, key: Key) {
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        let due = user.idle.take();
        if !user.is_quiet() {
            return;
        }
        match due {
            Some(due) if due <= self.now.monotonic => {
                if let Some(user) = self.users.remove(key) {
                    self.names.remove(&user.name);
                }
            }
            // Woken for an older rest; this one is not over.
            _ => self.rest(key),
        }
    }

    /// A deferred stanza is handled.
    pub(crate) fn settle(&mut self, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        let key = match receipt.sender {
            Sender::Session(key) => key,
            Sender::Peer(stream) => return self.settle_peer(stream, receipt.number),
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(management) = session.management.as_mut() else {
            return;
        };
        management.unhandled.remove(receipt);
        if management.unhandled.is_empty()
            && let Some(resuming) = management.resuming.take()
        {
            self.resume(key, resuming.connection, resuming.count);
        } else if management
            .answer_owed
            .is_some_and(|asked| management.handled_to(asked))
        {
            self.answer(key);
        }
    }
}
