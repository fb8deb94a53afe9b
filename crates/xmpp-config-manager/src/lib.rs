//! Watches configuration and tells the XMPP components what changed.
//!
//! Components read their parameters from the database by a watch of their own,
//! so most changes apply at once. What is read only at a start is declared so
//! ([`DECLARED`]); a component reports what it runs with ([`Report`]), and
//! while that differs from what is set there is a notice, as an alarm and for
//! [`notices`], until the component was restarted.

mod client;
mod declared;
mod serve;
mod state;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto {
    tonic::include_proto!("signalbox.configuration");
}

pub use client::{NoticeReply, Parameter, Report, notices, parameters};
pub use declared::{DECLARED, Declared, declared};
pub use serve::serve;
pub use state::{Notice, State};
