//! The people who chat and call.

use serde::{Deserialize, Serialize};

use crate::tables::LOCAL;
use crate::{Column, Kind, Migration, Schema, Table};

/// A person who chats and calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndUser {
    /// Name to sign in with: the local part of the address.
    pub user: String,
    /// Name to show.
    pub name: String,
    /// Mail address; empty when none is known.
    pub mail: String,
    /// Whether the user may sign in.
    pub enabled: bool,
    /// Name of the user's home node; empty while none is assigned.
    pub node: String,
    /// Keys for SCRAM-SHA-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram_sha1: Option<ScramKeys>,
    /// Keys for SCRAM-SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram_sha256: Option<ScramKeys>,
}

/// What SCRAM needs to check a password, each but the count in base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramKeys {
    /// The salt.
    pub salt: String,
    /// How often the hash is iterated.
    pub iterations: u32,
    /// StoredKey of RFC 5802.
    pub stored_key: String,
    /// ServerKey of RFC 5802.
    pub server_key: String,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys have no place in a log.
        f.debug_struct("ScramKeys")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

const SCRAM: Kind = Kind::Record(&[
    Column::text("salt", 128),
    Column::new("iterations", Kind::Integer(4096, 10_000_000)),
    Column::text("stored_key", 128),
    Column::text("server_key", 128),
]);

impl Table for EndUser {
    const SCHEMA: &'static Schema = &Schema {
        table: "end_user",
        version: 2,
        key: &["user"],
        columns: &[
            Column::text("user", LOCAL),
            Column::text("name", 256),
            Column::text("mail", 320),
            Column::new("enabled", Kind::Flag),
            Column::text("node", 63),
            Column::new("scram_sha1", SCRAM).optional().secret(),
            Column::new("scram_sha256", SCRAM).optional().secret(),
        ],
        migrations: &[Migration {
            to: 2,
            change: |row| {
                row.insert("node".into(), "".into());
            },
        }],
    };
}
