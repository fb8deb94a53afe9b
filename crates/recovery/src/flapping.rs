//! When failovers come too often, nothing moves any more.

use std::time::Duration;

/// Within so long so many failovers are too many.
pub(crate) const WINDOW: Duration = Duration::from_secs(3600);
pub(crate) const MANY: usize = 3;

/// The failovers of late that nobody asked for.
///
/// The third within an hour begins a hold. It ends an hour later, or with the
/// next request of an administrator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flapping {
    /// When each failover is forgotten.
    until: Vec<Duration>,
    held_until: Option<Duration>,
}

impl Flapping {
    /// As it was after so much of each time was left.
    pub(crate) fn restore(left: &[Duration], hold: Option<Duration>, now: Duration) -> Self {
        Self {
            until: left.iter().map(|left| now + *left).collect(),
            held_until: hold.map(|left| now + left),
        }
    }

    /// How much is left of each time.
    pub(crate) fn left(&self, now: Duration) -> (Vec<Duration>, Option<Duration>) {
        let left = |until: &Duration| until.saturating_sub(now);
        (
            self.until.iter().map(left).collect(),
            self.held_until.as_ref().map(left),
        )
    }

    pub(crate) fn count(&mut self, now: Duration) {
        self.until.push(now + WINDOW);
        if self.until.len() >= MANY {
            self.until.clear();
            self.held_until = Some(now + WINDOW);
        }
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Duration) {
        self.until.retain(|until| *until > now);
        self.held_until = self.held_until.filter(|until| *until > now);
    }

    pub(crate) fn held(&self) -> bool {
        self.held_until.is_some()
    }

    /// An administrator has seen it.
    pub(crate) fn acknowledge(&mut self) {
        if self.held_until.take().is_some() {
            self.until.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_within_an_hour_holds_for_an_hour() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut flapping = Flapping::default();
        for (at, held) in [(0, false), (50, false), (70, false), (80, true)] {
            flapping.expire(minutes(at));
            flapping.count(minutes(at));
            assert_eq!(flapping.held(), held, "{at}");
        }
        flapping.expire(minutes(139));
        assert!(flapping.held());
        flapping.expire(minutes(140));
        assert!(!flapping.held());
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let now = Duration::from_secs(100);
        let mut flapping = Flapping::default();
        flapping.count(Duration::ZERO);
        flapping.count(now);
        let (left, hold) = flapping.left(now);
        let mut again = Flapping::restore(&left, hold, Duration::ZERO);
        again.expire(Duration::from_secs(1));
        again.count(Duration::from_secs(1));
        assert!(again.held());
    }
}
