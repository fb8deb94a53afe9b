//! Secrets that the nodes of a cluster have in common.

use serde::{Deserialize, Serialize};

use crate::{Column, Schema, Table};

/// A secret that every node of the cluster uses, made by the first that needs
/// it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSecret {
    /// What it is for.
    pub name: String,
    /// The secret, base64.
    pub value: String,
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedSecret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Table for SharedSecret {
    const SCHEMA: &'static Schema = &Schema {
        table: "shared_secret",
        version: 1,
        key: &["name"],
        columns: &[
            Column::text("name", 64),
            Column::text("value", 512).secret(),
        ],
        migrations: &[],
    };
}
