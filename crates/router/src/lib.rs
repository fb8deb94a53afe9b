//! The XMPP router: sessions, rosters, presence and message routing.
//!
//! [`Router`] is the core: events go in, actions come out, and nothing in it
//! reads a clock, a socket or a store. [`serve`] is the service around it.
//!
//! In a cluster, `cluster` knows which node serves whom, `peer` what is on its
//! way to and from the other routers, `link` when these are there, `remote`
//! what becomes of a stanza for a user whom another node serves, `adopt` what
//! becomes of sessions when another node begins to serve their users, and
//! `inactive` holds connections that wait for that.

mod address;
mod adopt;
mod block;
mod cluster;
mod config;
mod connect;
mod counters;
mod deliver;
mod event;
mod inactive;
mod info;
mod iq;
mod keep;
mod link;
mod management;
mod message;
mod mutation;
mod peer;
mod peers;
mod presence;
mod publish;
mod quota;
mod remote;
mod roster;
mod router;
mod rows;
mod serve;
mod session;
mod slab;
mod soft;
mod stanza;
mod stats;
mod storage;
mod store;
mod subscribe;
mod subscription;
mod unhandled;
mod user;
mod waiting;

pub use cluster::Node;
pub use config::{Config, Conflict};
pub use event::{Actions, ConnectionId, Event, Left, Soft, StoreFailure, StoreRequest, Time};
pub use mutation::Mutation;
pub use router::{Random, Router};
pub use rows::{OfflineRow, RosterRow, Subscription, UserRows, Write};
pub use serve::{Homes, serve, serve_homes};
pub use soft::{SoftRow, left};
pub use stats::Stats;
