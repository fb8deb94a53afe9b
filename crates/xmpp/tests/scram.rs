//! SCRAM against the examples of RFC 5802 and RFC 7677, and against attacks.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use xmpp::sasl::{
    ChannelBinding, Client, ClientFirst, Failure, Hash, InvalidPassword, Keys, Server,
    prepare_password,
};

fn keys(hash: Hash, password: &str, salt: &str) -> Keys {
    let salt = STANDARD.decode(salt).unwrap();
    let iterations = NonZeroU32::new(4096).unwrap();
    Keys::derive(hash, password, &salt, iterations)
}

/// One published exchange: the five messages and what made them.
struct Example {
    hash: Hash,
    salt: &'static str,
    client_nonce: &'static str,
    server_nonce: &'static str,
    first: &'static str,
    challenge: &'static str,
    last: &'static str,
    verifier: &'static str,
}

const EXAMPLES: [Example; 2] = [
    // RFC 5802, section 5.
    Example {
        hash: Hash::Sha1,
        salt: "QSXCR+Q6sek8bf92",
        client_nonce: "fyko+d2lbbFgONRv9qkxdawL",
        server_nonce: "3rfcNHYJY1ZVvWVs7j",
        first: "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        challenge: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        last: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        verifier: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    },
    // RFC 7677, section 3.
    Example {
        hash: Hash::Sha256,
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        client_nonce: "rOprNGfwEbeRWgbNEkqO",
        server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        challenge: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        last: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        verifier: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    },
];

#[test]
fn both_sides_say_what_the_standards_say() {
    for example in EXAMPLES {
        let first = ClientFirst::parse(example.first.as_bytes()).unwrap();
        assert_eq!(first.user, "user");
        let keys = keys(example.hash, "pencil", example.salt);
        let (server, challenge) =
            Server::begin(&first, keys, example.server_nonce, false, &[]).unwrap();
        assert_eq!(challenge, example.challenge);
        assert_eq!(
            server.finish(example.last.as_bytes()).unwrap(),
            example.verifier
        );

        let (mut client, first) =
            Client::begin(example.hash, "user", "pencil", example.client_nonce, None).unwrap();
        assert_eq!(first, example.first);
        assert_eq!(client.answer(challenge.as_bytes()).unwrap(), example.last);
        client.verify(example.verifier.as_bytes()).unwrap();
        assert_eq!(client.verify(b"v=AAAA"), Err(Failure::NotAuthorized));
    }
}

fn bound(kind: &str, data: &[u8]) -> ChannelBinding {
    ChannelBinding {
        kind: kind.into(),
        data: data.into(),
    }
}

/// Plays an exchange in which the two sides see these bindings.
fn play(
    password: &str,
    plus: bool,
    theirs: Option<ChannelBinding>,
    ours: &[ChannelBinding],
) -> Result<(), Failure> {
    let salt = STANDARD.encode("salt");
    let (mut client, first) = Client::begin(Hash::Sha256, "us,=er", password, "abc", theirs)?;
    let first = ClientFirst::parse(first.as_bytes())?;
    assert_eq!(first.user, "us,=er");
    let keys = keys(Hash::Sha256, "secret", &salt);
    let (server, challenge) = Server::begin(&first, keys, "def", plus, ours)?;
    let last = client.answer(challenge.as_bytes())?;
    client.verify(server.finish(last.as_bytes())?.as_bytes())
}

#[test]
fn a_channel_in_between_is_noticed() {
    let exporter = bound("tls-exporter", b"one");
    let offered = [exporter.clone()];
    assert_eq!(
        play("secret", true, Some(exporter.clone()), &offered),
        Ok(())
    );
    assert_eq!(play("secret", false, None, &offered), Ok(()));
    let other = bound("tls-exporter", b"two");
    assert_eq!(
        play("secret", true, Some(other), &offered),
        Err(Failure::NotAuthorized)
    );
    let unknown = bound("tls-unique", b"one");
    assert_eq!(
        play("secret", true, Some(unknown), &offered),
        Err(Failure::MalformedRequest)
    );
    assert_eq!(
        play("secret", true, None, &offered),
        Err(Failure::MalformedRequest)
    );
    assert_eq!(
        play("secret", false, Some(exporter), &offered),
        Err(Failure::MalformedRequest)
    );
    assert_eq!(
        play("wrong", false, None, &offered),
        Err(Failure::NotAuthorized)
    );
}

#[test]
fn a_client_that_was_told_of_no_binding_is_refused() {
    let first = ClientFirst::parse(b"y,,n=user,r=abc").unwrap();
    let keys = keys(Hash::Sha1, "pencil", "QSXCR+Q6sek8bf92");
    let offered = [bound("tls-exporter", b"x")];
    let with = Server::begin(&first, keys.clone(), "d", false, &offered);
    assert_eq!(with.unwrap_err(), Failure::NotAuthorized);
    assert!(Server::begin(&first, keys, "d", false, &[]).is_ok());
}

#[test]
fn a_last_message_of_another_exchange_is_refused() {
    let example = &EXAMPLES[0];
    let first = ClientFirst::parse(example.first.as_bytes()).unwrap();
    let begin = |nonce| {
        let keys = keys(example.hash, "pencil", example.salt);
        Server::begin(&first, keys, nonce, false, &[]).unwrap().0
    };
    let replayed = begin("other").finish(example.last.as_bytes());
    assert_eq!(replayed, Err(Failure::NotAuthorized));
    for bad in [
        "",
        "c=biws",
        "c=biws,r=x",
        "c=biws,r=x,p=!",
        "c=biws,r=x,p=AAAA",
        "p=AAAA",
    ] {
        let refused = begin(example.server_nonce).finish(bad.as_bytes());
        assert_eq!(refused, Err(Failure::MalformedRequest), "{bad}");
    }
    // The identity asked for is under the signature as well.
    let changed = example.last.replace("c=biws", "c=bixhPXgs");
    let refused = begin(example.server_nonce).finish(changed.as_bytes());
    assert_eq!(refused, Err(Failure::NotAuthorized));
}

#[test]
fn first_messages_are_read_with_care() {
    let first = ClientFirst::parse(b"n,a=bob=2Cx,n=al=3Dice,r=abc,x=ext").unwrap();
    assert_eq!(first.authzid.as_deref(), Some("bob,x"));
    assert_eq!(first.user, "al=ice");
    for bad in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=a",
        "n,,r=a,n=b",
        "n,,n=,r=a",
        "n,,n=a,r=",
        "q,,n=a,r=b",
        "p=,,n=a,r=b",
        "n,b,n=a,r=b",
        "n,,n=a=,r=b",
        "n,,n=a=2D,r=b",
        "n,,m=x,n=a,r=b",
        "n,,n=a,r=\u{7}",
        "n,,n=ä=é,r=b",
    ] {
        assert_eq!(
            ClientFirst::parse(bad.as_bytes()),
            Err(Failure::MalformedRequest),
            "{bad}"
        );
    }
}

