//! The roster (RFC 6121, section 2) with versioning.

use xmpp::{Builder, Element};

use crate::event::StoreFailure;
use crate::iq::{Answer, Request};
use crate::router::Router;
use crate::rows::{RosterRow, Write};
use crate::session::Copy;
use crate::slab::Key;
use crate::stanza::{self, StanzaError, names};
use crate::user::{Effect, Step};

/// Longest name of a contact or a group, in bytes.
const NAME: usize = 1023;
/// Most groups of a contact.
const GROUPS: usize = 100;

fn write_item(xml: &mut Builder, row: &RosterRow) {
    xml.start("item").attribute("jid", &row.contact);
    if !row.name.is_empty() {
        xml.attribute("name", &row.name);
    }
    xml.attribute("subscription", row.subscription.as_str());
    if row.ask {
        xml.attribute("ask", "subscribe");
    }
    if row.approved {
        xml.attribute("approved", "true");
    }
    for group in &row.groups {
        xml.start("group").text(group).end();
    }
    xml.end();
}

/// A number that depends on every field that clients see. Stable over
/// restarts and releases, for it is kept by clients (FNV-1a).
fn digest(row: &RosterRow) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(row.contact.as_bytes());
    add(row.name.as_bytes());
    add(row.subscription.as_str().as_bytes());
    add(&[row.ask.into(), row.approved.into()]);
    for group in &row.groups {
        add(group.as_bytes());
    }
    hash
}

impl Router {
    /// The roster's version: a digest of what it shows, so that equal rosters
    /// have equal versions and nothing needs to be stored.
    fn roster_version(&self, user: Key) -> String {
        let mut version = 0u64;
        if let Some(data) = self.users.get(user).and_then(|user| user.data.as_ref()) {
            for row in data.roster.values().filter(|row| row.listed) {
                // Rows come in one order, so the order counts as well.
                version = version.rotate_left(5) ^ digest(row);
            }
        }
        format!("{version:016x}")
    }

    pub(crate) fn roster_request(&mut self, request: &Request<'_>) -> Answer {
        let Some(session) = request.session else {
            return Answer::Error(StanzaError::Forbidden, "");
        };
        let Ok(query) = Element::parse_in(request.child.bytes, names::ROSTER) else {
            return Answer::Error(StanzaError::BadRequest, "");
        };
        if request.set {
            self.roster_set(session, request, &query)
        } else {
            self.roster_get(session, &query)
        }
    }

    fn roster_get(&mut self, key: Key, query: &Element) -> Answer {
        let Some(session) = self.sessions.get_mut(key) else {
            return Answer::None;
        };
        session.interested = true;
        let user = session.user;
        let version = self.roster_version(user);
        if query.attribute("ver") == Some(&version) {
            return Answer::Result(Vec::new());
        }
        let mut xml = Builder::new();
        xml.start("query").attribute("xmlns", names::ROSTER);
        if query.attribute("ver").is_some() {
            xml.attribute("ver", &version);
        }
        if let Some(data) = self.users.get(user).and_then(|user| user.data.as_ref()) {
            for row in data.roster.values().filter(|row| row.listed) {
                write_item(&mut xml, row);
            }
        }
        Answer::Result(xml.finish())
    }

