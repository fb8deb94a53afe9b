//! What users tell about themselves.

use serde::{Deserialize, Serialize};

use crate::tables::{LARGEST_STANZA, LOCAL};
use crate::{Column, Schema, Table};

/// A user's vCard (XEP-0054).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VCard {
    /// The user.
    pub owner: String,
    /// The `<vCard/>` element as XML.
    pub xml: String,
}

impl Table for VCard {
    const SCHEMA: &'static Schema = &Schema {
        table: "vcard",
        version: 1,
        key: &["owner"],
        columns: &[
            Column::text("owner", LOCAL),
            Column::text("xml", LARGEST_STANZA),
        ],
        migrations: &[],
    };
}
