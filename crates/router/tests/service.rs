//! The service with a real database and a component on its socket.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use bytes::Bytes;
use database::Transaction;
use database::tables::{EndUser, OfflineMessage, RosterItem};
use database::testing::TestDatabase;
use service::Context;
use xcp::{Event, Link, Outbox, ToComponent, ToRouter};

struct Component {
    link: Link,
    out: Outbox,
    got: std::collections::VecDeque<ToComponent>,
}

impl Component {
    async fn connect(context: &Context) -> Self {
        let mut link = Link::open(&context.paths().router_socket(), "test", 1);
        let Event::Up { out, domain, .. } = link.next().await else {
            panic!("the link came up otherwise");
        };
        assert_eq!(domain, "ex");
        Self {
            link,
            out,
            got: std::collections::VecDeque::new(),
        }
    }

    async fn send(&self, connection: u64, xml: &str) {
        let element = Bytes::copy_from_slice(xml.as_bytes());
        let frame = ToRouter::Element {
            connection,
            element,
        };
        self.out.send(&frame).await.unwrap();
    }

    async fn next(&mut self) -> ToComponent {
        loop {
            if let Some(frame) = self.got.pop_front() {
                return frame;
            }
            match self.link.next().await {
                Event::Frames(frames) => self.got.extend(frames),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next element that holds a text.
    async fn until(&mut self, text: &str) -> String {
        loop {
            match self.next().await {
                ToComponent::Element { element, .. } => {
                    let xml = String::from_utf8(element.into()).unwrap();
                    if xml.contains(text) {
                        return xml;
                    }
                }
                ToComponent::Close { last, .. } => panic!("closed: {last:?}"),
                ToComponent::Mark { connection, token } => {
                    let written = ToRouter::Written { connection, token };
                    self.out.send(&written).await.unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn sign_in(&mut self, connection: u64, user: &str) {
        let frame = ToRouter::Authenticated {
            connection,
            user: format!("{user}@ex"),
            peer: "192.0.2.1:1".into(),
            secure: true,
            inactive: false,
        };
        self.out.send(&frame).await.unwrap();
        self.send(
            connection,
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        )
        .await;
        self.until("<jid>").await;
    }
}

async fn wait_for<T>(mut done: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = done().await {
            return value;
        }
        tokio::task::yield_now().await;
    }
}

/// A database in which alice and bob are.
async fn database() -> TestDatabase {
    let database = TestDatabase::start().await.unwrap();
    let paths = database.paths();
    std::fs::create_dir_all(paths.etc()).unwrap();
    std::fs::write(
        paths.node_file(),
        "name = \"one\"\ndomain = \"ex\"\naddress = \"192.0.2.1\"\nrole = \"publisher\"\n\
         product = \"imp\"\nsize = \"5K\"\ncluster = \"c\"\n",
    )
    .unwrap();
    for user in ["alice", "bob"] {
        let row = EndUser {
            user: user.into(),
            name: String::new(),
            mail: String::new(),
            enabled: true,
            node: String::new(),
            scram_sha1: None,
            scram_sha256: None,
        };
        database
            .client()
            .transact(Transaction::new().put(&row).unwrap())
            .await
            .unwrap();
    }
    database
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_death_of_the_router() {
    const MESSAGES: usize = 900;
    const ENOUGH: usize = 300;
    let database = database().await;
    let paths = database.paths().clone();
    let context = Context::new("xmpp-router", paths.clone());
    let service = tokio::spawn(router::serve(context.clone()));
    let mut component = Component::connect(&context).await;
    for (connection, user) in [(1, "alice"), (2, "bob")] {
        component.sign_in(connection, user).await;
        component.send(connection, "<presence/>").await;
        component
            .send(connection, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
            .await;
        component.until("<enabled").await;
    }
    // Bob's client is suspended.
    let lost = ToRouter::Closed {
        connection: 2,
        clean: false,
    };
    component.out.send(&lost).await.unwrap();
    for number in 0..MESSAGES {
        let message = format!("<message to='bob@ex' id='{number}'><body>x</body></message>");
        component.send(1, &message).await;
    }
    let mut acknowledged = 0;
    while acknowledged < ENOUGH {
        component.send(1, "<r xmlns='urn:xmpp:sm:3'/>").await;
        let answer = component.until("<a ").await;
        let answer = xmpp::Element::parse(answer.as_bytes()).unwrap();
        acknowledged = answer.attribute("h").unwrap().parse().unwrap();
    }
    // Killed in the middle: it says no word, and what it knows is gone.
    service.abort();
    assert!(service.await.unwrap_err().is_cancelled());
    drop(component);

    let context = Context::new("xmpp-router", paths);
    let service = tokio::spawn(router::serve(context.clone()));
    let mut component = Component::connect(&context).await;
    component.sign_in(7, "bob").await;
    component.send(7, "<presence/>").await;
    for number in 0..acknowledged {
        let message = component.until("<message").await;
        let message = xmpp::Element::parse(message.as_bytes()).unwrap();
        assert_eq!(message.attribute("id").unwrap(), number.to_string());
    }
    context.stop();
    drop(component);
    service.await.unwrap().unwrap();
}

#[tokio::test]
async fn rosters_and_messages_survive_a_restart_of_the_router() {
    let database = database().await;
    let paths = database.paths().clone();
    let client = database.client();
    let context = Context::new("xmpp-router", paths.clone());
    let service = tokio::spawn(router::serve(context.clone()));
    let mut component = Component::connect(&context).await;
    component.sign_in(1, "alice").await;
    component
        .send(
            1,
            "<iq type='set' id='r'><query xmlns='jabber:iq:roster'>\
             <item jid='bob@ex' name='Bob'/></query></iq>",
        )
        .await;
    component.until("id='r'").await;
    component
        .send(
            1,
            "<message to='bob@ex' type='chat' id='m'><body>hi</body></message>",
        )
        .await;
    let rows = wait_for(async || {
        let rows = client.list::<OfflineMessage>(&["bob"]).await.unwrap();
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(rows.len(), 1);
    let roster = client.list::<RosterItem>(&["alice"]).await.unwrap();
    assert_eq!(roster[0].name, "Bob");

    // What somebody else changes reaches the client.
    component
        .send(
            1,
            "<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>",
        )
        .await;
    component.until("id='g'").await;
    let mut carol = roster[0].clone();
    carol.contact = "carol@ex".into();
    carol.name = "Carol".into();
    client
        .transact(Transaction::new().put(&carol).unwrap())
        .await
        .unwrap();
    let push = component.until("carol@ex").await;
    assert!(
        push.contains("type='set'") && push.contains("name='Carol'"),
        "{push}"
    );

    context.stop();
    drop(component);
    service.await.unwrap().unwrap();

    let context = Context::new("xmpp-router", paths);
    let service = tokio::spawn(router::serve(context.clone()));
    let mut component = Component::connect(&context).await;
    component.sign_in(7, "bob").await;
    component.send(7, "<presence/>").await;
    let message = component.until("<message").await;
    assert!(
        message.contains("<body>hi</body>") && message.contains("urn:xmpp:delay"),
        "{message}"
    );
    // It is removed once it was written to the client.
    component
        .send(
            7,
            "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>",
        )
        .await;
    component.until("id='p'").await;
    wait_for(async || {
        let rows = client.list::<OfflineMessage>(&["bob"]).await.unwrap();
        rows.is_empty().then_some(())
    })
    .await;

    // A user who is removed is put out at once.
    client
        .transact(Transaction::new().delete::<EndUser>(&["bob"]))
        .await
        .unwrap();
    loop {
        if let ToComponent::Close { last, .. } = component.next().await {
            assert!(String::from_utf8_lossy(&last).contains("not-authorized"));
            break;
        }
    }
    context.stop();
    drop(component);
    service.await.unwrap().unwrap();
}
