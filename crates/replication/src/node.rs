//! A node: everything open, transactions in, facts out.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::{BasicNode, SnapshotPolicy};
use prost::Message;
use store::{Command, HistoryLimits, Outcome, Transaction};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::acknowledge::{Acknowledgement, Waits};
use crate::contact::Contact;
use crate::disk::{Disk, Folder};
use crate::epoch::{Epoch, Epochs, Heard};
use crate::error::{CommitError, commit_error};
use crate::log::{Log, LogError};
use crate::machine::{Machine, Replica};
use crate::name::number;
use crate::network::Network;
use crate::pause::Pause;
use crate::recovery::{OpenError, Order, PROMOTE, RESET, Recovery, mark_closed, open};
use crate::responder::Responder;
use crate::snapshot::Snapshots;
use crate::types::Raft;
use crate::voters::{give_signs_of_life, majority_from, sure, timing};

/// Transactions that may wait for the next write.
const WAITING: usize = 4096;
/// Most transactions in one entry.
const LARGEST_BATCH: usize = 1024;
/// Above this size an entry takes no further transactions.
const FULL_BATCH: usize = 4 << 20;

/// How a node is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of this node in the cluster: what the log calls it follows from
    /// that and from what is in the folder (see [`crate::number`]).
    pub node: u64,
    /// The folder of everything.
    pub folder: PathBuf,
    /// Where log and snapshots lie: the folder, but for tests.
    pub disk: Arc<dyn Disk>,
    /// Memory for cached pages of the replica, in bytes.
    pub cache: u64,
    /// How much history is kept.
    pub history: HistoryLimits,
    /// Whether a node without anything founds a cluster of its own; one that
    /// does not waits to be taken into one, and has nothing that it cannot get
    /// from the others.
    pub found: bool,
    /// Where others reach this node (`host:port`); empty while it is alone.
    pub address: String,
    /// How long a write waits for a learner that kept up so far.
    pub grace: Duration,
    /// Bytes of log after which a snapshot is written.
    pub snapshot_bytes: u64,
    /// Entries after which a snapshot is written.
    pub snapshot_entries: u64,
}

impl Options {
    /// A node of its own in `folder`, which exists.
    pub fn new(node: u64, folder: PathBuf) -> Self {
        Self {
            node,
            disk: Arc::new(Folder::new(&folder)),
            folder,
            cache: 32 << 20,
            history: HistoryLimits::default(),
            found: true,
            address: String::new(),
            grace: Duration::from_secs(1),
            snapshot_bytes: 32 << 20,
            snapshot_entries: 20_000,
        }
    }
}

/// Where a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the log calls it.
    pub node: u64,
    /// `leader`, `follower`, `learner`, `candidate` or `shutdown`.
    pub role: String,
    /// The term.
    pub term: u64,
    /// The last entry applied to the replica.
    pub applied: u64,
    /// The last entry of the log.
    pub last_log: u64,
    /// The newest snapshot; 0 when there is none.
    pub snapshot: u64,
    /// The last entry that was dropped.
    pub purged: u64,
    /// Whether a snapshot is being written or taken over.
    pub building: bool,
    /// The node that leads, as far as this one knows, by its name in the log.
    pub leader: Option<u64>,
    /// The members of the cluster.
    pub members: Vec<NodeMember>,
    /// How long ago this node heard the one that leads; where it leads itself,
    /// how long ago a majority of the voters confirmed that. None: not yet.
    pub contact: Option<Duration>,
    /// Why replication of this node is stopped; none while it is not.
    pub stopped: Option<String>,
    /// Which log it has.
    pub epoch: Epoch,
    /// The log that put an end to this one, which this node led.
    pub superseded: Option<Epoch>,
    /// Whether this node led under a name that it had before it lost the end
    /// of its log, so that nobody leads.
    pub forgot: bool,
    /// What stopped the node; empty while it runs.
    pub fault: String,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMember {
    /// What the log calls it.
    pub node: u64,
    /// Its address.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
    /// Up to where it has the log, if this node leads.
    pub matched: Option<u64>,
}

