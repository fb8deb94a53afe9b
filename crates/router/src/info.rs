//! What the server tells about itself and its users: ping, service discovery,
//! version, time, last activity, vCards.

use xmpp::{Builder, Element};

use crate::event::StoreFailure;
use crate::iq::{Answer, At, Request, features};
use crate::router::{Later, Router};
use crate::rows::Write;
use crate::session::Copy;
use crate::slab::Key;
use crate::stanza::{self, StanzaError, names};
use crate::user::{Step, VCardRequest};

impl Router {
    pub(crate) fn ping(&mut self, request: &Request<'_>) -> Answer {
        if request.set {
            return Answer::Error(StanzaError::BadRequest, "");
        }
        Answer::Result(Vec::new())
    }

    pub(crate) fn session_request(&mut self, _: &Request<'_>) -> Answer {
        Answer::Result(Vec::new())
    }

    /// Whether the one who asks may know anything of the user (RFC 6121, 8.5:
    /// an address must not be probed for its existence).
    fn may_know(&self, request: &Request<'_>, user: Key) -> bool {
        let bare = request.from.split('/').next().unwrap_or(request.from);
        self.users
            .get(user)
            .and_then(|user| user.data.as_ref())
            .and_then(|data| data.roster.get(bare))
            .is_some_and(|row| row.subscription.from())
    }

    pub(crate) fn disco_info(&mut self, request: &Request<'_>) -> Answer {
        if request.set {
            return Answer::Error(StanzaError::BadRequest, "");
        }
        if let At::Other(user) = request.at
            && !self.may_know(request, user)
        {
            return Answer::Error(StanzaError::ServiceUnavailable, "");
        }
        let query = Element::parse_in(request.child.bytes, names::DISCO_INFO).ok();
        if query.is_some_and(|query| query.attribute("node").is_some()) {
            return Answer::Error(StanzaError::ItemNotFound, "");
        }
        let server = request.at == At::Server;
        let mut xml = Builder::new();
        xml.start("query").attribute("xmlns", names::DISCO_INFO);
        let (category, kind) = if server {
            ("server", "im")
        } else {
            ("account", "registered")
        };
        xml.start("identity")
            .attribute("category", category)
            .attribute("type", kind);
        if server {
            xml.attribute("name", "Signalbox");
        }
        xml.end();
        for feature in features(server) {
            if feature == names::CARBONS && !self.config.carbons {
                continue;
            }
            xml.start("feature").attribute("var", feature).end();
        }
        Answer::Result(xml.finish())
    }

    pub(crate) fn disco_items(&mut self, request: &Request<'_>) -> Answer {
        if request.set {
            return Answer::Error(StanzaError::BadRequest, "");
        }
        if let At::Other(user) = request.at
            && !self.may_know(request, user)
        {
            return Answer::Error(StanzaError::ServiceUnavailable, "");
        }
        let mut xml = Builder::new();
        xml.start("query").attribute("xmlns", names::DISCO_ITEMS);
        if request.at == At::Server {
            let mut hosts: Vec<_> = self.hosts.keys().collect();
            hosts.sort();
            for host in hosts {
                xml.start("item").attribute("jid", host).end();
            }
        }
        Answer::Result(xml.finish())
    }

    pub(crate) fn version(&mut self, request: &Request<'_>) -> Answer {
        if request.set {
            return Answer::Error(StanzaError::BadRequest, "");
        }
        // Signed-in users may know; the operating system is nobody's business.
        let mut xml = Builder::new();
        xml.start("query").attribute("xmlns", names::VERSION);
        xml.start("name").text("Signalbox").end();
        xml.start("version").text(env!("CARGO_PKG_VERSION")).end();
        Answer::Result(xml.finish())
    }

    pub(crate) fn time(&mut self, request: &Request<'_>) -> Answer {
        if request.set {
            return Answer::Error(StanzaError::BadRequest, "");
        }
        let mut xml = Builder::new();
        xml.start("time").attribute("xmlns", names::TIME);
        xml.start("tzo").text("+00:00").end();
        xml.start("utc").text(&stanza::stamp(self.now.unix)).end();
        Answer::Result(xml.finish())
    }

