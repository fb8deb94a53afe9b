//! Who may connect: limits in all and for each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Limits of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) all: usize,
    /// From one address.
    pub(crate) address: usize,
    /// In all, of clients that have not signed in.
    pub(crate) anonymous: usize,
    /// From one address, of clients that have not signed in.
    pub(crate) anonymous_address: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: usize,
    anonymous: usize,
}

#[derive(Debug, Default)]
struct Counts {
    total: Count,
    addresses: HashMap<IpAddr, Count>,
}

/// Counts the connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission(Arc<Mutex<Counts>>);

impl Admission {
    /// Takes a connection in, or says no.
    pub(crate) fn admit(&self, address: IpAddr, limits: &Limits) -> Option<Admitted> {
        let address = network(address);
        let mut counts = self.lock();
        let here = counts.addresses.get(&address).copied().unwrap_or_default();
        if counts.total.all >= limits.all
            || counts.total.anonymous >= limits.anonymous
            || here.all >= limits.address
            || here.anonymous >= limits.anonymous_address
        {
            return None;
        }
        let here = counts.addresses.entry(address).or_default();
        here.all += 1;
        here.anonymous += 1;
        counts.total.all += 1;
        counts.total.anonymous += 1;
        Some(Admitted {
            admission: self.clone(),
            address,
            anonymous: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Admission,
    address: IpAddr,
    anonymous: bool,
}

impl Admitted {
    /// The client has signed in.
    pub(crate) fn signed_in(&mut self) {
        if std::mem::replace(&mut self.anonymous, false) {
            let mut counts = self.admission.lock();
            counts.total.anonymous -= 1;
            if let Some(here) = counts.addresses.get_mut(&self.address) {
                here.anonymous -= 1;
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.signed_in();
        let mut counts = self.admission.lock();
        counts.total.all -= 1;
        if let Some(here) = counts.addresses.get_mut(&self.address) {
            here.all -= 1;
            if here.all == 0 {
                counts.addresses.remove(&self.address);
            }
        }
    }
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

    const LIMITS: Limits = Limits {
        all: 6,
        address: 4,
        anonymous: 3,
        anonymous_address: 2,
    };

    #[test]
    fn each_limit_holds_and_what_ends_makes_room() {
        let admission = Admission::default();
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let there: IpAddr = "192.0.2.2".parse().unwrap();
        let admit = |address| admission.admit(address, &LIMITS);
        let mut kept = vec![admit(here).unwrap(), admit(here).unwrap()];
        assert!(admit(here).is_none(), "two have not signed in");
        let third = admit(there).unwrap();
        assert!(admit(there).is_none(), "three in all have not");
        drop(third);
        for _ in 0..2 {
            kept.iter_mut().for_each(Admitted::signed_in);
            kept.push(admit(here).unwrap());
        }
        assert!(admit(here).is_none(), "four from here");
        kept.iter_mut().for_each(Admitted::signed_in);
        kept.push(admit(there).unwrap());
        kept.push(admit(there).unwrap());
        kept.iter_mut().for_each(Admitted::signed_in);
        assert!(admit(there).is_none(), "six in all");
        kept.clear();
        let counts = admission.lock();
        assert!(counts.addresses.is_empty());
        assert_eq!((counts.total.all, counts.total.anonymous), (0, 0));
    }
}
