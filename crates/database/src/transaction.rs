//! Transactions as clients build them.

use crate::rpc::{Operation, operation::Action};
use crate::table::to_row;
use crate::{Error, Revision, Schema, Table};

/// Changes that happen all or not at all.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub(crate) operations: Vec<Operation>,
}

impl Transaction {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row that must not be there yet.
    pub fn insert<T: Table>(self, row: &T) -> Result<Self, Error> {
        self.write(Action::Insert, row)
    }

    /// Sets a row, new or not.
    pub fn put<T: Table>(self, row: &T) -> Result<Self, Error> {
        self.write(Action::Put, row)
    }

    fn write<T: Table>(mut self, action: Action, row: &T) -> Result<Self, Error> {
        self.operations.push(Operation {
            action: action.into(),
            table: T::SCHEMA.table.into(),
            row: Some(to_row(row)?),
            ..Operation::default()
        });
        Ok(self)
    }

    /// Removes the row of that key, there or not.
    pub fn delete<T: Table>(self, key: &[&str]) -> Self {
        self.by_key(Action::Delete, T::SCHEMA, key, 0)
    }

    /// Demands that the row of that key still has `revision`, as
    /// [`crate::Database::get_versioned`] gave it; 0 demands that there is no
    /// such row. Otherwise the transaction fails with [`Error::Changed`].
    pub fn require_revision<T: Table>(self, key: &[&str], revision: Revision) -> Self {
        self.by_key(Action::Require, T::SCHEMA, key, revision)
    }

    fn by_key(mut self, action: Action, schema: &Schema, key: &[&str], revision: u64) -> Self {
        self.operations.push(Operation {
            action: action.into(),
            table: schema.table.into(),
            key: key.iter().map(|part| (*part).into()).collect(),
            revision,
            row: None,
        });
        self
    }

    /// Adds the steps of another transaction behind this one's.
    pub fn and(mut self, other: Self) -> Self {
        self.operations.extend(other.operations);
        self
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}
