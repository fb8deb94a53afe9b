//! What waits until its user can be looked at: bounded, in order.

use std::collections::{VecDeque, vec_deque};

/// Most things that may wait for one user.
const MOST: usize = 2000;

/// Most bytes of those.
const MOST_BYTES: usize = 8 << 20;

/// Something that takes memory while it waits.
pub(crate) trait Weight {
    /// Its size in bytes, as far as a sender decides it.
    fn bytes(&self) -> usize;
}

/// A bounded queue.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    queue: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<T: Weight> Waiting<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether something of this size may still come.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < MOST && self.bytes.saturating_add(bytes) <= MOST_BYTES
    }

    pub(crate) fn push_back(&mut self, value: T) {
        self.bytes += value.bytes();
        self.queue.push_back(value);
    }

    pub(crate) fn push_front(&mut self, value: T) {
        self.bytes += value.bytes();
        self.queue.push_front(value);
    }

    /// Takes the first; an empty queue keeps no memory.
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let value = self.queue.pop_front()?;
        self.bytes -= value.bytes();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(value)
    }
}

impl<T> IntoIterator for Waiting<T> {
    type Item = T;
    type IntoIter = vec_deque::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.queue.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weight for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    #[test]
    fn neither_many_nor_large_ones_pass_the_bounds() {
        let mut waiting = Waiting::default();
        while waiting.has_room(1) {
            waiting.push_back(1_usize);
        }
        assert_eq!(waiting.queue.len(), MOST);
        waiting.pop_front();
        assert!(waiting.has_room(MOST_BYTES - MOST + 1));
        assert!(!waiting.has_room(MOST_BYTES - MOST + 2));
    }

    #[test]
    fn what_goes_makes_room() {
        let mut waiting = Waiting::default();
        waiting.push_back(MOST_BYTES - 1);
        waiting.push_front(1);
        assert!(!waiting.has_room(1));
        assert_eq!(waiting.pop_front(), Some(1));
        assert_eq!(waiting.pop_front(), Some(MOST_BYTES - 1));
        assert!(waiting.is_empty() && waiting.has_room(MOST_BYTES));
    }
}
