//! Random walks: whatever happens to links and clients, no message between
//! clients that use stream management is lost or comes twice, order is kept
//! for each pair, and subscriptions stay legal and agree.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use router::Subscription;
use world::{Database, Got, World};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];
/// Clients of a person.
const RESOURCES: [&str; 2] = ["a", "b"];

/// A client that keeps the rules of stream management.
#[derive(Default)]
struct Client {
    /// On the air: connected and bound or resumed.
    up: bool,
    /// A session that may be resumed.
    session: bool,
    /// Stanzas received in this session.
    received: u32,
    /// What the server knows of that.
    told: u32,
    /// Stanzas sent in this session that the server has not acknowledged.
    unacked: Vec<String>,
    acked: u32,
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        from: usize,
        to: usize,
        bare: bool,
    },
    Lose(usize),
    Return(usize),
    Leave(usize),
    LinkDown,
    Ack(usize),
    Wait(u64),
    Database(bool),
    Congest(usize, bool),
    /// A client changes its priority.
    Priority(usize, i8),
    /// The router dies; what it wrote last is stored or not.
    Crash(bool),
}

fn step_or_crash(clients: usize) -> impl Strategy<Value = Step> {
    prop_oneof![30 => step(clients), 1 => any::<bool>().prop_map(Step::Crash)]
}

fn step_or_priority(clients: usize) -> impl Strategy<Value = Step> {
    let priority = (0..clients, -1i8..2).prop_map(|(who, priority)| Step::Priority(who, priority));
    prop_oneof![15 => step(clients), 1 => priority]
}

fn step(clients: usize) -> impl Strategy<Value = Step> {
    let who = move || 0..clients;
    prop_oneof![
        12 => (who(), who(), any::<bool>()).prop_map(|(from, to, bare)| Step::Send { from, to, bare }),
        3 => who().prop_map(Step::Lose),
        5 => who().prop_map(Step::Return),
        2 => who().prop_map(Step::Leave),
        1 => Just(Step::LinkDown),
        3 => who().prop_map(Step::Ack),
        2 => (1u64..400_000).prop_map(Step::Wait),
        3 => any::<bool>().prop_map(Step::Database),
        2 => (who(), any::<bool>()).prop_map(|(who, on)| Step::Congest(who, on)),
    ]
}

struct Walk {
    world: World,
    /// How many clients each person has.
    each: usize,
    clients: Vec<Client>,
    next: u32,
    /// For each pair of persons, what was handed to a client to send.
    sent: BTreeMap<(usize, usize), Vec<u32>>,
    got: BTreeMap<(usize, usize), Vec<u32>>,
    /// Clients send again what was not acknowledged to a session that is
    /// lost, and may get again what they have.
    again: bool,
}

impl Walk {
    fn new(each: usize, again: bool) -> Self {
        let mut world = World::new();
        for user in NAMES {
            world.users.insert(user.into(), world::Rows::default());
        }
        Self {
            world,
            each,
            clients: (0..NAMES.len() * each).map(|_| Client::default()).collect(),
            next: 0,
            sent: BTreeMap::new(),
            got: BTreeMap::new(),
            again,
        }
    }

    /// Name of a client.
    fn name(&self, who: usize) -> String {
        let resource = RESOURCES[who % self.each];
        format!("{}/{resource}", NAMES[who / self.each])
    }

    /// Takes what every client got, and what others got by their answers.
    fn read(&mut self) {
        while (0..self.clients.len()).any(|who| self.read_one(who)) {}
    }

    /// Takes what a client got; tells whether there was anything.
    fn read_one(&mut self, who: usize) -> bool {
        let name = self.name(who);
        let mut any = false;
        while self.world.clients.contains_key(&name)
            && let Some(got) = self.world.take(&name)
        {
            any = true;
            match got {
                Got::Closed(_) => self.clients[who].up = false,
                Got::Element(xml) => self.element(who, &xml),
            }
        }
        any
    }

