//! The state of a real-time store. No I/O: requests and the time go in,
//! changes come out.
//!
//! Rows are those of this node's owners, which write them here, and copies of
//! the rows of the peer's owners (see [`crate::replica`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

/// Longest key, in bytes: the longest address.
pub const KEY: usize = 3071;
/// Largest value, in bytes.
pub const VALUE: usize = 256 << 10;
/// Most bytes of a store, keys and values together.
pub const TOTAL: usize = 512 << 20;
/// Milliseconds for which rows outlive their owner, which may be back after a
/// restart, or be taken over by the peer: longer than a critical service may
/// be down before its node fails over.
pub const LINGER: u64 = 600_000;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A newer incarnation of the owner has written.
    #[error("the rows of {owner} are those of epoch {newest}; epoch {epoch} is over")]
    OldEpoch {
        /// The owner.
        owner: String,
        /// Epoch of the request.
        epoch: u64,
        /// Newest epoch seen.
        newest: u64,
    },
    /// Batches are missing: the owner must begin again and send everything.
    #[error("batch {sequence} came where {expected} was due; begin again")]
    Gap {
        /// Number of the batch.
        sequence: u64,
        /// Number that was due.
        expected: u64,
    },
    /// The owner did not begin.
    #[error("{0} did not begin; send Begin first")]
    NotBegun(String),
    /// A copy of a row comes from the peer, and its owner writes here.
    #[error("{0} writes its rows here, and the peer sent some of its name")]
    Own(String),
    /// A key or value is out of bounds, or the store is full.
    #[error("{0}")]
    TooMuch(&'static str),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who wrote it.
    pub owner: Arc<str>,
    /// Epoch in which it was written.
    pub epoch: u64,
    /// The key.
    pub key: Arc<str>,
    /// The value.
    pub value: Bytes,
    /// When it ends by itself, in monotonic milliseconds.
    pub expires: Option<u64>,
    /// Whether it is a copy: its owner is at the peer.
    pub copied: bool,
}

/// A change to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was added or replaced.
    Put(Row),
    /// It is gone.
    Gone(Row),
}

impl Change {
    /// The row, as it is or as it was.
    pub fn row(&self) -> &Row {
        match self {
            Self::Put(row) | Self::Gone(row) => row,
        }
    }
}

/// A batch of an owner's changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Number in its epoch, from 1.
    pub sequence: u64,
    /// Rows to set: key, value, milliseconds until they end (0 for never).
    pub puts: Vec<(String, Bytes, u64)>,
    /// Keys to remove.
    pub deletes: Vec<String>,
    /// Whether everything was sent since the owner began.
    pub synced: bool,
}

#[derive(Debug)]
struct Value {
    epoch: u64,
    /// Which of the owner's beginnings, or of the peer's, it was sent in.
    round: u64,
    value: Bytes,
    expires: Option<u64>,
}

#[derive(Debug)]
struct Owner {
    name: Arc<str>,
    epoch: u64,
    /// Counts how often the owner began.
    round: u64,
    sequence: u64,
    synced: bool,
    /// It is at the peer.
    copied: bool,
    /// When it went away.
    left: Option<u64>,
    rows: BTreeMap<Arc<str>, Value>,
}

impl Owner {
    fn row(&self, key: &Arc<str>, value: &Value) -> Row {
        Row {
            owner: self.name.clone(),
            epoch: value.epoch,
            key: key.clone(),
            value: value.value.clone(),
            expires: value.expires,
            copied: self.copied,
        }
    }
}

/// Figures of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerFigures {
    /// The owner.
    pub owner: Arc<str>,
    /// Its epoch.
    pub epoch: u64,
    /// Its rows.
    pub rows: usize,
    /// Whether it has sent everything since it began.
    pub synced: bool,
    /// Whether it is at the peer.
    pub copied: bool,
}

/// Figures of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rows now.
    pub rows: usize,
    /// Bytes now, keys and values.
    pub bytes: usize,
    /// Rows set, in all.
    pub puts: u64,
    /// Rows removed, in all.
    pub deletes: u64,
    /// Rows that ended by themselves, in all.
    pub expired: u64,
    /// Requests refused, in all.
    pub refused: u64,
    /// Each owner's.
    pub owners: Vec<OwnerFigures>,
}

