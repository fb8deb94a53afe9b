//! The links of the router: to the components around it, and to the routers
//! of other nodes ([`PeerFrame`], [`PeerReply`]).
//!
//! A component (the connection manager, later the conference, archiver and
//! federation services) connects to the router's Unix socket and exchanges
//! frames: `u32 LE length | u8 kind | u64 LE connection | payload`, where the
//! length counts everything after itself.
//!
//! # Who may send what, and when
//!
//! | frame | from | when |
//! |---|---|---|
//! | [`ToRouter::Hello`] | component | once, as the first frame; names the protocol version |
//! | [`ToComponent::Welcome`] | router | once, as the first frame, after a Hello of the same version; any other version closes the link |
//! | [`ToRouter::Authenticated`] | component | after Welcome, when SASL succeeded; opens the connection |
//! | [`ToRouter::Element`] | component | for an open connection: one complete first-level element (stanza or stream management) |
//! | [`ToRouter::Congested`], [`ToRouter::Relieved`] | component | for an open connection, in turns: what waits to be written to the client is above, or again below, the component's mark. Between them the router holds stanzas back |
//! | [`ToRouter::Written`] | component | answer to [`ToComponent::Mark`], with its token, when everything before the mark went into the client's socket |
//! | [`ToRouter::Closed`] | component | for an open connection: the client is gone; ends the connection |
//! | [`ToComponent::Element`], [`ToComponent::Mark`] | router | for an open connection |
//! | [`ToComponent::Close`] | router | for an open connection: write these bytes, end the stream, close; ends the connection |
//! | [`ToRouter::Serve`] | component | after Welcome: stanzas for that host go to this component |
//! | [`ToRouter::Stanza`], [`ToComponent::Stanza`] | both | stanzas of and for a served host, with `from` and `to` |
//!
//! The component chooses connection numbers: not 0, and never the same number
//! twice on one link. Either side may end a connection, so frames can cross: a
//! frame for a connection that has ended is dropped without a word. A
//! connection ends with its link. Everything else out of turn is a
//! [`ProtocolError`], and whoever notices it closes the link.
//!
//! The component answers for the bytes of an element: well-formed, complete,
//! in the default namespace `jabber:client`, every prefix it uses declared
//! inside it. The router trusts that and does not parse more than headers. In
//! the other direction an element may likewise be written to any stream whose
//! default namespace is `jabber:client`. The bytes of Close hold the stream
//! error, if any, and not the end tag of the stream, which is the component's.

/// The namespace of dual connections: a client's second, inactive connection to
/// the node that takes its user over (`crates/router/DUAL.md`).
pub const DUAL: &str = "urn:signalbox:dual:0";

mod frame;
mod link;
mod listener;
mod outbox;
mod peer;

pub use frame::{Decoder, Frame, ProtocolError, ToComponent, ToRouter, VERSION};
pub use link::{Event, Link};
pub use listener::{LinkId, Listener, RouterEvent};
pub use outbox::{LinkDown, Outbox};
pub use peer::{ADDRESSEES, PeerFrame, PeerReply};
