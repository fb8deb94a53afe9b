//! Contacts of users.

use serde::{Deserialize, Serialize};

use crate::tables::{ADDRESS, LARGEST_STANZA, LOCAL};
use crate::{Column, Kind, Schema, Table};

/// A contact of a user (RFC 6121 §2 and appendix A).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterItem {
    /// The user.
    pub owner: String,
    /// The contact's bare address.
    pub contact: String,
    /// Name the user gave the contact; empty when none.
    pub name: String,
    /// Who sees whose presence.
    pub subscription: Subscription,
    /// Whether the user asked to see the contact's presence and has no answer.
    pub ask: bool,
    /// Whether the user approved the contact before being asked.
    pub approved: bool,
    /// The contact's request that the user has not answered, as XML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_in: Option<String>,
    /// Whether the contact is in the user's roster; one that only asked for a
    /// subscription is kept here, too, and not shown.
    pub listed: bool,
    /// Groups the user put the contact in.
    pub groups: Vec<String>,
}

/// Who sees whose presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subscription {
    /// Nobody.
    #[default]
    None,
    /// The user sees the contact.
    To,
    /// The contact sees the user.
    From,
    /// Each sees the other.
    Both,
}

impl Subscription {
    /// The word of RFC 6121.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }
}

impl Table for RosterItem {
    const SCHEMA: &'static Schema = &Schema {
        table: "roster_item",
        version: 1,
        key: &["owner", "contact"],
        columns: &[
            Column::text("owner", LOCAL),
            Column::text("contact", ADDRESS),
            Column::text("name", 1023),
            Column::new(
                "subscription",
                Kind::Choice(&["none", "to", "from", "both"]),
            ),
            Column::new("ask", Kind::Flag),
            Column::new("approved", Kind::Flag),
            Column::text("pending_in", LARGEST_STANZA).optional(),
            Column::new("listed", Kind::Flag),
            Column::new("groups", Kind::List(100, &Kind::Text(1023))),
        ],
        migrations: &[],
    };
}
