//! What a node knows about itself: `node.toml`, written at set-up and by
//! `set network`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Paths;

/// Role of a node in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The first node, which takes configuration changes.
    Publisher,
    /// Every other node, with a full replica.
    Subscriber,
}

/// The contents of `node.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Host name, without the domain.
    pub name: String,
    /// XMPP domain that this node serves.
    pub domain: String,
    /// The node's own IP address.
    pub address: String,
    /// Publisher or subscriber.
    pub role: Role,
    /// Kind of node; `imp` is instant messaging and presence.
    pub product: String,
    /// Deployment size, such as `5K`.
    pub size: String,
    /// Identity of the cluster (a UUID), the same on each of its nodes.
    pub cluster: String,
}

/// Why `node.toml` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The file is missing or unreadable.
    #[error(
        "cannot read {path}: {source}. The node is set up by the console wizard or an answer file"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what set-up writes.
    #[error("{path} is not valid: {source}. Correct the named field, or set the node up again")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and field.
        source: Box<toml::de::Error>,
    },
}

impl Node {
    /// Reads `node.toml` of this node.
    pub fn load(paths: &Paths) -> Result<Self, NodeError> {
        let path = paths.node_file();
        let text = std::fs::read_to_string(&path).map_err(|source| NodeError::Read {
            path: path.clone(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| NodeError::Parse {
            path,
            source: Box::new(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        std::fs::create_dir_all(paths.etc()).unwrap();
        std::fs::write(paths.node_file(), "name = \"n\"\nnonsense = 1\n").unwrap();
        let message = Node::load(&paths).unwrap_err().to_string();
        assert!(message.contains("nonsense"), "{message}");
    }

    #[test]
    fn a_missing_file_says_how_a_node_is_set_up() {
        let folder = tempfile::tempdir().unwrap();
        let message = Node::load(&Paths::below(folder.path()))
            .unwrap_err()
            .to_string();
        assert!(message.contains("wizard"), "{message}");
    }
}
