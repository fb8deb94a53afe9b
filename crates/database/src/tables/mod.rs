//! The tables of the database, one file each.

mod application_user;
mod block_item;
mod end_user;
mod enterprise_parameter;
mod offline_message;
mod process_node;
mod redundancy_group;
mod roster_item;
mod service_parameter;
mod shared_secret;
mod vcard;

pub use application_user::ApplicationUser;
pub use block_item::BlockItem;
pub use end_user::{EndUser, ScramKeys};
pub use enterprise_parameter::EnterpriseParameter;
pub use offline_message::OfflineMessage;
pub use process_node::ProcessNode;
pub use redundancy_group::RedundancyGroup;
pub use roster_item::{RosterItem, Subscription};
pub use service_parameter::ServiceParameter;
pub use shared_secret::SharedSecret;
pub use vcard::VCard;

use crate::{Schema, Table};

/// Every table there is.
pub const ALL: &[&Schema] = &[
    ApplicationUser::SCHEMA,
    BlockItem::SCHEMA,
    EndUser::SCHEMA,
    EnterpriseParameter::SCHEMA,
    OfflineMessage::SCHEMA,
    ProcessNode::SCHEMA,
    RedundancyGroup::SCHEMA,
    RosterItem::SCHEMA,
    ServiceParameter::SCHEMA,
    SharedSecret::SCHEMA,
    VCard::SCHEMA,
];

/// The schema of the table of that name.
pub fn schema(table: &str) -> Option<&'static Schema> {
    ALL.iter().find(|schema| schema.table == table).copied()
}

/// Longest local part of an address, in bytes (RFC 7622).
const LOCAL: usize = 1023;
/// Longest address, in bytes.
const ADDRESS: usize = 3071;
/// Largest stanza that is stored, in bytes: the largest that a client may be
/// allowed to send (`MaxStanzaBytes`), with room for the addresses that the
/// router writes into it.
pub const LARGEST_STANZA: usize = (512 << 10) + (8 << 10);
