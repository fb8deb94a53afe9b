//! A router with clients and a database, all of it in memory and at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "a harness of tests fails loudly, and no test uses all of it"
)]

pub mod script;

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use router::{
    Actions, Config, Event, OfflineRow, RosterRow, Router, StoreFailure, StoreRequest,
    Subscription, Time, UserRows, Write,
};
use xcp::{Decoder, ToComponent, ToRouter};

/// What the database holds of a user.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub roster: BTreeMap<Box<str>, RosterRow>,
    pub blocks: Vec<Box<str>>,
    pub offline: BTreeMap<i64, OfflineRow>,
    pub vcard: Option<Box<str>>,
}

/// How the database behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Database {
    #[default]
    Up,
    /// Requests wait.
    Slow,
    /// Requests fail.
    Broken,
    /// Reads work, writes fail.
    Full,
}

/// What a client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Element(String),
    Closed(String),
}

#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Number of the connection.
    pub number: u64,
    pub got: VecDeque<Got>,
    /// Marks that were not answered.
    pub marks: Vec<u64>,
    pub closed: bool,
    /// Last id of stream management.
    pub id: String,
    /// Last version of the roster.
    pub version: String,
}

pub struct World {
    pub router: Router,
    pub actions: Actions,
    pub now: Time,
    pub users: BTreeMap<String, Rows>,
    pub clients: BTreeMap<String, Client>,
    /// Connection number to client.
    pub numbers: HashMap<u64, String>,
    pub last: u64,
    pub link: u32,
    pub database: Database,
    pub waiting: VecDeque<StoreRequest>,
    pub config: Config,
}

pub const DOMAIN: &str = "ex";

impl World {
    pub fn new() -> Self {
        let now = Time {
            monotonic: 1_000_000,
            unix: 1_700_000_000_000,
        };
        let mut count = 0;
        let random = Box::new(move || {
            count += 1;
            count
        });
        let config = Config::default();
        Self {
            router: Router::new(DOMAIN, config.clone(), random, now),
            actions: Actions::default(),
            now,
            users: BTreeMap::new(),
            clients: BTreeMap::new(),
            numbers: HashMap::new(),
            last: 0,
            link: 1,
            database: Database::Up,
            waiting: VecDeque::new(),
            config,
        }
    }

    /// The router is killed and starts anew: what is stored is all there is.
    /// Requests on their way to the database are carried out or not.
    pub fn crash(&mut self, requests: bool) {
        if requests {
            while let Some(request) = self.waiting.pop_front() {
                if let StoreRequest::Write { user, writes } = request {
                    let rows = self.users.entry(user.to_string()).or_default();
                    for write in writes {
                        apply(rows, write);
                    }
                }
            }
        }
        self.waiting.clear();
        self.actions = Actions::default();
        for client in self.clients.values_mut() {
            client.closed = true;
            client.got.clear();
        }
        let mut count = self.now.monotonic;
        let random = Box::new(move || {
            count += 1;
            count
        });
        self.router = Router::new(DOMAIN, self.config.clone(), random, self.now);
        self.link += 1;
        self.event(Event::LinkUp {
            link: self.link,
            component: "test".into(),
        });
    }

    pub fn event(&mut self, event: Event) {
        self.router.handle(event, self.now, &mut self.actions);
        self.carry_out();
    }

    pub fn frame(&mut self, frame: ToRouter) {
        let link = self.link;
        self.event(Event::Frame { link, frame });
    }

