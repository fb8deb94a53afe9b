//! Stanzas: error conditions, replies, and the small changes that are made to
//! raw bytes.

use xmpp::{Builder, Header, Rewrite, ns};

/// Namespaces of what the router itself answers.
pub(crate) mod names {
    pub(crate) const ROSTER: &str = "jabber:iq:roster";
    pub(crate) const VERSION: &str = "jabber:iq:version";
    pub(crate) const LAST: &str = "jabber:iq:last";
    pub(crate) const PING: &str = "urn:xmpp:ping";
    pub(crate) const TIME: &str = "urn:xmpp:time";
    pub(crate) const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
    pub(crate) const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
    pub(crate) const VCARD: &str = "vcard-temp";
    pub(crate) const BLOCKING: &str = "urn:xmpp:blocking";
    pub(crate) const BLOCKING_ERRORS: &str = "urn:xmpp:blocking:errors";
    pub(crate) const CARBONS: &str = "urn:xmpp:carbons:2";
    pub(crate) const FORWARD: &str = "urn:xmpp:forward:0";
    pub(crate) const HINTS: &str = "urn:xmpp:hints";
    pub(crate) const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
    pub(crate) const DELAY: &str = "urn:xmpp:delay";
    pub(crate) const RECEIPTS: &str = "urn:xmpp:receipts";
    pub(crate) const MARKERS: &str = "urn:xmpp:chat-markers:0";
    pub(crate) const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
}

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident => $text:literal $kind:literal,)*) => {
        /// A stanza error condition (RFC 6120, 8.3.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum StanzaError { $($(#[$doc])* $name,)* }

        impl StanzaError {
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(crate) fn kind(self) -> &'static str {
                match self { $(Self::$name => $kind,)* }
            }
        }
    };
}

conditions! {
    BadRequest => "bad-request" "modify",
    Forbidden => "forbidden" "auth",
    InternalServerError => "internal-server-error" "wait",
    ItemNotFound => "item-not-found" "cancel",
    JidMalformed => "jid-malformed" "modify",
    NotAcceptable => "not-acceptable" "modify",
    /// The sender blocks the recipient.
    Blocked => "not-acceptable" "cancel",
    NotAllowed => "not-allowed" "cancel",
    RecipientUnavailable => "recipient-unavailable" "wait",
    RemoteServerTimeout => "remote-server-timeout" "wait",
    RemoteServerNotFound => "remote-server-not-found" "cancel",
    ResourceConstraint => "resource-constraint" "wait",
    ServiceUnavailable => "service-unavailable" "cancel",
    UnexpectedRequest => "unexpected-request" "wait",
}

/// Appends `<error/>` with its condition.
pub(crate) fn write_error(xml: &mut Builder, error: StanzaError, text: &str) {
    xml.start("error").attribute("type", error.kind());
    xml.start(error.name())
        .attribute("xmlns", ns::STANZA_ERRORS)
        .end();
    if !text.is_empty() {
        xml.start("text")
            .attribute("xmlns", ns::STANZA_ERRORS)
            .attribute("xml:lang", "en")
            .text(text)
            .end();
    }
    if error == StanzaError::Blocked {
        xml.start("blocked")
            .attribute("xmlns", names::BLOCKING_ERRORS)
            .end();
    }
    xml.end();
}

