//! What clients that do not keep to the protocol see.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use xcp::ToRouter;
use xmpp::sasl::Hash;

use super::client::{Client, OPEN, STARTTLS};
use super::{World, within};

#[tokio::test]
async fn nothing_sent_in_plain_text_survives_tls() {
    let world = World::start().await;
    for injected in [
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        " ",
        "<",
        "<iq type='get'/>",
    ] {
        let mut client = Client::plain(&world).await;
        client.send(OPEN).await;
        client.open().await;
        client.element().await;
        client.send(&format!("{STARTTLS}{injected}")).await;
        client.failed("policy-violation").await;
    }
    world.stop().await;
}

#[tokio::test]
async fn nobody_authenticates_in_plain_text() {
    let world = World::start().await;
    let mut client = Client::plain(&world).await;
    client.send(OPEN).await;
    client.open().await;
    client.element().await;
    client.auth("PLAIN", "\0alice\0pencil").await;
    let failure = client.element().await;
    assert!(failure.contains("<encryption-required/>"), "{failure}");
    client.failed("policy-violation").await;
    world.stop().await;
}

#[tokio::test]
async fn streams_for_others_are_refused() {
    let world = World::start().await;
    for (opening, condition) in [
        (OPEN.replace("example.com", "example.org"), "host-unknown"),
        (OPEN.replace("to='example.com'", ""), "host-unknown"),
        (OPEN.replace(" version='1.0'>", ">"), "unsupported-version"),
        (
            OPEN.replace("jabber:client", "jabber:server"),
            "invalid-namespace",
        ),
        (OPEN.replace("stream:stream", "stream:x"), "bad-format"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]>".into(), "restricted-xml"),
        ("GET / HTTP/1.1\r\n\r\n".into(), "not-well-formed"),
        (format!("{OPEN}<message/>"), "not-authorized"),
        (format!("{OPEN}<a>&b;</a>"), "restricted-xml"),
        (format!("{OPEN}{}", " ".repeat(70_000)), "policy-violation"),
        (
            format!("{OPEN}<a>{}", "x".repeat(20_000)),
            "policy-violation",
        ),
    ] {
        let mut client = Client::plain(&world).await;
        client.send(&opening).await;
        assert_eq!(client.open().await, "example.com", "{opening}");
        let mut next = client.element().await;
        if next.starts_with("<stream:features") {
            next = client.element().await;
        }
        assert!(
            next.contains(&format!("<{condition} ")),
            "{condition}: {next}"
        );
        client.ended().await;
    }
    world.counted("CmConnectedSockets", 0).await;
    assert_eq!(world.count("CmFailedRequests"), 11);
    world.stop().await;
}

#[tokio::test]
async fn guesses_run_out() {
    let world = World::start().await;
    let mut client = Client::direct(&world).await;
    client.send(OPEN).await;
    client.open().await;
    client.element().await;
    let sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
    for (element, condition) in [
        (
            format!("<auth {sasl} mechanism='SCRAM-SHA-1'>!</auth>"),
            "incorrect-encoding",
        ),
        (
            format!("<auth {sasl} mechanism='X-OAUTH2'/>"),
            "invalid-mechanism",
        ),
        (format!("<response {sasl}/>"), "malformed-request"),
        (
            format!("<auth {sasl} mechanism='PLAIN'>=</auth>"),
            "malformed-request",
        ),
    ] {
        client.send(&element).await;
        let failure = client.element().await;
        assert!(
            failure.contains(&format!("<{condition}/>")),
            "{element}: {failure}"
        );
    }
    let refused = client.scram(Hash::Sha256, "wrong", None).await.unwrap_err();
    assert!(refused.contains("<not-authorized/>"), "{refused}");
    client.failed("policy-violation").await;
    world.stop().await;
}

