//! What a session and a message cost the core. The test with figures judges
//! nothing: `cargo nextest run -p router --release --run-ignored only cost`.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

mod world;

use bytes::Bytes;
use router::{Actions, Event};
use world::{Database, Got, World};
use xcp::ToRouter;

/// Bytes of memory that the process has.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a_message_between_clients_that_answer_asks_nothing_of_the_database() {
    const MESSAGES: u32 = 100;
    let mut world = World::new();
    for name in ["alice/a", "bob/b"] {
        let user = name.split('/').next().unwrap();
        world.users.insert(user.into(), world::Rows::default());
        world.online(name, 0);
        world.send(name, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    }
    world.clear();
    // Whatever is asked of it stays where it can be seen.
    world.database = Database::Slow;
    for number in 1..=MESSAGES {
        let to = if number % 2 == 0 {
            "bob@ex"
        } else {
            "bob@ex/b"
        };
        let message = format!("<message to='{to}' type='chat'><body>{number}</body></message>");
        world.send("alice/a", &message);
        world.wait(500);
        world.send("bob/b", &format!("<a xmlns='urn:xmpp:sm:3' h='{number}'/>"));
    }
    assert_eq!(world.waiting, []);
    world.send("alice/a", "<r xmlns='urn:xmpp:sm:3'/>");
    let count = format!("<a xmlns='urn:xmpp:sm:3' h='{MESSAGES}'/>");
    assert_eq!(world.take("alice/a"), Some(Got::Element(count)));
}

#[test]
#[ignore = "prints figures"]
fn cost_of_sessions_and_messages() {
    const USERS: u64 = 10_000;
    const MESSAGES: u64 = 300_000;
    let mut world = World::new();
    let mut out = Actions::default();
    let now = world.now;
    let before = resident();
    let frame = |frame| Event::Frame { link: 1, frame };
    let send = |number: u64, xml: &str| {
        frame(ToRouter::Element {
            connection: number,
            element: Bytes::copy_from_slice(xml.as_bytes()),
        })
    };
    for number in 1..=USERS {
        let user = format!("user{number}");
        let signed_in = ToRouter::Authenticated {
            connection: number,
            user: format!("{user}@ex"),
            peer: "192.0.2.1:50000".into(),
            secure: true,
            inactive: false,
        };
        world.router.handle(frame(signed_in), now, &mut out);
        let rows = router::UserRows {
            enabled: true,
            ..router::UserRows::default()
        };
        let loaded = Event::Loaded {
            user: user.into(),
            rows: Ok(Some(rows)),
        };
        world.router.handle(loaded, now, &mut out);
        for xml in [
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>phone</resource></bind></iq>",
            "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
            "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>",
            "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
             node='https://client.example/' ver='AAAAAAAAAAAAAAAAAAAAAAAAAAA='/></presence>",
        ] {
            world.router.handle(send(number, xml), now, &mut out);
        }
        // The component takes what is written; acknowledgements come.
        out = Actions::default();
        let ack = "<a xmlns='urn:xmpp:sm:3' h='2'/>";
        world.router.handle(send(number, ack), now, &mut out);
    }
    out = Actions::default();
    let sessions = resident() - before;
    println!("memory per idle session: {} bytes", sessions as u64 / USERS);

    let body = "The quick brown fox jumps over the lazy dog.";
    let stanzas: Vec<Event> = (1..=USERS)
        .map(|number| {
            let to = number % USERS + 1;
            let xml = format!(
                "<message to='user{to}@ex/phone' type='chat' id='m{number}'><body>{body}</body>\
                 <request xmlns='urn:xmpp:receipts'/></message>"
            );
            send(number, &xml)
        })
        .collect();
    let start = std::time::Instant::now();
    let mut number = 0;
    while number < MESSAGES {
        for event in &stanzas {
            world.router.handle(event.clone(), now, &mut out);
            number += 1;
            if number % 64 == 0 {
                for (_, bytes) in &mut out.links {
                    bytes.clear();
                }
            }
        }
        // Everybody acknowledges, so that queues do not grow.
        let round = u32::try_from(number / USERS).unwrap();
        for number in 1..=USERS {
            let ack = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", 2 + round);
            world.router.handle(send(number, &ack), now, &mut out);
            for (_, bytes) in &mut out.links {
                bytes.clear();
            }
        }
    }
    let each = start.elapsed() / u32::try_from(number).unwrap();
    println!("a message and its acknowledgement: {each:?}");
}
