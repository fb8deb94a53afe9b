//! The node behind the service: opening with its report, first rows, counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use replication::{Alone, CommitError, Node, Options, Peers, Recovery};
use serde_json::Value;
use store::{Action, Operation, Outcome, Store, Transaction, key};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::{Error, forward, rpc, transfer};

/// A judgement of the replicator that is older than this is no longer one.
const STALE: Duration = Duration::from_secs(20);

/// Watchers and changes of one table since the service started.
#[derive(Debug, Default)]
pub(crate) struct TableCounts {
    pub(crate) watchers: AtomicU64,
    pub(crate) notifications: AtomicU64,
    pub(crate) changes: AtomicU64,
}

/// The node's database below its interface.
#[derive(Debug)]
pub(crate) struct Engine {
    node: Node,
    cluster: Option<Cluster>,
    /// The replicator's judgement, and when it came.
    report: Mutex<Option<(Instant, rpc::ReportRequest)>>,
    counts: Mutex<BTreeMap<String, Arc<TableCounts>>>,
    /// Why the service must start again; empty while it need not.
    restart: watch::Sender<String>,
}

impl Engine {
    /// Opens the database. Without ways to others it is a cluster of its own.
    pub(crate) async fn open(options: Options, peers: Option<Peers>) -> anyhow::Result<Self> {
        let folder = &options.folder.clone();
        let node = match &peers {
            Some(peers) => Node::open(options, peers.clone()).await?,
            None => Node::open(options, Alone).await?,
        };
        if !node.recovery().findings.is_empty() {
            write_report(folder, node.recovery())?;
        }
        Ok(Self {
            node,
            cluster: peers.map(Cluster::new),
            report: Mutex::default(),
            counts: Mutex::default(),
            restart: watch::Sender::default(),
        })
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// The rows as they are. Do not hold on to it for long.
    pub(crate) fn store(&self) -> Arc<Store> {
        self.node.replica().store()
    }

    /// The rows, where there are any to be read.
    pub(crate) fn readable(&self) -> Result<Arc<Store>, Error> {
        if self.node.replica().is_complete() {
            return Ok(self.store());
        }
        Err(Error::Unavailable(
            "this node's tables are being copied from the publisher; \"utils dbreplication \
             runtimestate\" shows how far that is"
                .into(),
        ))
    }

    /// The revision, as it grows.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.node.replica().revisions()
    }

    /// Whether this node leads and may.
    pub(crate) fn leads(&self) -> bool {
        let facts = self.node.facts();
        facts.leader == Some(facts.node) && facts.superseded.is_none()
    }

