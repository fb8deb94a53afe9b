//! A client's second connection, at the node that takes over.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

mod world;

use std::collections::BTreeMap;

use bytes::Bytes;
use router::{Actions, Config, Event, Left, Node, RosterRow, Router, Subscription, Time};
use world::{Database, Rows, answer};
use xcp::{Decoder, ToComponent, ToRouter};

const ALICE: u64 = 1;
const BOB: u64 = 2;

/// The router of node two, which stands in for node one, where alice is at
/// home. Bob is at home here and is her contact.
struct Two {
    router: Router,
    rows: BTreeMap<String, Rows>,
    now: Time,
    got: Vec<(u64, String)>,
}

impl Two {
    fn new() -> Self {
        let now = Time {
            monotonic: 1_000_000,
            unix: 1_700_000_000_000,
        };
        let mut rows = BTreeMap::new();
        for (user, contact) in [("alice", "bob@ex"), ("bob", "alice@ex")] {
            let row = RosterRow {
                contact: contact.into(),
                subscription: Subscription::Both,
                listed: true,
                ..RosterRow::default()
            };
            let mut own = Rows::default();
            own.roster.insert(contact.into(), row);
            rows.insert(user.to_owned(), own);
        }
        let mut count = 0;
        let random = Box::new(move || {
            count += 1;
            count
        });
        let mut two = Self {
            router: Router::new("ex", Config::default(), random, now),
            rows,
            now,
            got: Vec::new(),
        };
        two.pair(true);
        let users = [("alice", "one"), ("bob", "two")];
        let users = users.map(|(user, home)| (user.into(), Some(home.into())));
        two.event(Event::UsersRead(users.into()));
        two.serve(&[("two", 2)]);
        two
    }

    fn pair(&mut self, available: bool) {
        let node = |name: &str, number: u64, other: &str| Node {
            name: name.into(),
            number,
            address: format!("192.0.2.{number}").into(),
            publisher: number == 1,
            stand_in: available.then(|| other.into()),
        };
        self.event(Event::Nodes {
            own: "two".into(),
            nodes: vec![node("one", 1, "two"), node("two", 2, "one")],
        });
    }

    fn serve(&mut self, homes: &[(&str, u64)]) {
        let homes = homes.iter().map(|(home, epoch)| ((*home).into(), *epoch));
        self.event(Event::Serving(homes.collect()));
    }

    fn take_over(&mut self, sessions: Vec<Left>) {
        self.serve(&[("one", 3), ("two", 2)]);
        let homes = vec!["one".into()];
        self.event(Event::Adopted { homes, sessions });
    }

    fn event(&mut self, event: Event) {
        let mut actions = Actions::default();
        self.router.handle(event, self.now, &mut actions);
        assert_eq!(actions.broken, []);
        for (_, bytes) in actions.links {
            let mut decoder = Decoder::<ToComponent>::default();
            decoder.buffer().extend_from_slice(&bytes);
            while let Some(frame) = decoder.next_frame().unwrap() {
                let (to, bytes) = match frame {
                    ToComponent::Element {
                        connection,
                        element,
                    } => (connection, element),
                    ToComponent::Close { connection, last } => (connection, last),
                    _ => continue,
                };
                self.got
                    .push((to, String::from_utf8(bytes.into()).unwrap()));
            }
        }
        for request in actions.store {
            let answer = answer(&mut self.rows, Database::Up, request);
            self.event(answer);
        }
    }

    fn frame(&mut self, frame: ToRouter) {
        self.event(Event::Frame { link: 1, frame });
    }

    fn sign_in(&mut self, connection: u64, user: &str, inactive: bool) {
        self.frame(ToRouter::Authenticated {
            connection,
            user: format!("{user}@ex"),
            peer: "192.0.2.100:1".into(),
            secure: true,
            inactive,
        });
    }

    fn send(&mut self, connection: u64, xml: &str) {
        self.frame(ToRouter::Element {
            connection,
            element: Bytes::copy_from_slice(xml.as_bytes()),
        });
    }

    fn bind(&mut self, connection: u64) {
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                    <resource>a</resource></bind></iq>";
        self.send(connection, bind);
    }

    /// What a connection got since it was asked last.
    fn take(&mut self, connection: u64) -> Vec<String> {
        let got = self.got.extract_if(.., |(to, _)| *to == connection);
        got.map(|(_, xml)| xml).collect()
    }

    /// Bob is there, and alice has an inactive connection.
    fn waiting() -> Self {
        let mut two = Self::new();
        two.sign_in(BOB, "bob", false);
        two.bind(BOB);
        two.send(BOB, "<presence/>");
        two.sign_in(ALICE, "alice", true);
        assert_eq!(two.take(ALICE), [""; 0]);
        two.bind(ALICE);
        let bound = two.take(ALICE).concat();
        assert!(bound.contains("<jid>alice@ex/a</jid>"), "{bound}");
        two.take(BOB);
        two
    }
}

fn left() -> Left {
    Left {
        jid: "alice@ex/a".into(),
        peer: "192.0.2.100:9".into(),
        since: 5,
        presence: Some((*b"<presence from='alice@ex/a'><show>dnd</show></presence>").into()),
        directed: Vec::new(),
    }
}

