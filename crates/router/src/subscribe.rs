//! Subscriptions between users (RFC 6121, section 3).

use xmpp::Header;

use crate::router::Router;
use crate::rows::{RosterRow, Write};
use crate::slab::Key;
use crate::stanza::{self, StanzaError};
use crate::subscription::{Request, State, inbound, outbound};
use crate::user::Effect;

/// Largest request that is kept with what it says.
const REQUEST: usize = 16 << 10;

impl Router {
    /// A user's row for a contact, or the beginning of one.
    fn row(&self, user: Key, contact: &str) -> RosterRow {
        self.users
            .get(user)
            .and_then(|user| user.data.as_ref())
            .and_then(|data| data.roster.get(contact).cloned())
            .unwrap_or_else(|| RosterRow {
                contact: contact.into(),
                ..RosterRow::default()
            })
    }

    /// Sets a row in memory and gives the write for it.
    fn set_row(&mut self, user: Key, mut row: RosterRow, state: State) -> Option<Write> {
        row.subscription = state.subscription();
        row.ask = state.pending_out;
        row.approved = state.approved;
        if !state.pending_in {
            row.pending_in = None;
        }
        let data = self.users.get_mut(user)?.data.as_mut()?;
        if row.is_needed() {
            data.roster.insert(row.contact.clone(), row.clone());
            Some(Write::Roster(row))
        } else {
            data.roster.remove(&row.contact);
            Some(Write::RemoveRoster(row.contact))
        }
    }

    /// A client sends a subscription stanza.
    pub(crate) fn subscription_from(
        &mut self,
        key: Key,
        request: Request,
        contact: &str,
        header: &Header<'_>,
    ) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let user = session.user;
        let own: Box<str> = session.bare().into();
        if *contact == *own {
            // One's own presence needs no subscription.
            return;
        }
        if self.is_blocked(user, contact) && request == Request::Subscribe {
            self.reply_error(key, header, StanzaError::Blocked, "");
            return;
        }
        let mut row = self.row(user, contact);
        let before = State::of(&row);
        let outcome = outbound(before, request);
        let creates = !row.listed
            && (request == Request::Subscribe
                || outcome.state.approved
                || (request == Request::Subscribed && outcome.route));
        if creates && self.roster_is_full(user) {
            self.reply_error(
                key,
                header,
                StanzaError::ResourceConstraint,
                "The roster is full.",
            );
            return;
        }
        let was_listed = row.listed;
        row.listed |= creates;
        let mut writes = Vec::new();
        let mut effects = Vec::new();
        if outcome.state != before || row.listed != was_listed {
            writes.extend(self.set_row(user, row, outcome.state));
        }
        if outcome.route {
            let stanza = stanza::addressed(header, &own, Some(contact));
            effects.push(Effect::Route(stanza.into()));
        }
        if !writes.is_empty() {
            let pushed = was_listed || creates;
            let visible = State {
                pending_in: false,
                ..outcome.state
            } != State {
                pending_in: false,
                ..before
            };
            if pushed && (visible || !was_listed) {
                effects.push(Effect::PushRoster(contact.into()));
            }
        }
        match request {
            Request::Subscribed if outcome.route => {
                effects.push(Effect::Introduce(contact.into()));
            }
            Request::Unsubscribed if before.from => {
                effects.push(Effect::Withdraw(contact.into()));
            }
            _ => {}
        }
        self.commit_or_act(user, writes, effects);
    }

    /// Writes first, if there is anything to write.
    pub(crate) fn commit_or_act(
        &mut self,
        user: Key,
        writes: Vec<Write>,
        mut effects: Vec<Effect>,
    ) {
        if writes.is_empty() && effects.is_empty() {
            return;
        }
        if let Some(receipt) = self.defer(None) {
            effects.push(Effect::Settle(receipt));
        }
        self.commit(user, writes, effects);
    }

    /// A contact's subscription stanza arrives at a user.
    pub(crate) fn subscription_to(&mut self, user: Key, request: Request, header: &Header<'_>) {
        let Some(contact) = header.from().and_then(|from| self.read(from.get())) else {
            return;
        };
        let contact: Box<str> = contact.bare().into();
        if self.is_blocked(user, &contact) {
            return;
        }
        let Some(name) = self.users.get(user).map(|user| user.name.clone()) else {
            return;
        };
        let own = format!("{name}@{}", self.domain);
        let mut row = self.row(user, &contact);
        let before = State::of(&row);
        let outcome = inbound(before, request);
        let mut writes = Vec::new();
        let mut effects = Vec::new();
        if outcome.state != before {
            if outcome.state.pending_in && !before.pending_in {
                if !row.listed && self.roster_is_full(user) {
                    return;
                }
                let mut request = stanza::addressed(header, &contact, Some(&own));
                if request.len() > REQUEST {
                    request = stanza::presence("subscribe", &contact, &own);
                }
                row.pending_in = String::from_utf8(request).ok().map(Into::into);
            }
            let pushed = row.listed
                && State {
                    pending_in: false,
                    ..outcome.state
                } != State {
                    pending_in: false,
                    ..before
                };
            writes.extend(self.set_row(user, row, outcome.state));
            if outcome.deliver {
                effects.push(Effect::Deliver(
                    stanza::addressed(header, &contact, Some(&own)).into(),
                ));
            }
            if pushed {
                effects.push(Effect::PushRoster(contact.clone()));
            }
        }
        if let Some(reply) = outcome.reply {
            let stanza = stanza::presence(reply.as_str(), &own, &contact);
            effects.push(Effect::Route(stanza.into()));
        }
        match request {
            // Who may see the user does so at once.
            Request::Subscribe if outcome.state.from => {
                effects.push(Effect::Introduce(contact.clone()));
            }
            Request::Unsubscribe if before.from => {
                effects.push(Effect::Withdraw(contact.clone()));
            }
            _ => {}
        }
        self.commit_or_act(user, writes, effects);
    }

    /// Whether a user may have no more contacts.
    pub(crate) fn roster_is_full(&self, user: Key) -> bool {
        self.users
            .get(user)
            .and_then(|user| user.data.as_ref())
            .is_some_and(|data| data.roster.len() >= self.config.roster_items)
    }
}
