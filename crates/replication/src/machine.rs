//! What the log is applied to: the node's replica, and its snapshots.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, Snapshot};
use store::{Backend, HistoryLimits, Position, SledBackend, Store, TableDigest};
use tokio::sync::watch;

use crate::place::Places;
use crate::snapshot::{
    Known, SnapshotError, SnapshotFile, Snapshots, read_file, read_position, verify,
};
use crate::types::{
    Config, Entry, LogId, Response, SnapshotMeta, StorageError, StorageIOError, StoredMembership,
    to_json,
};

const PREFIX: &str = "replica-";
/// Places of the log whose digests are remembered.
const PLACES: usize = 256;

/// The node's replica. It is replaced as a whole when a snapshot of another
/// node is taken over: do not hold on to [`Replica::store`] for long.
#[derive(Debug)]
pub struct Replica {
    folder: PathBuf,
    cache: u64,
    limits: HistoryLimits,
    store: RwLock<Arc<Store>>,
    revision: watch::Sender<u64>,
    building: AtomicBool,
    digests: Mutex<VecDeque<Digests>>,
    pub(crate) places: Places,
    /// Whether the rows are those of some moment of the cluster.
    complete: AtomicBool,
    /// What the leader had committed when a replica that began empty first
    /// heard of it; 0 until then.
    goal: AtomicU64,
}

/// Digests of the tables at one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// The last entry that they include.
    pub applied: u64,
    /// The tables that have or had rows.
    pub tables: Vec<TableDigest>,
}

impl Replica {
    pub(crate) fn new(folder: &Path, cache: u64, limits: HistoryLimits, store: Store) -> Self {
        let revision = watch::Sender::new(store.revision());
        let complete = !store.applied().log_id.is_empty();
        Self {
            folder: folder.into(),
            cache,
            limits,
            store: RwLock::new(Arc::new(store)),
            revision,
            building: AtomicBool::new(false),
            digests: Mutex::default(),
            places: Places::default(),
            complete: AtomicBool::new(complete),
            goal: AtomicU64::new(0),
        }
    }

    /// Whether the rows can be read: a replica that began empty has come as far
    /// as the cluster was when it first heard of it.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// A node that founds a log has everything there is.
    pub(crate) fn set_complete(&self) {
        self.complete.store(true, Ordering::Relaxed);
    }

    /// The leader has committed up to `index`.
    pub(crate) fn heard_of(&self, index: u64) {
        if !self.is_complete() {
            let none_yet = self.goal.load(Ordering::Relaxed) == 0;
            if none_yet {
                self.goal.store(index, Ordering::Relaxed);
            }
            self.reached(self.store().applied().index);
        }
    }

    fn reached(&self, index: u64) {
        let goal = self.goal.load(Ordering::Relaxed);
        if goal > 0 && index >= goal {
            self.set_complete();
        }
    }

    /// The digests at a place of the log, if it is a recent one: replicas are
    /// compared where both have been.
    pub fn digests_at(&self, index: u64) -> Option<Digests> {
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.iter().find(|one| one.applied == index).cloned()
    }

    fn remember_digests(&self, store: &Store) {
        let (tables, applied, _) = store.digests();
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.push_back(Digests { applied, tables });
        if digests.len() > PLACES {
            digests.pop_front();
        }
    }

    /// The tables were changed past the log: what was remembered of them and
    /// told of them is void.
    pub(crate) fn changed_past_the_log(&self, store: &Store) {
        self.digests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.remember_digests(store);
        self.revision.send_replace(store.revision());
    }

    /// The rows as they are.
    pub fn store(&self) -> Arc<Store> {
        self.store
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The revision, as it grows.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Whether a snapshot is being written or taken over.
    pub fn is_building(&self) -> bool {
        self.building.load(Ordering::Relaxed)
    }

    /// Fills a new folder from a snapshot, and answers the store in it.
    pub(crate) fn load(
        folder: &Path,
        cache: u64,
        limits: HistoryLimits,
        snapshots: &Snapshots,
        name: &str,
    ) -> Result<Store, SnapshotError> {
        let file = snapshots.file(name);
        let disk = file.disk();
        // The rows are believed only after the digest at the end of the file.
        verify(disk, name)?;
        let path = next_generation(folder)?;
        let backend = SledBackend::open(&path, cache)?;
        let mut rows = Loader::new(&backend);
        read_file(disk, name, |key, value| Ok(rows.take(key, value)?))?;
        rows.finish()?;
        Ok(Store::open(Box::new(backend), limits, "")?)
    }

    fn take_over(&self, snapshots: &Snapshots, name: &str) -> Result<(), SnapshotError> {
        let store = Self::load(&self.folder, self.cache, self.limits, snapshots, name)?;
        let revision = store.revision();
        self.remember_digests(&store);
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(store);
        self.places.passed();
        self.set_complete();
        self.revision.send_replace(revision);
        Ok(())
    }
}

/// Puts rows into an engine in batches of bounded size.
struct Loader<'a> {
    backend: &'a dyn Backend,
    batch: store::Batch,
    size: usize,
}

