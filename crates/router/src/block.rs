//! Blocking (XEP-0191).

use xmpp::{Builder, Element};

use crate::iq::{Answer, Request};
use crate::router::Router;
use crate::rows::Write;
use crate::slab::Key;
use crate::stanza::{StanzaError, names};
use crate::user::Effect;

/// The addresses in a request, prepared.
fn addresses(router: &Router, request: &Element) -> Option<Vec<Box<str>>> {
    request
        .children()
        .map(|item| {
            let jid = item
                .attribute("jid")
                .filter(|_| item.is("item", names::BLOCKING))?;
            Some(router.read(jid.into())?.as_str().into())
        })
        .collect()
}

fn list(name: &'static str, jids: &[Box<str>]) -> Vec<u8> {
    let mut xml = Builder::new();
    xml.start(name).attribute("xmlns", names::BLOCKING);
    for jid in jids {
        xml.start("item").attribute("jid", jid).end();
    }
    xml.finish()
}

impl Router {
    pub(crate) fn block_list(&mut self, request: &Request<'_>) -> Answer {
        if request.set {
            return Answer::Error(StanzaError::BadRequest, "");
        }
        let Some(session) = request.session.and_then(|key| self.sessions.get_mut(key)) else {
            return Answer::Error(StanzaError::Forbidden, "");
        };
        session.blocks = true;
        let user = session.user;
        let blocks = self
            .users
            .get(user)
            .and_then(|user| user.data.as_ref())
            .map_or(&[][..], |data| &data.blocks);
        Answer::Result(list("blocklist", blocks))
    }

    pub(crate) fn block(&mut self, request: &Request<'_>) -> Answer {
        let Some((key, user)) = self.block_request(request) else {
            return Answer::Error(StanzaError::BadRequest, "");
        };
        let Some(wanted) = Element::parse_in(request.child.bytes, names::BLOCKING)
            .ok()
            .and_then(|block| addresses(self, &block))
        else {
            return Answer::Error(StanzaError::JidMalformed, "");
        };
        if wanted.is_empty() {
            return Answer::Error(StanzaError::BadRequest, "Nobody is named.");
        }
        let Some(known) = self.users.get_mut(user) else {
            return Answer::None;
        };
        let own = format!("{}@{}", known.name, self.domain);
        if wanted.iter().any(|jid| jid.split('/').next() == Some(&own)) {
            return Answer::Error(
                StanzaError::NotAllowed,
                "One's own address cannot be blocked.",
            );
        }
        let Some(data) = known.data.as_mut() else {
            return Answer::None;
        };
        let mut new: Vec<Box<str>> = Vec::new();
        for jid in &wanted {
            if !data.blocks.contains(jid) && !new.contains(jid) {
                new.push(jid.clone());
            }
        }
        if data.blocks.len() + new.len() > self.config.block_items {
            return Answer::Error(StanzaError::ResourceConstraint, "The block list is full.");
        }
        // Those who see the user and are blocked now see the user leave. It is
        // sent before the block holds.
        let hidden: Vec<Box<str>> = data
            .roster
            .values()
            .filter(|row| row.subscription.from())
            .filter(|row| {
                new.iter()
                    .any(|jid| crate::address::covers(jid, &row.contact))
            })
            .map(|row| row.contact.clone())
            .collect();
        data.blocks.extend(new.iter().cloned());
        let writes = new.into_iter().map(Write::Block).collect();
        let mut effects: Vec<_> = hidden.into_iter().map(Effect::Withdraw).collect();
        effects.push(self.reply_effect(key, request));
        effects.push(Effect::PushBlocks(list("block", &wanted).into()));
        self.commit_or_act(user, writes, effects);
        Answer::None
    }

    pub(crate) fn unblock(&mut self, request: &Request<'_>) -> Answer {
        let Some((key, user)) = self.block_request(request) else {
            return Answer::Error(StanzaError::BadRequest, "");
        };
        let Some(wanted) = Element::parse_in(request.child.bytes, names::BLOCKING)
            .ok()
            .and_then(|unblock| addresses(self, &unblock))
        else {
            return Answer::Error(StanzaError::JidMalformed, "");
        };
        let Some(data) = self.users.get_mut(user).and_then(|user| user.data.as_mut()) else {
            return Answer::None;
        };
        let gone: Vec<Box<str>> = data
            .blocks
            .extract_if(.., |jid| wanted.is_empty() || wanted.contains(jid))
            .collect();
        let freed = |contact: &str| gone.iter().any(|jid| crate::address::covers(jid, contact));
        let mut effects = vec![
            self.reply_effect(key, request),
            Effect::PushBlocks(list("unblock", &wanted).into()),
        ];
        let Some(data) = self.users.get(user).and_then(|user| user.data.as_ref()) else {
            return Answer::None;
        };
        for row in data.roster.values().filter(|row| freed(&row.contact)) {
            if row.subscription.from() {
                effects.push(Effect::Introduce(row.contact.clone()));
            }
            if row.subscription.to() {
                effects.push(Effect::Probe(row.contact.clone()));
            }
        }
        let writes = gone.into_iter().map(Write::Unblock).collect();
        self.commit_or_act(user, writes, effects);
        Answer::None
    }

    fn block_request(&self, request: &Request<'_>) -> Option<(Key, Key)> {
        let key = request.session.filter(|_| request.set)?;
        Some((key, self.sessions.get(key)?.user))
    }

    /// Tells the clients that asked for the list.
    pub(crate) fn push_blocks(&mut self, user: Key, payload: &[u8]) {
        self.push(user, payload, |session| session.blocks);
    }
}
