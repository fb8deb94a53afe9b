//! How much one sender may have stored for others: the bounds on a recipient's
//! stored messages say nothing of a sender with thousands of recipients.

use std::collections::HashMap;

/// Milliseconds after which counting begins anew.
const PERIOD: u64 = 60 * 60 * 1000;

/// Bytes that were stored for each sender's messages in the current period.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    period: u64,
    stored: HashMap<Box<str>, usize>,
}

impl Quotas {
    /// Counts a message of the sender, a bare address, unless `most` bytes
    /// within the period would be exceeded; tells whether it may be stored.
    /// `now` is in monotonic milliseconds; with a `most` of 0 there is no bound.
    pub(crate) fn take(&mut self, sender: &str, bytes: usize, most: usize, now: u64) -> bool {
        if most == 0 {
            return true;
        }
        if self.period != now / PERIOD {
            self.period = now / PERIOD;
            self.stored = HashMap::new();
        }
        let before = self.stored.get(sender).copied().unwrap_or(0);
        let after = before.saturating_add(bytes);
        if after > most {
            return false;
        }
        match self.stored.get_mut(sender) {
            Some(stored) => *stored = after,
            None => {
                self.stored.insert(sender.into(), after);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sender_has_a_bound_of_its_own_until_the_period_is_over() {
        let mut quotas = Quotas::default();
        assert!(quotas.take("eve@ex", 60, 100, 0));
        assert!(!quotas.take("eve@ex", 41, 100, 1));
        assert!(quotas.take("eve@ex", 40, 100, 2));
        assert!(quotas.take("bob@ex", 100, 100, 2));
        assert!(!quotas.take("eve@ex", 1, 100, PERIOD - 1));
        assert!(quotas.take("eve@ex", 1, 0, PERIOD - 1));
        assert!(quotas.take("eve@ex", 100, 100, PERIOD));
    }
}
