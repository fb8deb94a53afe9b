//! Requests (`iq`): routed, or answered by the handlers of the table below.

use std::sync::Arc;

use xcp::ToComponent;
use xmpp::{Builder, Child, Condition, Header, Rewrite, StreamError, ns};

use crate::router::{Later, Place, Router};
use crate::session::Copy;
use crate::slab::Key;
use crate::stanza::{self, StanzaError, names};
use crate::user::{Receipt, Sender};

/// Whose address a request was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The domain.
    Server,
    /// The sender's own account.
    Own,
    /// Another user's account.
    Other(Key),
}

/// A request that the router answers.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) header: &'a Header<'a>,
    pub(crate) child: Child<'a>,
    pub(crate) set: bool,
    pub(crate) at: At,
    /// Address to answer to.
    pub(crate) from: &'a str,
    /// The session that asks, when the answer can be given at once.
    pub(crate) session: Option<Key>,
}

/// What a handler answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A result with this payload.
    Result(Vec<u8>),
    /// An error.
    Error(StanzaError, &'static str),
    /// The handler answers by itself.
    None,
}

/// Who may ask what where, and what answers. Service discovery reads its
/// features here, so that it never claims what is not there.
struct Handler {
    name: &'static str,
    xmlns: &'static str,
    server: bool,
    own: bool,
    other: bool,
    run: fn(&mut Router, &Request<'_>) -> Answer,
}

const fn handler(
    name: &'static str,
    xmlns: &'static str,
    places: [bool; 3],
    run: fn(&mut Router, &Request<'_>) -> Answer,
) -> Handler {
    let [server, own, other] = places;
    Handler {
        name,
        xmlns,
        server,
        own,
        other,
        run,
    }
}

const Y: bool = true;
const N: bool = false;

#[rustfmt::skip]
const HANDLERS: &[Handler] = &[
    //                                      server own other
    handler("query",     names::ROSTER,      [N, Y, N], Router::roster_request),
    handler("blocklist", names::BLOCKING,    [Y, Y, N], Router::block_list),
    handler("block",     names::BLOCKING,    [Y, Y, N], Router::block),
    handler("unblock",   names::BLOCKING,    [Y, Y, N], Router::unblock),
    handler("enable",    names::CARBONS,     [Y, Y, N], Router::carbons_on),
    handler("disable",   names::CARBONS,     [Y, Y, N], Router::carbons_off),
    handler("ping",      names::PING,        [Y, Y, N], Router::ping),
    handler("query",     names::DISCO_INFO,  [Y, Y, Y], Router::disco_info),
    handler("query",     names::DISCO_ITEMS, [Y, Y, Y], Router::disco_items),
    handler("vCard",     names::VCARD,       [N, Y, Y], Router::vcard),
    handler("query",     names::LAST,        [Y, Y, Y], Router::last_activity),
    handler("query",     names::VERSION,     [Y, N, N], Router::version),
    handler("time",      names::TIME,        [Y, N, N], Router::time),
    // Answered for old clients; a session needs no request any more.
    handler("session",   ns::SESSION,        [Y, Y, N], Router::session_request),
];

/// Features beyond those of the handlers.
const SERVER_FEATURES: &[&str] = &["msgoffline", "jabber:iq:roster", "vcard-temp"];

/// What the server, or an account, can do: for service discovery.
pub(crate) fn features(server: bool) -> Vec<&'static str> {
    let mut features: Vec<_> = HANDLERS
        .iter()
        .filter(|handler| if server { handler.server } else { handler.own })
        .map(|handler| handler.xmlns)
        .filter(|xmlns| *xmlns != ns::SESSION)
        .collect();
    if server {
        features.extend(SERVER_FEATURES);
    }
    features.sort_unstable();
    features.dedup();
    features
}

impl Router {
    /// An element on a session.
    pub(crate) fn session_element(&mut self, key: Key, element: &[u8]) {
        let Some(connection) = self
            .sessions
            .get(key)
            .and_then(|session| session.connection)
        else {
            return;
        };
        let Ok(header) = Header::parse(element) else {
            self.end_connection(connection, Condition::BadFormat.into());
            return;
        };
        if header.xmlns() == ns::STREAM_MANAGEMENT {
            self.session_management(key, &header);
            return;
        }
        let Some(name) = stanza::stanza_name(&header) else {
            self.end_connection(connection, Condition::UnsupportedStanzaType.into());
            return;
        };
        let now = self.now.monotonic;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.active = now;
        if let Some(from) = header.from() {
            let from = from.get();
            if *from != *session.jid && *from != *session.bare() {
                let error = StreamError::new(
                    Condition::InvalidFrom,
                    "The from of a stanza is not the sender's.",
                );
                self.end_connection(connection, error);
                return;
            }
        }
        self.current = session.management.as_mut().map(|management| {
            management.received = management.received.wrapping_add(1);
            Receipt {
                sender: Sender::Session(key),
                number: management.received.into(),
                holder: None,
            }
        });
        match name {
            "message" => self.message_from(key, &header),
            "presence" => self.presence_from(key, &header),
            _ => self.iq_from(key, &header),
        }
        self.current = None;
    }