/// A real-time store.
#[derive(Debug, Default)]
pub struct Store {
    owners: BTreeMap<Arc<str>, Owner>,
    /// When rows end: time, owner, key.
    ends: BTreeSet<(u64, Arc<str>, Arc<str>)>,
    /// Counts how often the peer began to send everything.
    round: u64,
    rows: usize,
    bytes: usize,
    puts: u64,
    deletes: u64,
    expired: u64,
    refused: u64,
}

impl Store {
    /// An owner begins to send everything it has. An older epoch than the
    /// newest is refused. Rows stay until the owner has sent everything, so
    /// that readers do not see an empty store in between. Gives the number of
    /// this beginning, for [`Store::leave`].
    pub fn begin(&mut self, owner: &str, epoch: u64) -> Result<u64, Refused> {
        if owner.is_empty() || owner.len() > KEY {
            return Err(Refused::TooMuch("an owner's name has 1 to 3071 bytes"));
        }
        if self.owners.get(owner).is_some_and(|known| known.copied) {
            // The node took the name of its peer.
            let name: Arc<str> = owner.into();
            self.remove_all(&name);
            self.owners.remove(owner);
        }
        let known = match self.owners.get_mut(owner) {
            Some(known) => known,
            None => self.add(owner, false),
        };
        if epoch < known.epoch {
            let newest = known.epoch;
            self.refused += 1;
            return Err(Refused::OldEpoch {
                owner: owner.into(),
                epoch,
                newest,
            });
        }
        known.epoch = epoch;
        known.round += 1;
        known.sequence = 0;
        known.synced = false;
        known.left = None;
        Ok(known.round)
    }

    fn add(&mut self, owner: &str, copied: bool) -> &mut Owner {
        let name: Arc<str> = owner.into();
        self.owners.entry(name.clone()).or_insert(Owner {
            name,
            epoch: 0,
            round: 0,
            sequence: 0,
            synced: false,
            copied,
            left: None,
            rows: BTreeMap::new(),
        })
    }

    /// An owner went away, if it has not begun again since. Its rows outlive
    /// it by [`LINGER`].
    pub fn leave(&mut self, owner: &str, round: u64, now: u64) {
        if let Some(known) = self.owners.get_mut(owner)
            && known.round == round
        {
            known.left = Some(now);
        }
    }

    /// Carries a batch out. One that was carried out before does nothing.
    pub fn batch(
        &mut self,
        owner: &str,
        epoch: u64,
        batch: Batch,
        now: u64,
    ) -> Result<Vec<Change>, Refused> {
        let result = self.try_batch(owner, epoch, batch, now);
        if result.is_err() {
            self.refused += 1;
        }
        result
    }

    fn try_batch(
        &mut self,
        owner: &str,
        epoch: u64,
        batch: Batch,
        now: u64,
    ) -> Result<Vec<Change>, Refused> {
        let known = self
            .owners
            .get_mut(owner)
            .ok_or_else(|| Refused::NotBegun(owner.into()))?;
        if epoch < known.epoch {
            return Err(Refused::OldEpoch {
                owner: owner.into(),
                epoch,
                newest: known.epoch,
            });
        }
        if epoch > known.epoch {
            return Err(Refused::NotBegun(owner.into()));
        }
        if batch.sequence <= known.sequence {
            return Ok(Vec::new());
        }
        let expected = known.sequence + 1;
        if batch.sequence != expected {
            return Err(Refused::Gap {
                sequence: batch.sequence,
                expected,
            });
        }
        let mut size = self.bytes;
        for (key, value, _) in &batch.puts {
            if key.is_empty() || key.len() > KEY {
                return Err(Refused::TooMuch("a key has 1 to 3071 bytes"));
            }
            if value.len() > VALUE {
                return Err(Refused::TooMuch("a value has 256 KiB at most"));
            }
            size += key.len() + value.len();
        }
        if size > TOTAL {
            return Err(Refused::TooMuch("the store is full"));
        }
        known.sequence = expected;
        let mut changes = Vec::with_capacity(batch.puts.len() + batch.deletes.len());
        let (name, round) = (known.name.clone(), known.round);
        for key in batch.deletes {
            let key: Arc<str> = key.into();
            if let Some(change) = self.remove(&name, &key) {
                self.deletes += 1;
                changes.push(change);
            }
        }
        for (key, value, ttl) in batch.puts {
            let expires = (ttl > 0).then(|| now.saturating_add(ttl));
            let new = Value {
                epoch,
                round,
                value,
                expires,
            };
            changes.push(self.put(&name, key.into(), new));
        }
        if batch.synced {
            changes.extend(self.synced(&name, round));
        }
        Ok(changes)
    }

