//! Any frame, cut anywhere, comes out as it went in; nonsense is refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use xcp::{Decoder, Frame, PeerFrame, PeerReply, ProtocolError, ToComponent, ToRouter};

fn payload() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn to_router() -> impl Strategy<Value = ToRouter> {
    let connection = || 1..u64::MAX;
    prop_oneof![
        (any::<u16>(), "[a-z-]{0,30}", any::<u64>()).prop_map(|(version, component, instance)| {
            ToRouter::Hello {
                version,
                component,
                instance,
            }
        }),
        (connection(), "\\PC{0,60}", "\\PC{0,40}", any::<bool>()).prop_map(
            |(connection, user, peer, secure)| ToRouter::Authenticated {
                connection,
                user,
                peer,
                secure,
                inactive: !secure,
            }
        ),
        (connection(), payload()).prop_map(|(connection, element)| ToRouter::Element {
            connection,
            element,
        }),
        (connection(), any::<bool>())
            .prop_map(|(connection, clean)| ToRouter::Closed { connection, clean }),
        connection().prop_map(|connection| ToRouter::Congested { connection }),
        connection().prop_map(|connection| ToRouter::Relieved { connection }),
        (connection(), any::<u64>())
            .prop_map(|(connection, token)| ToRouter::Written { connection, token }),
        "[a-z.]{0,30}".prop_map(|host| ToRouter::Serve { host }),
        payload().prop_map(|element| ToRouter::Stanza { element }),
    ]
}

fn to_component() -> impl Strategy<Value = ToComponent> {
    let connection = || 1..u64::MAX;
    prop_oneof![
        (any::<u16>(), any::<u64>(), "[a-z.]{0,30}").prop_map(|(version, instance, domain)| {
            ToComponent::Welcome {
                version,
                instance,
                domain,
            }
        }),
        (connection(), payload()).prop_map(|(connection, element)| ToComponent::Element {
            connection,
            element,
        }),
        (connection(), payload())
            .prop_map(|(connection, last)| ToComponent::Close { connection, last }),
        (connection(), any::<u64>())
            .prop_map(|(connection, token)| ToComponent::Mark { connection, token }),
        payload().prop_map(|element| ToComponent::Stanza { element }),
    ]
}

fn peer_frame() -> impl Strategy<Value = PeerFrame> {
    let number = any::<u64>;
    prop_oneof![
        (any::<u16>(), number())
            .prop_map(|(version, instance)| PeerFrame::Hello { version, instance }),
        proptest::collection::vec(("[a-z]{0,30}", any::<u64>()), 0..7)
            .prop_map(|homes| PeerFrame::Serves { homes }),
        (number(), payload()).prop_map(|(number, element)| PeerFrame::Stanza { number, element }),
        (
            number(),
            payload(),
            proptest::collection::vec("\\PC{0,30}", 0..20)
        )
            .prop_map(|(number, element, to)| PeerFrame::Presence {
                number,
                element,
                to,
            }),
        number().prop_map(|number| PeerFrame::Resync { number }),
        number().prop_map(|number| PeerFrame::Synced { number }),
        (number(), "\\PC{0,30}", any::<i64>()).prop_map(|(number, user, sequence)| {
            PeerFrame::Stored {
                number,
                user,
                sequence,
            }
        }),
        Just(PeerFrame::Ping),
        Just(PeerFrame::Bye),
    ]
}

fn peer_reply() -> impl Strategy<Value = PeerReply> {
    let numbers = || proptest::collection::vec(any::<u64>(), 0..20);
    prop_oneof![
        (any::<u16>(), any::<u64>(), any::<bool>()).prop_map(|(version, instance, forgot)| {
            PeerReply::Welcome {
                version,
                instance,
                forgot,
            }
        }),
        numbers().prop_map(|numbers| PeerReply::Handled { numbers }),
        numbers().prop_map(|numbers| PeerReply::Refused { numbers }),
        Just(PeerReply::Pong),
    ]
}