    fn iq_from(&mut self, key: Key, header: &Header<'_>) {
        let kind = header.kind().map(|kind| kind.get());
        let request = matches!(kind.as_deref(), Some("get" | "set"));
        if !request && !matches!(kind.as_deref(), Some("result" | "error")) || header.id().is_none()
        {
            self.reply_error(key, header, StanzaError::BadRequest, "");
            return;
        }
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let (user, jid): (Key, Arc<str>) = (session.user, session.jid.clone());
        let own = header.to().is_none_or(|to| to == session.bare());
        let at = if own {
            Some(At::Own)
        } else {
            let Some(address) = header.to().and_then(|to| self.read(to.get())) else {
                self.reply_error(key, header, StanzaError::JidMalformed, "");
                return;
            };
            if request && self.is_blocked(user, address.as_str()) {
                self.reply_error(key, header, StanzaError::Blocked, "");
                return;
            }
            let mut stamped = Vec::new();
            header.write(&Rewrite::new().from(Some(&jid)), &mut stamped);
            match self.place(&address) {
                Place::Server if address.resource().is_none() => Some(At::Server),
                Place::Account
                    if address.as_str() == address.bare() && address.bare() == own_of(&jid) =>
                {
                    Some(At::Own)
                }
                Place::Server => None,
                Place::Account => {
                    if let Ok(stamped) = Header::parse(&stamped) {
                        let node = address.node().unwrap_or_default();
                        self.stanza_to_account(node, &stamped);
                    }
                    return;
                }
                Place::Host(link) => {
                    if let Ok(stamped) = Header::parse(&stamped) {
                        let element = stanza::with_namespace(&stamped).into();
                        self.out.frame(link, &ToComponent::Stanza { element });
                    }
                    return;
                }
                Place::Remote => {
                    if request {
                        self.reply_error(key, header, StanzaError::RemoteServerNotFound, "");
                    }
                    return;
                }
            }
        };
        if !request {
            // An answer to one of our pushes.
            return;
        }
        let mut children = header.children();
        let (Some(child), None) = (children.next(), children.next()) else {
            self.reply_error(key, header, StanzaError::BadRequest, "");
            return;
        };
        let Some(at) = at else {
            self.reply_error(key, header, StanzaError::ServiceUnavailable, "");
            return;
        };
        let request = Request {
            header,
            child,
            set: kind.as_deref() == Some("set"),
            at,
            from: &jid,
            session: Some(key),
        };
        self.answer_request(&request);
    }

    /// Finds the handler of a request and sends its answer.
    fn answer_request(&mut self, request: &Request<'_>) {
        let found = HANDLERS.iter().find(|handler| {
            let here = match request.at {
                At::Server => handler.server,
                At::Own => handler.own,
                At::Other(_) => handler.other,
            };
            here && handler.name == request.child.name && handler.xmlns == request.child.xmlns
        });
        let answer = match found {
            Some(handler) => (handler.run)(self, request),
            None => Answer::Error(StanzaError::ServiceUnavailable, ""),
        };
        let reply = match answer {
            Answer::Result(payload) => Some(self.result(request, &payload)),
            Answer::Error(error, text) => {
                stanza::error_reply(request.header, request.from, error, text)
            }
            Answer::None => None,
        };
        if let Some(reply) = reply {
            match request.session {
                Some(key) => self.deliver(key, &reply, Copy::Only),
                None => self.later.push_back(Later::Route(reply.into())),
            }
        }
    }

