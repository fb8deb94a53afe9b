//! The store behind the service, and the order in which it changes.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use store::{Command, HistoryLimits, Outcome, Position, SledBackend, Store, Transaction};
use tokio::sync::watch;

/// The node's database below its interface.
#[derive(Debug)]
pub(crate) struct Engine {
    store: Arc<Store>,
    order: Mutex<()>,
    revision: watch::Sender<u64>,
}

impl Engine {
    /// Opens the database in a folder.
    pub(crate) fn open(folder: &Path, cache: u64) -> anyhow::Result<Self> {
        let backend = SledBackend::open(&folder.join("replica"), cache)?;
        let epoch = uuid::Uuid::new_v4().to_string();
        let store = Store::open(Box::new(backend), HistoryLimits::default(), &epoch)?;
        let revision = watch::Sender::new(store.revision());
        Ok(Self {
            store: Arc::new(store),
            order: Mutex::new(()),
            revision,
        })
    }

    /// The rows.
    pub(crate) fn store(&self) -> Arc<Store> {
        self.store.clone()
    }

    /// Carries a transaction out; answers when it is durable.
    pub(crate) async fn propose(&self, transaction: Transaction) -> Result<Outcome, store::Error> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = self.store.applied();
        let position = Position {
            index: applied.index + 1,
            ..applied
        };
        let command = Command {
            transactions: vec![transaction],
        };
        let (mut outcomes, _) = self.store.apply(position, Some(&command))?;
        self.store.flush()?;
        self.revision.send_replace(self.store.revision());
        // One transaction has one outcome.
        outcomes
            .pop()
            .ok_or_else(|| store::Error::Io("the transaction was not judged".into()))
    }

    /// The revision, as it grows.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}
