//! The sync agent: gives users their home nodes, and tells the gate when it is
//! done.
//!
//! It runs on every node; the publisher's does the work. Users who appear
//! without a home node get one by the mode of assignment, many in one
//! transaction, and so do those whose home has left the cluster. With call
//! control there would be users to take over from there first (seed 001); no
//! cluster has one yet, so that it has finished as soon as it has begun.
//!
//! [`Agent`] decides and knows no clock; [`serve`] reads and writes the
//! database; the gate asks for the [`progress`].

mod agent;
mod progress;
mod serve;
mod watched;

pub use agent::Agent;
pub use progress::{Progress, progress};
pub use serve::serve;
