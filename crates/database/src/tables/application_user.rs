//! Administrators of the pages and APIs.

use serde::{Deserialize, Serialize};

use crate::{Column, Kind, Schema, Table};

/// An administrator of the pages and APIs; never a chat user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationUser {
    /// Name to sign in with.
    pub user: String,
    /// Argon2id hash in PHC form.
    pub password: String,
    /// Whether the user may sign in.
    pub enabled: bool,
    /// What the user may do.
    pub roles: Vec<String>,
}

impl Table for ApplicationUser {
    const SCHEMA: &'static Schema = &Schema {
        table: "application_user",
        version: 1,
        key: &["user"],
        columns: &[
            Column::text("user", 128),
            Column::text("password", 512).secret(),
            Column::new("enabled", Kind::Flag),
            Column::new("roles", Kind::List(64, &Kind::Text(128))),
        ],
        migrations: &[],
    };
}
