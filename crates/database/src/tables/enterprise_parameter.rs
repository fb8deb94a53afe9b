//! Settings of the whole cluster.

use serde::{Deserialize, Serialize};

use crate::{Column, Schema, Table};

/// A setting that holds for every service of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnterpriseParameter {
    /// Its name.
    pub name: String,
    /// Its value, as text.
    pub value: String,
}

impl Table for EnterpriseParameter {
    const SCHEMA: &'static Schema = &Schema {
        table: "enterprise_parameter",
        version: 1,
        key: &["name"],
        columns: &[Column::text("name", 128), Column::text("value", 4096)],
        migrations: &[],
    };
}
