//! Messages that wait for their receiver.

use serde::{Deserialize, Serialize};

use crate::tables::{LARGEST_STANZA, LOCAL};
use crate::{Column, Kind, Schema, Table};

/// A message that waits for its receiver to come online.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineMessage {
    /// The receiver.
    pub owner: String,
    /// Order of arrival.
    pub sequence: i64,
    /// The stanza as XML.
    pub stanza: String,
    /// When it came (XEP-0082).
    pub stamp: String,
}

impl Table for OfflineMessage {
    const SCHEMA: &'static Schema = &Schema {
        table: "offline_message",
        version: 1,
        key: &["owner", "sequence"],
        columns: &[
            Column::text("owner", LOCAL),
            Column::new("sequence", Kind::Integer(0, i64::MAX)),
            Column::text("stanza", LARGEST_STANZA),
            Column::text("stamp", 40),
        ],
        migrations: &[],
    };
}
