//! How a node joins a cluster.
//!
//! The publisher's `cluster-manager` ([`serve`]) listens for nodes that want
//! to join; set-up of such a node calls [`join`]. The two prove to each other
//! that they have the [`Secret`], which is derived from the security password;
//! each proof is bound to the TLS connection, so that nobody in between can
//! pass it on. The node that joins proves first: whoever connects to the
//! publisher learns nothing that passwords could be tried against.

mod attempts;
mod check;
mod join;
mod manager;
mod rpc;
mod secret;
mod serve;
#[cfg(test)]
mod tests;
mod tls;

pub use join::{Candidate, JoinError, Joined, Pair, join, try_out};
pub use manager::{Manager, Materials};
pub use secret::Secret;
pub use serve::{PORT, serve};