/// Counts since the node was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Successful transactions.
    pub transactions: u64,
    /// Transactions that changed nothing.
    pub rejected: u64,
    /// Entries written for them.
    pub commits: u64,
}

struct Waiting {
    transaction: Transaction,
    answer: oneshot::Sender<Result<Outcome, CommitError>>,
}

#[derive(Debug, Default)]
struct Counters {
    transactions: AtomicU64,
    rejected: AtomicU64,
    commits: AtomicU64,
}

/// A running node.
pub struct Node {
    /// What the log calls this node.
    name: u64,
    raft: Raft,
    log: Log,
    pause: Pause,
    epochs: Epochs,
    contact: Contact,
    replica: Arc<Replica>,
    snapshots: Snapshots,
    recovery: Recovery,
    options: Options,
    queue: mpsc::Sender<Waiting>,
    counters: Arc<Counters>,
    acknowledgement: Arc<watch::Sender<Acknowledgement>>,
    /// Held by whoever changes the members.
    changing: Mutex<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Opens a node and waits until everything that its log holds is applied.
    pub async fn open<N: Network>(options: Options, network: N) -> Result<Self, OpenError> {
        let for_opening = options.clone();
        let opened = tokio::task::spawn_blocking(move || open(&for_opening))
            .await
            .map_err(|error| OpenError::Raft(error.to_string()))??;
        let config = openraft::Config {
            cluster_name: "signalbox".into(),
            // Snapshots are triggered below, by bytes as well as by entries,
            // and the log is dropped up to the older of two snapshots.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            ..timing()
        };
        let config = config
            .validate()
            .map_err(|error| OpenError::Raft(error.to_string()))?;
        let replica = Arc::new(opened.replica);
        // One that begins a cluster has all there is.
        let founds = options.found && opened.log.epoch()?.is_first();
        if founds {
            replica.set_complete();
        }
        let machine = Machine::new(replica.clone(), opened.snapshots.clone());
        let log = opened.log;
        let (_, last) = log.ends();
        let fatal = |error: openraft::error::Fatal<u64>| OpenError::Raft(error.to_string());
        let name = opened.name;
        let epochs = Epochs::load(&log)?;
        network.speak_in(epochs.clone());
        let raft = Raft::new(name, Arc::new(config), network, log.clone(), machine)
            .await
            .map_err(fatal)?;
        if founds && last.is_none() && !raft.is_initialized().await.map_err(fatal)? {
            let alone = BTreeMap::from([(name, BasicNode::new(&options.address))]);
            raft.initialize(alone)
                .await
                .map_err(|error| OpenError::Raft(error.to_string()))?;
        }
        let (queue, waiting) = mpsc::channel(WAITING);
        let counters = Arc::new(Counters::default());
        let (written, held) = mpsc::unbounded_channel();
        let acknowledgement = Arc::new(watch::Sender::default());
        let tasks = vec![
            tokio::spawn(commit_batches(
                raft.clone(),
                waiting,
                written,
                options.clone(),
            )),
            tokio::spawn(answer(
                raft.clone(),
                held,
                counters.clone(),
                acknowledgement.clone(),
                options.grace,
            )),
            tokio::spawn(drop_log(raft.clone(), opened.snapshots.clone())),
            tokio::spawn(give_signs_of_life(raft.clone())),
        ];
        let node = Self {
            name,
            pause: Pause::load(&options.folder),
            epochs,
            contact: Contact::default(),
            raft,
            log,
            replica,
            snapshots: opened.snapshots,
            recovery: opened.recovery,
            options,
            queue,
            counters,
            acknowledgement,
            changing: Mutex::default(),
            tasks,
        };
        node.catch_up().await?;
        Ok(node)
    }

