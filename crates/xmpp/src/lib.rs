//! The XMPP wire: streams, stanzas, addresses and SASL mechanisms.
//!
//! Everything here is sans-IO: bytes go in, events or bytes come out. A stream
//! is cut into whole first-level elements by [`Framer`], which checks every
//! byte, so that the rest of the system can pass an element on as it came:
//! [`Header`] reads what routing needs from the raw bytes and [`Rewrite`]
//! splices addresses into them. Only control stanzas become an [`Element`] tree.

mod builder;
mod element;
mod error;
mod escape;
mod framer;
mod header;
mod jid;
mod syntax;
mod validate;

pub mod ns;
pub mod sasl;

pub use builder::Builder;
pub use element::{Element, Node};
pub use error::{Condition, StreamError};
pub use escape::{escape, unescape};
pub use framer::{Event, Framer, Limits, StreamHeader};
pub use header::{Child, Children, Header, Malformed, Rewrite, Value};
pub use jid::{InvalidJid, Jid};