    fn roster_set(&mut self, key: Key, request: &Request<'_>, query: &Element) -> Answer {
        let mut items = query.children();
        let (Some(item), None) = (items.next(), items.next()) else {
            return Answer::Error(StanzaError::BadRequest, "Exactly one item is needed.");
        };
        let contact = item
            .attribute("jid")
            .filter(|_| item.is("item", names::ROSTER))
            .and_then(|jid| self.read(jid.into()))
            .map(|address| Box::<str>::from(address.bare()));
        let Some(contact) = contact else {
            return Answer::Error(StanzaError::BadRequest, "The item has no valid address.");
        };
        let Some(user) = self.sessions.get(key).map(|session| session.user) else {
            return Answer::None;
        };
        if item.attribute("subscription") == Some("remove") {
            return self.roster_remove(key, user, request, &contact);
        }
        let name = item.attribute("name").unwrap_or_default();
        let mut groups: Vec<Box<str>> = Vec::new();
        for group in item
            .children()
            .filter(|child| child.is("group", names::ROSTER))
        {
            let group = group.text();
            if group.is_empty() || group.len() > NAME {
                return Answer::Error(
                    StanzaError::NotAcceptable,
                    "A group's name has 1 to 1023 bytes.",
                );
            }
            if groups.iter().any(|known| **known == *group) {
                return Answer::Error(StanzaError::BadRequest, "A group is named twice.");
            }
            groups.push(group.into());
        }
        if name.len() > NAME {
            return Answer::Error(StanzaError::NotAcceptable, "A name has 1023 bytes at most.");
        }
        if groups.len() > GROUPS {
            return Answer::Error(
                StanzaError::NotAcceptable,
                "A contact has 100 groups at most.",
            );
        }
        let full = self.roster_is_full(user);
        let Some(data) = self.users.get_mut(user).and_then(|user| user.data.as_mut()) else {
            return Answer::None;
        };
        let is_new = !data.roster.contains_key(&contact);
        let own = contact.len() + name.len() + groups.iter().map(|one| one.len()).sum::<usize>();
        let others = data.roster.values().filter(|row| row.contact != contact);
        let bytes = own + others.map(RosterRow::bytes).sum::<usize>();
        if is_new && full || bytes > self.config.roster_bytes {
            return Answer::Error(StanzaError::ResourceConstraint, "The roster is full.");
        }
        let row = data
            .roster
            .entry(contact.clone())
            .or_insert_with(|| RosterRow {
                contact: contact.clone(),
                ..RosterRow::default()
            });
        row.name = name.into();
        row.groups = groups;
        row.listed = true;
        let write = Write::Roster(row.clone());
        let effects = vec![Effect::PushRoster(contact), self.reply_effect(key, request)];
        self.commit_or_act(user, vec![write], effects);
        Answer::None
    }

    /// Removes a contact and ends every subscription with it (RFC 6121, 2.5).
    fn roster_remove(
        &mut self,
        key: Key,
        user: Key,
        request: &Request<'_>,
        contact: &str,
    ) -> Answer {
        let Some(known) = self.users.get_mut(user) else {
            return Answer::None;
        };
        let own = format!("{}@{}", known.name, self.domain);
        let Some(data) = known.data.as_mut() else {
            return Answer::None;
        };
        let row = match data.roster.remove(contact) {
            Some(row) if row.listed => row,
            Some(asked) => {
                data.roster.insert(contact.into(), asked);
                return Answer::Error(StanzaError::ItemNotFound, "");
            }
            None => return Answer::Error(StanzaError::ItemNotFound, ""),
        };
        let mut effects = vec![
            Effect::PushRoster(contact.into()),
            self.reply_effect(key, request),
        ];
        let mut send = |kind| {
            let stanza = stanza::presence(kind, &own, contact);
            effects.push(Effect::Route(stanza.into()));
        };
        if row.subscription.to() || row.ask {
            send("unsubscribe");
        }
        if row.subscription.from() || row.pending_in.is_some() {
            send("unsubscribed");
        }
        if row.subscription.from() {
            effects.push(Effect::Withdraw(contact.into()));
        }
        self.commit_or_act(user, vec![Write::RemoveRoster(contact.into())], effects);
        Answer::None
    }

    /// An effect that answers a request with an empty result.
    pub(crate) fn reply_effect(&self, key: Key, request: &Request<'_>) -> Effect {
        Effect::Reply {
            session: key,
            reply: self.result(request, &[]).into(),
            request: request.header.bytes().into(),
        }
    }

    /// A contact was set or removed in the database. What differs from memory
    /// may be somebody else's change, or the echo of an older one of our own:
    /// the rows tell, once all of ours are written.
    pub(crate) fn roster_changed(&mut self, name: &str, contact: &str, row: Option<&RosterRow>) {
        let Some(key) = self.names.get(name).copied() else {
            return;
        };
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        let known = user.data.as_ref().map(|data| data.roster.get(contact));
        if known != Some(row) {
            self.read_roster(key);
        }
    }

    /// Changes to contacts may have been missed.
    pub(crate) fn rosters_changed(&mut self) {
        let all: Vec<Key> = self.users.iter().map(|(key, _)| key).collect();
        for key in all {
            self.read_roster(key);
        }
    }