    fn put(&mut self, owner: &Arc<str>, key: Arc<str>, new: Value) -> Change {
        self.puts += 1;
        self.bytes += key.len() + new.value.len();
        self.rows += 1;
        if let Some(end) = new.expires {
            self.ends.insert((end, owner.clone(), key.clone()));
        }
        let row = Row {
            owner: owner.clone(),
            epoch: new.epoch,
            key: key.clone(),
            value: new.value.clone(),
            expires: new.expires,
            copied: self.owners.get(owner).is_some_and(|known| known.copied),
        };
        if let Some(known) = self.owners.get_mut(owner)
            && let Some(old) = known.rows.insert(key.clone(), new)
        {
            self.bytes -= key.len() + old.value.len();
            self.rows -= 1;
            if let Some(end) = old.expires
                && old.expires != row.expires
            {
                self.ends.remove(&(end, owner.clone(), key));
            }
        }
        Change::Put(row)
    }

    fn remove(&mut self, owner: &Arc<str>, key: &Arc<str>) -> Option<Change> {
        let known = self.owners.get_mut(owner)?;
        let (key, old) = known.rows.remove_entry(key)?;
        let row = known.row(&key, &old);
        self.bytes -= key.len() + old.value.len();
        self.rows -= 1;
        if let Some(end) = old.expires {
            self.ends.remove(&(end, owner.clone(), key));
        }
        Some(Change::Gone(row))
    }

    /// Everything was sent: what was not sent in this round is gone.
    fn synced(&mut self, owner: &Arc<str>, round: u64) -> Vec<Change> {
        let Some(known) = self.owners.get_mut(owner) else {
            return Vec::new();
        };
        known.synced = true;
        let stale: Vec<Arc<str>> = known
            .rows
            .iter()
            .filter(|(_, value)| value.round < round)
            .map(|(key, _)| key.clone())
            .collect();
        self.deletes += stale.len() as u64;
        stale
            .iter()
            .filter_map(|key| self.remove(owner, key))
            .collect()
    }

    fn remove_all(&mut self, owner: &Arc<str>) -> Vec<Change> {
        let known = self.owners.get(owner);
        let keys: Vec<Arc<str>> = known
            .map(|known| known.rows.keys().cloned().collect())
            .unwrap_or_default();
        keys.iter()
            .filter_map(|key| self.remove(owner, key))
            .collect()
    }

    /// The rows that are written here: those of the owners that `wanted` fits.
    pub fn own_rows(&self, wanted: impl Fn(&str) -> bool) -> Vec<Row> {
        let owners = self.owners.values();
        owners
            .filter(|owner| !owner.copied && wanted(&owner.name))
            .flat_map(|owner| {
                let rows = owner.rows.iter();
                rows.map(|(key, value)| owner.row(key, value))
            })
            .collect()
    }

    /// The peer begins to send everything it has.
    pub fn begin_copy(&mut self) {
        self.round += 1;
    }

    /// Sets a copy of one of the peer's rows. It ends at `expires`. Refused is
    /// one whose owner writes here, and one without room.
    pub fn copy(
        &mut self,
        (owner, epoch): (&str, u64),
        key: &str,
        value: Bytes,
        expires: Option<u64>,
    ) -> Result<Change, Refused> {
        let fits = !owner.is_empty() && owner.len() <= KEY && !key.is_empty() && key.len() <= KEY;
        let refused = if !fits || value.len() > VALUE {
            Some("a copy has a key of 1 to 3071 bytes and a value of 256 KiB at most")
        } else if self.bytes + key.len() + value.len() > TOTAL {
            Some("the store is full")
        } else {
            None
        };
        if let Some(reason) = refused {
            self.refused += 1;
            return Err(Refused::TooMuch(reason));
        }
        let round = self.round;
        let known = match self.owners.get_mut(owner) {
            Some(known) => known,
            None => self.add(owner, true),
        };
        if !known.copied {
            self.refused += 1;
            return Err(Refused::Own(owner.into()));
        }
        known.epoch = epoch;
        let name = known.name.clone();
        let new = Value {
            epoch,
            round,
            value,
            expires,
        };
        Ok(self.put(&name, key.into(), new))
    }

