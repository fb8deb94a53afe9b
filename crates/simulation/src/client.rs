//! People's clients. They keep the rules of stream management (XEP-0198), go
//! where they are sent, and some hold an inactive connection to the other node
//! (`crates/router/DUAL.md`).

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use xcp::{DUAL, ToComponent, ToRouter};

use crate::routing::COMPONENT;
use crate::world::{DOMAIN, Due, NODES, PAIR, World};

pub(crate) const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];
/// Where they are at home.
pub(crate) const HOMES: [usize; 5] = [0, 1, 2, 0, 1];
/// Who holds a second connection.
const DUALS: [bool; 5] = [false, false, false, true, true];
/// Time between client and node, in ms.
const WAY: u64 = 2;
/// A connection that says nothing for so long is given up.
const SILENCE: u64 = 6500;
/// The first answer of a session may take as long as the database is waited
/// for: what was stored comes first.
const FIRST: u64 = 25_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It resumes or binds.
    Opening,
    Bound,
}

#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    pub(crate) node: usize,
    /// Life of the router there.
    life: u64,
    phase: Phase,
    heard: u64,
    asked: u64,
}

/// A stanza that the server has not acknowledged.
#[derive(Debug)]
struct Sent {
    xml: String,
    /// Whether it goes out again in another session.
    kept: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) home: usize,
    pub(crate) dual: bool,
    main: Option<Connection>,
    spare: Option<Connection>,
    /// Id of the session and the node that has it.
    id: Option<(String, usize)>,
    /// Whether stream management counts.
    counts: bool,
    received: u32,
    acknowledged: u32,
    unacked: VecDeque<Sent>,
    /// Whom it sees.
    pub(crate) seen: BTreeSet<&'static str>,
    /// Messages that came back.
    pub(crate) refused: BTreeSet<u64>,
    /// It stays away until then, or for good.
    pub(crate) away_until: u64,
    pub(crate) gone: bool,
    /// Where it was sent to.
    redirected: Option<usize>,
    /// Where it was signed in last, and whether that was elsewhere before.
    at: Option<usize>,
    pub(crate) moved: bool,
    redirections: u32,
    tries: usize,
    token: u64,
}

pub(crate) fn everybody() -> Vec<Client> {
    let each = USERS.into_iter().zip(HOMES).zip(DUALS);
    each.map(|((name, home), dual)| Client {
        name,
        home,
        dual,
        main: None,
        spare: None,
        id: None,
        counts: false,
        received: 0,
        acknowledged: 0,
        unacked: VecDeque::new(),
        seen: BTreeSet::new(),
        refused: BTreeSet::new(),
        away_until: 0,
        gone: false,
        redirected: None,
        at: None,
        moved: false,
        redirections: 0,
        tries: 0,
        token: 0,
    })
    .collect()
}

impl Client {
    /// The node where it has a session, as far as it knows.
    pub(crate) fn signed_in(&self) -> Option<usize> {
        let main = self.main.as_ref()?;
        (main.phase == Phase::Bound).then_some(main.node)
    }

    /// The node where it has an inactive connection.
    pub(crate) fn waits_at(&self) -> Option<usize> {
        let spare = self.spare.as_ref()?;
        (spare.phase == Phase::Bound).then_some(spare.node)
    }

    /// Whether the server has acknowledged all that it sent.
    pub(crate) fn is_settled(&self) -> bool {
        self.unacked.is_empty()
    }

    /// A new session: what was not acknowledged is sent again.
    fn begin(&mut self) {
        self.id = None;
        self.counts = false;
        (self.received, self.acknowledged) = (0, 0);
        self.unacked.retain(|sent| sent.kept);
        self.seen.clear();
    }

    fn acknowledge(&mut self, count: u32) -> Result<(), String> {
        let done = count.wrapping_sub(self.acknowledged) as usize;
        if done > self.unacked.len() {
            let sent = self.unacked.len();
            return Err(format!(
                "{} of {sent} stanzas of {} acknowledged",
                done, self.name
            ));
        }
        self.acknowledged = count;
        self.unacked.drain(..done);
        Ok(())
    }
}

