//! The XMPP router: sessions, rosters, presence and message routing.
//!
//! [`Router`] is the core: events go in, actions come out, and nothing in it
//! reads a clock, a socket or a store. [`serve`] is the service around it.

mod address;
mod block;
mod config;
mod connect;
mod counters;
mod deliver;
mod event;
mod info;
mod iq;
mod keep;
mod management;
mod message;
mod presence;
mod publish;
mod roster;
mod router;
mod rows;
mod serve;
mod session;
mod slab;
mod stanza;
mod stats;
mod storage;
mod store;
mod subscribe;
mod subscription;
mod unhandled;
mod user;

pub use config::{Config, Conflict};
pub use event::{Actions, ConnectionId, Event, Soft, StoreFailure, StoreRequest, Time};
pub use router::{Random, Router};
pub use rows::{OfflineRow, RosterRow, Subscription, UserRows, Write};
pub use serve::serve;
pub use stats::Stats;
