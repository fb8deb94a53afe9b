//! Opening what is on disk: checked whole, and repaired from what is sound.

use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use store::{HistoryLimits, SledBackend, Store};

use crate::disk::Disk;
use crate::epoch::Epoch;
use crate::log::{Log, LogError};
use crate::machine::{Replica, generations, next_generation};
use crate::name;
use crate::node::Options;
use crate::snapshot::{Snapshots, read_position};
use crate::types::{Entry, LogId, Vote, to_json};

const LOG: &str = "log.redb";
const CLOSED: &str = "closed";
/// Orders that the node begin anew, or a new epoch of the log; holds an
/// [`Order`].
pub(crate) const RESET: &str = "reset";
pub(crate) const PROMOTE: &str = "promote";

/// An order for the next opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The epoch to begin in, or to begin.
    pub(crate) epoch: Epoch,
    /// Why, and who wants it.
    pub(crate) reason: String,
}

impl Order {
    /// Leaves the order for the next opening.
    pub(crate) fn leave(&self, folder: &Path, name: &str) -> std::io::Result<()> {
        let new = folder.join("order.new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&to_json(self))?;
        file.sync_all()?;
        fs::rename(new, folder.join(name))
    }

    fn read(folder: &Path, name: &str) -> Option<Self> {
        let bytes = fs::read(folder.join(name)).ok()?;
        // An order that cannot be read was never left: it is renamed whole.
        serde_json::from_slice(&bytes).ok()
    }
}
/// How often a start may end while the replica is being opened before the
/// replica is held to be the cause. It is rebuilt without loss.
const PATIENCE: u32 = 2;
/// The same for the log, which cannot be: power cuts in a row are no reason.
const LOG_PATIENCE: u32 = 8;

/// One thing that was found and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file or folder.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
    /// What was done.
    pub action: String,
    /// Whether acknowledged changes may be lost.
    pub loss: bool,
}

/// What the opening of a node found. Empty when all was sound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// The findings, in the order in which they were dealt with.
    pub findings: Vec<Finding>,
}

impl Recovery {
    /// Whether acknowledged changes may be lost.
    pub fn loss(&self) -> bool {
        self.findings.iter().any(|finding| finding.loss)
    }

    /// The findings as sentences; empty when there are none.
    pub fn text(&self) -> String {
        let sentences: Vec<_> = self
            .findings
            .iter()
            .map(|finding| format!("{}: {}; {}.", finding.file, finding.problem, finding.action))
            .collect();
        sentences.join(" ")
    }

    fn add(&mut self, file: &str, problem: impl Into<String>, action: &str, loss: bool) {
        let (file, problem, action) = (file.into(), problem.into(), action.into());
        tracing::error!(
            file,
            problem,
            action,
            "The database's files needed recovery."
        );
        self.findings.push(Finding {
            file,
            problem,
            action,
            loss,
        });
    }
}

/// Why a node cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Too much is damaged to go on.
    #[error(
        "the database cannot be rebuilt: {0}. Nothing was deleted; restore a backup, or move the \
         files in {1} away to begin empty"
    )]
    Hopeless(String, PathBuf),
    /// The files are another node's.
    #[error("the files are those of node {0} in the log")]
    Foreign(u64),
    /// The log.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The store.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// A snapshot or a folder.
    #[error("the folder of the database cannot be used: {0}. Check the disk's space and health")]
    Io(#[from] std::io::Error),
    /// The consensus engine.
    #[error("the log could not be started: {0}")]
    Raft(String),
}

/// What was opened.
pub(crate) struct Opened {
    /// What the log calls this node.
    pub(crate) name: u64,
    pub(crate) log: Log,
    pub(crate) replica: Replica,
    pub(crate) snapshots: Snapshots,
    pub(crate) recovery: Recovery,
}

/// What opening the log gave.
enum Found {
    Sound(Log),
    Damaged {
        problem: String,
        vote: Option<Vote>,
        log: Option<Log>,
    },
}