/// The node that a stream error names.
fn named(last: &str) -> Option<usize> {
    let (_, host) = last.split_once("<see-other-host ")?;
    let (_, host) = host.split_once(">192.0.2.")?;
    let (number, _) = host.split_once('<')?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

/// The number of a message.
pub(crate) fn number_of(xml: &str) -> Option<u64> {
    let (_, body) = xml.split_once("<body>")?;
    body.split_once('<')?.0.parse().ok()
}

impl World {
    // The way between clients and routers.

    fn send_frame(&mut self, node: usize, frame: ToRouter) {
        let life = self.nodes[node].router.life;
        self.after(WAY, Due::FromClient(node, life, frame));
    }

    pub(crate) fn client_sends(&mut self, node: usize, life: u64, frame: ToRouter) {
        let link = COMPONENT;
        self.router_event(node, life, router::Event::Frame { link, frame });
    }

    /// The connection manager has something for a client.
    pub(crate) fn component_gets(&mut self, frame: ToComponent) {
        let number = match &frame {
            ToComponent::Element { connection, .. }
            | ToComponent::Close { connection, .. }
            | ToComponent::Mark { connection, .. } => *connection,
            ToComponent::Welcome { .. } | ToComponent::Stanza { .. } => {
                return self.wrong(format!("a component got {frame:?}"));
            }
        };
        self.after(WAY, Due::ToClient(number, frame));
    }

    /// Whose connection it is, and whether it is the second one.
    fn owner_of(&self, number: u64) -> Option<(usize, bool)> {
        let is = |connection: &Option<Connection>| {
            connection.as_ref().is_some_and(|it| it.number == number)
        };
        let mut clients = self.clients.iter().enumerate();
        clients.find_map(|(at, client)| match (is(&client.main), is(&client.spare)) {
            (true, _) => Some((at, false)),
            (_, true) => Some((at, true)),
            _ => None,
        })
    }

    fn write(&mut self, who: usize, spare: bool, xml: &str) {
        let client = &self.clients[who];
        let connection = if spare { &client.spare } else { &client.main };
        let Some(connection) = connection else { return };
        let (number, node) = (connection.number, connection.node);
        self.note(USERS[who], || format!("sends {number} {xml}"));
        let element = Bytes::copy_from_slice(xml.as_bytes());
        let frame = ToRouter::Element {
            connection: number,
            element,
        };
        self.send_frame(node, frame);
    }

    /// Every connection of a node ends; who learns of it at once?
    pub(crate) fn close_component(&mut self, node: usize, told: bool) {
        for who in 0..self.clients.len() {
            let client = &self.clients[who];
            let both = [&client.main, &client.spare];
            let mine = both.into_iter().flatten().filter(|it| it.node == node);
            let numbers: Vec<u64> = mine.map(|it| it.number).collect();
            for number in numbers.into_iter().filter(|_| told) {
                let pause = self.random.between(10, 100);
                self.after(pause, Due::Dropped(number));
            }
        }
    }

    /// The connection manager dies; systemd starts it again.
    pub(crate) fn kill_component(&mut self, node: usize) {
        self.close_component(node, true);
        let life = self.nodes[node].router.life;
        let link = COMPONENT;
        self.router_event(node, life, router::Event::LinkDown { link });
        let component = "simulation".into();
        self.router_event(node, life, router::Event::LinkUp { link, component });
    }

    /// A client loses its connection, and the node learns of it.
    pub(crate) fn lose(&mut self, who: usize, away: u64) {
        let text = format!("{}: connection lost, away for {away} ms", USERS[who]);
        self.say(text);
        self.clients[who].away_until = self.now + away;
        self.drop_connection(who, true, false);
        self.drop_connection(who, false, false);
        self.retry_later(who, away.max(100));
    }

    /// A client is not seen again.
    pub(crate) fn lose_for_good(&mut self, who: usize) {
        self.lose(who, u64::MAX / 4);
        self.clients[who].gone = true;
    }

    fn drop_connection(&mut self, who: usize, spare: bool, clean: bool) {
        let client = &mut self.clients[who];
        let connection = match spare {
            true => client.spare.take(),
            false => client.main.take(),
        };
        if let Some(connection) = connection {
            let closed = ToRouter::Closed {
                connection: connection.number,
                clean,
            };
            self.send_frame(connection.node, closed);
        }
    }

    /// A client hears that a connection ended.
    pub(crate) fn dropped(&mut self, number: u64) {
        match self.owner_of(number) {
            Some((who, true)) => self.spare_lost(who),
            Some((who, false)) => self.main_lost(who),
            None => {}
        }
    }

    // Signing in.

    fn retry_later(&mut self, who: usize, ms: u64) {
        let token = self.life();
        self.clients[who].token = token;
        self.after(ms, Due::Retry(who, token));
    }

    fn main_lost(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.main = None;
        let waits = client.spare.is_some();
        let pause = if waits {
            // The inactive one becomes the session, or does not.
            self.random.between(6000, 9000)
        } else {
            self.pause()
        };
        self.retry_later(who, pause);
    }

    /// How long a client takes before it connects again. Some take longer than
    /// a node waits to be told of the sessions that another one took over, none
    /// as long as a phantom waits.
    fn pause(&mut self) -> u64 {
        match self.random.percent(25) {
            true => self.random.between(15_000, 26_000),
            false => self.random.between(50, 1500),
        }
    }

    fn spare_lost(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.spare = None;
        let pause = self.random.between(2000, 5000);
        if self.clients[who].main.is_none() {
            self.retry_later(who, pause.min(500));
        } else {
            self.spare_later(who, pause);
        }
    }

    /// Connects where it was sent to, else at home or where its home's users
    /// are when that is lost.
    pub(crate) fn retry(&mut self, who: usize, token: u64) {
        let client = &mut self.clients[who];
        if client.token != token || client.main.is_some() || client.away_until > self.now {
            return;
        }
        let (home, tries) = (client.home, client.tries);
        let there = client.id.as_ref().map(|(_, node)| *node);
        let there = there.filter(|_| tries == 0);
        let node = client.redirected.take().or(there);
        let node = node.unwrap_or(match home < PAIR {
            true => (home + tries) % PAIR,
            false => home,
        });
        self.give_spare_up(who);
        if !self.awake(node) || !self.nodes[node].router.is_open() {
            self.clients[who].tries += 1;
            let pause = match self.nodes[node].powered {
                true => self.random.between(100, 500),
                false => self.random.between(500, 1200),
            };
            return self.retry_later(who, pause);
        }
        let connection = self.connect(who, node, false);
        self.clients[who].main = Some(connection);
        match self.clients[who].id.clone() {
            Some((id, _)) => {
                let h = self.clients[who].received;
                let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>");
                self.write(who, false, &resume);
            }
            None => self.bind(who, false),
        }
    }

    /// An inactive connection was waited for in vain: with a database that
    /// answers, it becomes the session at once.
    fn give_spare_up(&mut self, who: usize) {
        let client = &self.clients[who];
        if let Some(node) = client.waits_at().filter(|_| self.mild)
            && self.awake(crate::database::PUBLISHER)
            && self.has_served(node, client.home, 5000)
        {
            let text = format!("the inactive connection of {} is forgotten", USERS[who]);
            self.wrong(text);
        }
        self.drop_connection(who, true, false);
    }

    fn connect(&mut self, who: usize, node: usize, inactive: bool) -> Connection {
        let number = self.life();
        let frame = ToRouter::Authenticated {
            connection: number,
            user: format!("{}@{DOMAIN}", USERS[who]),
            peer: "192.0.2.100:1".into(),
            secure: true,
            inactive,
        };
        self.send_frame(node, frame);
        Connection {
            number,
            node,
            life: self.nodes[node].router.life,
            phase: Phase::Opening,
            heard: self.now,
            asked: self.now,
        }
    }

    fn bind(&mut self, who: usize, spare: bool) {
        if !spare {
            self.clients[who].begin();
        }
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                    <resource>a</resource></bind></iq>";
        self.write(who, spare, bind);
    }

    /// The resource is bound: stream management, presence, and what was not
    /// acknowledged.
    fn signed_in(&mut self, who: usize, node: usize) {
        self.say(format!(
            "{}: signed in at {}",
            USERS[who],
            crate::world::NAMES[node]
        ));
        let client = &mut self.clients[who];
        client.moved |= client.at.replace(node).is_some_and(|at| at != node);
        client.redirections = 0;
        client.tries = 0;
        let presence = Sent {
            xml: "<presence/>".into(),
            kept: false,
        };
        client.unacked.push_front(presence);
        self.write(who, false, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        self.send_again(who);
        self.spare_later(who, 500);
    }

    fn send_again(&mut self, who: usize) {
        let unacked = self.clients[who].unacked.iter();
        let unacked: Vec<String> = unacked.map(|sent| sent.xml.clone()).collect();
        for xml in unacked {
            self.write(who, false, &xml);
        }
    }

    fn spare_later(&mut self, who: usize, ms: u64) {
        if self.clients[who].dual {
            let pause = ms + self.random.below(3000);
            let token = self.clients[who].token;
            self.after(pause, Due::Spare(who, token));
        }
    }

    /// Opens the inactive connection.
    pub(crate) fn open_spare(&mut self, who: usize, token: u64) {
        let client = &self.clients[who];
        if client.token != token || client.spare.is_some() {
            return;
        }
        let Some(node) = client.signed_in().filter(|node| *node < PAIR) else {
            return;
        };
        let other = 1 - node;
        if !self.awake(other) || !self.nodes[other].router.is_open() {
            return self.spare_later(who, 1000);
        }
        let connection = self.connect(who, other, true);
        self.clients[who].spare = Some(connection);
        self.bind(who, true);
    }

    // What comes.

    pub(crate) fn client_gets(&mut self, number: u64, frame: ToComponent) {
        let now = self.now;
        let Some((who, spare)) = self.owner_of(number) else {
            return;
        };
        let client = &mut self.clients[who];
        let connection = match spare {
            true => client.spare.as_mut(),
            false => client.main.as_mut(),
        };
        let Some(connection) = connection else { return };
        connection.heard = now;
        let node = connection.node;
        self.note(USERS[who], || format!("gets {frame:?}"));
        match frame {
            ToComponent::Mark { connection, token } => {
                self.send_frame(node, ToRouter::Written { connection, token });
            }
            ToComponent::Element { element, .. } => {
                let xml = String::from_utf8_lossy(&element).into_owned();
                match spare {
                    true => self.on_spare(who, &xml),
                    false => self.on_main(who, &xml),
                }
            }
            ToComponent::Close { last, .. } => {
                let last = String::from_utf8_lossy(&last).into_owned();
                self.closed(who, spare, &last);
            }
            ToComponent::Welcome { .. } | ToComponent::Stanza { .. } => {}
        }
    }

    fn closed(&mut self, who: usize, spare: bool, last: &str) {
        if spare {
            return self.spare_lost(who);
        }
        let waits = self.clients[who].spare.is_some();
        let client = &mut self.clients[who];
        let was = client.main.take().map(|main| main.phase);
        client.redirected = named(last).filter(|node| *node < NODES);
        let Some(node) = client.redirected else {
            client.tries += 1;
            return self.main_lost(who);
        };
        // The session stays where it was.
        client.id = None;
        client.redirections += 1;
        let again = client.redirections > 3;
        let there = client.spare.as_ref().is_some_and(|it| it.node == node);
        let pause = if waits && there {
            self.random.between(6000, 9000)
        } else if again {
            self.random.between(500, 1500)
        } else if was == Some(Phase::Bound) {
            self.pause()
        } else {
            // It is on its way already.
            self.random.between(50, 300)
        };
        self.retry_later(who, pause);
    }

    fn on_spare(&mut self, who: usize, xml: &str) {
        if xml.contains(DUAL) && xml.starts_with("<active") {
            return self.activated(who);
        }
        if xml.starts_with("<iq ") && xml.contains("<jid>") {
            if let Some(spare) = self.clients[who].spare.as_mut() {
                spare.phase = Phase::Bound;
            }
            return;
        }
        self.wrong(format!(
            "the inactive connection of {} got {xml}",
            USERS[who]
        ));
    }

    /// The second connection is the session from now on.
    fn activated(&mut self, who: usize) {
        self.drop_connection(who, false, true);
        let token = self.life();
        let client = &mut self.clients[who];
        client.token = token;
        client.main = client.spare.take();
        client.redirected = None;
        let Some(main) = &client.main else { return };
        let (node, bound) = (main.node, main.phase == Phase::Bound);
        client.begin();
        if bound {
            self.say(format!(
                "{}: activated at {}",
                USERS[who],
                crate::world::NAMES[node]
            ));
            self.signed_in(who, node);
        }
    }

    fn on_main(&mut self, who: usize, xml: &str) {
        let element = match xmpp::Element::parse(xml.as_bytes()) {
            Ok(element) => element,
            Err(error) => return self.wrong(format!("{} got {xml}: {error:?}", USERS[who])),
        };
        let client = &mut self.clients[who];
        let Some(main) = client.main.as_mut() else {
            return;
        };
        let (node, phase) = (main.node, main.phase);
        let stanza = matches!(element.name(), "message" | "presence" | "iq");
        let h = element.attribute("h").and_then(|h| h.parse::<u32>().ok());
        match element.name() {
            "iq" if phase == Phase::Opening => {
                if element.attribute("type") == Some("result") {
                    main.phase = Phase::Bound;
                    return self.signed_in(who, node);
                }
                return self.wrong(format!("{} cannot bind: {xml}", USERS[who]));
            }
            "enabled" => {
                client.id = element.attribute("id").map(|id| (id.into(), node));
                client.counts = true;
            }
            "resumed" => {
                main.phase = Phase::Bound;
                client.redirections = 0;
                client.tries = 0;
                let done = client.acknowledge(h.unwrap_or_default());
                self.check(done);
                self.say(format!("{}: resumed", USERS[who]));
                self.send_again(who);
                self.spare_later(who, 500);
            }
            "failed" => {
                if let Some(h) = h {
                    let done = client.acknowledge(h);
                    self.check(done);
                }
                self.bind(who, false);
            }
            "a" => {
                let done = client.acknowledge(h.unwrap_or_default());
                self.check(done);
            }
            "r" => {
                let h = client.received;
                self.write(who, false, &format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
            }
            _ => {}
        }
        if stanza {
            let client = &mut self.clients[who];
            client.received += u32::from(client.counts);
            self.stanza(who, xml, &element);
        }
    }

    fn check(&mut self, done: Result<(), String>) {
        if let Err(text) = done {
            self.wrong(text);
        }
    }

    fn stanza(&mut self, who: usize, xml: &str, element: &xmpp::Element) {
        let from = element.attribute("from").unwrap_or_default();
        let name = from.split('@').next().unwrap_or_default();
        let sender = USERS.iter().position(|known| *known == name);
        let kind = element.attribute("type");
        let id = element.attribute("id").and_then(|id| id.parse().ok());
        match (element.name(), kind, sender) {
            ("message", Some("error"), _) => {
                if let Some(id) = id {
                    self.say(format!("{}: message {id} came back", USERS[who]));
                    self.clients[who].refused.insert(id);
                }
            }
            ("message", _, Some(sender)) => {
                let number = number_of(xml);
                if number.is_none() || number != id {
                    return self.wrong(format!("{} got {xml}", USERS[who]));
                }
                let got = self.got.entry((sender, who)).or_default();
                got.extend(number);
            }
            ("presence", None, Some(sender)) if sender != who => {
                self.clients[who].seen.insert(USERS[sender]);
            }
            ("presence", Some("unavailable"), Some(sender))
                if sender != who && self.clients[who].seen.remove(USERS[sender]) =>
            {
                self.seen_to_go(who, sender);
            }
            _ => {}
        }
    }

    fn seen_to_go(&mut self, who: usize, sender: usize) {
        let text = format!("{} sees {} go", USERS[who], USERS[sender]);
        match self.mild {
            true => self.wrong(text),
            false => self.say(text),
        }
    }

    // What a client does by itself.

    /// Looks once in a while whether the server is there.
    pub(crate) fn watch(&mut self, who: usize) {
        self.after(1000, Due::Watch(who));
        let now = self.now;
        let client = &mut self.clients[who];
        let counts = client.counts;
        let silent = |it: &Connection| {
            let first = it.phase == Phase::Bound && !counts;
            now - it.heard > if first { FIRST } else { SILENCE }
        };
        if client.main.as_ref().is_some_and(silent) {
            self.drop_connection(who, false, false);
            self.clients[who].tries += 1;
            return self.main_lost(who);
        }
        // Whitespace keeps an inactive connection alive, or shows that it is not.
        let dead = client.spare.as_ref().is_some_and(|it| {
            let there = &self.nodes[it.node];
            let same = there.powered && there.router.life == it.life;
            silent(it) && (it.phase == Phase::Opening || !same)
        });
        if dead {
            self.drop_connection(who, true, false);
            return self.spare_lost(who);
        }
        if let Some(main) = client.main.as_mut()
            && main.phase == Phase::Bound
            && counts
            && now - main.asked >= 2000
        {
            main.asked = now;
            self.write(who, false, "<r xmlns='urn:xmpp:sm:3'/>");
        }
    }

    /// Somebody writes to somebody.
    pub(crate) fn chat(&mut self) {
        if !self.chatting {
            return;
        }
        let pause = self.random.between(100, 900);
        self.after(pause, Due::Chat);
        let from = self.random.which(USERS.len());
        let to = (from + 1 + self.random.which(USERS.len() - 1)) % USERS.len();
        if self.clients[from].away_until > self.now {
            return;
        }
        self.messages += 1;
        let number = self.messages;
        let resource = if self.random.percent(50) { "/a" } else { "" };
        let xml = format!(
            "<message to='{}@{DOMAIN}{resource}' type='chat' id='{number}'>\
             <body>{number}</body></message>",
            USERS[to]
        );
        self.sent.entry((from, to)).or_default().push(number);
        let sent = Sent {
            xml: xml.clone(),
            kept: true,
        };
        self.clients[from].unacked.push_back(sent);
        if self.clients[from].signed_in().is_some() {
            self.write(from, false, &xml);
        }
    }
}
