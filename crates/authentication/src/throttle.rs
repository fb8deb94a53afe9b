//! Slows guessing down, without a way to lock people out.
//!
//! Failures are counted for an address and a user together, for an address,
//! and for a user; each count, once over its allowance, closes that door for a
//! time that doubles with each further failure. A user who has signed in from
//! an address before is not held up by what others do there, or by what
//! somebody does elsewhere in the user's name: only the failures of that pair
//! count for it. All tables are bounded; what was quiet longest is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Failures of one user from one address before each must wait.
    pub(crate) pair: u32,
    /// Failures from one address, whoever the user.
    pub(crate) address: u32,
    /// Failures of one user, wherever from.
    pub(crate) user: u32,
    /// Longest time that a door stays closed.
    pub(crate) longest: Duration,
    /// Entries of each table.
    pub(crate) entries: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            pair: 5,
            address: 50,
            user: 30,
            longest: Duration::from_secs(60),
            entries: 10_000,
        }
    }
}

/// Failures are forgotten after this time without another.
const FORGET: Duration = Duration::from_secs(900);
/// How long a successful sign-in vouches for a user and address.
const TRUST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest wait before a client is told of its failure.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

/// Time since some origin that the caller keeps.
pub(crate) type Moment = Duration;

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    last: Moment,
    closed_until: Moment,
}

/// A table that forgets what was touched longest ago.
#[derive(Debug)]
struct Table<K, V> {
    rows: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    clock: u64,
}

impl<K: Clone + Eq + Hash, V: Default> Table<K, V> {
    fn new() -> Self {
        Self {
            rows: HashMap::new(),
            order: BTreeMap::new(),
            clock: 0,
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|(_, value)| value)
    }

    /// The row of that key, as the one touched last.
    fn touch(&mut self, key: &K, most: usize) -> &mut V {
        self.remove_if_full(key, most);
        self.clock += 1;
        let row = self.rows.entry(key.clone()).or_default();
        self.order.remove(&row.0);
        row.0 = self.clock;
        self.order.insert(self.clock, key.clone());
        &mut row.1
    }

    fn remove_if_full(&mut self, key: &K, most: usize) {
        while self.rows.len() >= most.max(1) && !self.rows.contains_key(key) {
            match self.order.pop_first() {
                Some((_, oldest)) => self.rows.remove(&oldest),
                None => return,
            };
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some((touched, _)) = self.rows.remove(key) {
            self.order.remove(&touched);
        }
    }
}

type Pair = (IpAddr, Box<str>);

/// The counts of failures.
#[derive(Debug)]
pub(crate) struct Throttle {
    pairs: Table<Pair, Failures>,
    addresses: Table<IpAddr, Failures>,
    users: Table<Box<str>, Failures>,
    trusted: Table<Pair, Moment>,
}

impl Throttle {
    pub(crate) fn new() -> Self {
        Self {
            pairs: Table::new(),
            addresses: Table::new(),
            users: Table::new(),
            trusted: Table::new(),
        }
    }

