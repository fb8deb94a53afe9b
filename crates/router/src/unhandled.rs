//! Which stanzas of a client are not handled yet, and so hold back the count
//! that the client is told (XEP-0198, section 4).

use std::collections::VecDeque;

use crate::user::Receipt;

/// Room that an empty list may keep, so that a client which sends one message
/// after the other costs no allocation for each.
const ROOM: usize = 8;

/// Receipts that are not settled, the oldest first. One stanza may have
/// several: one for each place that it waits in.
#[derive(Debug, Default)]
pub(crate) struct Unhandled(VecDeque<Receipt>);

/// The count of a session's stanza.
fn count(receipt: Receipt) -> u32 {
    // Sessions count modulo 2^32.
    (receipt.number & u64::from(u32::MAX)) as u32
}

/// Whether count `a` comes before `b`; counts wrap (XEP-0198, section 4).
pub(crate) fn before(a: u32, b: u32) -> bool {
    // Half of all numbers is far more than a client may have under way.
    a != b && b.wrapping_sub(a) < 1 << 31
}

impl Unhandled {
    /// Adds a receipt.
    pub(crate) fn push(&mut self, receipt: Receipt) {
        // Nearly always the newest.
        let at = self
            .0
            .iter()
            .rposition(|known| !before(count(receipt), count(*known)))
            .map_or(0, |at| at + 1);
        self.0.insert(at, receipt);
    }

    /// Takes a receipt out, if it is there.
    pub(crate) fn remove(&mut self, receipt: Receipt) {
        if let Some(at) = self.0.iter().position(|known| *known == receipt) {
            self.0.remove(at);
        }
        if self.0.is_empty() && self.0.capacity() > ROOM {
            self.0 = VecDeque::new();
        }
    }

    /// Number of the oldest stanza that is not handled.
    pub(crate) fn first(&self) -> Option<u32> {
        self.0.front().map(|receipt| count(*receipt))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Receipt> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;
    use crate::user::Sender;

    fn receipt(number: u32) -> Receipt {
        Receipt {
            sender: Sender::Session(Key::from_u64(0)),
            number: number.into(),
            holder: None,
        }
    }

    #[test]
    fn the_first_is_the_one_farthest_behind() {
        let mut unhandled = Unhandled::default();
        assert_eq!(unhandled.first(), None);
        // Numbers wrap; one that was held may come late, and twice.
        for number in [1, u32::MAX, 2, 0, u32::MAX] {
            unhandled.push(receipt(number));
        }
        let mut order = Vec::new();
        while let Some(number) = unhandled.first() {
            order.push(number);
            unhandled.remove(receipt(number));
        }
        assert_eq!(order, [u32::MAX, u32::MAX, 0, 1, 2]);
        assert!(unhandled.is_empty());
    }

    #[test]
    fn receipts_of_one_stanza_are_told_apart() {
        let mut unhandled = Unhandled::default();
        let held = |holder| Receipt {
            holder: Some(Key::from_u64(holder)),
            ..receipt(1)
        };
        unhandled.push(held(1));
        unhandled.push(held(2));
        unhandled.remove(held(2));
        unhandled.remove(held(2));
        assert_eq!(unhandled.iter().collect::<Vec<_>>(), [&held(1)]);
    }
}
