//! Which log it is.
//!
//! A cluster's first log begins with its set-up. Another one begins when a
//! node is promoted because the one that led is lost for good: its first entry
//! says that this node is the only voter, and everything before is what this
//! node had. What others had beyond that is void, so nodes of different epochs
//! do not listen to each other. Those who followed the old log begin anew in
//! the new one; the one that led it may hold changes that nobody else has, and
//! waits for an administrator.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::log::{Log, LogError};
use crate::rpc;

/// Which log it is. The greater one counts; of two that begin at the same time
/// that of the node with the higher number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch {
    /// How often a log began anew.
    pub count: u64,
    /// Number of the node that began it; 0 for the first log.
    pub founder: u64,
}

impl Epoch {
    /// The epoch that follows when the node of that number is promoted.
    #[must_use]
    pub fn next(self, founder: u64) -> Self {
        Self {
            count: self.count + 1,
            founder,
        }
    }

    /// Whether it is the log that the cluster was set up with.
    pub fn is_first(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_first() {
            return f.write_str("the first log");
        }
        write!(
            f,
            "log {}, begun by node number {}",
            self.count + 1,
            self.founder
        )
    }
}

impl From<rpc::Epoch> for Epoch {
    fn from(epoch: rpc::Epoch) -> Self {
        Self {
            count: epoch.count,
            founder: epoch.founder,
        }
    }
}

impl From<Epoch> for rpc::Epoch {
    fn from(epoch: Epoch) -> Self {
        Self {
            count: epoch.count,
            founder: epoch.founder,
        }
    }
}

/// What follows for a node that hears of another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing, or nothing any more: the epoch is its own or an older one.
    Nothing,
    /// It leads no more, and waits for an administrator.
    Superseded,
    /// It begins anew when it is opened the next time: that must be soon.
    Anew,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    own: Epoch,
    /// The epoch in which this node may lead no more.
    superseded: Option<Epoch>,
}

/// The epoch of a node's log, and the one that put an end to it. Clones share
/// it.
#[derive(Clone, Debug)]
pub struct Epochs {
    log: Log,
    known: Arc<Mutex<Known>>,
}

impl Epochs {
    pub(crate) fn load(log: &Log) -> Result<Self, LogError> {
        let known = Known {
            own: log.epoch()?,
            superseded: log.superseded()?,
        };
        Ok(Self {
            log: log.clone(),
            known: Arc::new(Mutex::new(known)),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch of this node's log.
    pub fn own(&self) -> Epoch {
        self.known().own
    }

    /// The epoch that put an end to this node's log, if there is one.
    pub(crate) fn superseded(&self) -> Option<Epoch> {
        self.known().superseded
    }

    /// Takes an epoch over, durably: of a log that is empty.
    pub(crate) fn adopt(&self, epoch: Epoch) -> Result<(), LogError> {
        self.log.set_epoch(epoch)?;
        self.known().own = epoch;
        Ok(())
    }

    /// Notes, durably, that this log is over.
    pub(crate) fn supersede(&self, by: Epoch) -> Result<(), LogError> {
        self.log.supersede(by)?;
        self.known().superseded = Some(by);
        Ok(())
    }

    /// Refuses what another node says in another epoch.
    pub(crate) fn check(&self, theirs: Option<rpc::Epoch>) -> Result<(), Status> {
        let theirs = theirs.map(Epoch::from).unwrap_or_default();
        let own = self.own();
        if theirs == own {
            return Ok(());
        }
        Err(Status::failed_precondition(if theirs < own {
            format!(
                "the log that you continue ({theirs}) is over: this cluster continues {own}. \
                 \"utils dbreplication reset\" has a node begin anew in it"
            )
        } else {
            format!("this node still has {own} and will begin anew in {theirs}")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_logs_one_counts() {
        let first = Epoch::default();
        let (two, three) = (first.next(2), first.next(3));
        assert!(first < two && two < three && three < two.next(2));
        assert!(first.is_first() && !two.is_first());
    }
}