#[test]
fn passwords_are_prepared() {
    assert_eq!(prepare_password("I\u{AD}X").unwrap(), "IX");
    assert_eq!(prepare_password("\u{2168}").unwrap(), "IX");
    assert_eq!(prepare_password("\u{7}"), Err(InvalidPassword::Character));
    assert_eq!(prepare_password(""), Err(InvalidPassword::Empty));
    assert_eq!(
        prepare_password(&"a".repeat(1025)),
        Err(InvalidPassword::TooLong)
    );
    let keys = keys(Hash::Sha1, &prepare_password("\u{2168}").unwrap(), "AAAA");
    assert!(keys.verify("IX"));
    assert!(!keys.verify("ix"));
    let debug = format!("{keys:?}");
    assert!(!debug.contains("stored_key"), "{debug}");
}

proptest! {
    #[test]
    fn any_message_is_taken_without_panic(message in "[nypamrcs=,a-z\u{0}é0-9/+]{0,60}") {
        let _ = ClientFirst::parse(message.as_bytes());
        let _ = xmpp::sasl::Plain::parse(message.as_bytes());
        let first = ClientFirst::parse(b"n,,n=user,r=abc").unwrap();
        let keys = Keys {
            hash: Hash::Sha1,
            salt: vec![1],
            iterations: NonZeroU32::MIN,
            stored_key: vec![0; 20],
            server_key: vec![0; 20],
        };
        let (server, _) = Server::begin(&first, keys, "def", false, &[]).unwrap();
        prop_assert!(server.finish(message.as_bytes()).is_err());
    }
}