    fn element(&mut self, who: usize, xml: &str) {
        let element = xmpp::Element::parse(xml.as_bytes()).unwrap();
        let name = self.name(who);
        let client = &mut self.clients[who];
        match element.name() {
            "message" | "presence" | "iq" => client.received += 1,
            "enabled" => {
                client.session = true;
                client.up = true;
                client.received = 0;
                client.told = 0;
                client.acked = 0;
            }
            "resumed" => {
                client.up = true;
                client.told = client.received;
                let count: u32 = element.attribute("h").unwrap().parse().unwrap();
                client.acknowledge(count);
                // What the server has not handled is sent again.
                for xml in client.unacked.clone() {
                    self.world.send(&name, &xml);
                }
                return;
            }
            "failed" => client.session = false,
            "a" => {
                let count: u32 = element.attribute("h").unwrap().parse().unwrap();
                client.acknowledge(count);
            }
            "r" => {
                let count = client.received;
                self.world
                    .send(&name, &format!("<a xmlns='urn:xmpp:sm:3' h='{count}'/>"));
            }
            other => panic!("{other}"),
        }
        if element.name() == "message" {
            assert_ne!(element.attribute("type"), Some("error"), "{xml}");
            let from = element.attribute("from").unwrap();
            let from = NAMES
                .iter()
                .position(|user| from.starts_with(&format!("{user}@")))
                .unwrap();
            let number = element.attribute("id").unwrap().parse().unwrap();
            self.got
                .entry((from, who / self.each))
                .or_default()
                .push(number);
        }
    }

    fn transmit(&mut self, who: usize, xml: String) {
        let name = self.name(who);
        let client = &mut self.clients[who];
        client.unacked.push(xml.clone());
        if client.up {
            self.world.send(&name, &xml);
        }
    }

    /// Brings a client back: resumed if that is possible.
    fn come(&mut self, who: usize) {
        self.read();
        if self.clients[who].up {
            return;
        }
        let name = self.name(who);
        if self.clients[who].session {
            self.world.authenticate(&name);
            let (id, count) = (
                self.world.clients[&name].id.clone(),
                self.clients[who].received,
            );
            let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{count}'/>");
            self.world.send(&name, &resume);
            self.read();
            if self.clients[who].up || self.clients[who].session {
                return;
            }
        } else {
            self.world.authenticate(&name);
        }
        // A new session. What the old one did not get acknowledged was not
        // handled, or its answer was lost: a client cannot know. The walk
        // asks, as people do: who lost a session looks what arrived.
        self.world.send(
            &name,
            &format!(
                "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                 <resource>{}</resource></bind></iq>",
                RESOURCES[who % self.each]
            ),
        );
        self.world
            .send(&name, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        self.world.send(&name, "<presence/>");
        if self.again {
            for xml in self.clients[who].unacked.clone() {
                self.world.send(&name, &xml);
            }
        } else {
            self.clients[who].unacked.clear();
        }
        self.read();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { from, to, bare } => {
                // Only who has a session sends: what a client without one
                // would keep is its own affair.
                if from / self.each == to / self.each || !self.clients[from].up {
                    return;
                }
                self.next += 1;
                let number = self.next;
                let address = self.name(to);
                let (person, _) = address.split_once('/').unwrap();
                let resource = &address[person.len()..];
                let resource = if bare { "" } else { resource };
                let xml = format!(
                    "<message to='{person}@ex{resource}' type='chat' id='{number}'><body>x</body></message>",
                );
                self.sent
                    .entry((from / self.each, to / self.each))
                    .or_default()
                    .push(number);
                self.transmit(from, xml);
            }
            Step::Lose(who) => {
                self.read();
                if self.clients[who].up {
                    self.clients[who].up = false;
                    self.world.closed(&self.name(who), false);
                }
            }
            Step::Return(who) => self.come(who),
            Step::Leave(who) => {
                self.read();
                // An orderly end waits for the acknowledgement of what was
                // sent.
                self.world.database = Database::Up;
                self.world.settle();
                if self.clients[who].up {
                    self.world
                        .send(&self.name(who), "<r xmlns='urn:xmpp:sm:3'/>");
                    self.read();
                    let count = self.clients[who].received;
                    self.world.send(
                        &self.name(who),
                        &format!("<a xmlns='urn:xmpp:sm:3' h='{count}'/>"),
                    );
                    self.world.closed(&self.name(who), true);
                    self.clients[who].up = false;
                    self.clients[who].session = false;
                }
            }
            Step::LinkDown => {
                self.read();
                self.world.link_down();
                for client in &mut self.clients {
                    client.up = false;
                }
            }
            Step::Ack(who) => {
                self.read();
                if self.clients[who].up {
                    self.world
                        .send(&self.name(who), "<r xmlns='urn:xmpp:sm:3'/>");
                }
            }
            Step::Wait(milliseconds) => {
                self.read();
                // Nobody stays away for good with something in doubt: what a
                // lost session received and did not acknowledge comes again.
                let doubtful = self.clients.iter().any(|client| {
                    let told = client.told == client.received;
                    !client.up && (!client.unacked.is_empty() || !told)
                });
                if self.again || !doubtful {
                    // Clients answer meanwhile.
                    let end = self.world.now.monotonic + milliseconds;
                    while !self.world.tick(end) {
                        self.read();
                    }
                }
            }
            Step::Database(up) => {
                self.world.database = if up { Database::Up } else { Database::Slow };
                if up {
                    self.world.settle();
                }
            }
            Step::Priority(who, priority) => {
                if self.clients[who].up {
                    let xml = format!("<presence><priority>{priority}</priority></presence>");
                    self.transmit(who, xml);
                }
            }
            Step::Crash(requests) => {
                self.read();
                self.world.crash(requests);
                for client in &mut self.clients {
                    client.up = false;
                }
            }
            Step::Congest(who, on) => {
                if !self.clients[who].up {
                    return;
                }
                let connection = self.world.clients[&self.name(who)].number;
                self.world.frame(if on {
                    xcp::ToRouter::Congested { connection }
                } else {
                    xcp::ToRouter::Relieved { connection }
                });
            }
        }
        self.read();
    }