    /// A voter that is alone elects itself at once, and applies its whole log:
    /// only then do reads see every acknowledged write.
    async fn catch_up(&self) -> Result<(), OpenError> {
        let failed = |error: String| OpenError::Raft(error);
        let this = self.name;
        let alone = self
            .raft
            .with_raft_state(move |state| {
                state
                    .membership_state
                    .effective()
                    .membership()
                    .voter_ids()
                    .eq([this])
            })
            .await
            .map_err(|error| failed(error.to_string()))?;
        if !alone {
            return Ok(());
        }
        self.raft
            .trigger()
            .elect()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let mut metrics = self.raft.metrics();
        loop {
            {
                let now = metrics.borrow_and_update();
                if let Err(fatal) = &now.running_state {
                    return Err(failed(fatal.to_string()));
                }
                if now.current_leader == Some(this) {
                    break;
                }
            }
            metrics
                .changed()
                .await
                .map_err(|error| failed(error.to_string()))?;
        }
        // An entry of this term is applied behind everything before it.
        let nothing = self.raft.client_write(Command::default()).await;
        nothing.map_err(|error| failed(error.to_string()))?;
        Ok(())
    }

    /// What the log calls this node (see [`crate::number`]).
    pub fn name(&self) -> u64 {
        self.name
    }

    /// What was found and done when the node was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The replica.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Where others reach this node.
    pub(crate) fn address(&self) -> &str {
        &self.options.address
    }

    /// Held by whoever changes the members.
    pub(crate) fn changing(&self) -> &Mutex<()> {
        &self.changing
    }

    /// The consensus engine.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The service that other nodes talk to.
    pub fn responder(&self) -> Responder {
        Responder::new(
            self.raft.clone(),
            self.replica.clone(),
            self.pause.clone(),
            self.epochs.clone(),
            self.contact.clone(),
        )
    }

    /// Stops replication of this node, which must not lead, until
    /// [`Node::follow`] or a reset: what others send is refused, also after a
    /// restart. Reads go on with what is there.
    pub fn stop_following(&self, reason: &str) -> std::io::Result<()> {
        self.pause.stop(reason)
    }

    /// Starts replication again; answers whether it was stopped.
    pub fn follow(&self) -> std::io::Result<bool> {
        self.pause.end()
    }

    /// Has the node begin anew at its next opening, with nothing and under a
    /// new name in the log.
    pub fn order_reset(&self, reason: &str) -> std::io::Result<()> {
        let epoch = self.epochs.superseded().unwrap_or_default();
        self.begin_anew(epoch.max(self.epochs.own()), reason)
    }

    fn begin_anew(&self, epoch: Epoch, reason: &str) -> std::io::Result<()> {
        let order = Order {
            epoch,
            reason: reason.into(),
        };
        order.leave(&self.options.folder, RESET)?;
        self.pause.end().map(drop)
    }

    /// Has a new epoch of the log begin at the next opening, with this node as
    /// the one that leads and with what it has. What others have beyond that is
    /// void. A node that has nothing is refused.
    pub fn order_promotion(&self, reason: &str) -> std::io::Result<Epoch> {
        if !self.replica.is_complete() || self.facts().last_log == 0 {
            return Err(std::io::Error::other("this node has no data to begin with"));
        }
        let last = self.epochs.superseded().unwrap_or_default();
        let order = Order {
            epoch: last.max(self.epochs.own()).next(number(self.name)),
            reason: reason.into(),
        };
        order.leave(&self.options.folder, PROMOTE)?;
        self.pause.end()?;
        Ok(order.epoch)
    }

    /// Another node speaks in that epoch of the log. Answers what follows for
    /// this one.
    pub fn hear(&self, epoch: Epoch) -> Result<Heard, CommitError> {
        let stopped = |error: String| CommitError::Stopped(error);
        let known = self.epochs.superseded().unwrap_or_default();
        if epoch <= known.max(self.epochs.own()) {
            return Ok(Heard::Nothing);
        }
        let facts = self.facts();
        let adopted = |error: LogError| stopped(error.to_string());
        if facts.members.is_empty() && self.log.ends() == (None, None) {
            self.epochs.adopt(epoch).map_err(adopted)?;
            return Ok(Heard::Nothing);
        }
        let mut voters = facts.members.iter().filter(|member| member.voter);
        // Only who votes can have what nobody else has.
        if voters.any(|member| member.node == self.name) {
            self.epochs.supersede(epoch).map_err(adopted)?;
            return Ok(Heard::Superseded);
        }
        let reason = format!("the cluster continues with {epoch}");
        self.begin_anew(epoch, &reason)
            .map_err(|error| stopped(error.to_string()))?;
        Ok(Heard::Anew)
    }

