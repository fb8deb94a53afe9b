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

    /// Demands that there was a row of that key before the transaction.
    /// Otherwise it fails with [`Error::Changed`].
    pub fn require<T: Table>(self, key: &[&str]) -> Self {
        self.by_key(Action::RequireRow, T::SCHEMA, key, 0)
    }

    /// Removes every row whose key begins with these columns, those included
    /// that are written until the transaction is carried out.
    pub fn delete_all<T: Table>(self, prefix: &[&str]) -> Self {
        self.by_key(Action::DeletePrefix, T::SCHEMA, prefix, 0)
    }

    /// Changes a column of text from one value to another, and leaves the
    /// others as they are, whether the caller may see them or not. Fails with
    /// [`Error::Changed`] when the row is not there or has another value. At
    /// most once for each row.
    pub fn set_column<T: Table>(self, key: &[&str], column: &str, from: &str, to: &str) -> Self {
        let mut changed = self.by_key(Action::SetColumn, T::SCHEMA, key, 0);
        if let Some(operation) = changed.operations.last_mut() {
            operation.column = column.into();
            operation.from = from.into();
            operation.to = to.into();
        }
        changed
    }

    fn by_key(mut self, action: Action, schema: &Schema, key: &[&str], revision: u64) -> Self {
        self.operations.push(Operation {
            action: action.into(),
            table: schema.table.into(),
            key: key.iter().map(|part| (*part).into()).collect(),
            revision,
            ..Operation::default()
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
