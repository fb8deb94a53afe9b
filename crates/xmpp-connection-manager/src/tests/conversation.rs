//! What clients that keep to the protocol see.

use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;
use xcp::{ToComponent, ToRouter};
use xmpp::sasl::{ChannelBinding, Hash};

use super::client::{Client, OPEN};
use super::{Router, World, within};

#[tokio::test]
async fn both_ports_and_every_mechanism_lead_to_the_router() {
    let mut world = World::start().await;
    for hash in [Hash::Sha1, Hash::Sha256] {
        for plus in [false, true] {
            let client = Client::plain(&world).await;
            let mut client = client.start_tls(&world, &[&TLS13]).await;
            client.send(OPEN).await;
            client.open().await;
            let features = client.element().await;
            assert!(features.contains("type='tls-exporter'"), "{features}");
            let binding = plus.then(|| client.exporter());
            client.scram(hash, "pencil", binding).await.unwrap();
            client.restart().await;
            let connection = world.router.user("alice@example.com").await;
            client.send("<presence/>").await;
            assert_eq!(world.router.element(connection).await, "<presence/>");
            client.send("</stream:stream>").await;
            client.ended().await;
            let closed = world.router.next().await;
            assert_eq!(
                closed,
                ToRouter::Closed {
                    connection,
                    clean: true
                }
            );
        }
    }
    world.counted("CmConnectedSockets", 0).await;
    assert_eq!(world.count("CmAuthenticatedSockets"), 0);
    assert_eq!(world.count("CmTotalSockets"), 4);
    assert_eq!(world.count("CmFailedRequests"), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_client_can_bind_to_the_certificate() {
    let mut world = World::start().await;
    let mut client = Client::plain(&world)
        .await
        .start_tls(&world, &[&TLS13])
        .await;
    client.send(OPEN).await;
    client.open().await;
    let features = client.element().await;
    assert!(features.contains("tls-server-end-point"), "{features}");
    let digest = ring::digest::digest(&ring::digest::SHA256, &world.around.certificate);
    let binding = ChannelBinding {
        kind: "tls-server-end-point".into(),
        data: digest.as_ref().to_vec(),
    };
    let bound = client.scram(Hash::Sha256, "pencil", Some(binding)).await;
    bound.unwrap();
    client.restart().await;
    world.router.user("alice@example.com").await;
    world.stop().await;
}

#[tokio::test]
async fn older_tls_signs_in_without_binding() {
    let mut world = World::start().await;
    let mut client = Client::plain(&world)
        .await
        .start_tls(&world, &[&TLS12])
        .await;
    client.send(OPEN).await;
    client.open().await;
    let features = client.element().await;
    assert!(!features.contains("PLUS"), "{features}");
    assert!(!features.contains("channel-binding"), "{features}");
    client.scram(Hash::Sha256, "pencil", None).await.unwrap();
    client.restart().await;
    world.router.user("alice@example.com").await;
    world.stop().await;
}

#[tokio::test]
async fn plain_and_a_second_try_lead_there_as_well() {
    let mut world = World::start().await;
    let mut client = Client::direct(&world).await;
    client.send(OPEN).await;
    client.open().await;
    client.element().await;
    let refused = client.scram(Hash::Sha1, "wrong", None).await.unwrap_err();
    assert!(refused.contains("<not-authorized/>"), "{refused}");
    client.auth("PLAIN", "\0alice\0pencil").await;
    assert!(client.element().await.starts_with("<success"));
    client.restart().await;
    world.router.user("alice@example.com").await;
    world.stop().await;
}

#[tokio::test]
async fn elements_go_both_ways_in_order() {
    let mut world = World::start().await;
    let mut client = Client::alice(&world).await;
    let connection = world.router.user("alice@example.com").await;
    // More than one read's worth, in one go.
    let sent: Vec<String> = (0..500)
        .map(|n| format!("<message id='{n}'><body>{}</body></message>", "ä".repeat(n)))
        .collect();
    client.send(&sent.concat()).await;
    for message in &sent {
        assert_eq!(world.router.element(connection).await, *message);
    }
    for message in &sent {
        world.router.write(connection, message);
    }
    world.router.send(&ToComponent::Mark {
        connection,
        token: 9,
    });
    for message in &sent {
        assert_eq!(client.element().await, *message);
    }
    // A connection that is no more and one that never was are no concern.
    world.router.write(connection + 77, "<message/>");
    let last =
        b"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    world.router.send(&ToComponent::Close {
        connection,
        last: last.to_vec().into(),
    });
    client.failed("conflict").await;
    world.counted("CmConnectedSockets", 0).await;
    world.router.write(connection, "<message/>");
    // The mark was answered; the end was the router's own and is not told.
    let written = world.router.next().await;
    assert!(
        matches!(
            written,
            ToRouter::Written { token: 9, .. } | ToRouter::Congested { .. }
        ),
        "{written:?}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_vanishes_may_resume() {
    let mut world = World::start().await;
    let mut client = Client::alice(&world).await;
    let connection = world.router.user("alice@example.com").await;
    client.socket.shutdown().await.unwrap();
    drop(client);
    let closed = world.router.next().await;
    assert_eq!(
        closed,
        ToRouter::Closed {
            connection,
            clean: false
        }
    );
    world.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_reported_and_relieved() {
    let mut world = World::start().await;
    let mut client = Client::alice(&world).await;
    let connection = world.router.user("alice@example.com").await;
    let message = format!("<message><body>{}</body></message>", "x".repeat(60_000));
    let mut sent = 0;
    // Until neither the socket nor our buffer takes more.
    let congested = loop {
        world.router.write(connection, &message);
        sent += 1;
        tokio::task::yield_now().await;
        if let Some(xcp::RouterEvent::Frames { frames, .. }) =
            world.router.listener.as_mut().unwrap().try_next()
        {
            break frames;
        }
        assert!(sent < 10_000);
    };
    assert_eq!(congested, [ToRouter::Congested { connection }]);
    world.router.send(&ToComponent::Mark {
        connection,
        token: 1,
    });
    for _ in 0..sent {
        assert_eq!(client.element().await.len(), message.len());
    }
    let mut told = vec![world.router.next().await, world.router.next().await];
    told.sort_by_key(|frame| matches!(frame, ToRouter::Written { .. }));
    let written = ToRouter::Written {
        connection,
        token: 1,
    };
    assert_eq!(told, [ToRouter::Relieved { connection }, written]);
    world.stop().await;
}

#[tokio::test]
async fn a_router_that_goes_takes_its_clients_along_and_new_ones_find_the_next() {
    let mut world = World::start().await;
    let mut client = Client::alice(&world).await;
    world.router.user("alice@example.com").await;
    let paths = world.context.paths().clone();
    world.router.listener = None;
    client.failed("system-shutdown").await;
    let told = async |words: &str| {
        while world.context.current_status() != words {
            tokio::task::yield_now().await;
        }
    };
    within(told("Waits for the router.")).await;
    // Nobody to hand clients to: they are sent away.
    let mut early = Client::direct(&world).await;
    early.send(OPEN).await;
    early.open().await;
    early.failed("system-shutdown").await;
    let next = Router::bind(&paths, 2);
    within(told("Serving XMPP clients.")).await;
    world.router = next;
    let _again = Client::alice(&world).await;
    world.router.user("alice@example.com").await;
    world.stop().await;
}

#[tokio::test]
async fn a_stop_says_nothing_that_ends_a_session() {
    let mut world = World::start().await;
    let mut client = Client::alice(&world).await;
    let connection = world.router.user("alice@example.com").await;
    world.context.stop();
    client.ended().await;
    let closed = world.router.next().await;
    assert_eq!(
        closed,
        ToRouter::Closed {
            connection,
            clean: false
        }
    );
    world.stop().await;
}
