//! The node as the actions see it.

use std::path::PathBuf;
use std::sync::Arc;

use service::{Node, NodeError, Paths};

use crate::Host;
use crate::ports::{DeriveKeys, Recovery, Service, Storage, Supervision};

/// Told of each change of state while an action watches a service.
pub type Progress<'a> = &'a (dyn Fn(&Service) + Send + Sync);

/// Every administrative action of this node. Cheap to clone.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

struct Inner {
    paths: Paths,
    host: Host,
    logs: PathBuf,
    supervision: Box<dyn Supervision>,
    storage: Box<dyn Storage>,
    recovery: Box<dyn Recovery>,
    derive: DeriveKeys,
}

impl Operations {
    /// The actions over the given supervisor, database and recovery manager.
    pub fn new(
        paths: Paths,
        host: Host,
        logs: PathBuf,
        supervision: Box<dyn Supervision>,
        storage: Box<dyn Storage>,
        recovery: Box<dyn Recovery>,
        derive: DeriveKeys,
    ) -> Self {
        Self(Arc::new(Inner {
            paths,
            host,
            logs,
            supervision,
            storage,
            recovery,
            derive,
        }))
    }

    /// Where things are on this node.
    pub fn paths(&self) -> &Paths {
        &self.0.paths
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// What the node knows about itself.
    pub fn node(&self) -> Result<Node, NodeError> {
        Node::load(&self.0.paths)
    }

    pub(crate) fn log_folder(&self) -> &std::path::Path {
        &self.0.logs
    }

    pub(crate) fn supervision(&self) -> &dyn Supervision {
        self.0.supervision.as_ref()
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.0.storage.as_ref()
    }

    pub(crate) fn recovery(&self) -> &dyn Recovery {
        self.0.recovery.as_ref()
    }

    pub(crate) fn derive(&self) -> DeriveKeys {
        self.0.derive
    }
}
