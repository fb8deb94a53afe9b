//! Whom a user blocks.

use serde::{Deserialize, Serialize};

use crate::tables::{ADDRESS, LOCAL};
use crate::{Column, Schema, Table};

/// An address that a user blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockItem {
    /// The user.
    pub owner: String,
    /// The blocked address: bare, full, or a domain.
    pub jid: String,
}

impl Table for BlockItem {
    const SCHEMA: &'static Schema = &Schema {
        table: "block_item",
        version: 1,
        key: &["owner", "jid"],
        columns: &[Column::text("owner", LOCAL), Column::text("jid", ADDRESS)],
        migrations: &[],
    };
}