    /// Writes the replica out and a snapshot of it, after it was changed past
    /// the log: what is rebuilt later is rebuilt from this.
    pub async fn keep_replica(&self) -> Result<(), CommitError> {
        let (store, snapshots) = (self.replica.store(), self.snapshots.clone());
        let stopped = |error: String| CommitError::Stopped(error);
        let kept = tokio::task::spawn_blocking(move || -> Result<(), String> {
            store.flush().map_err(|error| error.to_string())?;
            let written = snapshots.write(&store);
            written.map(drop).map_err(|error| error.to_string())
        });
        kept.await
            .map_err(|error| stopped(error.to_string()))?
            .map_err(stopped)
    }

    /// How writes are acknowledged now.
    pub fn acknowledgement(&self) -> Acknowledgement {
        *self.acknowledgement.borrow()
    }

    /// Commits a transaction: answered when it is on disk and applied here, and
    /// a learner that keeps up has it, too, or a majority of the voters. What
    /// waits together is written together.
    pub async fn commit(&self, transaction: Transaction) -> Result<Outcome, CommitError> {
        if let Some(by) = self.epochs.superseded() {
            return Err(CommitError::Superseded(by));
        }
        self.await_majority().await?;
        let (answer, answered) = oneshot::channel();
        let stopped = || CommitError::Stopped(self.facts().fault);
        self.queue
            .send(Waiting {
                transaction,
                answer,
            })
            .await
            .map_err(|_| stopped())?;
        match self.confirmed(answered).await?.map_err(|_| stopped())? {
            Err(CommitError::Elsewhere(_)) if self.facts().forgot => Err(CommitError::Forgot),
            answer => answer,
        }
    }

    /// Where the node is.
    pub fn facts(&self) -> Facts {
        let metrics = self.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let members = membership.nodes().map(|(id, node)| NodeMember {
            node: *id,
            address: node.addr.clone(),
            voter: voters.contains(id),
            matched: metrics
                .replication
                .as_ref()
                .and_then(|all| all.get(id).copied().flatten())
                .map(|id| id.index),
        });
        let forgot = |name: &u64| *name != self.name && number(*name) == number(self.name);
        let index = |id: Option<crate::LogId>| id.map_or(0, |id| id.index);
        let leads = metrics.current_leader == Some(self.name);
        Facts {
            contact: if leads {
                sure(&metrics)
            } else {
                self.contact.ago()
            },
            node: metrics.id,
            role: format!("{:?}", metrics.state).to_lowercase(),
            term: metrics.current_term,
            applied: index(metrics.last_applied),
            last_log: metrics.last_log_index.unwrap_or(0),
            snapshot: index(metrics.snapshot),
            purged: index(metrics.purged),
            building: self.replica.is_building(),
            leader: metrics.current_leader,
            members: members.collect(),
            stopped: self.pause.reason(),
            epoch: self.epochs.own(),
            superseded: self.epochs.superseded(),
            forgot: voters.len() == 1 && voters.iter().all(forgot),
            fault: metrics
                .running_state
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default(),
        }
    }

