//! Namespaces of the protocols spoken here.

/// Content of client streams.
pub const CLIENT: &str = "jabber:client";
/// The stream itself.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Stream error conditions.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Stanza error conditions.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS negotiation.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL negotiation.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Channel binding types offered with SASL (XEP-0440).
pub const SASL_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// Resource binding.
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// The obsolete session request, still sent by old clients.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Stream management (XEP-0198).
pub const STREAM_MANAGEMENT: &str = "urn:xmpp:sm:3";
/// Roster versioning feature.
pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
/// Subscription pre-approval feature.
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
/// Stream limits advertised to clients (XEP-0478).
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// The namespace that the prefix `xml` is bound to.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The namespace that the prefix `xmlns` is bound to.
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