#[tokio::test]
async fn an_exchange_can_be_given_up() {
    let mut world = World::start().await;
    let mut client = Client::direct(&world).await;
    client.send(OPEN).await;
    client.open().await;
    client.element().await;
    client.auth("SCRAM-SHA-1", "n,,n=alice,r=abc").await;
    assert!(client.element().await.starts_with("<challenge"));
    client
        .send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        .await;
    let failure = client.element().await;
    assert!(failure.contains("<aborted/>"), "{failure}");
    // Without an initial response there is an empty challenge.
    client
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>")
        .await;
    assert!(client.element().await.starts_with("<challenge"));
    client
        .send("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AGFsaWNlAHBlbmNpbA==</response>")
        .await;
    assert!(client.element().await.starts_with("<success"));
    client.restart().await;
    world.router.user("alice@example.com").await;
    world.stop().await;
}

#[tokio::test]
async fn bad_elements_end_a_live_stream_and_the_router_is_told() {
    let mut world = World::start().await;
    for (bad, condition) in [
        ("<message><body>&nbsp;</body></message>", "restricted-xml"),
        ("<message><!-- --></message>", "restricted-xml"),
        ("<message></iq>", "not-well-formed"),
        ("<x:message/>", "bad-namespace-prefix"),
    ] {
        let mut client = Client::alice(&world).await;
        let connection = world.router.user("alice@example.com").await;
        client.send(&format!("<presence/>{bad}<presence/>")).await;
        assert_eq!(world.router.element(connection).await, "<presence/>");
        client.failed(condition).await;
        let closed = world.router.next().await;
        assert_eq!(
            closed,
            ToRouter::Closed {
                connection,
                clean: false
            }
        );
    }
    let mut client = Client::alice(&world).await;
    let connection = world.router.user("alice@example.com").await;
    let most = world.settings.element();
    let fits = format!("<message>{}</message>", "x".repeat(most - 19));
    client.send(&fits).await;
    assert_eq!(world.router.element(connection).await, fits);
    client.send(&format!("<message>{}", "x".repeat(most))).await;
    client.failed("policy-violation").await;
    world.stop().await;
}

#[tokio::test]
async fn garbage_in_place_of_tls_is_dropped() {
    let world = World::start().await;
    for garbage in [OPEN.as_bytes(), b"\x16\x03\x01\xff\xff", &[0; 300_000]] {
        let mut socket = TcpStream::connect(world.direct).await.unwrap();
        // It may be closed before all was written.
        let _ = socket.write_all(garbage).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = within(socket.read_to_end(&mut answer)).await;
        assert!(answer.len() < 20, "{answer:?}");
    }
    world.counted("CmConnectedSockets", 0).await;
    world.stop().await;
}

#[tokio::test]
async fn who_takes_too_long_is_cut_off() {
    let world = World::start().await;
    let mut silent = Client::plain(&world).await;
    let mut slow = Client::plain(&world).await;
    slow.send(OPEN).await;
    slow.open().await;
    slow.element().await;
    let idle = Client::direct(&world).await;
    let live = Client::alice(&world).await;
    world.counted("CmConnectedSockets", 4).await;
    // From here on time moves by itself whenever everybody waits.
    tokio::time::pause();
    slow.send("<starttls").await;
    slow.failed("connection-timeout").await;
    silent.open().await;
    silent.failed("connection-timeout").await;
    tokio::time::resume();
    world.counted("CmConnectedSockets", 1).await;
    drop((idle, live));
    world.stop().await;
}

#[tokio::test]
async fn too_many_connections_are_refused_at_the_door() {
    let world = World::start().await;
    let limit = world.settings.limits().anonymous_address;
    let mut clients = Vec::new();
    for _ in 0..limit {
        clients.push(Client::plain(&world).await);
    }
    let refused = i64::try_from(limit).unwrap();
    world.counted("CmConnectedSockets", refused).await;
    let mut extra = TcpStream::connect(world.starttls).await.unwrap();
    let mut answer = Vec::new();
    let _ = within(extra.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");
    assert_eq!(world.count("CmRefusedSockets"), 1);
    clients.pop();
    world.counted("CmConnectedSockets", refused - 1).await;
    let mut client = Client::plain(&world).await;
    client.send(OPEN).await;
    client.open().await;
    drop(clients);
    world.stop().await;
}