    /// Everybody comes back and takes everything.
    fn end(&mut self) {
        self.world.database = Database::Up;
        self.world.settle();
        for _ in 0..4 {
            for who in 0..self.clients.len() {
                self.read();
                if self.clients[who].up {
                    let connection = self.world.clients[&self.name(who)].number;
                    self.world.frame(xcp::ToRouter::Relieved { connection });
                }
                self.come(who);
                if self.each > 1 && self.clients[who].up {
                    // Whose clients all had a negative priority takes now
                    // what is stored.
                    self.transmit(who, "<presence/>".into());
                }
            }
            self.read();
            self.world.wait(2_000);
            self.read();
        }
    }
}

impl Client {
    fn acknowledge(&mut self, count: u32) {
        let number = (count - self.acked) as usize;
        // Presence of the beginning counts as well and is not kept.
        let extra = usize::from(self.acked == 0 && number > 0);
        self.acked = count;
        self.unacked
            .drain(..(number - extra).min(self.unacked.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_message_is_lost_or_comes_twice(steps in proptest::collection::vec(step(NAMES.len()), 1..80)) {
        let mut walk = Walk::new(1, false);
        for who in 0..NAMES.len() {
            walk.come(who);
        }
        for step in &steps {
            walk.step(step);
        }
        walk.end();
        prop_assert_eq!(&walk.got, &walk.sent);
        for user in NAMES {
            let left = walk.world.users[user].offline.len();
            prop_assert_eq!(left, 0, "{} has messages left", user);
        }
    }

    #[test]
    fn the_death_of_the_router_loses_nothing_that_it_acknowledged(
        steps in proptest::collection::vec(step_or_crash(NAMES.len()), 1..80),
    ) {
        let mut walk = Walk::new(1, true);
        for who in 0..NAMES.len() {
            walk.come(who);
        }
        for step in &steps {
            walk.step(step);
        }
        walk.end();
        for (pair, sent) in &walk.sent {
            // What was not acknowledged was sent again, so all of it arrives;
            // a duplicate is known by its id.
            let mut got = walk.got.remove(pair).unwrap_or_default();
            let mut seen = std::collections::BTreeSet::new();
            got.retain(|number| seen.insert(*number));
            prop_assert_eq!(&got, sent, "{:?}", pair);
        }
    }

    #[test]
    fn what_several_clients_wait_for_reaches_one_of_them(
        steps in proptest::collection::vec(step_or_priority(NAMES.len() * RESOURCES.len()), 1..120),
    ) {
        let mut walk = Walk::new(RESOURCES.len(), true);
        for who in 0..walk.clients.len() {
            walk.come(who);
        }
        for step in &steps {
            walk.step(step);
        }
        walk.end();
        for (pair, sent) in &walk.sent {
            let got = walk.got.remove(pair).unwrap_or_default();
            let lost: Vec<_> = sent.iter().filter(|number| !got.contains(number)).collect();
            prop_assert!(lost.is_empty(), "{:?} lost {:?}", pair, lost);
        }
    }
}

fn name(who: usize) -> String {
    format!("{}/a", NAMES[who])
}

#[derive(Clone, Debug)]
enum Move {
    Presence { from: usize, to: usize, kind: usize },
    Add { from: usize, to: usize },
    Remove { from: usize, to: usize },
    Online(usize),
    Offline(usize),
    Database(bool),
}

fn move_() -> impl Strategy<Value = Move> {
    let who = || 0..NAMES.len();
    prop_oneof![
        12 => (who(), who(), 0usize..4).prop_map(|(from, to, kind)| Move::Presence { from, to, kind }),
        1 => (who(), who()).prop_map(|(from, to)| Move::Add { from, to }),
        2 => (who(), who()).prop_map(|(from, to)| Move::Remove { from, to }),
        2 => who().prop_map(Move::Online),
        1 => who().prop_map(Move::Offline),
        1 => any::<bool>().prop_map(Move::Database),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn subscriptions_stay_legal_and_agree(moves in proptest::collection::vec(move_(), 1..60)) {
        let mut world = World::new();
        for user in NAMES {
            world.users.insert(user.into(), world::Rows::default());
        }
        let mut online = [false; NAMES.len()];
        // While the database is slow, stanzas of the two sides may cross, as
        // between servers; then the sides need not agree.
        let mut crossed = false;
        for step in moves {
            match step {
                Move::Presence { from, to, kind } => {
                    if online[from] && from != to {
                        let kind = ["subscribe", "subscribed", "unsubscribe", "unsubscribed"][kind];
                        let xml = format!("<presence to='{}@ex' type='{kind}'/>", NAMES[to]);
                        world.send(&name(from), &xml);
                    }
                }
                Move::Add { from, to } => {
                    if online[from] && from != to {
                        world.send(&name(from), &format!(
                            "<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='{}@ex' name='n'/></query></iq>",
                            NAMES[to]
                        ));
                    }
                }
                Move::Remove { from, to } => {
                    if online[from] && from != to {
                        world.send(&name(from), &format!(
                            "<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='{}@ex' subscription='remove'/></query></iq>",
                            NAMES[to]
                        ));
                    }
                }
                Move::Online(who) => {
                    world.database = Database::Up;
                    world.settle();
                    if !online[who] {
                        world.online(&name(who), 0);
                        online[who] = true;
                    }
                }
                Move::Offline(who) => {
                    if online[who] {
                        world.closed(&name(who), true);
                        online[who] = false;
                    }
                }
                Move::Database(up) => {
                    world.database = if up { Database::Up } else { Database::Slow };
                    crossed |= !up;
                    world.settle_if_up();
                }
            }
        }
        world.database = Database::Up;
        world.settle();
        world.clear();
        for (a, first) in NAMES.iter().enumerate() {
            for (b, second) in NAMES.iter().enumerate() {
                if a == b {
                    continue;
                }
                let row = |user: &str, contact: &str| {
                    world.users[user]
                        .roster
                        .get(&*format!("{contact}@ex"))
                        .cloned()
                        .unwrap_or_default()
                };
                let (ours, theirs) = (row(first, second), row(second, first));
                prop_assert!(!(ours.subscription.to() && ours.ask), "{first} {second}");
                prop_assert!(!(ours.subscription.from() && ours.pending_in.is_some()), "{first} {second}");
                prop_assert!(ours.listed || ours.subscription == Subscription::None);
                if crossed {
                    continue;
                }
                // What one may see, the other shows; what one waits for, the
                // other was asked.
                prop_assert_eq!(
                    ours.subscription.to(), theirs.subscription.from(),
                    "{} sees {}: {:?} {:?}", first, second, ours, theirs
                );
                if theirs.pending_in.is_some() {
                    prop_assert!(ours.ask, "{} was asked by {}, who does not wait", second, first);
                }
            }
        }
    }
}