/// Whatever the bytes are, they end in frames or an error.
fn nonsense<F: Frame>(bytes: &[u8]) {
    let mut decoder = Decoder::<F>::default();
    decoder.buffer().extend_from_slice(bytes);
    let mut left = bytes.len();
    while let Ok(Some(_)) = decoder.next_frame() {
        let now = decoder.buffer().len();
        assert!(now < left);
        left = now;
    }
}

fn round_trip<F: Frame + PartialEq + std::fmt::Debug>(frames: &[F], cut: usize) {
    let mut wire = BytesMut::new();
    for frame in frames {
        frame.encode(&mut wire);
    }
    let mut decoder = Decoder::<F>::default();
    let mut out = Vec::new();
    for part in wire.chunks(cut) {
        decoder.buffer().extend_from_slice(part);
        while let Some(frame) = decoder.next_frame().unwrap() {
            out.push(frame);
        }
    }
    assert_eq!(out, frames);
}

proptest! {
    #[test]
    fn frames_to_the_router_survive_any_cut(
        frames in proptest::collection::vec(to_router(), 0..8), cut in 1usize..64,
    ) {
        round_trip(&frames, cut);
    }

    #[test]
    fn frames_to_a_component_survive_any_cut(
        frames in proptest::collection::vec(to_component(), 0..8), cut in 1usize..64,
    ) {
        round_trip(&frames, cut);
    }

    #[test]
    fn any_bytes_end_in_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        nonsense::<ToRouter>(&bytes);
        nonsense::<ToComponent>(&bytes);
        nonsense::<PeerFrame>(&bytes);
        nonsense::<PeerReply>(&bytes);
    }

    #[test]
    fn frames_between_routers_survive_any_cut(
        frames in proptest::collection::vec(peer_frame(), 0..8),
        replies in proptest::collection::vec(peer_reply(), 0..8),
        cut in 1usize..64,
    ) {
        round_trip(&frames, cut);
        round_trip(&replies, cut);
    }

    #[test]
    fn any_bytes_of_a_known_kind_end_in_a_frame_or_an_error(
        kind in 128u8..200, bytes in proptest::collection::vec(any::<u8>(), 8..200),
    ) {
        let mut wire = (bytes.len() as u32 + 1).to_le_bytes().to_vec();
        wire.push(kind);
        wire.extend(&bytes);
        nonsense::<PeerFrame>(&wire);
        nonsense::<PeerReply>(&wire);
    }
}

#[test]
fn an_element_of_pieces_is_an_element() {
    let mut wire = BytesMut::new();
    ToComponent::encode_element(&mut wire, 7, &[b"<a", b" b='c'", b"/>"]);
    let mut whole = BytesMut::new();
    let frame = ToComponent::Element {
        connection: 7,
        element: Bytes::from_static(b"<a b='c'/>"),
    };
    frame.encode(&mut whole);
    assert_eq!(wire, whole);
}

fn decode(bytes: &[u8]) -> Result<Option<ToRouter>, ProtocolError> {
    let mut decoder = Decoder::<ToRouter>::default();
    decoder.buffer().extend_from_slice(bytes);
    decoder.next_frame()
}

#[test]
fn what_is_no_frame_is_refused_before_it_is_read() {
    // A length beyond the limit, with no more than the head there.
    let mut wire = vec![0xff, 0xff, 0xff, 0x7f, 3];
    wire.extend([1; 8]);
    assert!(matches!(decode(&wire), Err(ProtocolError::TooLong { .. })));
    // A kind that only the router sends.
    let mut wire = vec![9, 0, 0, 0, 65];
    wire.extend([1; 8]);
    assert_eq!(decode(&wire), Err(ProtocolError::Kind { kind: 65 }));
    // Connection 0.
    let mut wire = vec![9, 0, 0, 0, 3];
    wire.extend([0; 8]);
    assert_eq!(decode(&wire), Err(ProtocolError::Malformed { kind: 3 }));
    // Bytes left over.
    let mut wire = vec![10, 0, 0, 0, 5];
    wire.extend([1; 9]);
    assert_eq!(decode(&wire), Err(ProtocolError::Malformed { kind: 5 }));
}
