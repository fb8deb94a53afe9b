//! The one process that talks to systemd about services.
//!
//! What systemd tells of the units (`world`) becomes the services' states and
//! the reasons for them (`view`); what an administrator asks is checked and
//! becomes calls to systemd (`rules`); restarts that nobody asked for become
//! alarms (`health`). These three are pure. `systemd` and `monitor` are the
//! thin shell over D-Bus, `network` has changed network settings applied,
//! `server` is the interface for administration, whose other end is
//! [`Client`].

mod caller;
mod client;
mod files;
#[cfg(test)]
mod fixture;
mod health;
mod monitor;
mod network;
mod proto;
mod rules;
mod serve;
mod server;
mod systemd;
mod view;
mod world;

pub use client::{Activation, Client, NetworkChange};
pub use serve::serve;
pub use view::{State, View};