    /// Reads a user's contacts again. Everything else for the user waits, so
    /// that nothing changes in memory meanwhile.
    pub(crate) fn read_roster(&mut self, key: Key) {
        let Some(user) = self.users.get_mut(key) else {
            return;
        };
        if user.data.is_none() || user.busy && user.journal.is_none() {
            // Being loaded, perhaps from before the change.
            user.stale = true;
            return;
        }
        let journal = user.journal();
        if !journal.next.iter().any(|step| matches!(step, Step::Roster)) {
            user.busy = true;
            self.step(key, Step::Roster);
        }
    }

    /// Contacts were read again.
    pub(crate) fn roster_read(&mut self, name: &str, rows: Result<Vec<RosterRow>, StoreFailure>) {
        let Some((key, Step::Roster)) = self.step_done(name) else {
            return;
        };
        self.read_done(key);
        match rows {
            Ok(rows) => self.take_roster(key, rows),
            Err(failure) => {
                tracing::error!(user = name, %failure, "Contacts that changed could not be read.");
            }
        }
        self.pump(key);
        self.fetch_stored(key);
        self.drain_later(key);
    }

    /// Takes contacts over, and does what follows from the differences.
    fn take_roster(&mut self, key: Key, rows: Vec<RosterRow>) {
        let Some(data) = self.users.get_mut(key).and_then(|user| user.data.as_mut()) else {
            return;
        };
        let new = rows.into_iter().map(|row| (row.contact.clone(), row));
        let old = std::mem::replace(&mut data.roster, new.collect());
        let mut changes = Vec::new();
        for (contact, row) in &data.roster {
            let before = old.get(contact).cloned().unwrap_or_default();
            if before != *row {
                changes.push((contact.clone(), before, row.clone()));
            }
        }
        for (contact, before) in old {
            if !data.roster.contains_key(&contact) {
                changes.push((contact, before, RosterRow::default()));
            }
        }
        for (contact, before, after) in changes {
            let asked = match (&before.pending_in, &after.pending_in) {
                (None, Some(request)) => Some(request.clone()),
                _ => None,
            };
            let (was, is) = (before.subscription, after.subscription);
            let visible = |row: RosterRow| RosterRow {
                contact: Box::default(),
                pending_in: None,
                ..row
            };
            if (before.listed || after.listed) && visible(before) != visible(after) {
                self.push_roster(key, &contact);
            }
            if let Some(request) = asked {
                self.deliver_to_available(key, request.as_bytes());
            }
            if is.from() && !was.from() {
                self.introduce(key, &contact);
            } else if was.from() && !is.from() {
                self.withdraw(key, &contact);
            }
            if is.to() && !was.to() {
                self.probe_for_all(key, &contact);
            }
        }
    }

    /// Sends a contact, as it is now, to the clients that asked for the roster.
    pub(crate) fn push_roster(&mut self, user: Key, contact: &str) {
        let version = self.roster_version(user);
        let Some(data) = self.users.get(user).and_then(|user| user.data.as_ref()) else {
            return;
        };
        let mut xml = Builder::new();
        xml.start("query")
            .attribute("xmlns", names::ROSTER)
            .attribute("ver", &version);
        match data.roster.get(contact).filter(|row| row.listed) {
            Some(row) => write_item(&mut xml, row),
            None => {
                xml.start("item")
                    .attribute("jid", contact)
                    .attribute("subscription", "remove")
                    .end();
            }
        }
        let payload = xml.finish();
        self.push(user, &payload, |session| session.interested);
    }

    /// Sends a request of the server's own to the clients that want it.
    pub(crate) fn push(
        &mut self,
        user: Key,
        payload: &[u8],
        wants: impl Fn(&crate::session::Session) -> bool,
    ) {
        let id = format!("push-{:x}", (self.random)());
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            let Some(session) = self.sessions.get(key).filter(|session| wants(session)) else {
                continue;
            };
            let mut xml = Builder::new();
            xml.start("iq")
                .attribute("type", "set")
                .attribute("id", &id)
                .attribute("to", &session.jid)
                .raw(payload);
            let stanza = xml.finish();
            self.deliver(key, &stanza, Copy::Shared);
        }
    }
}