/// The kinds of stanza, by the element's name.
pub(crate) fn stanza_name(header: &Header<'_>) -> Option<&'static str> {
    ["message", "presence", "iq"]
        .into_iter()
        .find(|name| header.is_stanza(name))
}

/// Whether an error may be sent in reply: never to an error, never to the
/// result of a request.
pub(crate) fn may_bounce(header: &Header<'_>) -> bool {
    let kind = header.kind();
    let kind = kind.map_or("", |kind| kind.raw());
    match header.name() {
        "iq" => kind != "result" && kind != "error",
        "presence" => kind != "error" && kind != "unavailable",
        _ => kind != "error",
    }
}

/// An error in reply to a stanza, with addresses turned round and its id.
pub(crate) fn error_reply(
    header: &Header<'_>,
    to: &str,
    error: StanzaError,
    text: &str,
) -> Option<Vec<u8>> {
    let name = stanza_name(header)?;
    let mut xml = Builder::new();
    xml.start(name).attribute("type", "error");
    xml.maybe("id", header.id().map(|id| id.get()).as_deref());
    xml.maybe("from", header.to().map(|to| to.get()).as_deref());
    xml.attribute("to", to);
    write_error(&mut xml, error, text);
    Some(xml.finish())
}

/// The stanza with `from` set, and `xmlns` where it has none: as it may stand
/// in any other element, such as a carbon copy.
pub(crate) fn with_namespace(header: &Header<'_>) -> Vec<u8> {
    let bytes = header.bytes();
    let name = header.name();
    // The names of stanzas have no prefix when the default namespace is used.
    let declared = find_xmlns(bytes);
    if declared || !bytes[1..].starts_with(name.as_bytes()) {
        return bytes.into();
    }
    let behind = 1 + name.len();
    let mut out = Vec::with_capacity(bytes.len() + 24);
    out.extend_from_slice(&bytes[..behind]);
    out.extend_from_slice(b" xmlns='jabber:client'");
    out.extend_from_slice(&bytes[behind..]);
    out
}

/// Whether the start tag has a default namespace declaration.
fn find_xmlns(bytes: &[u8]) -> bool {
    let mut quote = None;
    let mut last_space = false;
    for (at, &byte) in bytes.iter().enumerate() {
        match quote {
            Some(open) => {
                if byte == open {
                    quote = None;
                }
            }
            None => match byte {
                b'\'' | b'"' => quote = Some(byte),
                b'>' => return false,
                b'x' if last_space && bytes[at..].starts_with(b"xmlns") => {
                    let behind = bytes.get(at + 5);
                    if matches!(behind, Some(b'=' | b' ' | b'\t' | b'\n' | b'\r')) {
                        return true;
                    }
                }
                _ => {}
            },
        }
        last_space = byte.is_ascii_whitespace();
    }
    false
}

/// The element with one more child at its end.
pub(crate) fn with_child(element: &[u8], child: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(element.len() + child.len() + 16);
    if let Some(start) = element.strip_suffix(b"/>") {
        let name = element[1..]
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'))
            .map_or(&element[1..1], |end| &element[1..=end]);
        out.extend_from_slice(start);
        out.push(b'>');
        out.extend_from_slice(child);
        out.extend_from_slice(b"</");
        out.extend_from_slice(name);
        out.push(b'>');
        return out;
    }
    let end = element
        .windows(2)
        .rposition(|pair| pair == b"</")
        .unwrap_or(element.len());
    out.extend_from_slice(&element[..end]);
    out.extend_from_slice(child);
    out.extend_from_slice(&element[end..]);
    out
}

/// `<delay/>` (XEP-0203).
pub(crate) fn delay(domain: &str, stamp: &str) -> Vec<u8> {
    let mut xml = Builder::new();
    xml.start("delay")
        .attribute("xmlns", names::DELAY)
        .attribute("from", domain)
        .attribute("stamp", stamp);
    xml.finish()
}

/// A moment as XEP-0082 writes it.
pub(crate) fn stamp(unix: i64) -> String {
    use time::OffsetDateTime;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second(),
        moment.millisecond()
    )
}

/// The stanza with these addresses.
pub(crate) fn addressed(header: &Header<'_>, from: &str, to: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut changes = Rewrite::new().from(Some(from));
    if to.is_some() {
        changes = changes.to(to);
    }
    header.write(&changes, &mut out);
    out
}

/// A presence stanza without content.
pub(crate) fn presence(kind: &str, from: &str, to: &str) -> Vec<u8> {
    let mut xml = Builder::new();
    xml.start("presence")
        .attribute("type", kind)
        .attribute("from", from)
        .attribute("to", to);
    xml.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_added_at_the_end() {
        assert_eq!(
            with_child(b"<a b='c'><d/></a>", b"<e/>"),
            b"<a b='c'><d/><e/></a>"
        );
        assert_eq!(with_child(b"<a b='c'/>", b"<e/>"), b"<a b='c'><e/></a>");
        assert_eq!(with_child(b"<a/>", b"<e/>"), b"<a><e/></a>");
        assert_eq!(with_child(b"<a></a >", b"<e/>"), b"<a><e/></a >");
    }

    #[test]
    fn a_namespace_is_declared_once() {
        let named = |xml: &str| {
            let header = Header::parse(xml.as_bytes()).unwrap();
            String::from_utf8(with_namespace(&header)).unwrap()
        };
        assert_eq!(named("<message/>"), "<message xmlns='jabber:client'/>");
        assert_eq!(
            named("<message a=' xmlns='><b xmlns='x'/></message>"),
            "<message xmlns='jabber:client' a=' xmlns='><b xmlns='x'/></message>"
        );
        let own = "<message xmlns = 'jabber:client'/>";
        assert_eq!(named(own), own);
        let prefixed = "<c:message xmlns:c='jabber:client'/>";
        assert_eq!(named(prefixed), prefixed);
    }

    #[test]
    fn a_stamp_is_in_utc_with_milliseconds() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(1_763_706_123_045), "2025-11-21T06:22:03.045Z");
    }
}
