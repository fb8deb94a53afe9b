//! The server recovery manager: drives the failover state machine of
//! `recovery` on a node.
//!
//! [`serve`] gathers what the machine wants to know (the group and its
//! parameters from the database, services from the supervisor, keepalives of
//! other nodes) and carries out what it decides. The [`Client`] is how the
//! node's router learns whose users it serves, and administration everything
//! else.

mod admin;
mod client;
mod disk;
mod door;
mod driver;
mod group;
mod history;
mod known_hosts;
mod links;
mod live;
mod local;
mod observe;
mod proto;
mod serve;
mod serving;
mod status;

#[cfg(test)]
mod driver_tests;

pub use client::{Client, Verb, homes};
pub use history::Entry;
pub use serve::serve;
pub use status::{NodeStatus, Status};
