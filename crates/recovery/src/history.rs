//! What happened and why, in words.

use std::collections::VecDeque;
use std::time::Duration;

use crate::state::Standing;

/// One step of the machine that changed something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    /// When, on the clock that the steps were given.
    pub at: Duration,
    /// State and reason before.
    pub from: Standing,
    /// State and reason after.
    pub to: Standing,
    /// The peer's, as far as they are known.
    pub peer: Option<Standing>,
    /// What was seen.
    pub seen: String,
    /// What was decided.
    pub decided: String,
    /// What an administrator should do, in order; empty when nothing.
    pub advice: &'static [&'static str],
}

/// The latest transitions.
#[derive(Clone, Debug)]
pub struct History {
    length: usize,
    transitions: VecDeque<Transition>,
}

impl History {
    /// Keeps the latest `length` transitions.
    pub fn new(length: usize) -> Self {
        Self {
            length,
            transitions: VecDeque::new(),
        }
    }

    /// Adds one and drops what is too old.
    pub fn push(&mut self, transition: Transition) {
        self.transitions.push_back(transition);
        while self.transitions.len() > self.length {
            self.transitions.pop_front();
        }
    }

    /// All that are kept, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Transition> {
        self.transitions.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Reason, State};

    #[test]
    fn the_oldest_goes_first() {
        let standing = Standing::new(State::Normal, Reason::Normal);
        let mut history = History::new(2);
        for second in 0..5 {
            history.push(Transition {
                at: Duration::from_secs(second),
                from: standing,
                to: standing,
                peer: None,
                seen: String::new(),
                decided: String::new(),
                advice: &[],
            });
        }
        let kept: Vec<_> = history.iter().map(|one| one.at.as_secs()).collect();
        assert_eq!(kept, [3, 4]);
    }
}
