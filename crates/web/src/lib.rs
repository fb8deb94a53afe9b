//! The web front: TLS, sign-in, the status page, and the JSON interface.
//!
//! It looks, and changes nothing: every answer comes from `operations`. All
//! routes stand in one table (`routes`), which says of each who may call it.

mod api;
mod app;
mod pages;
mod path;
mod routes;
mod serve;
mod session;
#[cfg(test)]
mod tests;
mod throttle;
mod token;

pub use serve::serve;
