//! What this node knows of the others: their words and the time go in, what
//! to show and to judge by comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use replication::Epoch;

use crate::rpc;

/// A node that said nothing for so long is not known to be well.
const SILENCE: Duration = Duration::from_secs(10);
/// The state of a node that is not known to be well.
const STALE: u32 = 3;

/// The epoch of the log that a node has.
pub(crate) fn epoch_of(word: &rpc::Word) -> Epoch {
    Epoch {
        count: word.epoch,
        founder: word.epoch_founder,
    }
}

/// The last that is known of a node.
#[derive(Clone, Debug, Default)]
struct Seen {
    word: Option<rpc::Word>,
    /// When it said that.
    at: Duration,
    /// How long it took to ask.
    ping: Duration,
    /// Why it did not answer the last time; empty when it did.
    error: String,
}

/// The other nodes of the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours {
    seen: BTreeMap<u64, Seen>,
    /// Tables that differed from the leader's when they were compared last.
    pub(crate) mismatched: Vec<String>,
    /// Why the leader will not have this node; empty when it does.
    pub(crate) refused: String,
}

impl Neighbours {
    /// A node answered, `ping` after it was asked.
    pub(crate) fn answered(&mut self, word: rpc::Word, ping: Duration, now: Duration) {
        let node = word.node;
        self.seen.insert(
            node,
            Seen {
                word: Some(word),
                at: now,
                ping,
                error: String::new(),
            },
        );
    }

    /// A node asked; what it said of itself is as good as an answer.
    pub(crate) fn asked(&mut self, word: rpc::Word, now: Duration) {
        let seen = self.seen.entry(word.node).or_default();
        seen.word = Some(word);
        seen.at = now;
    }

    /// A node did not answer.
    pub(crate) fn silent(&mut self, node: u64, error: &str) {
        error.clone_into(&mut self.seen.entry(node).or_default().error);
    }

    /// Forgets all nodes but these.
    pub(crate) fn keep<'a>(&mut self, nodes: impl Iterator<Item = &'a u64>) {
        let nodes: Vec<u64> = nodes.copied().collect();
        self.seen.retain(|node, _| nodes.contains(node));
    }

    /// What the log of that epoch calls the node of that number, as it said
    /// itself.
    pub(crate) fn name(&self, node: u64, epoch: Epoch) -> Option<u64> {
        let word = self.seen.get(&node)?.word.as_ref()?;
        if epoch_of(word) != epoch {
            return None;
        }
        // A version that had no names is called by its number.
        Some(if word.name == 0 { node } else { word.name })
    }

    /// The last entry of a node's log, and how long ago it said so.
    pub(crate) fn last_log(&self, node: u64, now: Duration) -> Option<(u64, Duration)> {
        let seen = self.seen.get(&node)?;
        let word = seen.word.as_ref()?;
        Some((word.last_log, now.saturating_sub(seen.at)))
    }

    /// Whether a node answers.
    pub(crate) fn answers(&self, node: u64, now: Duration) -> bool {
        self.seen.get(&node).is_some_and(|seen| {
            seen.word.is_some() && seen.error.is_empty() && now.saturating_sub(seen.at) <= SILENCE
        })
    }

    /// A node as it is known: of its log the last entry, and how long ago it
    /// said so. `started` is how long the database runs.
    pub(crate) fn other(&self, node: u64, name: String, now: Duration) -> rpc::OtherNode {
        let seen = self.seen.get(&node);
        let word = seen.and_then(|seen| seen.word.as_ref());
        let at = seen
            .filter(|_| word.is_some())
            .map_or(Duration::ZERO, |seen| seen.at);
        let ago = now.saturating_sub(at);
        rpc::OtherNode {
            name,
            answers: self.answers(node, now),
            heard: word.is_some(),
            last_log: word.map_or(0, |word| word.last_log),
            seconds: ago.as_secs(),
        }
    }

    /// A member with what is known of it. `member` has its number, address,
    /// name and whether it votes.
    pub(crate) fn member(&self, member: rpc::Member, now: Duration) -> rpc::Member {
        let Some(seen) = self.seen.get(&member.node) else {
            return rpc::Member {
                reason: "no word from it yet".into(),
                ..member
            };
        };
        let why = |text: String| {
            if seen.error.is_empty() {
                text
            } else {
                format!("{text}: {}", seen.error)
            }
        };
        let Some(word) = &seen.word else {
            return rpc::Member {
                reason: why("no word from it yet".into()),
                ..member
            };
        };
        let ago = now.saturating_sub(seen.at);
        let quiet = ago > SILENCE;
        rpc::Member {
            state: if quiet { STALE } else { word.state },
            reason: if quiet {
                why(format!("no word from it for {} s", ago.as_secs()))
            } else {
                word.reason.clone()
            },
            lag_entries: word.lag_entries,
            lag_seconds: word.lag_seconds,
            reachable: !quiet && seen.error.is_empty(),
            ping_micros: u64::try_from(seen.ping.as_micros()).unwrap_or(u64::MAX),
            version: word.version.clone(),
            ..member
        }
    }
}