    /// The peer removed a row.
    pub fn remove_copy(&mut self, owner: &str, key: &str) -> Option<Change> {
        let known = self.owners.get(owner).filter(|known| known.copied)?;
        let (name, key) = (known.name.clone(), known.rows.get_key_value(key)?.0.clone());
        self.deletes += 1;
        self.remove(&name, &key)
    }

    /// The peer has sent everything since it began: copies that it did not
    /// send are gone.
    pub fn end_copy(&mut self) -> Vec<Change> {
        let round = self.round;
        self.drop_copies(|value| value.round < round)
    }

    /// Takes every copy out: at takeover, and when the node has another peer.
    pub fn take_copies(&mut self) -> (Vec<Row>, Vec<Change>) {
        let changes = self.drop_copies(|_| true);
        let rows = changes.iter().map(|change| change.row().clone()).collect();
        (rows, changes)
    }

    fn drop_copies(&mut self, which: impl Fn(&Value) -> bool) -> Vec<Change> {
        let mut gone: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for owner in self.owners.values().filter(|owner| owner.copied) {
            let rows = owner.rows.iter().filter(|(_, value)| which(value));
            gone.extend(rows.map(|(key, _)| (owner.name.clone(), key.clone())));
        }
        self.deletes += gone.len() as u64;
        let changes = gone
            .iter()
            .filter_map(|(owner, key)| self.remove(owner, key))
            .collect();
        self.owners
            .retain(|_, owner| !owner.copied || !owner.rows.is_empty());
        changes
    }

    /// Removes rows whose time is over, and those of owners that did not come
    /// back.
    pub fn expire(&mut self, now: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let dead: Vec<Arc<str>> = self
            .owners
            .values()
            .filter(|owner| owner.left.is_some_and(|left| left + LINGER <= now))
            .map(|owner| owner.name.clone())
            .collect();
        for name in dead {
            let gone = self.remove_all(&name);
            self.expired += gone.len() as u64;
            changes.extend(gone);
            if let Some(owner) = self.owners.get_mut(&name) {
                owner.left = None;
            }
        }
        while let Some((end, owner, key)) = self.ends.first().cloned()
            && end <= now
        {
            self.ends.pop_first();
            changes.extend(self.remove(&owner, &key));
            self.expired += 1;
        }
        changes
    }

    /// When the next row ends by itself.
    pub fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(end, _, _)| *end)
    }

    /// The rows of a key, of every owner that has one.
    pub fn get(&self, key: &str) -> Vec<Row> {
        self.owners
            .values()
            .filter_map(|owner| {
                let (key, value) = owner.rows.get_key_value(key)?;
                Some(owner.row(key, value))
            })
            .collect()
    }

    /// Rows whose key begins with `prefix` and lies behind `after`, in key
    /// order: about `limit` of them, and every owner's row of the last key.
    pub fn list(&self, prefix: &str, after: &str, limit: usize) -> Vec<Row> {
        let start = if after >= prefix && !after.is_empty() {
            Bound::Excluded(after)
        } else {
            Bound::Included(prefix)
        };
        let mut rows: Vec<Row> = self
            .owners
            .values()
            .flat_map(|owner| {
                owner
                    .rows
                    .range::<str, _>((start, Bound::Unbounded))
                    .take_while(|(key, _)| key.starts_with(prefix))
                    .take(limit + 1)
                    .map(|(key, value)| owner.row(key, value))
            })
            .collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        // Rows of one key are not torn apart, for the next page begins behind it.
        let mut end = limit.min(rows.len());
        while end > 0 && end < rows.len() && rows[end].key == rows[end - 1].key {
            end += 1;
        }
        rows.truncate(end);
        rows
    }

    /// Figures.
    pub fn figures(&self) -> Figures {
        Figures {
            rows: self.rows,
            bytes: self.bytes,
            puts: self.puts,
            deletes: self.deletes,
            expired: self.expired,
            refused: self.refused,
            owners: self
                .owners
                .values()
                .map(|owner| OwnerFigures {
                    owner: owner.name.clone(),
                    epoch: owner.epoch,
                    rows: owner.rows.len(),
                    synced: owner.synced,
                    copied: owner.copied,
                })
                .collect(),
        }
    }
}
