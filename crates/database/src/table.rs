//! What a row type is.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rpc;
use crate::{Error, Schema};

/// Counts the successful transactions of a cluster.
pub type Revision = u64;

/// A row's key as text, one item for each column of the key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<String>);

/// A type whose values are rows of a table.
pub trait Table: Serialize + DeserializeOwned + Send + 'static {
    /// What the table's rows look like.
    const SCHEMA: &'static Schema;
}

/// The stored form of a row, or what is wrong with it.
pub(crate) fn to_row<T: Table>(row: &T) -> Result<rpc::Row, Error> {
    let value = serde_json::to_value(row)
        .map_err(|error| Error::Invalid(format!("{}: {error}", T::SCHEMA.table)))?;
    let version = T::SCHEMA.version;
    let encoded = T::SCHEMA.encode(value, version)?;
    Ok(rpc::Row {
        content: encoded.content,
        version,
        revision: 0,
    })
}

/// The row of its stored form.
pub(crate) fn from_row<T: Table>(row: &rpc::Row) -> Result<T, Error> {
    let unreadable = |error: serde_json::Error| {
        Error::Invalid(format!(
            "a row of table {} is not readable: {error}",
            T::SCHEMA.table
        ))
    };
    if row.version == T::SCHEMA.version {
        return serde_json::from_slice(&row.content).map_err(unreadable);
    }
    let value = T::SCHEMA.decode(&row.content, row.version)?;
    serde_json::from_value(value).map_err(unreadable)
}
