//! Authentication of XMPP clients: SASL exchanges over stored SCRAM keys, and what slows guessing down.
//!
//! The service keeps no keys in memory: each exchange reads the user's row, so
//! that a change of password is effective with the next one. Other crates use
//! [`Client`] to have somebody authenticated and [`derive_keys`] to make what
//! is stored of a password.

mod accounts;
mod client;
mod decoys;
mod engine;
mod exchanges;
mod server;
mod throttle;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto {
    tonic::include_proto!("signalbox.authentication");
}

/// Id of the service.
pub const ID: &str = "authentication-service";

pub use accounts::{
    DeriveError, DerivedKeys, FEWEST_ITERATIONS, ITERATIONS, derive_keys, iterations,
};
pub use client::{Begin, Client, Outcome};
pub use server::serve;
