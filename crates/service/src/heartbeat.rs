//! Heartbeats: a main loop that stops ticking stops the watchdog, so that a
//! hung loop is caught even while the rest of the process is well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A loop must tick at least this often.
pub(crate) const LIMIT: Duration = Duration::from_secs(8);

#[derive(Debug)]
struct Beat {
    name: String,
    /// Milliseconds since `Heartbeats::origin`.
    last: AtomicU64,
}

/// Handle of one main loop; it stops being watched when dropped.
#[derive(Debug)]
pub struct Heartbeat {
    beat: Arc<Beat>,
    beats: Heartbeats,
}

impl Heartbeat {
    /// Says that the loop runs. Call it at least every five seconds.
    pub fn tick(&self) {
        self.beat.last.store(self.beats.now(), Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let mut all = self
            .beats
            .all
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.retain(|beat| !Arc::ptr_eq(beat, &self.beat));
    }
}

/// The heartbeats of one service.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeats {
    origin: Instant,
    all: Arc<Mutex<Vec<Arc<Beat>>>>,
}

impl Heartbeats {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            all: Arc::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn register(&self, name: &str) -> Heartbeat {
        let beat = Arc::new(Beat {
            name: name.into(),
            last: AtomicU64::new(self.now()),
        });
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(beat.clone());
        Heartbeat {
            beat,
            beats: self.clone(),
        }
    }

    /// Name of a loop that has not ticked within `limit`, if any.
    pub(crate) fn stalled(&self, limit: Duration) -> Option<String> {
        let now = self.now();
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .find(|beat| now.saturating_sub(beat.last.load(Ordering::Relaxed)) > limit)
            .map(|beat| beat.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_loop_is_named_and_a_finished_one_forgotten() {
        let mut beats = Heartbeats::new();
        let quiet = beats.register("quiet");
        // Time is moved by moving the origin back, not by waiting.
        beats.origin -= Duration::from_secs(60);
        let lively = beats.register("lively");
        lively.tick();
        assert_eq!(beats.stalled(LIMIT).as_deref(), Some("quiet"));
        drop(quiet);
        assert_eq!(beats.stalled(LIMIT), None);
    }
}
