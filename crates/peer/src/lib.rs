//! Connections between the nodes of a cluster: mutual TLS, and who is at the
//! other end.
//!
//! Both ends show the certificate that the cluster's authority gave them; its
//! name is the node's [`Identity`]. The one that connects wants one node and
//! no other; the one that listens takes any node of the cluster and hands on
//! which it is ([`Remote`]). Nothing is parsed before that. What a node that
//! was removed may still do is up to the service behind.

mod connect;
mod connection;
mod credentials;
mod listen;
#[cfg(feature = "testing")]
pub mod testing;

pub use certificates::Identity;
pub use connect::{channel, connect};
pub use connection::Connection;
pub use credentials::{Credentials, Error};
pub use listen::{Link, Remote, accept, incoming, listen};
