//! What each kind of callers may ask of the database.
//!
//! Each kind has a socket of its own, in a folder of its own, that only the
//! members of one group may open; a unit's `SupplementaryGroups=` names what
//! its service is. The socket decides, not what a caller says of itself.

use std::path::PathBuf;

use service::Paths;

use crate::{Error, Schema};

/// A kind of callers. Everybody may read settings and ask for the state of
/// replication; the rest is for those whose work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Settings and no more.
    Settings,
    /// The replica's upkeep: checks, reports, orders, digests; no content.
    Maintenance,
    /// What conversations need: users without their keys, and what belongs to
    /// them, which is also written.
    Conversation,
    /// Users with their keys, to check passwords. Written are only secrets
    /// that the nodes share.
    Keys,
    /// Accounts of the pages with their hashes; nothing is written.
    Pages,
    /// The nodes of the cluster and the parameters beside them, also written.
    Cluster,
    /// Users without their keys. Written is only which node is their home.
    Assignment,
    /// Everything.
    Administration,
}

/// Tables that everybody may read.
const SETTINGS: &[&str] = &[
    "enterprise_parameter",
    "process_node",
    "redundancy_group",
    "service_parameter",
];
/// Tables that say which nodes there are.
const MEMBERSHIP: &[&str] = &["enterprise_parameter", "process_node"];
/// Tables that hold what belongs to users.
const BELONGINGS: &[&str] = &["block_item", "offline_message", "roster_item", "vcard"];

/// The column that says which node is a user's home, with its table.
const HOME: (&str, &str) = ("end_user", "node");

impl Access {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Settings,
        Self::Maintenance,
        Self::Conversation,
        Self::Keys,
        Self::Pages,
        Self::Cluster,
        Self::Assignment,
        Self::Administration,
    ];

    /// The name of its socket's folder; the group that may open the socket is
    /// called `call-database-` and this.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Maintenance => "maintenance",
            Self::Conversation => "conversation",
            Self::Keys => "keys",
            Self::Pages => "pages",
            Self::Cluster => "cluster",
            Self::Assignment => "assignment",
            Self::Administration => "administration",
        }
    }

    /// Its socket.
    pub fn socket(self, paths: &Paths) -> PathBuf {
        paths.database_socket(self.name())
    }

    fn reads(self, table: &str) -> bool {
        SETTINGS.contains(&table)
            || match self {
                Self::Settings | Self::Maintenance | Self::Cluster => false,
                Self::Conversation => table == "end_user" || BELONGINGS.contains(&table),
                Self::Assignment => table == "end_user",
                Self::Keys => matches!(table, "end_user" | "shared_secret"),
                Self::Pages => table == "application_user",
                Self::Administration => true,
            }
    }

    fn writes(self, table: &str) -> bool {
        match self {
            Self::Administration => true,
            Self::Conversation => BELONGINGS.contains(&table),
            Self::Cluster => MEMBERSHIP.contains(&table),
            Self::Keys => table == "shared_secret",
            Self::Settings | Self::Maintenance | Self::Pages | Self::Assignment => false,
        }
    }

    /// Whether columns that are secret are told.
    pub(crate) fn tells_secrets(self) -> bool {
        matches!(self, Self::Keys | Self::Pages | Self::Administration)
    }

    /// Refuses a table that is not for these callers to read.
    pub(crate) fn may_read(self, schema: &Schema) -> Result<(), Error> {
        self.check(self.reads(schema.table), "read", schema.table)
    }

    /// Refuses a table that is not for these callers to write.
    pub(crate) fn may_write(self, schema: &Schema) -> Result<(), Error> {
        self.check(self.writes(schema.table), "write", schema.table)
    }

    /// Refuses a column that is not for these callers to change by itself.
    pub(crate) fn may_set(self, schema: &Schema, column: &str) -> Result<(), Error> {
        let assigns = self == Self::Assignment && (schema.table, column) == HOME;
        if assigns {
            return Ok(());
        }
        self.may_write(schema)
    }

    /// Refuses upkeep of the replica.
    pub(crate) fn may_maintain(self) -> Result<(), Error> {
        let may = matches!(self, Self::Maintenance | Self::Administration);
        self.check(may, "maintain", "the replica")
    }

    /// Refuses the digests of the tables.
    pub(crate) fn may_compare(self) -> Result<(), Error> {
        let may = matches!(self, Self::Maintenance | Self::Pages | Self::Administration);
        self.check(may, "compare", "the tables")
    }

    /// Refuses export and import.
    pub(crate) fn may_transfer(self) -> Result<(), Error> {
        self.check(self == Self::Administration, "export or import", "tables")
    }

    fn check(self, may: bool, verb: &str, what: &str) -> Result<(), Error> {
        if may {
            return Ok(());
        }
        tracing::warn!(access = self.name(), what, "A call was refused.");
        Err(Error::Forbidden(format!(
            "callers of the database's socket \"{}\" may not {verb} {what}; a service whose work \
             it is opens another one (see SupplementaryGroups= in its unit)",
            self.name()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::ALL;

    #[test]
    fn every_table_that_is_named_exists() {
        for name in SETTINGS.iter().chain(MEMBERSHIP).chain(BELONGINGS) {
            assert!(ALL.iter().any(|schema| schema.table == *name), "{name}");
        }
    }

    #[test]
    fn what_is_written_is_read_too_and_secrets_are_only_for_those_who_check_them() {
        for access in Access::ALL {
            for schema in ALL {
                let (reads, writes) = (access.reads(schema.table), access.writes(schema.table));
                assert!(reads || !writes, "{access:?} {}", schema.table);
                let secret = schema.columns.iter().any(|column| column.secret);
                let checks = match schema.table {
                    "end_user" | "shared_secret" => Access::Keys,
                    _ => Access::Pages,
                };
                if secret && reads && access.tells_secrets() {
                    assert!([checks, Access::Administration].contains(&access));
                }
            }
        }
    }
}