/// The tables that differ between two nodes at the same place of the log.
pub(crate) fn differing(ours: &[rpc::TableDigest], theirs: &[rpc::TableDigest]) -> Vec<String> {
    let index = |tables: &[rpc::TableDigest]| -> BTreeMap<String, (String, u64)> {
        let filled = tables.iter().filter(|table| table.rows > 0);
        filled
            .map(|table| (table.table.clone(), (table.digest.clone(), table.rows)))
            .collect()
    };
    let (ours, theirs) = (index(ours), index(theirs));
    let mut names: Vec<String> = ours.keys().chain(theirs.keys()).cloned().collect();
    names.sort();
    names.dedup();
    names.retain(|name| ours.get(name) != theirs.get(name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn word(node: u64) -> rpc::Word {
        rpc::Word {
            node,
            state: 2,
            last_log: 40,
            reason: "Setup Completed".into(),
            ..rpc::Word::default()
        }
    }

    fn member(neighbours: &Neighbours, now: u64) -> rpc::Member {
        let member = rpc::Member {
            node: 2,
            ..rpc::Member::default()
        };
        neighbours.member(member, at(now))
    }

    #[test]
    fn a_node_is_what_it_says_until_it_is_silent_for_too_long() {
        let mut neighbours = Neighbours::default();
        let seen = member(&neighbours, 0);
        assert_eq!((seen.state, seen.reachable), (0, false));
        neighbours.answered(word(2), Duration::from_micros(450), at(100));
        let seen = member(&neighbours, 101);
        assert_eq!(
            (seen.state, seen.reachable, seen.ping_micros),
            (2, true, 450)
        );
        assert_eq!(neighbours.last_log(2, at(103)), Some((40, at(3))));
        neighbours.silent(2, "connection refused");
        let seen = member(&neighbours, 105);
        assert_eq!((seen.state, seen.reachable), (2, false));
        let seen = member(&neighbours, 131);
        assert_eq!((seen.state, seen.reachable), (3, false));
        assert_eq!(seen.reason, "no word from it for 31 s: connection refused");
        // It asks us: it lives.
        neighbours.asked(word(2), at(140));
        assert_eq!(member(&neighbours, 141).state, 2);
        let first = Epoch::default();
        assert_eq!(
            (neighbours.name(2, first), neighbours.name(3, first)),
            (Some(2), None)
        );
        // Who has another log has no name in this one.
        assert_eq!(neighbours.name(2, first.next(2)), None);
        neighbours.keep([1].iter());
        assert_eq!(member(&neighbours, 142).state, 0);
    }

    #[test]
    fn tables_without_rows_are_no_difference() {
        let table = |name: &str, digest: &str, rows| rpc::TableDigest {
            table: name.into(),
            digest: digest.into(),
            rows,
            ..rpc::TableDigest::default()
        };
        let ours = [table("a", "1", 1), table("b", "0", 0), table("c", "2", 2)];
        let theirs = [table("c", "3", 2), table("a", "1", 1), table("d", "4", 1)];
        assert_eq!(differing(&ours, &theirs), ["c", "d"]);
        assert_eq!(differing(&ours, &ours), [""; 0]);
    }
}
