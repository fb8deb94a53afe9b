//! Slows down who guesses passwords. The address that fails waits longer and
//! longer; the account is never locked, so that nobody can lock others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Failures that cost nothing: people mistype.
const FREE: u32 = 3;
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// After so long without a failure, an address is forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Most addresses remembered; the one that failed longest ago goes first.
const MOST: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn wait(self) -> Duration {
        match self.count.checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(more) => Duration::from_secs(1 << more.min(6)).min(LONGEST),
        }
    }
}

/// Who failed how often.
#[derive(Debug, Default)]
pub(crate) struct Throttle(HashMap<IpAddr, Failures>);

/// What counts as one address: a household or machine of IPv6 has a whole /64.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let prefix = six.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(prefix.into())
        }
        four @ IpAddr::V4(_) => four,
    }
}

impl Throttle {
    /// How long this address must still wait before it may try.
    pub(crate) fn wait(&self, address: IpAddr, now: Instant) -> Duration {
        self.0.get(&source(address)).map_or(Duration::ZERO, |one| {
            one.wait().saturating_sub(now.duration_since(one.last))
        })
    }

    /// Notes a failure.
    pub(crate) fn failed(&mut self, address: IpAddr, now: Instant) {
        self.0
            .retain(|_, one| now.duration_since(one.last) < MEMORY);
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, one)| one.last);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.0.remove(&key);
            }
        }
        let one = self.0.entry(source(address)).or_insert(Failures {
            count: 0,
            last: now,
        });
        one.count = one.count.saturating_add(1);
        one.last = now;
    }

    /// Notes a success: the address may mistype again.
    pub(crate) fn succeeded(&mut self, address: IpAddr) {
        self.0.remove(&source(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_the_fourth_failure_and_end() {
        let now = Instant::now();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let mut throttle = Throttle::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            throttle.failed(address, now);
            waits.push(throttle.wait(address, now).as_secs());
        }
        assert_eq!(waits, [0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(
            throttle.wait(address, now + Duration::from_secs(61)),
            Duration::ZERO
        );
        assert_eq!(
            throttle.wait("192.0.2.2".parse().unwrap(), now),
            Duration::ZERO
        );
        throttle.succeeded(address);
        assert_eq!(throttle.wait(address, now), Duration::ZERO);
    }

    #[test]
    fn a_whole_network_of_ipv6_is_one_source_and_the_table_is_bounded() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        for last in 0..5_u16 {
            throttle.failed(format!("2001:db8::{last:x}").parse().unwrap(), now);
        }
        assert!(throttle.wait("2001:db8::ffff".parse().unwrap(), now) > Duration::ZERO);
        for number in 0..u32::try_from(MOST + 10).unwrap() {
            throttle.failed(IpAddr::V4(number.into()), now);
        }
        assert_eq!(throttle.0.len(), MOST);
    }
}
