//! Messages (RFC 6121, sections 5 and 8), carbons (XEP-0280) and what is
//! stored for later (XEP-0160).

use std::borrow::Cow;
use std::sync::Arc;

use xcp::ToComponent;
use xmpp::{Builder, Header, Rewrite, ns};

use crate::address::covers;
use crate::router::{Place, Router};
use crate::session::{Copy, Share};
use crate::slab::Key;
use crate::stanza::{self, StanzaError, names};

/// Types of a message; unknown ones count as normal (RFC 6121, 5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Chat,
    Groupchat,
    Headline,
    Error,
}

impl Kind {
    fn of(header: &Header<'_>) -> Self {
        match header.kind().map(|kind| kind.raw()) {
            Some("chat") => Self::Chat,
            Some("groupchat") => Self::Groupchat,
            Some("headline") => Self::Headline,
            Some("error") => Self::Error,
            _ => Self::Normal,
        }
    }
}

/// Whether copies of a message go to the user's other clients.
fn is_copied(header: &Header<'_>, kind: Kind) -> bool {
    let mut body = false;
    let mut payload = false;
    for child in header.children() {
        match (child.name, child.xmlns) {
            ("private", names::CARBONS) | ("no-copy", names::HINTS) => return false,
            // Copies are not copied again.
            ("sent" | "received", names::CARBONS) => return false,
            // Invitations and private messages of rooms belong to one client.
            ("x", names::MUC_USER) => return false,
            ("body", ns::CLIENT) => body = true,
            (_, names::RECEIPTS | names::MARKERS | names::CHAT_STATES) => payload = true,
            _ => {}
        }
    }
    match kind {
        Kind::Chat => true,
        Kind::Normal => body || payload,
        Kind::Error => payload,
        Kind::Groupchat | Kind::Headline => false,
    }
}

/// Whether a message is worth storing: chat states alone are not, nor what
/// the sender asks not to store.
fn is_stored(header: &Header<'_>) -> bool {
    let mut empty = true;
    for child in header.children() {
        match (child.name, child.xmlns) {
            ("no-store" | "no-permanent-store", names::HINTS) => return false,
            ("store", names::HINTS) => return true,
            (_, names::CHAT_STATES | names::HINTS) | ("thread", ns::CLIENT) => {}
            _ => empty = false,
        }
    }
    !empty
}

/// Whether a message that waits for a client is stored meanwhile.
pub(crate) fn is_kept(header: &Header<'_>) -> bool {
    matches!(Kind::of(header), Kind::Normal | Kind::Chat) && is_stored(header)
}

impl Router {
    /// A message of one of our clients.
    pub(crate) fn message_from(&mut self, key: Key, header: &Header<'_>) {
        self.stats.messages += 1;
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let jid: Arc<str> = session.jid.clone();
        let user = session.user;
        // Without `to` it is for the sender's own account.
        let to = match header.to() {
            Some(to) => to.get(),
            None => Cow::Owned(session.bare().into()),
        };
        let Some(address) = self.read(to) else {
            self.reply_error(key, header, StanzaError::JidMalformed, "");
            return;
        };
        if self.is_blocked(user, address.as_str()) {
            self.reply_error(key, header, StanzaError::Blocked, "");
            return;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let mut changes = Rewrite::new().from(Some(&jid));
        if header.to().is_none() {
            changes = changes.to(Some(address.as_str()));
        }
        header.write(&changes, &mut bytes);
        if let Ok(stamped) = Header::parse(&bytes) {
            // What one client sends another of the same user is seen there.
            let own = jid.split('/').next() == Some(address.bare());
            if self.config.carbons && !own && self.has_others(user, key) {
                self.copy_sent(key, user, &stamped);
            }
            match self.place(&address) {
                Place::Account => {
                    let node = address.node().unwrap_or_default();
                    self.stanza_to_account(node, &stamped);
                }
                Place::Server => self.bounce(&stamped, StanzaError::ServiceUnavailable, ""),
                Place::Host(link) => {
                    let element = stanza::with_namespace(&stamped).into();
                    self.out.frame(link, &ToComponent::Stanza { element });
                }
                Place::Remote => self.bounce(&stamped, StanzaError::RemoteServerNotFound, ""),
            }
        }
        self.scratch = bytes;
    }

    /// A message for a user who is loaded.
    pub(crate) fn message_to_user(&mut self, user: Key, header: &Header<'_>) {
        let kind = Kind::of(header);
        let (Some(to), Some(from)) = (header.to(), header.from()) else {
            return;
        };
        if self.blocks_any(user) && self.is_blocked(user, &from.get()) {
            if matches!(kind, Kind::Normal | Kind::Chat) {
                self.bounce(header, StanzaError::ServiceUnavailable, "");
            }
            return;
        }
        let Some(address) = self.read(to.get()) else {
            return;
        };
        if let Some(resource) = address.resource() {
            let session = self.find_session(user, resource);
            let phantom = session.is_some_and(|key| self.is_phantom(key));
            if let Some(key) = session.filter(|_| !phantom) {
                let copied = self.config.carbons && self.has_others(user, key);
                let copied = copied && is_copied(header, kind);
                let share = if copied {
                    self.copy_received(key, user, header)
                } else {
                    None
                };
                match kind {
                    Kind::Normal | Kind::Chat => {
                        let copy = share.map_or(Copy::Only, Copy::Message);
                        self.deliver_message(key, header.bytes(), copy);
                        self.keep_newest(key);
                    }
                    _ => {
                        let copy = share.map_or(Copy::Only, |_| Copy::Shared);
                        self.deliver(key, header.bytes(), copy);
                    }
                }
                return;
            }
            match kind {
                // As if for the bare address.
                Kind::Chat => {}
                // The client is about to come back.
                Kind::Normal if phantom => {}
                Kind::Normal | Kind::Groupchat => {
                    self.bounce(header, StanzaError::ServiceUnavailable, "");
                    return;
                }
                Kind::Headline | Kind::Error => return,
            }
        }
        match kind {
            Kind::Error => {}
            Kind::Groupchat => self.bounce(header, StanzaError::ServiceUnavailable, ""),
            Kind::Headline => {
                self.deliver_where(user, header, kind, |session| session.takes_messages());
            }
            Kind::Normal | Kind::Chat => {
                let best = self
                    .best_session(user)
                    .and_then(|key| self.sessions.get(key))
                    .map(|session| session.priority);
                match best {
                    Some(best) => {
                        let copies = self.config.carbons && is_copied(header, kind);
                        self.deliver_where(user, header, kind, |session| {
                            session.takes_messages()
                                && (session.priority == best || (copies && session.carbons))
                        });
                    }
                    None if is_stored(header) => self.store_message(user, header),
                    None => {}
                }
            }
        }
    }

    /// Delivers to the sessions of a user that fit.
    fn deliver_where(
        &mut self,
        user: Key,
        header: &Header<'_>,
        kind: Kind,
        fits: impl Fn(&crate::session::Session) -> bool,
    ) {
        let mut count = 0;
        let mut had = false;
        let sessions = self.users.get(user).into_iter();
        for key in sessions.flat_map(|user| &user.sessions) {
            if let Some(session) = self.sessions.get(*key).filter(|session| fits(session)) {
                count += 1;
                had |= session.management.is_none();
            }
        }
        let copy = if count > 1 {
            let number = self.share_number();
            Copy::Message(Share { number, had })
        } else {
            Copy::Only
        };
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            if self.sessions.get(key).is_some_and(&fits) {
                match kind {
                    Kind::Headline => self.deliver(key, header.bytes(), Copy::Shared),
                    _ => self.deliver_message(key, header.bytes(), copy),
                }
            }
        }
        // Only now, so that sessions share one row.
        let mut at = 0;
        while let Some(key) = self.session_at(user, at) {
            at += 1;
            self.keep_newest(key);
        }
    }