    fn carry_out(&mut self) {
        loop {
            for (link, bytes) in std::mem::take(&mut self.actions.links) {
                let mut decoder = Decoder::<ToComponent>::default();
                decoder.buffer().extend_from_slice(&bytes);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    if link == self.link {
                        self.receive(frame);
                    }
                }
            }
            assert_eq!(self.actions.broken, [], "the harness keeps the protocol");
            self.waiting.extend(self.actions.store.drain(..));
            if self.database == Database::Slow || !self.serve_one() {
                return;
            }
        }
    }

    /// Carries out one request to the database.
    pub fn serve_one(&mut self) -> bool {
        let Some(request) = self.waiting.pop_front() else {
            return false;
        };
        let event = answer(&mut self.users, self.database, request);
        self.router.handle(event, self.now, &mut self.actions);
        true
    }

    /// Lets everything that waits for the database happen.
    pub fn settle(&mut self) {
        self.carry_out();
        while self.serve_one() {
            self.carry_out();
        }
    }

    /// The same, unless the database is slow.
    pub fn settle_if_up(&mut self) {
        if self.database == Database::Up {
            self.settle();
        }
    }

    fn receive(&mut self, frame: ToComponent) {
        let (number, got) = match frame {
            ToComponent::Element {
                connection,
                element,
            } => (
                connection,
                Got::Element(String::from_utf8(element.into()).unwrap()),
            ),
            ToComponent::Close { connection, last } => (
                connection,
                Got::Closed(String::from_utf8(last.into()).unwrap()),
            ),
            ToComponent::Mark { connection, token } => {
                let name = &self.numbers[&connection];
                self.clients.get_mut(name).unwrap().marks.push(token);
                return;
            }
            other => panic!("{other:?}"),
        };
        let name = self.numbers.get(&number).expect("a known connection");
        let client = self.clients.get_mut(name).unwrap();
        if client.number != number {
            return;
        }
        assert!(!client.closed, "{name}: {got:?} after the end");
        client.closed = matches!(got, Got::Closed(_));
        if let Got::Element(xml) = &got
            && xml.starts_with("<enabled")
        {
            let element = xmpp::Element::parse(xml.as_bytes()).unwrap();
            client.id = element.attribute("id").unwrap_or_default().into();
        }
        if let Got::Element(xml) = &got
            && let Some((_, rest)) = xml.split_once(" ver='")
        {
            client.version = rest.split('\'').next().unwrap_or_default().into();
        }
        client.got.push_back(got);
    }

    /// Signs a client in, without binding a resource.
    pub fn authenticate(&mut self, name: &str) {
        self.last += 1;
        let number = self.last;
        let user = name.split('/').next().unwrap();
        let old = self.clients.remove(name).unwrap_or_default();
        let client = Client {
            number,
            id: old.id,
            ..Client::default()
        };
        self.clients.insert(name.into(), client);
        self.numbers.insert(number, name.into());
        self.frame(ToRouter::Authenticated {
            connection: number,
            user: format!("{user}@{DOMAIN}"),
            peer: "192.0.2.1:5000".into(),
            secure: true,
            inactive: false,
        });
    }

    pub fn send(&mut self, name: &str, xml: &str) {
        let connection = self.clients[name].number;
        self.frame(ToRouter::Element {
            connection,
            element: Bytes::copy_from_slice(xml.as_bytes()),
        });
    }

    /// Signs a client in and binds its resource.
    pub fn connect(&mut self, name: &str) {
        self.authenticate(name);
        let resource = name.split('/').nth(1).unwrap();
        self.send(
            name,
            &format!(
                "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                 <resource>{resource}</resource></bind></iq>"
            ),
        );
        let Some(Got::Element(reply)) = self.take(name) else {
            panic!("{name} was not bound");
        };
        assert!(reply.contains("<jid>"), "{name}: {reply}");
    }

    /// A client as most are: roster asked for, presence sent.
    pub fn online(&mut self, name: &str, priority: i8) {
        self.connect(name);
        self.send(
            name,
            "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>",
        );
        self.send(
            name,
            &format!("<presence><priority>{priority}</priority></presence>"),
        );
    }

    pub fn take(&mut self, name: &str) -> Option<Got> {
        self.clients.get_mut(name).unwrap().got.pop_front()
    }

    pub fn clear(&mut self) {
        for client in self.clients.values_mut() {
            client.got.clear();
        }
    }

    pub fn closed(&mut self, name: &str, clean: bool) {
        let connection = self.clients[name].number;
        self.clients.get_mut(name).unwrap().closed = true;
        self.frame(ToRouter::Closed { connection, clean });
    }

    /// The component dies and comes back.
    pub fn link_down(&mut self) {
        let link = self.link;
        self.link += 1;
        for client in self.clients.values_mut() {
            client.closed = true;
            client.got.clear();
        }
        self.event(Event::LinkDown { link });
        self.event(Event::LinkUp {
            link: link + 1,
            component: "test".into(),
        });
    }

    /// Everything before the marks was written.
    pub fn written(&mut self, name: &str) {
        let client = self.clients.get_mut(name).unwrap();
        let connection = client.number;
        for token in std::mem::take(&mut client.marks) {
            self.frame(ToRouter::Written { connection, token });
        }
    }

    pub fn wait(&mut self, milliseconds: u64) {
        let end = self.now.monotonic + milliseconds;
        while !self.tick(end) {}
    }

    /// Moves to the next timer, or to the end, and tells whether that is it.
    pub fn tick(&mut self, end: u64) -> bool {
        let due = self.router.next_deadline().filter(|due| *due <= end);
        let step = due.unwrap_or(end).saturating_sub(self.now.monotonic);
        self.now.monotonic += step;
        self.now.unix += i64::try_from(step).unwrap();
        self.event(Event::Tick);
        due.is_none()
    }

    /// Sets a contact as if it had been there for long.
    pub fn row(&mut self, user: &str, contact: &str, subscription: Subscription) {
        let contact: Box<str> = format!("{contact}@{DOMAIN}").into();
        let row = RosterRow {
            contact: contact.clone(),
            subscription,
            listed: true,
            ..RosterRow::default()
        };
        let rows = self.users.entry(user.into()).or_default();
        rows.roster.insert(contact, row);
    }
}

