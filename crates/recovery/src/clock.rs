//! Time as a manager lived through it.

use std::time::Duration;

/// Counts the time in which the manager ran.
///
/// Between two steps at most `longest` counts. A process that was stopped, a
/// machine that was paused or a clock that was set an hour ahead has not
/// listened for an hour: its peer was not silent for that long, and no service
/// was seen to be down for that long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Clock {
    last: Duration,
    lived: Duration,
}

impl Clock {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            last: now,
            lived: Duration::ZERO,
        }
    }

    pub(crate) fn advance(&mut self, now: Duration, longest: Duration) {
        self.lived += now.saturating_sub(self.last).min(longest);
        self.last = now;
    }

    /// Time since the start.
    pub(crate) fn now(self) -> Duration {
        self.lived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_counts_as_one_pause_and_the_past_as_nothing() {
        let second = Duration::from_secs(1);
        let mut clock = Clock::new(10 * second);
        clock.advance(11 * second, 2 * second);
        clock.advance(3611 * second, 2 * second);
        assert_eq!(clock.now(), 3 * second);
        clock.advance(second, 2 * second);
        clock.advance(2 * second, 2 * second);
        assert_eq!(clock.now(), 4 * second);
    }
}