    /// A number for a message that several sessions get.
    fn share_number(&mut self) -> u64 {
        self.last_shared += 1;
        self.last_shared
    }

    fn has_others(&self, user: Key, key: Key) -> bool {
        self.users
            .get(user)
            .is_some_and(|user| user.sessions.iter().any(|other| *other != key))
    }

    /// Copies of a message that one of a user's clients sent.
    fn copy_sent(&mut self, key: Key, user: Key, header: &Header<'_>) {
        if is_copied(header, Kind::of(header)) {
            self.copy_to_others(key, user, header, "sent", Copy::Shared);
        }
    }

    /// Copies of a message for one of a user's clients; `None` if no other
    /// client got one.
    fn copy_received(&mut self, key: Key, user: Key, header: &Header<'_>) -> Option<Share> {
        let number = self.share_number();
        let had = self.copy_to_others(key, user, header, "received", Copy::Carbon(number))?;
        Some(Share { number, had })
    }

    /// Tells, if there were copies, whether one went to a client without
    /// stream management: that it is on its way is all that can be known.
    fn copy_to_others(
        &mut self,
        key: Key,
        user: Key,
        header: &Header<'_>,
        direction: &'static str,
        kept: Copy,
    ) -> Option<bool> {
        let mut inner = None;
        let mut had = false;
        let mut at = 0;
        while let Some(other) = self.session_at(user, at) {
            at += 1;
            let Some(session) = self.sessions.get(other) else {
                continue;
            };
            if other == key || !session.carbons {
                continue;
            }
            had |= session.management.is_none();
            let inner = inner.get_or_insert_with(|| stanza::with_namespace(header));
            let mut xml = Builder::new();
            xml.start("message")
                .attribute("from", session.bare())
                .attribute("to", &session.jid)
                .maybe("type", header.kind().map(|kind| kind.get()).as_deref());
            xml.start(direction).attribute("xmlns", names::CARBONS);
            xml.start("forwarded")
                .attribute("xmlns", names::FORWARD)
                .raw(inner);
            let copy = xml.finish();
            self.deliver(other, &copy, kept);
        }
        inner.map(|_| had)
    }

    /// Whether a user blocks anybody at all.
    pub(crate) fn blocks_any(&self, user: Key) -> bool {
        self.users
            .get(user)
            .and_then(|user| user.data.as_ref())
            .is_some_and(|data| !data.blocks.is_empty())
    }

    /// Whether a user blocks an address.
    pub(crate) fn is_blocked(&self, user: Key, address: &str) -> bool {
        self.users
            .get(user)
            .and_then(|user| user.data.as_ref())
            .is_some_and(|data| data.blocks.iter().any(|block| covers(block, address)))
    }
}
