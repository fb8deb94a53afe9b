//! A whole cluster in one process and in simulated time, for tests.
//!
//! Three nodes, two of them a redundancy group: recovery managers, routers,
//! real-time stores, a database, clients, and a network between them. Nothing
//! here sleeps, reads a clock or starts a thread, and nothing depends on more
//! than the seed: `README.md` tells how to see a walk again.

#[cfg(test)]
mod check;
#[cfg(test)]
mod client;
#[cfg(test)]
mod database;
#[cfg(test)]
mod manager;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod network;
#[cfg(test)]
mod node;
#[cfg(test)]
mod random;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod stores;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
#[cfg(test)]
mod world;