/// Carries a request to the database out.
pub fn answer(
    users: &mut BTreeMap<String, Rows>,
    database: Database,
    request: StoreRequest,
) -> Event {
    let broken = database == Database::Broken;
    let failure = || StoreFailure("broken by the test".into());
    match request {
        StoreRequest::Load { user } => {
            let rows = users.get(&*user).map(|rows| UserRows {
                enabled: true,
                home: None,
                roster: rows.roster.values().cloned().collect(),
                blocks: rows.blocks.clone(),
                offline: rows
                    .offline
                    .values()
                    .map(|row| (row.sequence, row.stanza.len()))
                    .collect(),
            });
            let rows = if broken { Err(failure()) } else { Ok(rows) };
            Event::Loaded { user, rows }
        }
        StoreRequest::Write { user, writes } => {
            if broken || database == Database::Full {
                let result = Err(failure());
                Event::Written { user, result }
            } else {
                let rows = users.entry(user.to_string()).or_default();
                for write in writes {
                    apply(rows, write);
                }
                let result = Ok(());
                Event::Written { user, result }
            }
        }
        StoreRequest::Offline { user } => {
            let rows = users.entry(user.to_string()).or_default();
            let rows = rows.offline.values().cloned().collect();
            let rows = if broken { Err(failure()) } else { Ok(rows) };
            Event::Offline { user, rows }
        }
        StoreRequest::Roster { user } => {
            let rows = users.entry(user.to_string()).or_default();
            let rows = rows.roster.values().cloned().collect();
            let rows = if broken { Err(failure()) } else { Ok(rows) };
            Event::Roster { user, rows }
        }
        StoreRequest::VCard { user } => {
            let xml = users
                .get(&*user)
                .and_then(|rows| rows.vcard.as_deref())
                .map(Into::into);
            let xml = if broken { Err(failure()) } else { Ok(xml) };
            Event::VCard { user, xml }
        }
    }
}

fn apply(rows: &mut Rows, write: Write) {
    match write {
        Write::Roster(row) => {
            rows.roster.insert(row.contact.clone(), row);
        }
        Write::RemoveRoster(contact) => {
            rows.roster.remove(&contact);
        }
        Write::Block(jid) => rows.blocks.push(jid),
        Write::Unblock(jid) => rows.blocks.retain(|known| *known != jid),
        Write::Offline(row) => {
            rows.offline.insert(row.sequence, row);
        }
        Write::RemoveOffline(sequence) => {
            rows.offline.remove(&sequence);
        }
        Write::VCard(xml) => rows.vcard = Some(xml),
    }
}