    /// Whether an attempt may be made now; if not, how long it would have to
    /// wait.
    pub(crate) fn check(&self, address: IpAddr, user: &str, now: Moment) -> Result<(), Duration> {
        let address = network(address);
        let pair = (address, user.into());
        let mut until = closed(self.pairs.get(&pair), now);
        let trusted = self
            .trusted
            .get(&pair)
            .is_some_and(|since| now.saturating_sub(*since) < TRUST);
        if !trusted {
            until = until
                .max(closed(self.addresses.get(&address), now))
                .max(closed(self.users.get(&pair.1), now));
        }
        match until.saturating_sub(now) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// Counts a failure. Returns how long to wait before the client is told.
    pub(crate) fn failed(
        &mut self,
        address: IpAddr,
        user: &str,
        now: Moment,
        rules: &Rules,
    ) -> Duration {
        let address = network(address);
        let pair = (address, user.into());
        let most = rules.entries;
        let own = self.pairs.touch(&pair, most);
        let count = count(own, now, rules.pair, rules.longest);
        self::count(
            self.addresses.touch(&address, most),
            now,
            rules.address,
            rules.longest,
        );
        self::count(
            self.users.touch(&pair.1, most),
            now,
            rules.user,
            rules.longest,
        );
        doubled(Duration::from_millis(250), count).min(LONGEST_ANSWER)
    }

    /// A sign-in succeeded: the user's failures there are forgiven.
    pub(crate) fn succeeded(&mut self, address: IpAddr, user: &str, now: Moment, rules: &Rules) {
        let pair = (network(address), user.into());
        self.pairs.remove(&pair);
        *self.trusted.touch(&pair, rules.entries) = now;
    }
}

fn closed(failures: Option<&Failures>, now: Moment) -> Moment {
    failures.map_or(now, |failures| failures.closed_until)
}

/// Counts one more failure and closes the door when there were too many.
fn count(failures: &mut Failures, now: Moment, allowed: u32, longest: Duration) -> u32 {
    if now.saturating_sub(failures.last) > FORGET {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now;
    if failures.count >= allowed {
        let over = failures.count - allowed;
        failures.closed_until = now + doubled(Duration::from_secs(1), over).min(longest);
    }
    failures.count
}

fn doubled(base: Duration, times: u32) -> Duration {
    base.saturating_mul(1 << times.min(20))
}

/// What counts as one address: an IPv6 user commands a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn there(n: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(0xC633_6400 + n))
    }

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn a_guesser_waits_longer_and_longer() {
        let rules = Rules::default();
        let mut throttle = Throttle::new();
        let mut guesses = 0;
        for second in 0..3600 {
            while throttle.check(HERE, "alice", at(second)).is_ok() {
                throttle.failed(HERE, "alice", at(second), &rules);
                guesses += 1;
            }
        }
        assert!((30..100).contains(&guesses), "{guesses} guesses in an hour");
        assert!(
            throttle.check(HERE, "bob", at(3600)).is_err(),
            "the address is at its end"
        );
        assert!(throttle.check(there(1), "bob", at(3600)).is_ok());
        // Quiet time is forgiven.
        assert!(throttle.check(HERE, "alice", at(3600 + 61)).is_ok());
        throttle.failed(HERE, "alice", at(3600 + 2000), &rules);
        assert!(throttle.check(HERE, "alice", at(3600 + 2000)).is_ok());
    }

    #[test]
    fn nobody_is_locked_out_by_others() {
        let rules = Rules::default();
        let mut throttle = Throttle::new();
        throttle.succeeded(HERE, "alice", at(0), &rules);
        // Others guess her password from everywhere, and other names from
        // her own address.
        for n in 0..200 {
            throttle.failed(there(n), "alice", at(1), &rules);
            throttle.failed(HERE, &format!("user{n}"), at(1), &rules);
        }
        assert!(throttle.check(there(300), "alice", at(1)).is_err());
        assert!(throttle.check(HERE, "bob", at(1)).is_err());
        assert!(throttle.check(HERE, "alice", at(1)).is_ok());
        // Where she was never seen she waits no longer than the limit.
        let wait = throttle.check(there(300), "alice", at(1)).unwrap_err();
        assert!(wait <= rules.longest);
    }

    #[test]
    fn success_forgives_the_pair() {
        let rules = Rules::default();
        let mut throttle = Throttle::new();
        for _ in 0..5 {
            throttle.failed(HERE, "alice", at(0), &rules);
        }
        assert!(throttle.check(HERE, "alice", at(0)).is_err());
        throttle.succeeded(HERE, "alice", at(2), &rules);
        let wait = throttle.failed(HERE, "alice", at(2), &rules);
        assert_eq!(wait, Duration::from_millis(500));
    }

    #[test]
    fn the_tables_are_bounded() {
        let rules = Rules {
            entries: 100,
            ..Rules::default()
        };
        let mut throttle = Throttle::new();
        for n in 0..10_000 {
            throttle.failed(there(n), &n.to_string(), at(0), &rules);
            throttle.succeeded(there(n), &n.to_string(), at(0), &rules);
        }
        assert!(throttle.users.rows.len() <= 100 && throttle.users.order.len() <= 100);
        assert!(throttle.addresses.rows.len() <= 100);
        assert!(throttle.pairs.rows.len() <= 100 && throttle.pairs.order.len() <= 100);
        assert_eq!(throttle.trusted.rows.len(), 100);
        assert!(
            throttle
                .trusted
                .get(&(there(9_999), "9999".into()))
                .is_some()
        );
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let rules = Rules::default();
        let mut throttle = Throttle::new();
        for n in 0..5 {
            let address = format!("2001:db8::{n}").parse().unwrap();
            throttle.failed(address, "alice", at(0), &rules);
        }
        let other = "2001:db8::ffff".parse().unwrap();
        assert!(throttle.check(other, "alice", at(0)).is_err());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(network(mapped), HERE);
    }
}
