//! Work on the replica at one place of the log: behind an entry and before the
//! next one.
//!
//! Two replicas can be compared, and one be mended by the other, only where
//! both have applied the same entries. [`Replica::hold`] keeps this replica
//! where it is while the other one is asked for its place, which is never
//! before; the work is then done when this replica has come there, too.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::{Contents, Store};
use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::machine::Replica;

type Work = Box<dyn FnOnce(&Replica, &Store) + Send>;

/// What waits for a place.
#[derive(Default)]
pub(crate) struct Places {
    /// Held while entries are applied or a snapshot is taken over.
    turn: Arc<tokio::sync::Mutex<()>>,
    due: Mutex<Vec<(u64, Work)>>,
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Places")
    }
}

impl Places {
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    fn due(&self) -> MutexGuard<'_, Vec<(u64, Work)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another replica is in this one's place: who waited must ask again.
    pub(crate) fn passed(&self) {
        self.due().clear();
    }
}

/// Why work was not done.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The replica went past the place, as by a snapshot.
    #[error("the replica was replaced meanwhile; try again")]
    Passed,
    /// The store.
    #[error("{0}")]
    Store(#[from] store::Error),
}

/// The replica, which applies nothing while this lives.
pub struct Hold {
    replica: Arc<Replica>,
    turn: OwnedMutexGuard<()>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

impl Hold {
    /// The last entry that is applied.
    pub fn applied(&self) -> u64 {
        self.replica.store().applied().index
    }

    /// Lets the replica go on, and does work behind entry `index` and before
    /// the next; at once when that is where the replica is. Only the replica's
    /// going there ends the wait: give it a limit. Dropped, the work is not
    /// done.
    async fn then<T: Send + 'static>(
        self,
        index: u64,
        work: impl FnOnce(&Replica, &Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, PlaceError> {
        let Self { replica, turn } = self;
        let (sender, done) = oneshot::channel();
        let work: Work = Box::new(move |replica, store| {
            if !sender.is_closed() {
                // Whoever no longer waits needs no answer.
                let _ = sender.send(work(replica, store));
            }
        });
        replica.places.due().push((index, work));
        replica.arrived();
        drop(turn);
        Ok(done.await.map_err(|_| PlaceError::Passed)??)
    }

    /// Reads the store behind entry `index`, which is not before
    /// [`Hold::applied`].
    pub async fn read<T: Send + 'static>(
        self,
        index: u64,
        read: impl FnOnce(&Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, PlaceError> {
        self.then(index, |_, store| read(store)).await
    }

    /// Replaces tables by those of another replica when this one comes to their
    /// place. Watchers read again.
    pub async fn rewrite(self, contents: Contents) -> Result<(), PlaceError> {
        let index = contents.index;
        self.then(index, move |replica, store| {
            store.rewrite(&contents, &uuid::Uuid::new_v4().to_string())?;
            replica.changed_past_the_log(store);
            Ok(())
        })
        .await
    }
}

impl Replica {
    /// Keeps the replica where it is.
    pub async fn hold(self: &Arc<Self>) -> Hold {
        Hold {
            turn: self.places.turn().await,
            replica: self.clone(),
        }
    }

    /// Does what is due where the replica is now. Called by whoever has the turn.
    pub(crate) fn arrived(&self) {
        let store = self.store();
        let here = store.applied().index;
        let (now, later) = std::mem::take(&mut *self.places.due())
            .into_iter()
            .partition::<Vec<_>, _>(|(index, _)| *index == here);
        // What lies behind is never reached: its sender ends with it.
        let later = later.into_iter().filter(|(index, _)| *index > here);
        self.places.due().extend(later);
        for (_, work) in now {
            work(self, &store);
        }
    }
}
