//! The router's counters, by the names that monitoring tools know.

use service::{Counter, Perf};

use crate::stats::Stats;

/// Milliseconds of a time slice.
const SLICE: u64 = 60_000;

#[derive(Debug)]
pub(crate) struct Counters {
    sessions: Counter,
    messages: Counter,
    in_slice: Counter,
    client_sessions: Counter,
    phantoms: Counter,
    client: Counter,
    client_inactive: Counter,
    composed: Counter,
    active: Counter,
    inactive: Counter,
    exceeds: Counter,
    resumed: Counter,
    stored: Counter,
    users: Counter,
    /// Sessions that a node of this size is made for.
    capacity: i64,
    slice: u64,
    at_slice: u64,
}

/// Sessions that a node takes: one and a half for each user of its size.
fn capacity(size: &str) -> i64 {
    let thousands: i64 = size.trim_end_matches(['K', 'k']).parse().unwrap_or(5);
    thousands * 1500
}

fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

impl Counters {
    pub(crate) fn new(perf: &Perf, size: &str) -> Self {
        let jsm = |name| perf.counter("Cisco XCP JSM", "", name);
        let engine = |name| perf.counter("Cisco Presence Engine", "", name);
        let session = |name| perf.counter("JSM Session Counters", "", name);
        // A kind of session that later parts of the product bring.
        session("JsmHybridSessionsActive").set(0);
        Self {
            sessions: jsm("JsmIMSessions"),
            messages: jsm("JsmTotalMessagePackets"),
            in_slice: jsm("JsmMsgsInLastSlice"),
            client_sessions: session("JsmClientSessionsActive"),
            phantoms: session("JsmPhantomSessionsActive"),
            client: session("JsmSessionsClient"),
            client_inactive: session("JsmSessionsClientInactive"),
            composed: session("JsmSessionsComposed"),
            active: engine("ActiveJsmSessions"),
            inactive: engine("InactiveJsmSessions"),
            exceeds: session("JSMSessionsExceedsThreshold"),
            resumed: jsm("JsmSessionsResumed"),
            stored: jsm("JsmOfflineMessagesStored"),
            users: jsm("JsmUsersLoaded"),
            capacity: capacity(size),
            slice: 0,
            at_slice: 0,
        }
    }

    /// Takes the figures over. `now` is monotonic.
    pub(crate) fn update(&mut self, stats: &Stats, now: u64) {
        self.sessions.set(signed(stats.sessions));
        self.messages.set(signed(stats.messages));
        self.client_sessions.set(signed(stats.sessions_connected));
        self.phantoms.set(signed(stats.phantoms));
        // Seed 004, table 3: with X users at home here and Y at the other node
        // of the group, all with two connections, X and Y.
        self.client.set(signed(stats.sessions_connected));
        self.client_inactive.set(signed(stats.inactive));
        self.composed.set(signed(stats.sessions));
        self.active.set(signed(stats.users_active));
        self.inactive.set(signed(stats.inactive));
        self.resumed.set(signed(stats.resumed));
        self.stored.set(signed(stats.stored));
        self.users.set(signed(stats.users_loaded));
        // In percent of what the node is made for; the alert compares it.
        self.exceeds
            .set(signed(stats.sessions) * 100 / self.capacity);
        let slice = now / SLICE;
        if slice != self.slice {
            self.in_slice.set(signed(stats.messages - self.at_slice));
            self.at_slice = stats.messages;
            self.slice = slice;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_counts_its_own_messages() {
        let perf = Perf::default();
        let mut counters = Counters::new(&perf, "15K");
        let mut stats = Stats {
            sessions: 2250,
            messages: 10,
            ..Stats::default()
        };
        counters.update(&stats, SLICE);
        assert_eq!(counters.in_slice.get(), 10);
        stats.messages = 25;
        counters.update(&stats, SLICE + 1);
        assert_eq!(counters.in_slice.get(), 10);
        counters.update(&stats, 2 * SLICE);
        assert_eq!(counters.in_slice.get(), 15);
        assert_eq!(counters.exceeds.get(), 10);
    }
}
