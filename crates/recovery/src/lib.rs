//! The server recovery manager's failover state machine.
//!
//! Two nodes form a redundancy group. A [`Machine`] on each takes what its node
//! sees (services, keepalives of the peer, requests of administrators) and the
//! time, and decides who serves whose users. It owns no clock, socket or store:
//! [`Machine::step`] gives [`Action`]s, and its driver carries them out.
//!
//! States, reasons and rows are those of seed 004; [`explain`] tells what a pair
//! of states means and what an administrator should do.

mod alarm;
mod clock;
mod event;
mod flapping;
mod health;
mod history;
mod machine;
mod memory;
mod message;
mod mutation;
mod ownership;
mod parameters;
mod peer;
mod rules;
mod serving;
mod state;
mod table;
mod witness;

#[cfg(test)]
mod failover_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod walk_tests;

pub use alarm::{Alarm, Severity};
pub use event::{Action, Arbiter, Event, Refusal, Request, Settings, Verdict};
pub use health::{AUTHENTICATION, DATABASE, critical_services};
pub use history::{History, Transition};
pub use machine::Machine;
pub use memory::Memory;
pub use message::{Keepalive, MessageError, VERSION};
pub use mutation::Mutation;
pub use ownership::{Epoch, Node, Ownership};
pub use parameters::{AUTOMATIC_FALLBACK_AFTER, DEFINITIONS, Invalid, Parameters};
pub use serving::{Home, Serving};
pub use state::{Reason, Standing, State};
pub use table::{Half, ROWS, Row, exact, explain};
pub use witness::Witness;
