//! When a write counts as acknowledged: what the others hold and the time go
//! in, up to where writes may be answered comes out.
//!
//! Where several nodes vote, a write comes here when a majority has it, and is
//! answered at once. Where one does, the publisher, it is on its disk, and is
//! answered when one learner has it, too, so that the loss of the publisher's
//! disk loses nothing that was acknowledged. Learners that are away or hang
//! hold nobody up: one that keeps a write waiting for longer than the grace is
//! not waited for again until it has caught up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A learner is waited for while it lacks at most so many entries.
pub(crate) const LAG: u64 = 100;

/// How writes are acknowledged now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledgement {
    /// There is no learner: the node's own disk is all there is.
    #[default]
    Alone,
    /// At least one learner has a write before it is answered.
    Replicated,
    /// A majority of several voters has a write before it is answered.
    Majority,
    /// There are learners, and none keeps up: writes are answered when they
    /// are on this node's disk.
    Degraded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Learner {
    matched: u64,
    /// Waited for once it has come this far; none while it is waited for.
    resume: Option<u64>,
}

/// What is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    grace: Duration,
    learners: BTreeMap<u64, Learner>,
    /// Index and time of writes that are not answered.
    pending: VecDeque<(u64, Duration)>,
    last: u64,
    /// Behind this entry a majority has everything; none where one node votes.
    majority: Option<u64>,
}

