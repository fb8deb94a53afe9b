//! The connections to the routers of other nodes: made, lost, resynchronised.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use xcp::{Frame, LinkId, PeerFrame, PeerReply, VERSION};
use xmpp::Header;

use crate::cluster::{Cluster, Node, Server};
use crate::connect::Told;
use crate::mutation::Mutation;
use crate::peer::{GRACE, PING, Peer, SILENCE};
use crate::router::{Later, Router, Timer};
use crate::slab::Key;
use crate::stanza;
use crate::user::{Held, Receipt, Sender};

/// A connection between routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerLink {
    node: u64,
    /// Made by this router.
    outgoing: bool,
}

impl Router {
    /// The nodes of the cluster are known, or changed.
    pub(crate) fn nodes_changed(&mut self, own: &str, nodes: Vec<Node>) {
        if self.instance == 0 {
            self.instance = (self.random)();
        }
        let before = self.cluster.servers();
        self.cluster.set_nodes(own, nodes);
        let numbers: Vec<u64> = self.cluster.others().map(|node| node.number).collect();
        let left: Vec<u64> = self
            .peers
            .keys()
            .copied()
            .filter(|known| !numbers.contains(known))
            .collect();
        for node in left {
            self.give_up(node, "The node left the cluster.");
            self.forget(node);
            if let Some(link) = self.peers.remove(&node).and_then(|peer| peer.incoming.link) {
                self.close(link, "the node left the cluster");
            }
        }
        let now = self.now.monotonic;
        self.review_inactive();
        for node in numbers {
            self.peers.entry(node).or_insert_with(|| Peer::new(now));
        }
        if !self.peers.is_empty() && !std::mem::replace(&mut self.watching, true) {
            self.timers.insert((now + PING, Timer::Peers));
        }
        self.servers_changed(&before);
    }

    /// This node serves other homes than before.
    pub(crate) fn claims_changed(&mut self, homes: BTreeMap<Box<str>, u64>) {
        let before = self.cluster.servers();
        // Others may have believed a later claim of another node, and nothing
        // that was told from here meanwhile.
        let known = self.cluster.own_claims();
        let later =
            |(home, epoch): &(String, u64)| homes.get(home.as_str()).is_some_and(|now| now > epoch);
        let again = known.iter().any(later);
        self.cluster.set_own_claims(homes);
        let frame = PeerFrame::Serves {
            homes: self.cluster.own_claims(),
        };
        for peer in self.peers.values() {
            if let (true, Some(link)) = (peer.out.up, peer.out.link) {
                frame.encode(self.out.link(link));
            }
        }
        self.servers_changed(&before);
        let nodes: Vec<u64> = self.peers.keys().copied().filter(|_| again).collect();
        for node in nodes {
            self.tell_again(node);
        }
    }