    /// The other nodes; none when this one is a cluster of its own.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Takes the replicator's judgement of this node.
    pub(crate) fn take_report(&self, report: rpc::ReportRequest) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), report));
    }

    /// The replicator's judgement of this node, as far as it still counts.
    pub(crate) fn report(&self) -> rpc::ReportRequest {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match report.clone() {
            None => rpc::ReportRequest {
                reason: "the replicator has not looked at this node yet".into(),
                ..Default::default()
            },
            Some((at, report)) if at.elapsed() > STALE => rpc::ReportRequest {
                state: 3,
                reason: format!(
                    "the replicator has not reported for {} s",
                    at.elapsed().as_secs()
                ),
                ..report
            },
            Some((_, report)) => report,
        }
    }

    /// Carries a transaction out, here or on the publisher; answers when it is
    /// durable and reads of this node see it.
    pub(crate) async fn propose(&self, transaction: Transaction) -> Result<Outcome, Error> {
        forward::propose(self, transaction).await
    }

    /// Carries a transaction out on this node, which must lead.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<Outcome, CommitError> {
        let mut tables: BTreeMap<String, u64> = BTreeMap::new();
        for step in &transaction.operations {
            if !matches!(step.action(), Action::Require | Action::RequireRow) {
                *tables.entry(step.table.clone()).or_default() += 1;
            }
        }
        let outcome = self.node.commit(transaction).await?;
        if outcome.is_ok() {
            for (table, changes) in tables {
                self.counts(&table)
                    .changes
                    .fetch_add(changes, Ordering::Relaxed);
            }
        }
        Ok(outcome)
    }

    /// The counts of a table.
    pub(crate) fn counts(&self, table: &str) -> Arc<TableCounts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(table.into()).or_default().clone()
    }

    /// Has the service start again, for `reason`: at its start the node checks
    /// everything and rebuilds what must be rebuilt.
    pub(crate) fn restart(&self, reason: &str) {
        self.restart.send_if_modified(|now| {
            let first = now.is_empty();
            if first {
                reason.clone_into(now);
            }
            first
        });
    }

    /// Whether the service is to start again.
    pub(crate) fn ends(&self) -> bool {
        !self.restart.borrow().is_empty()
    }

    /// Completes when the service must end, with the reason.
    pub(crate) async fn failed(&self) -> String {
        let mut restart = self.restart.subscribe();
        tokio::select! {
            reason = self.node.failed() => reason,
            // The sender lives in this engine.
            Ok(reason) = restart.wait_for(|reason| !reason.is_empty()) => reason.clone(),
        }
    }

    /// Imports the rows that set-up left, once: in one transaction, at the
    /// database's first start.
    pub(crate) async fn import_seed(&self, file: &Path) -> anyhow::Result<()> {
        let text = match std::fs::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            read => read.with_context(|| format!("{} cannot be read", file.display()))?,
        };
        if self.store().revision() == 0 {
            let transaction = seed_transaction(&text).with_context(|| {
                format!("{} is not valid; set the node up again", file.display())
            })?;
            let rows = transaction.operations.len();
            if rows > 0 {
                let outcome = self.propose(transaction).await?;
                outcome
                    .map_err(|rejection| anyhow::anyhow!("{}: {rejection:?}", file.display()))?;
            }
            tracing::info!(rows, "The rows of the set-up were imported.");
        }
        std::fs::remove_file(file).with_context(|| format!("{} cannot be removed", file.display()))
    }

    /// Stops in order, when the last request has let go of the engine.
    pub(crate) async fn close(mut self: Arc<Self>) -> anyhow::Result<()> {
        for _ in 0..400 {
            match Arc::try_unwrap(self) {
                Ok(engine) => return Ok(engine.node.close().await?),
                Err(shared) => self = shared,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A request that does not end: the log is safe as it is.
        Ok(self.store().flush()?)
    }
}

/// Reads `{"tables": {"name": [row, …], …}}`.
fn seed_transaction(text: &[u8]) -> Result<Transaction, Error> {
    let invalid = |text: &str| Error::Invalid(text.into());
    let seed: Value =
        serde_json::from_slice(text).map_err(|error| Error::Invalid(error.to_string()))?;
    let tables = seed["tables"]
        .as_object()
        .ok_or_else(|| invalid("it has no \"tables\""))?;
    let mut transaction = Transaction::default();
    for (name, rows) in tables {
        let schema = transfer::find(name)?;
        let rows = rows
            .as_array()
            .ok_or_else(|| invalid("a table is not a list of rows"))?;
        for row in rows {
            let encoded = schema.encode(row.clone(), schema.version)?;
            transaction.operations.push(Operation {
                action: Action::Put.into(),
                table: schema.table.into(),
                key: key::encode(&encoded.key),
                row: encoded.content,
                version: schema.version,
                revision: 0,
            });
        }
    }
    Ok(transaction)
}

/// Keeps what was found and done beside the database's files.
fn write_report(folder: &Path, recovery: &Recovery) -> anyhow::Result<PathBuf> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let path = folder.join(format!("recovery-{}.json", now.as_millis()));
    let report = serde_json::json!({ "time": now.as_secs(), "findings": recovery.findings });
    std::fs::write(&path, format!("{report:#}\n"))?;
    Ok(path)
}
