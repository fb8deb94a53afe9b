//! Slows guessing of the security password down: wrong proofs and the time go
//! in, whether another attempt is allowed comes out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Wrong proofs from one address in [`PERIOD`].
const MOST: usize = 5;
const PERIOD: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond that all are slowed down together.
const ADDRESSES: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Attempts(BTreeMap<IpAddr, Vec<Duration>>);

impl Attempts {
    /// How long an address has to wait; none when it need not.
    pub(crate) fn wait(&mut self, from: IpAddr, now: Duration) -> Option<Duration> {
        self.0.retain(|_, times| {
            times.retain(|at| now.saturating_sub(*at) < PERIOD);
            !times.is_empty()
        });
        if self.0.len() >= ADDRESSES && !self.0.contains_key(&from) {
            return Some(PERIOD);
        }
        let times = self.0.get(&from)?;
        let first = times.len().checked_sub(MOST).map(|at| times[at])?;
        Some(PERIOD - now.saturating_sub(first))
    }

    /// Counts a wrong proof.
    pub(crate) fn failed(&mut self, from: IpAddr, now: Duration) {
        self.0.entry(from).or_default().push(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_wrong_proofs_in_a_minute_are_enough() {
        let mut attempts = Attempts::default();
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let at = Duration::from_secs;
        for second in 0..5 {
            assert_eq!(attempts.wait(one, at(second)), None);
            attempts.failed(one, at(second));
        }
        assert_eq!(attempts.wait(one, at(10)), Some(at(50)));
        assert_eq!(attempts.wait(other, at(10)), None);
        assert_eq!(attempts.wait(one, at(60)), None);
        attempts.failed(one, at(60));
        assert_eq!(attempts.wait(one, at(60)), Some(at(1)));
    }

    #[test]
    fn many_addresses_do_not_help() {
        let mut attempts = Attempts::default();
        for number in 0..1024u32 {
            attempts.failed(std::net::Ipv4Addr::from_bits(number).into(), Duration::ZERO);
        }
        let fresh = [192, 0, 2, 1].into();
        assert_eq!(attempts.wait(fresh, Duration::ZERO), Some(PERIOD));
        assert_eq!(attempts.wait(fresh, PERIOD), None);
    }
}
