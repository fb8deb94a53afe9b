//! Presence redundancy groups, and which node each user is at home on: the
//! rules, without a store (seed 004).
//!
//! A [`Group`] is one node or two that stand in for each other. Every node of a
//! cluster is in exactly one; the functions of [`Groups`] take the groups there
//! are from one such state to the next, or say why that may not be. A [`Plan`] says which nodes get
//! users, [`Loads`] which one the next user, and [`spread`] who must move for all
//! to have the same number.

mod assignment;
mod group;
mod groups;

pub use assignment::{Loads, MODE, Mode, Move, Plan, spread};
pub use group::{DEFAULT, Group, check_description, check_name};
pub use groups::{Change, Edit, Groups};

/// Why something may not be, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
