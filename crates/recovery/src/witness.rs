//! A third node's view of a group.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::Verdict;

/// What a manager knows of the nodes of other groups, whose keepalives it gets
/// as well.
///
/// Its word lets a node take over. It gives it only about a node that it could
/// have heard: not before it has listened for as long itself. It needs an
/// interval less of silence than the one who asks, since what was last heard
/// by both was not heard at the same moment, and a no costs a whole interval.
#[derive(Clone, Debug)]
pub struct Witness {
    clock: Clock,
    interval: Duration,
    patience: Duration,
    heard: BTreeMap<String, Duration>,
}

impl Witness {
    /// One that begins to listen now, with the cluster's keepalive interval
    /// and timeout.
    pub fn new(interval: Duration, timeout: Duration, now: Duration) -> Self {
        Self {
            clock: Clock::new(now),
            interval,
            patience: timeout.saturating_sub(interval).max(interval * 3 / 2),
            heard: BTreeMap::new(),
        }
    }

    /// Time passes; due at least once in an interval.
    pub fn tick(&mut self, now: Duration) {
        self.clock.advance(now, self.interval);
    }

    /// A keepalive of that node came in.
    pub fn hear(&mut self, node: &str, now: Duration) {
        self.tick(now);
        self.heard.insert(node.into(), self.clock.now());
    }

    /// Whether that node is gone, as far as can be told from here. One that
    /// this witness cannot judge yet is not confirmed to be gone.
    pub fn judge(&mut self, node: &str, now: Duration) -> Verdict {
        self.tick(now);
        let since = self.heard.get(node).copied().unwrap_or_default();
        match self.clock.now().saturating_sub(since) >= self.patience {
            true => Verdict::Confirmed,
            false => Verdict::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_witness_that_has_listened_confirms() {
        let at = Duration::from_secs;
        let mut witness = Witness::new(at(1), at(3), at(100));
        assert_eq!(witness.judge("a", at(101)), Verdict::Denied);
        assert_eq!(witness.judge("a", at(102)), Verdict::Confirmed);
        witness.hear("a", at(103));
        // It was stopped for a minute: that is no silence.
        assert_eq!(witness.judge("a", at(163)), Verdict::Denied);
        assert_eq!(witness.judge("a", at(164)), Verdict::Confirmed);
    }
}