fn has(got: &[String], part: &str) -> bool {
    got.iter().any(|xml| xml.contains(part))
}

#[test]
fn an_inactive_connection_gets_nothing_and_becomes_the_session_at_takeover() {
    let mut two = Two::waiting();
    let stats = two.router.stats();
    assert_eq!((stats.inactive, stats.sessions_connected), (1, 1));
    two.send(
        ALICE,
        "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>",
    );
    assert!(has(&two.take(ALICE), "<unexpected-request "));
    two.send(ALICE, "<enable xmlns='urn:xmpp:sm:3'/>");
    assert!(has(&two.take(ALICE), "<failed "));
    two.send(ALICE, "<presence/>");
    two.send(
        ALICE,
        "<message to='bob@ex' type='chat'><body>x</body></message>",
    );
    two.send(BOB, "<presence><show>away</show></presence>");
    assert_eq!((two.take(ALICE), two.take(BOB).len()), (Vec::new(), 1));

    two.take_over(vec![left()]);
    let got = two.take(ALICE);
    assert_eq!(got[0], "<active xmlns='urn:signalbox:dual:0'/>");
    assert!(
        has(&got, "<show>away</show>"),
        "she sees who is there: {got:?}"
    );
    let seen = two.take(BOB);
    assert!(has(&seen, "<show>dnd</show>") && !has(&seen, "unavailable"));
    two.send(
        BOB,
        "<message to='alice@ex' type='chat'><body>hello</body></message>",
    );
    assert!(has(&two.take(ALICE), "<body>hello</body>"));
    two.send(
        ALICE,
        "<message to='bob@ex' type='chat'><body>well</body></message>",
    );
    assert!(has(&two.take(BOB), "<body>well</body>"));
    let stats = two.router.stats();
    assert_eq!(
        (stats.inactive, stats.sessions_connected, stats.phantoms),
        (0, 2, 0)
    );
}

#[test]
fn who_is_served_a_moment_after_others_is_not_forgotten_at_takeover() {
    // The other node had the users of both homes. What is known of them comes
    // before the second claim, or after it.
    for claimed_before in [false, true] {
        let mut two = Two::waiting();
        two.serve(&[]);
        let bob = Left {
            jid: "bob@ex/b".into(),
            presence: Some((*b"<presence from='bob@ex/b'/>").into()),
            ..left()
        };
        two.serve(&[("two", 4)]);
        if claimed_before {
            two.serve(&[("one", 5), ("two", 4)]);
        }
        let homes = vec!["two".into()];
        let sessions = vec![left(), bob];
        two.event(Event::Adopted { homes, sessions });
        assert_eq!(two.router.stats().phantoms, 1);
        two.serve(&[("one", 5), ("two", 4)]);
        let (homes, sessions) = (vec!["one".into()], Vec::new());
        two.event(Event::Adopted { homes, sessions });
        // Her inactive connection has become her session, with its presence.
        assert!(has(&two.take(ALICE), "from='bob@ex/b'"));
    }
}

#[test]
fn a_message_between_takeover_and_activation_is_not_lost() {
    let mut two = Two::waiting();
    two.serve(&[("one", 3), ("two", 2)]);
    two.send(
        BOB,
        "<message to='alice@ex' type='chat'><body>early</body></message>",
    );
    assert_eq!(two.take(ALICE), [""; 0]);
    let (homes, sessions) = (vec!["one".into()], vec![left()]);
    two.event(Event::Adopted { homes, sessions });
    assert!(has(&two.take(ALICE), "<body>early</body>"));
}

#[test]
fn without_a_known_session_it_is_one_that_has_told_nothing() {
    let mut two = Two::waiting();
    two.take_over(Vec::new());
    assert_eq!(two.take(ALICE), ["<active xmlns='urn:signalbox:dual:0'/>"]);
    assert_eq!(two.take(BOB), [""; 0]);
    two.send(ALICE, "<presence/>");
    assert!(has(&two.take(BOB), "from='alice@ex/a'"));
}

#[test]
fn who_cannot_be_waited_for_is_told_where_to_go() {
    let mut two = Two::waiting();
    two.pair(false);
    assert!(has(&two.take(ALICE), ">192.0.2.1</see-other-host>"));
    assert_eq!(two.router.stats().inactive, 0);
    two.sign_in(3, "alice", true);
    assert!(has(&two.take(3), ">192.0.2.1</see-other-host>"));
}

#[test]
fn who_is_served_here_has_a_connection_like_any_other() {
    let mut two = Two::new();
    two.sign_in(BOB, "bob", true);
    two.bind(BOB);
    let got = two.take(BOB);
    assert_eq!(got[0], "<active xmlns='urn:signalbox:dual:0'/>");
    assert!(has(&got, "<jid>bob@ex/a</jid>"));
    assert_eq!(two.router.stats().sessions_connected, 1);
}

#[test]
fn a_second_inactive_connection_takes_the_place_of_the_first() {
    let mut two = Two::waiting();
    two.sign_in(3, "alice", true);
    two.bind(3);
    assert!(has(&two.take(ALICE), "<conflict "));
    assert_eq!(two.router.stats().inactive, 1);
    let closed = ToRouter::Closed {
        connection: 3,
        clean: false,
    };
    two.frame(closed);
    assert_eq!(two.router.stats().inactive, 0);
}
