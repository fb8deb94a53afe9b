//! Presence redundancy groups: which nodes stand in for each other.

use serde::{Deserialize, Serialize};

use crate::{Column, Kind, Schema, Table};

/// One node or two that stand in for each other. Every node of the cluster is
/// in exactly one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedundancyGroup {
    /// Its name.
    pub name: String,
    /// What an administrator says of it.
    pub description: String,
    /// Its first node, by the name in [`crate::tables::ProcessNode`].
    pub first: String,
    /// Its second node; none in a group of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// Whether each of its nodes takes the other's users over.
    pub high_availability: bool,
}

impl RedundancyGroup {
    /// The node that is in the group with `node`; none in a group of one, or
    /// for a node of another group.
    pub fn other(&self, node: &str) -> Option<&str> {
        let second = self.second.as_deref()?;
        match node {
            node if node == self.first => Some(second),
            node if node == second => Some(&self.first),
            _ => None,
        }
    }
}

impl Table for RedundancyGroup {
    const SCHEMA: &'static Schema = &Schema {
        table: "redundancy_group",
        version: 1,
        key: &["name"],
        columns: &[
            Column::text("name", 128),
            // 128 characters.
            Column::text("description", 512),
            Column::text("first", 63),
            Column::text("second", 63).optional(),
            Column::new("high_availability", Kind::Flag),
        ],
        migrations: &[],
    };
}
