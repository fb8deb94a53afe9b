//! The nodes of the cluster.

use serde::{Deserialize, Serialize};

use crate::{Column, Kind, Schema, Table};

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessNode {
    /// Host name.
    pub name: String,
    /// Domain name.
    pub domain: String,
    /// IP address.
    pub address: String,
    /// `publisher` or `subscriber`.
    pub role: String,
    /// Kind of node, such as `imp`.
    pub product: String,
    /// Number of the node in the replication log; 0 while it was added and has
    /// not joined. A node that is reset gets a new one.
    pub replica: i64,
}

impl Table for ProcessNode {
    const SCHEMA: &'static Schema = &Schema {
        table: "process_node",
        version: 1,
        key: &["name"],
        columns: &[
            Column::text("name", 63),
            Column::text("domain", 253),
            Column::text("address", 45),
            Column::new("role", Kind::Choice(&["publisher", "subscriber"])),
            Column::text("product", 16),
            Column::new("replica", Kind::Integer(0, i64::MAX)),
        ],
        migrations: &[],
    };
}