    /// Completes when the node stopped by itself, with the reason.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "the log stopped".into();
            }
        }
    }

    /// Counts since the node was opened.
    pub fn counts(&self) -> Counts {
        Counts {
            transactions: self.counters.transactions.load(Ordering::Relaxed),
            rejected: self.counters.rejected.load(Ordering::Relaxed),
            commits: self.counters.commits.load(Ordering::Relaxed),
        }
    }

    /// Bytes of the log's file and of the snapshots.
    pub fn sizes(&self) -> (u64, u64) {
        (
            self.options.disk.size("log.redb").unwrap_or(0),
            self.snapshots.size(),
        )
    }

    /// Writes a snapshot now; answers the index that it reaches.
    pub async fn snapshot(&self) -> Result<u64, CommitError> {
        let stopped = |error: String| CommitError::Stopped(error);
        let applied = self.facts().applied;
        self.raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| stopped(error.to_string()))?;
        let mut metrics = self.raft.metrics();
        loop {
            {
                let now = metrics.borrow_and_update();
                if let Err(fatal) = &now.running_state {
                    return Err(stopped(fatal.to_string()));
                }
                match now.snapshot {
                    Some(id) if id.index >= applied => return Ok(id.index),
                    _ => {}
                }
            }
            metrics
                .changed()
                .await
                .map_err(|error| stopped(error.to_string()))?;
        }
    }

    /// Gives unused space of the log's file back. Changes wait meanwhile.
    pub async fn compact(&self) -> Result<bool, CommitError> {
        let log = self.log.clone();
        let done = tokio::task::spawn_blocking(move || log.compact()).await;
        let stopped = |error: String| CommitError::Stopped(error);
        done.map_err(|error| stopped(error.to_string()))?
            .map_err(|error| stopped(error.to_string()))
    }

    /// Has the replica rebuilt at the next opening.
    pub fn order_rebuild(&self, reason: &str) -> std::io::Result<()> {
        std::fs::write(self.options.folder.join("rebuild"), reason)
    }

    /// Stops in order: the replica is written out. What was not answered may
    /// have been committed, or be later, by the others.
    pub async fn close(self) -> Result<(), CommitError> {
        let Self {
            raft,
            replica,
            queue,
            tasks,
            log,
            options,
            ..
        } = self;
        drop(queue);
        let mut tasks = tasks.into_iter();
        for task in tasks.by_ref().take(2) {
            // They end when the queue is empty and all of it is answered.
            let _ = task.await;
        }
        tasks.for_each(|task| task.abort());
        raft.shutdown()
            .await
            .map_err(|error| CommitError::Stopped(error.to_string()))?;
        drop(raft);
        // The engine's tasks let go of the files a moment after its end; who
        // opens them again next must not find them locked.
        for _ in 0..400 {
            if Arc::strong_count(&replica) == 1 && log.is_last() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(log);
        let folder = options.folder;
        let flushed = tokio::task::spawn_blocking(move || {
            let store = replica.store();
            store.flush()?;
            mark_closed(&folder, &store).map_err(|error| store::Error::Io(error.to_string()))
        })
        .await;
        let stopped = |error: String| CommitError::Stopped(error);
        flushed
            .map_err(|error| stopped(error.to_string()))?
            .map_err(|error| stopped(error.to_string()))
    }
}

/// An entry that is on this node's disk, and who waits for it.
struct Written {
    index: u64,
    answers: Vec<Answer>,
    outcomes: Vec<Outcome>,
}

