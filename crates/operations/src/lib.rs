//! Every administrative action once; the command line, pages and APIs are
//! faces of it.
//!
//! An action is a method of [`Operations`] that takes the [`Caller`] and typed
//! input and gives a typed result. It checks the caller's privilege level,
//! does the work through small traits ([`ports`]) that the supervisor, the
//! database and the recovery manager stand behind, and leaves one audit line. Here, and nowhere
//! else, is decided which level an action needs: supervisor and database take
//! changes only from the service that runs this for administrators.

pub mod action;
pub mod availability;
pub mod cluster;
pub mod error;
pub mod failover;
#[cfg(any(test, feature = "testing"))]
pub mod fakes;
pub mod groups;
pub mod homes;
pub mod host;
pub mod logs;
pub mod monitoring;
pub mod network;
pub mod parameters;
pub mod ports;
pub mod promotion;
pub mod repair;
pub mod replication;
pub mod services;
pub mod sign_in;
pub mod tech;
pub mod users;
pub mod voters;

mod import;
mod live;
mod operations;

pub use database::{
    Access, Comparison, Mended, Mending, OtherNode, Promotion, RowCounts, TableComparison,
};
pub use redundancy::{Change, Refusal};

pub use action::{Action, Caller, Level, actions};
pub use error::{Error, Kind, Result};
pub use host::{Host, PRODUCT_VERSION};
pub use import::Imported;
pub use operations::{Operations, Progress};