impl<'a> Loader<'a> {
    fn new(backend: &'a dyn Backend) -> Self {
        Self {
            backend,
            batch: store::Batch::default(),
            size: 0,
        }
    }

    fn take(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), store::Error> {
        self.size += key.len() + value.len();
        self.batch.insert(key, value);
        if self.size > 1 << 20 {
            self.size = 0;
            self.backend.commit(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), store::Error> {
        self.backend.commit(self.batch)?;
        self.backend.flush()
    }
}

/// Folders of replicas below `folder`, the newest last.
pub(crate) fn generations(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if number.is_some_and(|number| number.parse::<u64>().is_ok()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A folder for a replica that is newer than all there are.
pub(crate) fn next_generation(folder: &Path) -> std::io::Result<PathBuf> {
    let newest = generations(folder)?.pop();
    let number = newest
        .and_then(|path| {
            path.file_name()?
                .to_str()?
                .strip_prefix(PREFIX)?
                .parse::<u64>()
                .ok()
        })
        .map_or(1, |number| number + 1);
    Ok(folder.join(format!("{PREFIX}{number:06}")))
}

/// The state machine of the consensus engine.
#[derive(Clone, Debug)]
pub struct Machine {
    replica: Arc<Replica>,
    snapshots: Snapshots,
}

impl Machine {
    pub(crate) fn new(replica: Arc<Replica>, snapshots: Snapshots) -> Self {
        Self { replica, snapshots }
    }

    fn snapshot(&self, known: Known) -> Snapshot<Config> {
        Snapshot {
            meta: known.meta,
            snapshot: Box::new(self.snapshots.file(&known.name)),
        }
    }

    fn apply_one(&self, entry: Entry) -> Result<Response, store::Error> {
        let store = self.replica.store();
        let mut position = Position {
            log_id: to_json(&entry.log_id),
            ..store.applied()
        };
        position.index = entry.log_id.index;
        match entry.payload {
            EntryPayload::Blank => Ok(store.apply(position, None)?.0),
            EntryPayload::Normal(command) => Ok(store.apply(position, Some(&command))?.0),
            EntryPayload::Membership(membership) => {
                position.membership =
                    to_json(&StoredMembership::new(Some(entry.log_id), membership));
                Ok(store.apply(position, None)?.0)
            }
        }
    }
}

impl RaftStateMachine<Config> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        read_position(&self.replica.store().applied())
            .map_err(|error| StorageIOError::read_state_machine(&error).into())
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Response>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut responses = Vec::new();
        let _turn = self.replica.places.turn().await;
        for entry in entries {
            let id = entry.log_id;
            let response = self
                .apply_one(entry)
                .map_err(|error| StorageError::from(StorageIOError::apply(id, &error)))?;
            responses.push(response);
            self.replica.remember_digests(&self.replica.store());
            self.replica.reached(id.index);
            self.replica.arrived();
        }
        let revision = self.replica.store().revision();
        self.replica
            .revision
            .send_if_modified(|told| std::mem::replace(told, revision) != revision);
        Ok(responses)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        Ok(Box::new(self.snapshots.incoming()))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let machine = self.clone();
        let wanted = meta.clone();
        let _turn = self.replica.places.turn().await;
        let done = aside(&self.replica, move || {
            let name = machine.snapshots.adopt(&snapshot)?;
            let found = verify(machine.snapshots.file(&name).disk(), &name)?;
            if found.last_log_id != wanted.last_log_id {
                let text = format!("the snapshot {name} is of another place than announced");
                return Err(crate::types::Damaged(text).into());
            }
            let known = machine.snapshots.keep(&name, found)?;
            machine.replica.take_over(&machine.snapshots, &known.name)
        });
        done.await
            .map_err(|error| StorageIOError::write_snapshot(None, &error).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Config>>, StorageError> {
        Ok(self.snapshots.newest().map(|known| self.snapshot(known)))
    }
}

impl RaftSnapshotBuilder<Config> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Config>, StorageError> {
        let machine = self.clone();
        let built = aside(&self.replica, move || {
            machine.snapshots.write(&machine.replica.store())
        });
        let known = built
            .await
            .map_err(|error| StorageError::from(StorageIOError::write_snapshot(None, &error)))?;
        Ok(self.snapshot(known))
    }
}

/// Runs work on snapshots beside the runtime's own threads.
async fn aside<T: Send + 'static>(
    replica: &Arc<Replica>,
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    replica.building.store(true, Ordering::Relaxed);
    let done = tokio::task::spawn_blocking(work).await;
    replica.building.store(false, Ordering::Relaxed);
    done.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}