/// Takes what waits and writes it as one entry.
async fn commit_batches(
    raft: Raft,
    mut queue: mpsc::Receiver<Waiting>,
    written: mpsc::UnboundedSender<Written>,
    options: Options,
) {
    let mut waiting = Vec::new();
    let (mut bytes, mut entries) = (0, 0);
    while queue.recv_many(&mut waiting, LARGEST_BATCH).await > 0 {
        // Whoever gave up was told nothing, or that it may not be made.
        waiting.retain(|one: &Waiting| !one.answer.is_closed());
        while !waiting.is_empty() {
            let (command, mut answers) = take_batch(&mut waiting);
            bytes += command.encoded_len() as u64;
            entries += 1;
            let done = tokio::select! {
                biased;
                done = raft.client_write(command) => Some(done),
                () = given_up(&mut answers) => None,
            };
            match done {
                // Without a majority it would take for ever, and hold up what
                // comes next, and the node's end.
                None => {}
                Some(Ok(response)) => {
                    // Its receiver ends after this.
                    let _ = written.send(Written {
                        index: response.log_id.index,
                        answers,
                        outcomes: response.data,
                    });
                }
                Some(Err(error)) => {
                    let error = commit_error(&error);
                    for answer in answers {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
        }
        if bytes > options.snapshot_bytes || entries > options.snapshot_entries {
            (bytes, entries) = (0, 0);
            // A node that stopped says so to the next transaction.
            let _ = raft.trigger().snapshot().await;
        }
    }
}

/// Completes when nobody waits for these answers any more.
async fn given_up(answers: &mut [Answer]) {
    for answer in answers {
        answer.closed().await;
    }
}

/// Answers what is written as soon as it is acknowledged.
async fn answer(
    raft: Raft,
    mut written: mpsc::UnboundedReceiver<Written>,
    counters: Arc<Counters>,
    acknowledgement: Arc<watch::Sender<Acknowledgement>>,
    grace: Duration,
) {
    let origin = Instant::now();
    let mut metrics = raft.metrics();
    let mut waits = Waits::new(grace);
    let mut held = VecDeque::new();
    let mut more = true;
    while more || !held.is_empty() {
        {
            let now = metrics.borrow_and_update();
            waits.majority(majority_from(&now));
            let others = now.replication.iter().flatten();
            let others = others.filter(|(node, _)| **node != now.id);
            waits.seen(others.map(|(node, matched)| (*node, matched.map_or(0, |id| id.index))));
        }
        let upto = waits.acknowledged(origin.elapsed());
        while let Some(entry) = held.pop_front_if(|entry: &mut Written| entry.index <= upto) {
            release(entry, &counters);
        }
        let state = waits.state();
        acknowledgement.send_if_modified(|told| std::mem::replace(told, state) != state);
        let deadline = waits.deadline().map(|at| origin + at);
        tokio::select! {
            entry = written.recv(), if more => match entry {
                Some(entry) => {
                    waits.written(entry.index, origin.elapsed());
                    held.push_back(entry);
                }
                None => more = false,
            },
            changed = metrics.changed() => if changed.is_err() {
                // The engine ended: what is held is on this node's disk.
                held.drain(..).for_each(|entry| release(entry, &counters));
                return;
            },
            () = until(deadline) => {}
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn release(entry: Written, counters: &Counters) {
    counters.commits.fetch_add(1, Ordering::Relaxed);
    for (answer, outcome) in entry.answers.into_iter().zip(entry.outcomes) {
        let counter = if outcome.is_ok() {
            &counters.transactions
        } else {
            &counters.rejected
        };
        counter.fetch_add(1, Ordering::Relaxed);
        // One who no longer waits needs no answer.
        let _ = answer.send(Ok(outcome));
    }
}

type Answer = oneshot::Sender<Result<Outcome, CommitError>>;

fn take_batch(waiting: &mut Vec<Waiting>) -> (Command, Vec<Answer>) {
    let mut size = 0;
    let fits = waiting.iter().position(|waiting| {
        let full = size > FULL_BATCH;
        size += waiting.transaction.encoded_len();
        full
    });
    let count = fits.unwrap_or(waiting.len());
    let mut command = Command::default();
    let mut answers = Vec::with_capacity(count);
    for Waiting {
        transaction,
        answer,
    } in waiting.drain(..count)
    {
        command.transactions.push(transaction);
        answers.push(answer);
    }
    (command, answers)
}

/// Drops the log up to the older of the two snapshots.
async fn drop_log(raft: Raft, snapshots: Snapshots) {
    let mut metrics = raft.metrics();
    let mut dropped = 0;
    loop {
        let newest = metrics
            .borrow_and_update()
            .snapshot
            .map_or(0, |id| id.index);
        let all = snapshots.all();
        if all.len() == 2 && all[1].index() == newest && all[0].index() > dropped {
            dropped = all[0].index();
            if raft.trigger().purge_log(dropped).await.is_err() {
                return;
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