    /// Tells a node all presence again, now or when it is reached.
    fn tell_again(&mut self, node: u64) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.out.stale = true;
        if peer.out.up {
            self.resync(node);
        }
    }

    fn close(&mut self, link: LinkId, reason: &'static str) {
        self.peer_links.remove(&link);
        self.out.closed.push((link, reason));
    }

    /// This router reached another one.
    pub(crate) fn peer_connected(&mut self, node: u64, link: LinkId) {
        let now = self.now.monotonic;
        let Some(peer) = self.peers.get_mut(&node) else {
            self.close(link, "the node is not a member of the cluster");
            return;
        };
        let old = peer.out.link.replace(link);
        peer.out.up = false;
        peer.out.heard = now;
        self.peer_links.insert(
            link,
            PeerLink {
                node,
                outgoing: true,
            },
        );
        let hello = PeerFrame::Hello {
            version: VERSION,
            instance: self.instance,
        };
        hello.encode(self.out.link(link));
        if let Some(old) = old {
            self.close(old, "a newer connection was made");
        }
    }

    /// Another router reached this one.
    pub(crate) fn guest_connected(&mut self, node: u64, link: LinkId) {
        let now = self.now.monotonic;
        let Some(peer) = self.peers.get_mut(&node) else {
            self.close(link, "the node is not a member of the cluster");
            return;
        };
        let old = peer.incoming.link.replace(link);
        peer.incoming.greeted = false;
        peer.incoming.heard = now;
        self.peer_links.insert(
            link,
            PeerLink {
                node,
                outgoing: false,
            },
        );
        if let Some(old) = old {
            self.close(old, "a newer connection was made");
        }
    }

    /// A connection between routers ended.
    pub(crate) fn peer_closed(&mut self, link: LinkId) {
        let now = self.now.monotonic;
        let Some(known) = self.peer_links.remove(&link) else {
            return;
        };
        self.out.links.retain(|(known, _)| *known != link);
        let Some(peer) = self.peers.get_mut(&known.node) else {
            return;
        };
        if known.outgoing && peer.out.link == Some(link) {
            peer.out.link = None;
            peer.out.up = false;
            peer.out.heard = now;
        } else if peer.incoming.link == Some(link) {
            peer.incoming.link = None;
            peer.incoming.heard = now;
        }
    }

    /// An answer of another router.
    pub(crate) fn peer_reply(&mut self, link: LinkId, reply: PeerReply) {
        let now = self.now.monotonic;
        let Some(PeerLink {
            node,
            outgoing: true,
        }) = self.peer_links.get(&link).copied()
        else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.out.heard = now;
        match reply {
            PeerReply::Welcome { version, .. } if version != VERSION => {
                self.close_out(node, "the other router speaks another version");
            }
            PeerReply::Welcome { .. } if peer.out.up => {
                self.close_out(node, "Welcome came twice");
            }
            PeerReply::Welcome {
                instance, forgot, ..
            } => self.welcomed(node, link, instance, forgot),
            PeerReply::Handled { numbers } => {
                for number in &numbers {
                    let done = self
                        .peers
                        .get_mut(&node)
                        .and_then(|peer| peer.out.done(*number));
                    if let Some((_, receipt)) = done {
                        self.settle(receipt);
                    }
                }
                self.passed(node, &numbers);
            }
            PeerReply::Refused { numbers } => {
                for number in &numbers {
                    let done = self
                        .peers
                        .get_mut(&node)
                        .and_then(|peer| peer.out.done(*number));
                    if self.broken(Mutation::RefusedDropped) {
                        self.settle(done.and_then(|(_, receipt)| receipt));
                    } else if let Some((PeerFrame::Stanza { element, .. }, receipt)) = done {
                        self.later
                            .push_back(Later::Astray(element, receipt, Some(node)));
                    }
                }
                self.passed(node, &numbers);
            }
            PeerReply::Pong => {}
        }
    }

    fn welcomed(&mut self, node: u64, link: LinkId, instance: u64, forgot: bool) {
        let forgets = self.broken(Mutation::NotSentAgain);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let out = &mut peer.out;
        out.up = true;
        out.lost = false;
        let same = out.instance.replace(instance) == Some(instance);
        out.stale |= forgot || !same;
        let serves = PeerFrame::Serves {
            homes: self.cluster.own_claims(),
        };
        let buffer = self.out.link(link);
        serves.encode(buffer);
        for frame in out.waiting().filter(|_| !forgets) {
            frame.encode(buffer);
        }
        for (user, sequence) in std::mem::take(&mut out.stored) {
            self.tell_stored(node, &user, sequence);
        }
        let name = self.cluster.node(node).map(|node| node.name.clone());
        tracing::info!(node = name.as_deref(), "The router of the node is reached.");
        if self.peers.get(&node).is_some_and(|peer| peer.out.stale) {
            self.resync(node);
        }
    }

    /// Tells the node that serves a user that something was stored for the
    /// user: it comes before what follows.
    pub(crate) fn tell_stored(&mut self, node: u64, user: &str, sequence: i64) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.out.up {
            let user = user.to_owned();
            self.post(node, None, |number| PeerFrame::Stored {
                number,
                user,
                sequence,
            });
        } else {
            peer.out.stored.insert(user.into(), sequence);
        }
    }

    /// Sends a frame to a node that is not lost, or keeps it until the node is
    /// reached.
    pub(crate) fn post(
        &mut self,
        node: u64,
        receipt: Option<Receipt>,
        make: impl FnOnce(u64) -> PeerFrame,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let frame = peer.out.keep(receipt, make);
        if let (true, Some(link)) = (peer.out.up, peer.out.link) {
            frame.encode(self.out.link(link));
        }
        if peer.out.is_full() {
            self.later.push_back(Later::Lost(node));
        }
    }

    /// Ends the connection to a node.
    fn close_out(&mut self, node: u64, reason: &'static str) {
        let now = self.now.monotonic;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.out.up = false;
            peer.out.heard = now;
            if let Some(link) = peer.out.link.take() {
                self.close(link, reason);
            }
        }
    }

    /// Ends the connection from a node.
    fn close_in(&mut self, node: u64, reason: &'static str) {
        let now = self.now.monotonic;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.incoming.heard = now;
            if let Some(link) = peer.incoming.link.take() {
                self.close(link, reason);
            }
        }
    }

    /// A node is not reached any more: what waited for it finds another way,
    /// is stored, or fails.
    pub(crate) fn give_up(&mut self, node: u64, reason: &'static str) {
        self.close_out(node, reason);
        let name = self.cluster.node(node).map(|node| node.name.clone());
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if !std::mem::replace(&mut peer.out.lost, true) {
            tracing::warn!(
                node = name.as_deref(),
                reason,
                "The router of the node is not reached; messages for its users are stored."
            );
        }
        peer.out.stale = true;
        let mut numbers = Vec::new();
        for sent in peer.out.take() {
            numbers.push(sent.number);
            match sent.frame {
                Some(PeerFrame::Stanza { element, .. }) => {
                    self.later
                        .push_back(Later::Astray(element, sent.receipt, Some(node)));
                }
                Some(PeerFrame::Stored { user, sequence, .. }) => {
                    peer.out.stored.insert(user.into(), sequence);
                }
                _ => {}
            }
        }
        self.passed(node, &numbers);
    }

    /// Once in a while: is everybody there?
    pub(crate) fn watch_peers(&mut self) {
        let now = self.now.monotonic;
        self.timers.insert((now + PING, Timer::Peers));
        let nodes: Vec<u64> = self.peers.keys().copied().collect();
        for node in nodes {
            // Another node may go on with the sessions of one that is covered.
            let cover = match self.cluster.is_covered(node) {
                true => GRACE.max(self.config.cover_seconds * 1000),
                false => GRACE,
            };
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            let (out, incoming) = (&peer.out, &peer.incoming);
            let silent = |heard: u64, limit: u64| now.saturating_sub(heard) >= limit;
            let (mute_out, mute_in) = (
                out.link.is_some() && silent(out.heard, SILENCE),
                incoming.link.is_some() && silent(incoming.heard, SILENCE),
            );
            let (lost, gone) = (
                !out.lost && !out.up && silent(out.heard, GRACE),
                !incoming.forgot && incoming.link.is_none() && silent(incoming.heard, cover),
            );
            if let (true, Some(link)) = (out.up, out.link) {
                PeerFrame::Ping.encode(self.out.link(link));
            }
            if mute_out {
                self.close_out(node, "the other router does not answer");
            }
            if mute_in {
                self.close_in(node, "the other router says nothing");
            }
            if lost {
                self.give_up(node, "there is no connection to it");
            }
            if gone {
                self.forget(node);
            }
        }
    }

    /// A frame of another router.
    pub(crate) fn guest_frame(&mut self, link: LinkId, frame: PeerFrame) {
        let now = self.now.monotonic;
        let deaf = self.broken(Mutation::ClaimsNotHeard);
        let Some(PeerLink {
            node,
            outgoing: false,
        }) = self.peer_links.get(&link).copied()
        else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let incoming = &mut peer.incoming;
        incoming.heard = now;
        match (frame, incoming.greeted) {
            (PeerFrame::Hello { version, .. }, _) if version != VERSION => {
                self.close_in(node, "the other router speaks another version");
            }
            (PeerFrame::Hello { instance, .. }, false) => {
                incoming.greeted = true;
                self.last_stream = self.last_stream.wrapping_add(1);
                incoming.begin(instance, self.last_stream);
                let welcome = PeerReply::Welcome {
                    version: VERSION,
                    instance: self.instance,
                    forgot: std::mem::take(&mut incoming.forgot),
                };
                welcome.encode(self.out.link(link));
            }
            (PeerFrame::Hello { .. }, true) => self.close_in(node, "Hello came twice"),
            (_, false) => self.close_in(node, "Hello must come first"),
            (PeerFrame::Ping, true) => PeerReply::Pong.encode(self.out.link(link)),
            // Another node may go on with the sessions of one that is covered.
            (PeerFrame::Bye, true) if self.cluster.is_covered(node) => {}
            (PeerFrame::Bye, true) => self.forget(node),
            (PeerFrame::Serves { .. }, true) if deaf => {}
            (PeerFrame::Serves { homes }, true) => {
                let Some(name) = self.cluster.node(node).map(|node| node.name.clone()) else {
                    return;
                };
                let before = self.cluster.servers();
                let homes = homes
                    .into_iter()
                    .map(|(home, epoch)| (home.into(), epoch))
                    .collect();
                self.cluster.set_claims(&name, homes);
                self.servers_changed(&before);
                // One that heard late that another node serves users may have
                // told of their sessions meanwhile.
                self.doubt();
            }
            (frame, true) => {
                if let Some(number) = frame.number()
                    && incoming.is_new(number)
                {
                    let current = Receipt {
                        sender: Sender::Peer(incoming.stream),
                        number,
                        holder: None,
                    };
                    self.peer_frame(node, number, current, frame);
                }
            }
        }
    }

    fn peer_frame(&mut self, node: u64, number: u64, current: Receipt, frame: PeerFrame) {
        let mut refused = false;
        match frame {
            PeerFrame::Stanza { element, .. } => {
                let header = Header::parse(&element)
                    .ok()
                    .filter(|header| stanza::stanza_name(header).is_some());
                let Some(header) = header else {
                    self.close_in(node, "the other router sent something that is no stanza");
                    return;
                };
                if !self.note_presence(node, &header) {
                    self.current = Some(current);
                    refused = !self.stanza_from_peer(&header);
                    self.current = None;
                }
            }
            PeerFrame::Presence { element, to, .. } => {
                let Ok(header) = Header::parse(&element) else {
                    self.close_in(node, "the other router sent something that is no stanza");
                    return;
                };
                if !self.note_presence(node, &header) {
                    self.presence_from_peer(&header, &to);
                }
            }
            PeerFrame::Resync { .. } => {
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.incoming
                        .seen
                        .values_mut()
                        .for_each(|told| *told = false);
                }
            }
            PeerFrame::Synced { .. } => {
                if let Some(peer) = self.peers.get_mut(&node) {
                    let gone: Vec<Box<str>> = peer
                        .incoming
                        .seen
                        .extract_if(.., |_, told| !*told)
                        .map(|(jid, _)| jid)
                        .collect();
                    self.not_told(node, gone);
                }
            }
            PeerFrame::Stored { user, sequence, .. } => self.await_stored(&user, sequence),
            _ => {}
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            if refused {
                peer.incoming.refuse(number);
            } else if !peer.incoming.pending.contains_key(&number) {
                peer.incoming.handled.push(number);
            }
        }
    }

    /// Answers what was handled since.
    pub(crate) fn answer_peers(&mut self) {
        for peer in self.peers.values_mut() {
            let incoming = &mut peer.incoming;
            if incoming.handled.is_empty() && incoming.refused.is_empty() {
                continue;
            }
            let handled = std::mem::take(&mut incoming.handled);
            let refused = std::mem::take(&mut incoming.refused);
            // Without a connection they are answered when they come again.
            let Some(link) = incoming.link.filter(|_| incoming.greeted) else {
                continue;
            };
            if !handled.is_empty() {
                PeerReply::Handled { numbers: handled }.encode(self.out.link(link));
            }
            if !refused.is_empty() {
                PeerReply::Refused { numbers: refused }.encode(self.out.link(link));
            }
        }
    }

    /// The receipts of another router's frame.
    pub(crate) fn settle_peer(&mut self, stream: u32, number: u64) {
        if let Some(peer) = self.stream(stream) {
            peer.incoming.settle(number);
        }
    }

    /// The router whose frames come in that stream.
    pub(crate) fn stream(&mut self, stream: u32) -> Option<&mut Peer> {
        self.peers
            .values_mut()
            .find(|peer| peer.incoming.instance.is_some() && peer.incoming.stream == stream)
    }

    /// Keeps what is known of others' presence. Tells whether the stanza is
    /// old: a session that a node reports as gone, and that began anew at
    /// another one meanwhile.
    fn note_presence(&mut self, node: u64, header: &Header<'_>) -> bool {
        if header.name() != "presence" {
            return false;
        }
        let (Some(from), Some(peer)) = (header.from(), self.peers.get_mut(&node)) else {
            return false;
        };
        match header.kind().map(|kind| kind.raw()) {
            None => {
                peer.incoming.seen.insert(from.get().into(), true);
                false
            }
            Some("unavailable") => {
                peer.incoming.seen.remove(&*from.get());
                self.is_there(&from.get())
            }
            Some(_) => false,
        }
    }

    /// Whether another node has reported a session as available.
    pub(crate) fn is_seen(&self, jid: &str) -> bool {
        self.peers
            .values()
            .any(|peer| peer.incoming.seen.contains_key(jid))
    }

    /// Whether a session is available, here or at another node.
    fn is_there(&self, jid: &str) -> bool {
        let own = || {
            let address = self.read(jid.into())?;
            let user = self.names.get(address.node()?)?;
            let key = self.find_session(*user, address.resource()?)?;
            Some(self.sessions.get(key)?.presence.is_some())
        };
        self.is_seen(jid) || own().unwrap_or_default()
    }

    /// The presence of a node's users is not known any more.
    fn forget(&mut self, node: u64) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if !std::mem::replace(&mut peer.incoming.forgot, true) {
            let gone: Vec<Box<str>> = std::mem::take(&mut peer.incoming.seen)
                .into_keys()
                .collect();
            self.show_gone(&gone);
        }
    }

    /// Sessions of other nodes' users are gone: who sees those users is told
    /// (RFC 6121, 4.5.2).
    pub(crate) fn show_gone(&mut self, gone: &[Box<str>]) {
        let mut sessions: HashMap<&str, Vec<&str>> = HashMap::new();
        for jid in gone.iter().filter(|jid| !self.is_there(jid)) {
            let bare = jid.split('/').next().unwrap_or(jid);
            sessions.entry(bare).or_default().push(jid);
        }
        if sessions.is_empty() {
            return;
        }
        let mut news = Vec::new();
        for (key, user) in self.users.iter() {
            let Some(data) = user.data.as_ref().filter(|_| !user.sessions.is_empty()) else {
                continue;
            };
            for row in data.roster.values().filter(|row| row.subscription.to()) {
                let jids = sessions.get(&*row.contact).into_iter().flatten();
                news.extend(jids.map(|jid| (key, (*jid).into())));
            }
        }
        // Behind what came from them before.
        for (user, jid) in news {
            self.in_turn(user, Held::Gone(jid));
        }
    }

    /// Tells a user's clients that a session is gone, unless it is there again.
    pub(crate) fn gone(&mut self, user: Key, jid: &str) {
        let Some(name) = self.users.get(user).map(|user| user.name.clone()) else {
            return;
        };
        if !self.is_there(jid) && !self.is_blocked(user, jid) {
            let own = format!("{name}@{}", self.domain);
            let presence = stanza::presence("unavailable", jid, &own);
            self.presence_in_turn(user, &presence);
        }
    }

    /// Tells a node the presence of everybody here whom its users see.
    pub(crate) fn resync(&mut self, node: u64) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.out.stale = false;
        self.post(node, None, |number| PeerFrame::Resync { number });
        let sessions: Vec<Key> = self.sessions.iter().map(|(key, _)| key).collect();
        for key in sessions {
            let Some(session) = self.sessions.get(key) else {
                continue;
            };
            let Some(presence) = session.presence.clone() else {
                continue;
            };
            let watchers: Vec<String> = self
                .watchers(session.user)
                .into_iter()
                .filter(|contact| self.away(contact) == Some(node))
                .map(|contact| local_part(&contact).to_owned())
                .collect();
            self.post_presence(node, &presence, watchers);
        }
        self.post(node, None, |number| PeerFrame::Synced { number });
    }

    /// Ends what is here of users whom another node serves now; whether others
    /// are told depends on the user.
    pub(crate) fn send_strangers_away(&mut self, told: impl Fn(&Cluster, &str) -> Told) {
        let away: Vec<(Key, Told)> = self
            .users
            .iter()
            .filter(|(_, user)| !self.serves(&user.name))
            .map(|(key, user)| (key, told(&self.cluster, &user.name)))
            .collect();
        for (user, told) in away {
            self.send_away(user, told);
        }
        self.redistribute();
    }

    /// Other nodes, or this one, serve homes that they did not serve before.
    fn servers_changed(&mut self, before: &[Server]) {
        let after = self.cluster.servers();
        let mut gained = BTreeSet::new();
        for (before, after) in before.iter().zip(&after) {
            if before != after
                && let Server::There(node) = after
            {
                gained.insert(*node);
            }
        }
        if *before == *after {
            return;
        }
        // The other node of the group goes on with its sessions.
        let shown = self.broken(Mutation::AdoptedShownGone);
        self.send_strangers_away(|cluster, user| match cluster.stand_in(user) {
            Some(_) if !shown => Told::Nobody,
            _ => Told::All,
        });
        self.doubt();
        self.review_inactive();
        let quiet = self.broken(Mutation::PresenceNotTold);
        for node in gained.into_iter().filter(|_| !quiet) {
            self.tell_again(node);
        }
    }

    /// The router stops: others need not wait to know that its users are gone.
    pub(crate) fn say_goodbye(&mut self) {
        let nodes: Vec<u64> = self.peers.keys().copied().collect();
        for node in nodes {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            match peer.out.link.filter(|_| peer.out.up) {
                Some(link) => PeerFrame::Bye.encode(self.out.link(link)),
                None => self.give_up(node, "the service stops"),
            }
        }
    }
}

/// What stands before the at sign of a user's address.
pub(crate) fn local_part(jid: &str) -> &str {
    jid.split('@').next().unwrap_or(jid)
}
