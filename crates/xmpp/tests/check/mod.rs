//! What must hold for any input. Shared by the fuzz target and the test that
//! replays its corpus.

use xmpp::{Condition, Element, Event, Framer, Header, Limits, Rewrite};

/// Checks the framer, and what reads its elements, on any bytes.
#[allow(unreachable_pub, reason = "the fuzz target calls it")]
#[allow(clippy::expect_used, reason = "a test")]
pub fn framer(input: &[u8]) {
    for limits in [Limits::BEFORE_AUTHENTICATION, Limits::AUTHENTICATED] {
        let whole = run(limits, [input]);
        assert_eq!(whole, run(limits, input.chunks(1)));
        assert_eq!(whole, run(limits, input.chunks(7)));
        for element in whole.elements {
            examine(&element, &limits);
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    opened: usize,
    elements: Vec<Vec<u8>>,
    closed: bool,
    error: Option<Condition>,
}

fn run<'p>(limits: Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
    let mut framer = Framer::new(limits);
    let mut outcome = Outcome::default();
    for mut piece in pieces {
        loop {
            match framer.next(&mut piece) {
                Ok(Some(Event::Open(_))) => outcome.opened += 1,
                Ok(Some(Event::Element(bytes))) => outcome.elements.push(bytes.into_owned()),
                Ok(Some(Event::Close)) => outcome.closed = true,
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(outcome.error, None, "an error comes once");
                    outcome.error = Some(error.condition);
                }
            }
        }
        assert!(piece.is_empty());
    }
    assert!(outcome.opened <= 1);
    assert!(!(outcome.closed && outcome.error.is_some()));
    outcome
}

/// An element that was let through can be read by everything behind it.
fn examine(bytes: &[u8], limits: &Limits) {
    assert!(bytes.len() <= limits.element);
    let header = Header::parse(bytes).expect("a header");
    let tree = Element::parse(bytes).expect("a tree");
    assert_eq!(header.name(), tree.name());
    for (name, value) in [
        ("to", header.to()),
        ("from", header.from()),
        ("id", header.id()),
        ("type", header.kind()),
    ] {
        assert_eq!(value.is_some(), tree.attribute(name).is_some());
    }
    assert_eq!(header.children().count(), tree.children().count());
    // Stamped, it passes once more: it can stand in another stream.
    let mut stamped = Vec::new();
    let stamp = Rewrite::new().from(Some("a@b/<'&\">")).to(None);
    header.write(&stamp, &mut stamped);
    let again = Element::parse(&stamped).expect("a stamped tree");
    assert_eq!(again.attribute("from"), Some("a@b/<'&\">"));
    assert_eq!(again.attribute("to"), None);
    assert_eq!(again.nodes(), tree.nodes());
    assert_eq!(Element::parse(&tree.to_bytes()).expect("a tree"), tree);
}
