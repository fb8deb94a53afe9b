//! What the stores hold, as JSON. The keys of sessions, routes and presence
//! are addresses, so that `alice@example.com/` lists all of Alice's.

use serde::{Deserialize, Serialize};

/// Id of the store of client sessions.
pub const LOGIN: &str = "login-datastore";
/// Id of the store of routes.
pub const ROUTE: &str = "route-datastore";
/// Id of the store of presence.
pub const PRESENCE: &str = "presence-datastore";
/// Id of the store of SIP registrations.
pub const SIP_REGISTRATION: &str = "sip-registration-datastore";

/// A client's session. Key: its full address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The client's address and port.
    pub peer: String,
    /// When it began, in Unix milliseconds.
    pub since: i64,
    /// Whether a client is connected; otherwise it may come back and resume.
    pub connected: bool,
}

/// Where a user's sessions are. Key: the user's bare address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Name of the node.
    pub node: String,
    /// Resources of the sessions there.
    pub resources: Vec<String>,
}

/// What a client last told. Key: its full address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The stanza, from the client's full address; empty when it is not
    /// available.
    pub stanza: String,
    /// Addresses that got directed presence (RFC 6121, section 4.6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directed: Vec<String>,
}

/// A SIP binding (RFC 3261, section 10). Key: the address of record, a space,
/// the contact. The row ends when the registration does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Where requests go.
    pub contact: String,
    /// Call-ID of the registration.
    pub call_id: String,
    /// CSeq of the registration.
    pub sequence: u32,
    /// Preference, in thousandths.
    pub quality: u16,
}