    pub(crate) fn last_activity(&mut self, request: &Request<'_>) -> Answer {
        if request.set {
            return Answer::Error(StanzaError::BadRequest, "");
        }
        let seconds = match request.at {
            At::Server => (self.now.monotonic - self.started) / 1000,
            At::Own => 0,
            At::Other(user) => {
                if !self.may_know(request, user) {
                    return Answer::Error(StanzaError::Forbidden, "");
                }
                let Some(user) = self.users.get(user) else {
                    return Answer::None;
                };
                if !user.sessions.is_empty() {
                    0
                } else if user.last_seen == 0 {
                    // Not seen since the router started: not known.
                    return Answer::Error(StanzaError::ServiceUnavailable, "");
                } else {
                    u64::try_from((self.now.unix - user.last_seen) / 1000).unwrap_or(0)
                }
            }
        };
        let mut xml = Builder::new();
        xml.start("query")
            .attribute("xmlns", names::LAST)
            .attribute("seconds", &seconds.to_string());
        Answer::Result(xml.finish())
    }

    pub(crate) fn vcard(&mut self, request: &Request<'_>) -> Answer {
        let own = request
            .session
            .and_then(|key| self.sessions.get(key))
            .map(|session| session.user);
        let user = match (request.at, own) {
            (At::Other(user), _) => user,
            (_, Some(user)) => user,
            _ => return Answer::Error(StanzaError::ServiceUnavailable, ""),
        };
        if !request.set {
            let receipt = self.defer(None);
            let wanted = VCardRequest {
                request: request.header.bytes().into(),
                session: request.session,
                receipt,
            };
            self.step(user, Step::VCard(wanted));
            return Answer::None;
        }
        let (At::Own, Some(key)) = (request.at, request.session) else {
            return Answer::Error(StanzaError::Forbidden, "");
        };
        let Ok(card) = Element::parse_in(request.child.bytes, names::VCARD) else {
            return Answer::Error(StanzaError::BadRequest, "");
        };
        // Written anew, so that it stands by itself wherever it is shown.
        let mut xml = Vec::new();
        card.write("", &mut xml);
        let Ok(xml) = String::from_utf8(xml) else {
            return Answer::Error(StanzaError::BadRequest, "");
        };
        if xml.len() > self.config.vcard_bytes {
            return Answer::Error(StanzaError::NotAcceptable, "The vCard is too large.");
        }
        let effects = vec![self.reply_effect(key, request)];
        self.commit_or_act(user, vec![Write::VCard(xml.into())], effects);
        Answer::None
    }

    /// Answers a request for a vCard that was read.
    pub(crate) fn vcard_answer(
        &mut self,
        wanted: &VCardRequest,
        xml: &Result<Option<String>, StoreFailure>,
    ) {
        let Ok(header) = xmpp::Header::parse(&wanted.request) else {
            return;
        };
        let from = match wanted.session {
            Some(key) => self
                .sessions
                .get(key)
                .map(|session| session.jid.to_string()),
            None => header.from().map(|from| from.get().into_owned()),
        };
        let Some(from) = from else { return };
        let reply = match xml {
            Ok(xml) => {
                let empty = "<vCard xmlns='vcard-temp'/>";
                let payload = xml.as_deref().unwrap_or(empty);
                let mut out = Builder::new();
                out.start("iq").attribute("type", "result");
                out.maybe("id", header.id().map(|id| id.get()).as_deref());
                out.maybe("from", header.to().map(|to| to.get()).as_deref());
                out.attribute("to", &from).raw(payload.as_bytes());
                Some(out.finish())
            }
            Err(_) => stanza::error_reply(
                &header,
                &from,
                StanzaError::InternalServerError,
                "The database does not answer; try again later.",
            ),
        };
        if let Some(reply) = reply {
            match wanted.session {
                Some(key) => self.deliver(key, &reply, Copy::Only),
                None => self.later.push_back(Later::Route(reply.into())),
            }
        }
    }
}
