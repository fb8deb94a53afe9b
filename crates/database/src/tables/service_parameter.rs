//! Settings of services.

use serde::{Deserialize, Serialize};

use crate::{Column, Schema, Table};

/// A setting of one service that differs from its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceParameter {
    /// Id of the service.
    pub service: String,
    /// Name of the setting.
    pub name: String,
    /// Its value, as text.
    pub value: String,
}

impl Table for ServiceParameter {
    const SCHEMA: &'static Schema = &Schema {
        table: "service_parameter",
        version: 1,
        key: &["service", "name"],
        columns: &[
            Column::text("service", 64),
            Column::text("name", 128),
            Column::text("value", 4096),
        ],
        migrations: &[],
    };
}
