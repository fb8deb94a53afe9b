//! What two managers tell each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ownership::{Node, Ownership};
use crate::state::Standing;

/// Version of the messages. A field is only ever added, with a default, so
/// that nodes of two neighbouring versions understand each other.
pub const VERSION: u16 = 1;

/// A keepalive: all that a peer needs to know, in every message, so that a lost
/// one is made good by the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Keepalive {
    /// Version of the sender's messages.
    pub version: u16,
    /// Name of the redundancy group.
    pub group: String,
    /// The sender.
    pub node: Node,
    /// Identity of the sender's boot, another one after each reboot.
    pub boot: String,
    /// Counts the starts of the sender's manager.
    pub incarnation: u64,
    /// Counts the messages of this incarnation.
    pub sequence: u64,
    /// The receiver's incarnation that was heard last.
    pub heard: Option<u64>,
    /// For how many milliseconds the sender has not heard the receiver.
    pub silent: u64,
    /// State and reason of the sender.
    pub standing: Standing,
    /// What the sender knows of the owners of the first and the second node's
    /// users.
    pub ownership: [Ownership; 2],
    /// The sender's critical services, and whether each runs.
    pub services: BTreeMap<String, bool>,
    /// Whether one of them has been down for longer than allowed.
    pub sick: bool,
    /// Replication state of the sender's database, 0 to 4; 2 is good.
    pub replication: u8,
    /// Whether failovers came too often.
    pub held: bool,
    /// Counts the recoveries that administrators asked for.
    pub recovery: u64,
    /// Whether the sender's node is shutting down.
    pub leaving: bool,
}

/// A message that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is no keepalive.
    #[error("a recovery manager sent something else than a keepalive: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The sender is too far away in version.
    #[error(
        "the peer's recovery manager speaks version {0}, this one {VERSION}; upgrade the older \
         node"
    )]
    Version(u16),
    /// The sender belongs to another group.
    #[error("the sender belongs to redundancy group {theirs:?}, this node to {ours:?}")]
    Group {
        /// The sender's group.
        theirs: String,
        /// This node's group.
        ours: String,
    },
}

impl Keepalive {
    /// The message as it goes over the wire: JSON.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("plain data: {error}"))
    }

    /// Reads a message of this group.
    pub fn decode(bytes: &[u8], group: &str) -> Result<Self, MessageError> {
        // The version first: what another one may hold is not known here.
        #[derive(Deserialize)]
        struct Version {
            version: u16,
        }
        let Version { version } = serde_json::from_slice(bytes)?;
        if version == 0 || version.abs_diff(VERSION) > 1 {
            return Err(MessageError::Version(version));
        }
        let message: Self = serde_json::from_slice(bytes)?;
        if message.group != group {
            return Err(MessageError::Group {
                theirs: message.group,
                ours: group.into(),
            });
        }
        Ok(message)
    }

    /// Whether all the sender's critical services run.
    pub fn healthy(&self) -> bool {
        self.services.values().all(|running| *running)
    }

    /// Whether this says the same as `other` of the sender, apart from the
    /// counts of time and messages.
    pub(crate) fn same_news(&self, other: &Self) -> bool {
        let news = |message: &Self| {
            (
                message.standing,
                message.ownership,
                message.healthy(),
                message.sick,
                message.held,
                message.recovery,
                message.leaving,
            )
        };
        news(self) == news(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Reason, State};

    fn message() -> Keepalive {
        Keepalive {
            version: VERSION,
            group: "first".into(),
            node: Node::Two,
            boot: "b".into(),
            incarnation: 3,
            sequence: 9,
            heard: Some(4),
            silent: 15,
            standing: Standing::new(State::RunningInBackupMode, Reason::PeerDown),
            ownership: Node::BOTH.map(Ownership::first),
            services: [("xmpp-router".into(), true)].into(),
            sick: false,
            replication: 2,
            held: false,
            recovery: 0,
            leaving: false,
        }
    }

    fn changed(field: &str, value: serde_json::Value) -> Vec<u8> {
        let mut json = serde_json::to_value(message()).unwrap();
        json[field] = value;
        json.to_string().into_bytes()
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let read = Keepalive::decode(&message().encode(), "first").unwrap();
        assert_eq!(read, message());
    }

    #[test]
    fn a_field_of_the_next_version_is_passed_over() {
        let mut json = serde_json::to_value(message()).unwrap();
        json["version"] = (VERSION + 1).into();
        json["weather"] = "fine".into();
        let read = Keepalive::decode(json.to_string().as_bytes(), "first").unwrap();
        assert_eq!(read.standing, message().standing);
    }

    #[test]
    fn what_is_not_for_us_is_refused_in_words() {
        for (bytes, expected) in [
            (b"nonsense".to_vec(), "something else"),
            (changed("version", 0.into()), "upgrade"),
            (changed("version", 9.into()), "upgrade"),
            (changed("node", "three".into()), "something else"),
            (changed("group", "second".into()), "belongs to"),
        ] {
            let message = Keepalive::decode(&bytes, "first").unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
