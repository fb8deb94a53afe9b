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

mod owner;
mod reader;
mod rows;
mod server;
mod store;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto {
    tonic::include_proto!("signalbox.datastore");
}

pub use owner::Owner;
pub use reader::{Entry, Reader, SelfTest, Stats, Watch, WatchEvent};
pub use rows::{LOGIN, Login, PRESENCE, Presence, ROUTE, Registration, Route, SIP_REGISTRATION};
pub use server::serve;
pub use store::{Batch, Change, Figures, KEY, OwnerFigures, Refused, Row, Store, TOTAL, VALUE};