    /// The result of a request.
    pub(crate) fn result(&self, request: &Request<'_>, payload: &[u8]) -> Vec<u8> {
        let mut xml = Builder::new();
        xml.start("iq").attribute("type", "result");
        xml.maybe("id", request.header.id().map(|id| id.get()).as_deref());
        xml.maybe("from", request.header.to().map(|to| to.get()).as_deref());
        xml.attribute("to", request.from);
        xml.raw(payload);
        xml.finish()
    }

    /// An error in reply to a stanza of a session.
    pub(crate) fn reply_error(
        &mut self,
        key: Key,
        header: &Header<'_>,
        error: StanzaError,
        text: &str,
    ) {
        if !stanza::may_bounce(header) {
            return;
        }
        let Some(jid) = self.sessions.get(key).map(|session| session.jid.clone()) else {
            return;
        };
        if let Some(reply) = stanza::error_reply(header, &jid, error, text) {
            self.deliver(key, &reply, Copy::Only);
        }
    }

    /// A request or an answer for a user who is loaded.
    pub(crate) fn iq_to_user(&mut self, user: Key, header: &Header<'_>) {
        let (Some(to), Some(from)) = (header.to(), header.from()) else {
            return;
        };
        let (Some(address), from) = (self.read(to.get()), from.get()) else {
            return;
        };
        let kind = header.kind().map(|kind| kind.get());
        let request = matches!(kind.as_deref(), Some("get" | "set"));
        if request && self.blocks_any(user) && self.is_blocked(user, &from) {
            self.bounce(header, StanzaError::ServiceUnavailable, "");
            return;
        }
        if let Some(resource) = address.resource() {
            let session = self.find_session(user, resource);
            match session.filter(|key| !self.is_phantom(*key)) {
                Some(key) => self.deliver(key, header.bytes(), Copy::Only),
                None => self.bounce(header, StanzaError::ServiceUnavailable, ""),
            }
            return;
        }
        let mut children = header.children();
        if !request {
            return;
        }
        let (Some(child), None) = (children.next(), children.next()) else {
            self.bounce(header, StanzaError::BadRequest, "");
            return;
        };
        let request = Request {
            header,
            child,
            set: kind.as_deref() == Some("set"),
            at: At::Other(user),
            from: &from,
            session: None,
        };
        self.answer_request(&request);
    }

    /// A stanza for the router itself from elsewhere than a session.
    pub(crate) fn stanza_to_server(&mut self, header: &Header<'_>) {
        let kind = header.kind().map(|kind| kind.get());
        let request = matches!(kind.as_deref(), Some("get" | "set"));
        let Some(from) = header.from().map(|from| from.get()) else {
            return;
        };
        if header.name() != "iq" || !request {
            return;
        }
        let mut children = header.children();
        let (Some(child), None) = (children.next(), children.next()) else {
            self.bounce(header, StanzaError::BadRequest, "");
            return;
        };
        let request = Request {
            header,
            child,
            set: kind.as_deref() == Some("set"),
            at: At::Server,
            from: &from,
            session: None,
        };
        self.answer_request(&request);
    }

    fn carbons_on(&mut self, request: &Request<'_>) -> Answer {
        self.set_carbons(request, true)
    }

    fn carbons_off(&mut self, request: &Request<'_>) -> Answer {
        self.set_carbons(request, false)
    }

    fn set_carbons(&mut self, request: &Request<'_>, on: bool) -> Answer {
        if !self.config.carbons {
            return Answer::Error(StanzaError::ServiceUnavailable, "");
        }
        match request.session.and_then(|key| self.sessions.get_mut(key)) {
            Some(session) if request.set => {
                session.carbons = on;
                Answer::Result(Vec::new())
            }
            _ => Answer::Error(StanzaError::BadRequest, ""),
        }
    }
}

/// The bare part of a full address.
fn own_of(jid: &str) -> &str {
    jid.split('/').next().unwrap_or(jid)
}
