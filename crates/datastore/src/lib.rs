//! Real-time stores for soft state that dies with its owner.
//!
//! One crate, four services: sessions (`login-datastore`), routes
//! (`route-datastore`), presence (`presence-datastore`) and SIP registrations
//! (`sip-registration-datastore`). Each keeps rows in memory for owners, which
//! write their own rows only ([`Owner`]), and tells readers and watchers
//! ([`Reader`]). A store that was restarted is filled again by its owners; an
//! owner that was restarted begins a new epoch, and whatever an older epoch
//! still sends is refused. [`Store`] is the state, without I/O; [`serve`] the
//! service around it.
//!
//! The stores of the two nodes of a redundancy group hold copies of each
//! other's rows ([`Feed`], [`Replica`]), which the one that takes the other's
//! users over takes out ([`Reader::adopt`]).

mod mutation;
mod owner;
mod peering;
mod reader;
mod replica;
mod rows;
mod server;
mod store;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto {
    tonic::include_proto!("signalbox.datastore");
}

pub use mutation::Mutation;
pub use owner::Owner;
pub use reader::{Entry, Reader, Replication, SelfTest, Stats, Towards, Watch, WatchEvent};
pub use replica::{Broken, Feed, FeedFigures, Have, Message, Replica, ReplicaFigures, Sent, State};
pub use rows::{LOGIN, Login, PRESENCE, Presence, ROUTE, Registration, Route, SIP_REGISTRATION};
pub use server::serve;
pub use store::{
    Batch, Change, Figures, KEY, LINGER, OwnerFigures, Refused, Row, Store, TOTAL, VALUE,
};