/// Opens a node's files, rebuilding what is damaged. A node that follows
/// another begins empty when nothing is left to rebuild from; so does one
/// that was reset, and has another number in the log than its files.
pub(crate) fn open(options: &Options) -> Result<Opened, OpenError> {
    let Some(order) = Order::read(&options.folder, RESET) else {
        let mut opened = open_what_is_there(options)?;
        if let Some(order) = Order::read(&options.folder, PROMOTE) {
            promote(options, &mut opened, &order)?;
            fs::remove_file(options.folder.join(PROMOTE))?;
        }
        return Ok(opened);
    };
    let names = set_aside(&options.folder)?;
    let mut opened = open_what_is_there(&Options {
        // The cluster goes on elsewhere.
        found: false,
        ..options.clone()
    })?;
    opened.log.set_epoch(order.epoch)?;
    let problem = format!("a reset was ordered: {}", order.reason);
    let action = "everything was set aside and comes from the publisher again";
    opened.recovery.add(&names, problem, action, false);
    // A start that is cut off before this begins anew once more.
    for order in [PROMOTE, RESET] {
        match fs::remove_file(options.folder.join(order)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(opened)
}

/// Begins a new epoch of the log with what is here, unless that is done.
fn promote(options: &Options, opened: &mut Opened, order: &Order) -> Result<(), OpenError> {
    if opened.log.epoch()? >= order.epoch {
        return Ok(());
    }
    opened
        .log
        .begin_epoch(order.epoch, opened.name, &options.address)?;
    let (_, last) = opened.log.ends();
    let problem = format!("a promotion was ordered: {}", order.reason);
    let action = format!(
        "this node leads from entry {} on ({})",
        index_text(last),
        order.epoch
    );
    opened.recovery.add(LOG, problem, &action, false);
    Ok(())
}

fn open_what_is_there(options: &Options) -> Result<Opened, OpenError> {
    match open_there(options) {
        Err(OpenError::Hopeless(problem, _)) if !options.found => {
            let names = set_aside(&options.folder)?;
            let mut opened = open_there(options)?;
            let action = "everything was set aside and comes from the publisher again";
            opened.recovery.add(&names, problem, action, false);
            Ok(opened)
        }
        Err(OpenError::Foreign(other)) => {
            let names = set_aside(&options.folder)?;
            let mut opened = open_there(options)?;
            let problem = format!("it is of node {other}, and this is node {}", options.node);
            let action = "everything was set aside, and the node began empty";
            opened.recovery.add(&names, problem, action, options.found);
            Ok(opened)
        }
        opened => opened,
    }
}

/// Gives everything of a node another name; answers what was there.
fn set_aside(folder: &Path) -> std::io::Result<String> {
    let stamp = stamp();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = file_name(&path);
        let ours = name == LOG || name.starts_with("replica-") || name.starts_with("snapshot-");
        if name == CLOSED {
            fs::remove_file(&path)?;
        } else if ours && !name.contains(".damaged-") {
            fs::rename(&path, folder.join(format!("{name}.damaged-{stamp}")))?;
            names.push(name);
        }
    }
    names.sort();
    Ok(names.join(", "))
}

fn open_there(options: &Options) -> Result<Opened, OpenError> {
    let founder = name::founder(options.node)?;
    let mut opening = Opening {
        folder: options.folder.clone(),
        disk: options.disk.clone(),
        cache: options.cache,
        limits: options.history,
        number: options.node,
        founder: options.found,
        stamp: stamp(),
        recovery: Recovery::default(),
    };
    let log = opening.log()?;
    if let Found::Sound(log) = &log
        && let Some(other) = log.owner()?.map(name::number)
        && other != options.node
    {
        return Err(OpenError::Foreign(other));
    }
    let store = opening.newest_replica()?;
    let (snapshots, damaged) = Snapshots::open(opening.disk.clone())?;
    for (name, problem) in damaged {
        let aside = opening.aside(&name);
        opening.disk.rename(&name, &aside)?;
        opening
            .recovery
            .add(&name, problem, "it was set aside and is not used", false);
    }
    // A first start that was cut off leaves an empty replica and no log.
    let has_rows = store
        .as_ref()
        .is_some_and(|store| !store.applied().log_id.is_empty());
    let log = match log {
        Found::Sound(log) if log.is_new()? && (has_rows || !snapshots.all().is_empty()) => {
            Found::Damaged {
                problem: "the log is gone".into(),
                vote: None,
                log: None,
            }
        }
        Found::Sound(log) => match store
            .as_ref()
            .map(|store| rolled_back(&log, store))
            .transpose()?
        {
            Some(Some(problem)) => Found::Damaged {
                problem,
                vote: log.vote()?,
                log: Some(log),
            },
            _ => Found::Sound(log),
        },
        damaged @ Found::Damaged { .. } => damaged,
    };
    let (log, store) = match log {
        Found::Sound(log) => {
            let store = opening.match_replica(&log, store, &snapshots)?;
            (log, store)
        }
        Found::Damaged { problem, vote, log } => {
            opening.rebuild_log(&problem, vote, log, store, &snapshots)?
        }
    };
    // Last: until then a new log counts as one that nothing was written to.
    let name = match log.owner()? {
        Some(owner) => owner,
        // A log of a time before names were noted.
        None if options.found || !log.is_new()? => founder,
        None => name::new(options.node)?,
    };
    if log.owner()? != Some(name) {
        log.claim(name)?;
    }
    let replica = Replica::new(&opening.folder, opening.cache, opening.limits, store);
    opening.clean_up()?;
    Ok(Opened {
        name,
        log,
        replica,
        snapshots,
        recovery: opening.recovery,
    })
}

/// A replica that is ahead of a log that reads well: the log lost its end.
fn rolled_back(log: &Log, store: &Store) -> Result<Option<String>, OpenError> {
    let (applied, _) = position(store)?;
    let (_, last) = log.ends();
    let ahead = applied.map(|id| id.index) > last.map(|id| id.index);
    Ok(ahead.then(|| {
        format!(
            "the log ends at {} and the replica has applied {}",
            index_text(last),
            index_text(applied)
        )
    }))
}

fn index_text(id: Option<LogId>) -> String {
    id.map_or_else(|| "nothing".into(), |id| id.index.to_string())
}

fn position(store: &Store) -> Result<(Option<LogId>, crate::types::StoredMembership), OpenError> {
    read_position(&store.applied()).map_err(|error| store::Error::Corrupt(error.0).into())
}

/// Notes up to where the replica was written out by an orderly stop: it must
/// not come back with less.
pub(crate) fn mark_closed(folder: &Path, store: &Store) -> std::io::Result<()> {
    fs::write(folder.join(CLOSED), format!("{}\n", store.applied().index))
}

/// Takes the note of the last orderly stop, if that is how the last run ended.
fn take_closed(folder: &Path) -> Result<Option<u64>, OpenError> {
    let note = folder.join(CLOSED);
    let Ok(text) = fs::read_to_string(&note) else {
        return Ok(None);
    };
    fs::remove_file(&note)?;
    Ok(text.trim().parse().ok())
}

struct Opening {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    cache: u64,
    limits: HistoryLimits,
    /// The node's number.
    number: u64,
    /// Whether what is lost here is lost: others have it from this node.
    founder: bool,
    stamp: String,
    recovery: Recovery,
}

impl Opening {
    fn aside(&self, name: &str) -> String {
        format!("{name}.damaged-{}", self.stamp)
    }

    fn log(&mut self) -> Result<Found, OpenError> {
        if self.attempts("log", LOG_PATIENCE)? >= LOG_PATIENCE {
            let problem = "starts ended while the log was being opened".into();
            return Ok(Found::Damaged {
                problem,
                vote: None,
                log: None,
            });
        }
        let backend = self.disk.log(LOG)?;
        // redb checks most, not all, of what it reads before it believes it.
        let opened = catch_unwind(AssertUnwindSafe(|| Log::open(backend)));
        let found = match opened {
            Ok(Ok((log, problems))) if problems.is_empty() => Found::Sound(log),
            Ok(Ok((log, problems))) => Found::Damaged {
                problem: problems.join("; "),
                vote: log.vote().ok().flatten(),
                log: Some(log),
            },
            Ok(Err(LogError::Damaged(problem))) => Found::Damaged {
                problem,
                vote: None,
                log: None,
            },
            Ok(Err(error @ LogError::Io(_))) => {
                // The disk's fault, not the file's.
                self.opened("log")?;
                return Err(error.into());
            }
            Err(_) => {
                let problem = "the log could not be opened without a failure in redb".into();
                Found::Damaged {
                    problem,
                    vote: None,
                    log: None,
                }
            }
        };
        self.opened("log")?;
        Ok(found)
    }

    /// The newest replica that is sound; none when there is none, which is
    /// right at the first start.
    fn newest_replica(&mut self) -> Result<Option<Store>, OpenError> {
        let ordered = self.folder.join("rebuild");
        let order = fs::read_to_string(&ordered).ok();
        let closed = take_closed(&self.folder)?;
        let mut sound = None;
        for path in generations(&self.folder)?.into_iter().rev() {
            let name = file_name(&path);
            if sound.is_some() {
                // An older generation: its successor is complete.
                fs::remove_dir_all(&path)?;
                continue;
            }
            let problem = if let Some(reason) = &order {
                Some(format!("a rebuild was ordered: {reason}"))
            } else if self.attempts(&name, PATIENCE)? >= PATIENCE {
                Some("starts ended while it was being opened".into())
            } else {
                let (cache, limits) = (self.cache, self.limits);
                // sled gives up on some damage by a panic.
                let opened = catch_unwind(AssertUnwindSafe(|| open_replica(&path, cache, limits)));
                match opened {
                    // sled drops what it cannot read from its end without a word.
                    Ok(Ok(store)) if closed.is_some_and(|index| store.applied().index < index) => {
                        Some(format!(
                            "it ends at entry {} and was closed at {}",
                            store.applied().index,
                            closed.unwrap_or_default()
                        ))
                    }
                    Ok(Ok(store)) => {
                        sound = Some(store);
                        None
                    }
                    Ok(Err(store::Error::Incomplete)) => {
                        // A load that did not end; what it was made from is still there.
                        fs::remove_dir_all(&path)?;
                        self.opened(&name)?;
                        continue;
                    }
                    Ok(Err(error)) if error.is_corruption() => Some(error.to_string()),
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => Some("it could not be opened without a failure in sled".into()),
                }
            };
            self.opened(&name)?;
            if let Some(problem) = problem {
                fs::rename(&path, self.folder.join(self.aside(&name)))?;
                self.recovery
                    .add(&name, problem, "it was set aside and rebuilt", false);
            }
        }
        if order.is_some() {
            fs::remove_file(&ordered)?;
        }
        Ok(sound)
    }

    /// A replica that the log continues: the one there is, or one rebuilt
    /// from a snapshot or from the log's very beginning.
    fn match_replica(
        &mut self,
        log: &Log,
        store: Option<Store>,
        snapshots: &Snapshots,
    ) -> Result<Store, OpenError> {
        if let Some(store) = store {
            match self.continues(log, &store)? {
                None => return Ok(store),
                Some(problem) => {
                    drop(store);
                    for path in generations(&self.folder)? {
                        let name = file_name(&path);
                        fs::rename(&path, self.folder.join(self.aside(&name)))?;
                        self.recovery.add(
                            &name,
                            problem.as_str(),
                            "it was set aside and rebuilt",
                            false,
                        );
                    }
                }
            }
        }
        let (purged, last) = log.ends();
        for known in snapshots.all().into_iter().rev() {
            let id = known.meta.last_log_id;
            // The log must go on from the snapshot without a gap.
            if id < purged || id.map(|id| id.index) > last.map(|id| id.index) {
                continue;
            }
            match Replica::load(
                &self.folder,
                self.cache,
                self.limits,
                snapshots,
                &known.name,
            ) {
                Ok(store) => return Ok(store),
                Err(error) => self.drop_snapshot(snapshots, &known.name, &error.to_string())?,
            }
        }
        if purged.is_none() {
            return self.empty_replica();
        }
        let problem = format!(
            "the replica is damaged, the log begins behind entry {}, and no snapshot reaches that far",
            index_text(purged)
        );
        Err(OpenError::Hopeless(problem, self.folder.clone()))
    }

    fn drop_snapshot(
        &mut self,
        snapshots: &Snapshots,
        name: &str,
        problem: &str,
    ) -> Result<(), OpenError> {
        let aside = self.aside(name);
        self.disk.rename(name, &aside)?;
        snapshots.forget(name);
        self.recovery
            .add(name, problem, "it was set aside and is not used", false);
        Ok(())
    }

    /// Why the log does not continue a replica; none when it does.
    fn continues(&self, log: &Log, store: &Store) -> Result<Option<String>, OpenError> {
        let (applied, _) = position(store)?;
        let (purged, _) = log.ends();
        let Some(applied) = applied else {
            let gap = purged.is_some();
            return Ok(gap.then(|| "it is empty and the log's beginning is dropped".into()));
        };
        if Some(applied.index) < purged.map(|id| id.index) {
            return Ok(Some(format!(
                "it ends at entry {}, before the log begins, at {}",
                applied.index,
                index_text(purged)
            )));
        }
        let there = if Some(applied.index) == purged.map(|id| id.index) {
            purged
        } else {
            let entries = log.entries(applied.index..=applied.index)?;
            entries.first().map(|entry| entry.log_id)
        };
        Ok((there != Some(applied)).then(|| {
            format!(
                "its entry {applied} is not the log's entry {}",
                index_text(there)
            )
        }))
    }

    fn empty_replica(&self) -> Result<Store, OpenError> {
        let path = next_generation(&self.folder)?;
        Ok(open_replica(&path, self.cache, self.limits)?)
    }

    /// A new log behind the best replica there is, with what can be saved of
    /// the damaged one.
    fn rebuild_log(
        &mut self,
        problem: &str,
        vote: Option<Vote>,
        damaged: Option<Log>,
        store: Option<Store>,
        snapshots: &Snapshots,
    ) -> Result<(Log, Store), OpenError> {
        let store = self.best_replica(store, snapshots)?;
        let (base, members) = match &store {
            Some(store) => position(store)?,
            None => (None, crate::types::StoredMembership::default()),
        };
        // Others may have the end that is lost here; where a majority voted, they do.
        let alone = members.membership().nodes().count() <= 1;
        let loss = self.founder && members.membership().voter_ids().count() <= 1;
        let from = base.map_or(0, |id| id.index + 1);
        let saved = damaged
            .as_ref()
            .map(|log| salvage(log, from))
            .unwrap_or_default();
        drop(damaged);
        let store = match store {
            Some(store) => store,
            None if !saved.is_empty() => self.empty_replica()?,
            None => {
                let text =
                    format!("{problem}; there is neither a sound replica nor a sound snapshot");
                return Err(OpenError::Hopeless(text, self.folder.clone()));
            }
        };
        // A log that begins behind an entry needs a snapshot that reaches it.
        if snapshots.newest().and_then(|known| known.meta.last_log_id) < base {
            let written = snapshots.write(&store);
            written.map_err(|error| OpenError::Io(std::io::Error::other(error)))?;
        }
        // A vote below the log's own terms would be no vote.
        let term = saved
            .last()
            .map(|entry| entry.log_id)
            .or(base)
            .map(|id| id.leader_id);
        let least = term.map(|leader| Vote::new(leader.term, leader.node_id));
        let vote = vote
            .into_iter()
            .chain(least)
            .reduce(|a, b| if a >= b { a } else { b });
        let aside = self.aside(LOG);
        self.disk.rename(LOG, &aside)?;
        let (log, _) = Log::open(self.disk.log(LOG)?)?;
        let saved_to = saved.last().map(|entry| entry.log_id.index);
        if !self.founder || !alone {
            // The others have it on record that this node has what the new log
            // lacks. One that led leads no more by that: it would overwrite
            // what it has forgotten.
            log.claim(name::new(self.number)?)?;
        }
        log.found(base, vote, saved)?;
        let upto = saved_to.or(base.map(|id| id.index)).unwrap_or_default();
        // What the old log held behind that is not known any more.
        store.begin_epoch(&uuid::Uuid::new_v4().to_string())?;
        let later = if loss && !alone {
            "changes after that, if there were any, are on the subscribers alone: promote the node \
             that has the most of the log"
        } else if loss {
            "changes after that, if there were any, are lost"
        } else {
            "what came after that comes from the publisher again"
        };
        let action = format!(
            "it was set aside and begun anew from the replica at entry {}, with the entries up to \
             {upto}; {later}",
            index_text(base)
        );
        self.recovery.add(LOG, problem, &action, loss);
        Ok((log, store))
    }

    /// The replica or the snapshot, whichever is newer.
    fn best_replica(
        &mut self,
        store: Option<Store>,
        snapshots: &Snapshots,
    ) -> Result<Option<Store>, OpenError> {
        let applied = store
            .as_ref()
            .map(position)
            .transpose()?
            .and_then(|(id, _)| id);
        for known in snapshots.all().into_iter().rev() {
            if store.is_some() && known.meta.last_log_id <= applied {
                break;
            }
            match Replica::load(
                &self.folder,
                self.cache,
                self.limits,
                snapshots,
                &known.name,
            ) {
                Ok(newer) => return Ok(Some(newer)),
                Err(error) => self.drop_snapshot(snapshots, &known.name, &error.to_string())?,
            }
        }
        Ok(store.filter(|_| applied.is_some()))
    }

    /// Counts a beginning of the opening of `name`; answers how many before
    /// did not end. A damaged file can end the process outright.
    fn attempts(&self, name: &str, patience: u32) -> Result<u32, OpenError> {
        let marker = self.marker(name);
        let before = fs::read_to_string(&marker)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let before = before.unwrap_or(0);
        fs::write(&marker, format!("{}\n", before + 1))?;
        if before >= patience {
            fs::remove_file(&marker)?;
        }
        Ok(before)
    }

    fn opened(&self, name: &str) -> Result<(), OpenError> {
        match fs::remove_file(self.marker(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn marker(&self, name: &str) -> PathBuf {
        self.folder.join(format!("opening-{name}"))
    }

    /// Keeps the newest of what was set aside: enough to look into, not
    /// enough to fill the disk.
    fn clean_up(&self) -> Result<(), OpenError> {
        let mut stamps: Vec<String> = Vec::new();
        let mut aside = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = file_name(&path);
            if let Some((_, stamp)) = name.split_once(".damaged-") {
                stamps.push(stamp.into());
                aside.push((stamp.to_owned(), path));
            }
        }
        stamps.sort();
        stamps.dedup();
        let keep: Vec<_> = stamps.iter().rev().take(2).collect();
        for (_, path) in aside.iter().filter(|(stamp, _)| !keep.contains(&stamp)) {
            if path.is_dir() {
                fs::remove_dir_all(path)?
            } else {
                fs::remove_file(path)?
            }
        }
        Ok(())
    }
}

/// Opens a replica and checks all of it.
fn open_replica(path: &Path, cache: u64, limits: HistoryLimits) -> Result<Store, store::Error> {
    let backend = SledBackend::open(path, cache)?;
    let store = Store::open(Box::new(backend), limits, &uuid::Uuid::new_v4().to_string())?;
    let report = store.check()?;
    match report.problems.first() {
        None => {
            // Some damage shows only when sled writes: better here, where it
            // is counted, than under load.
            store.apply(store.applied(), None)?;
            store.flush()?;
            Ok(store)
        }
        Some(first) => {
            let more = report.problems.len() - 1;
            Err(store::Error::Corrupt(format!(
                "{first} (and {more} more problems)"
            )))
        }
    }
}

fn salvage(log: &Log, from: u64) -> Vec<Entry> {
    catch_unwind(AssertUnwindSafe(|| log.salvage(from))).unwrap_or_default()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn stamp() -> String {
    let format = time::macros::format_description!(
        "[year][month][day]T[hour][minute][second].[subsecond digits:6]"
    );
    // The format has no part that a UTC time lacks.
    time::OffsetDateTime::now_utc()
        .format(&format)
        .unwrap_or_default()
}