impl Waits {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            learners: BTreeMap::new(),
            pending: VecDeque::new(),
            last: 0,
            majority: None,
        }
    }

    /// Behind which entry a majority has all that is written.
    pub(crate) fn majority(&mut self, from: Option<u64>) {
        self.majority = from;
    }

    /// The other nodes there are, and up to where each has the log.
    pub(crate) fn seen(&mut self, learners: impl Iterator<Item = (u64, u64)>) {
        let (last, mut known) = (self.last, BTreeMap::new());
        for (node, matched) in learners {
            let resume = match self.learners.get(&node) {
                Some(learner) => learner.resume,
                // A new one has to catch up first.
                None => Some(last),
            };
            let behind = matched.saturating_add(LAG) < last;
            let resume = resume.filter(|from| behind || matched < *from);
            known.insert(node, Learner { matched, resume });
        }
        self.learners = known;
    }

    /// A write is on this node's disk.
    pub(crate) fn written(&mut self, index: u64, now: Duration) {
        self.last = self.last.max(index);
        self.pending.push_back((index, now));
    }

    /// Answers up to where writes are acknowledged at `now`.
    pub(crate) fn acknowledged(&mut self, now: Duration) -> u64 {
        while let Some((index, since)) = self.pending.front().copied() {
            let held = self.majority.is_some_and(|from| index > from)
                || self.learners.values().any(|one| one.matched >= index);
            let waited_for = self.learners.values().any(|one| one.resume.is_none());
            if waited_for && !held {
                if now.saturating_sub(since) < self.grace {
                    return index - 1;
                }
                for learner in self.learners.values_mut() {
                    if learner.matched < index {
                        learner.resume = Some(self.last);
                    }
                }
            }
            self.pending.pop_front();
        }
        self.last
    }

    /// When [`Self::acknowledged`] is to be asked again at the latest.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.pending.front().map(|(_, since)| *since + self.grace)
    }

    pub(crate) fn state(&self) -> Acknowledgement {
        if self.majority.is_some() {
            Acknowledgement::Majority
        } else if self.learners.is_empty() {
            Acknowledgement::Alone
        } else if self.learners.values().any(|one| one.resume.is_none()) {
            Acknowledgement::Replicated
        } else {
            Acknowledgement::Degraded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn waits() -> Waits {
        Waits::new(at(1000))
    }

    #[test]
    fn alone_nothing_is_waited_for() {
        let mut waits = waits();
        waits.written(7, at(0));
        assert_eq!(waits.acknowledged(at(0)), 7);
        assert_eq!(waits.state(), Acknowledgement::Alone);
    }

    #[test]
    fn one_of_two_learners_is_enough() {
        let mut waits = waits();
        waits.seen([(2, 0), (3, 0)].into_iter());
        waits.written(1, at(0));
        assert_eq!(waits.acknowledged(at(10)), 0);
        assert_eq!(waits.deadline(), Some(at(1000)));
        waits.seen([(2, 0), (3, 1)].into_iter());
        assert_eq!(waits.acknowledged(at(20)), 1);
        assert_eq!(waits.deadline(), None);
        assert_eq!(waits.state(), Acknowledgement::Replicated);
    }

    #[test]
    fn a_learner_that_hangs_is_waited_for_once() {
        let mut waits = waits();
        waits.seen([(2, 0)].into_iter());
        waits.written(1, at(0));
        waits.written(2, at(900));
        assert_eq!(waits.acknowledged(at(999)), 0);
        // Both go: the second is not made to wait for its own grace.
        assert_eq!(waits.acknowledged(at(1000)), 2);
        assert_eq!(waits.state(), Acknowledgement::Degraded);
        waits.written(3, at(2000));
        assert_eq!(waits.acknowledged(at(2000)), 3);
        // Seen again without progress, it is still not waited for.
        waits.seen([(2, 0)].into_iter());
        waits.seen([(2, 1)].into_iter());
        waits.written(4, at(2001));
        assert_eq!(waits.acknowledged(at(2001)), 4);
        // It has come as far as the log was when it was given up.
        waits.seen([(2, 2)].into_iter());
        assert_eq!(waits.state(), Acknowledgement::Replicated);
        waits.written(5, at(3000));
        assert_eq!(waits.acknowledged(at(3000)), 4);
        waits.seen([(2, 5)].into_iter());
        assert_eq!(waits.acknowledged(at(3001)), 5);
    }

    #[test]
    fn one_that_hangs_beside_one_that_does_not_costs_nothing() {
        let mut waits = waits();
        waits.seen([(2, 0), (3, 0)].into_iter());
        for index in 1..500 {
            waits.written(index, at(index));
            waits.seen([(2, 0), (3, index)].into_iter());
            assert_eq!(waits.acknowledged(at(index)), index);
        }
        // The one that kept up stops; the other is far behind.
        waits.written(500, at(500));
        assert_eq!(waits.acknowledged(at(1499)), 499);
        assert_eq!(waits.acknowledged(at(1500)), 500);
        assert_eq!(waits.state(), Acknowledgement::Degraded);
    }

    #[test]
    fn what_a_majority_has_is_answered_and_what_came_before_waits_for_a_learner() {
        let mut waits = waits();
        waits.seen([(2, 0), (3, 0)].into_iter());
        waits.written(7, at(0));
        // Entry 8 gave the others a vote.
        waits.majority(Some(8));
        waits.written(9, at(1));
        assert_eq!(waits.acknowledged(at(2)), 6);
        assert_eq!(waits.state(), Acknowledgement::Majority);
        waits.seen([(2, 7), (3, 0)].into_iter());
        assert_eq!(waits.acknowledged(at(3)), 9);
        waits.majority(None);
        waits.written(10, at(4));
        assert_eq!(waits.acknowledged(at(5)), 9);
        assert_eq!(waits.state(), Acknowledgement::Replicated);
    }

    #[test]
    fn a_newcomer_is_waited_for_when_it_has_caught_up() {
        let mut waits = waits();
        waits.written(1000, at(0));
        assert_eq!(waits.acknowledged(at(0)), 1000);
        waits.seen([(2, 950)].into_iter());
        assert_eq!(waits.state(), Acknowledgement::Degraded);
        waits.written(1001, at(1));
        assert_eq!(waits.acknowledged(at(1)), 1001);
        waits.seen([(2, 1000)].into_iter());
        assert_eq!(waits.state(), Acknowledgement::Replicated);
        // One that is removed is not missed.
        waits.written(1002, at(2));
        waits.seen([].into_iter());
        assert_eq!(waits.acknowledged(at(2)), 1002);
    }
}
