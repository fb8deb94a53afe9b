//! The state of replication: what was seen and the time go in, the judgement
//! comes out.

use std::time::Duration;

use crate::{Member, Report, Status};

/// More entries than this are a lag.
const LAG_ENTRIES: u64 = 100;
/// Something unapplied for longer than this is a lag.
const LAG: Duration = Duration::from_secs(5);

/// The states, as the original's administrators know them.
pub(crate) mod state {
    /// Known, nothing matched yet.
    pub(crate) const STARTING: u8 = 0;
    /// Taking a snapshot over, lagging, or members missing.
    pub(crate) const BEHIND: u8 = 1;
    /// All is equal.
    pub(crate) const GOOD: u8 = 2;
    /// Contents differ.
    pub(crate) const MISMATCH: u8 = 3;
    /// An error that does not end by itself.
    pub(crate) const FAILED: u8 = 4;
}

/// What a judgement remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judge {
    /// Since when something is not applied.
    behind_since: Option<Duration>,
    /// What the last check found wrong.
    problems: Vec<String>,
}

impl Judge {
    /// Takes the result of a check over.
    pub(crate) fn checked(&mut self, problems: Vec<String>) {
        self.problems = problems;
    }

    /// Judges a node. `expected` are the cluster's nodes by number and name;
    /// `now` is on any clock that only grows.
    pub(crate) fn judge(
        &mut self,
        seen: &Status,
        expected: &[(u64, String, String)],
        now: Duration,
    ) -> Report {
        let lag_entries = seen.last_log.saturating_sub(seen.applied);
        if lag_entries == 0 {
            self.behind_since = None;
        }
        let since = (lag_entries > 0).then(|| *self.behind_since.get_or_insert(now));
        let lag = since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let (state, reason) = self.state(seen, expected, lag_entries, lag);
        let members = seen.members.iter().map(|member| {
            let known = expected.iter().find(|(node, ..)| *node == member.node);
            let (name, address) = known.map_or(
                (String::new(), member.address.clone()),
                |(_, name, address)| (name.clone(), address.clone()),
            );
            let own = member.node == seen.node;
            Member {
                name,
                address,
                state: if own { state } else { state::STARTING },
                reason: if own {
                    reason.clone()
                } else {
                    "no word from it yet".into()
                },
                lag_entries: if own { lag_entries } else { 0 },
                ..member.clone()
            }
        });
        Report {
            state,
            lag_entries,
            lag_seconds: lag.as_secs(),
            members: members.collect(),
            reason: reason.clone(),
        }
    }

    fn state(
        &self,
        seen: &Status,
        expected: &[(u64, String, String)],
        lag_entries: u64,
        lag: Duration,
    ) -> (u8, String) {
        if !seen.fault.is_empty() {
            return (state::FAILED, seen.fault.clone());
        }
        if let Some(first) = self.problems.first() {
            return (state::MISMATCH, format!("the last check found: {first}"));
        }
        if seen.members.is_empty() || seen.applied == 0 {
            return (state::STARTING, "nothing is applied yet".into());
        }
        // A leader writes snapshots of its own beside its work; only taking
        // one over means that the rows are not there yet.
        if seen.snapshot_running && seen.role != "leader" {
            return (state::BEHIND, "a snapshot is being taken over".into());
        }
        if lag_entries > LAG_ENTRIES || lag > LAG {
            let text = format!(
                "{lag_entries} entries are not applied, for {} s",
                lag.as_secs()
            );
            return (state::BEHIND, text);
        }
        let members: Vec<u64> = seen.members.iter().map(|member| member.node).collect();
        if let Some((_, name, _)) = expected.iter().find(|(node, ..)| !members.contains(node)) {
            return (state::BEHIND, format!("node {name} is not a member yet"));
        }
        if !expected.is_empty()
            && let Some(extra) = members
                .iter()
                .find(|id| !expected.iter().any(|(node, ..)| node == *id))
        {
            return (
                state::BEHIND,
                format!("member {extra} is not among the cluster's nodes"),
            );
        }
        (state::GOOD, "Setup Completed".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(applied: u64, last_log: u64) -> Status {
        let members = vec![Member {
            node: 1,
            voter: true,
            ..Member::default()
        }];
        let role = "leader".into();
        Status {
            node: 1,
            applied,
            last_log,
            role,
            members,
            ..Status::default()
        }
    }

    fn nodes(nodes: &[u64]) -> Vec<(u64, String, String)> {
        nodes
            .iter()
            .map(|node| (*node, format!("n{node}"), String::new()))
            .collect()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_that_has_everything_is_good() {
        let mut judge = Judge::default();
        let report = judge.judge(&seen(7, 7), &nodes(&[1]), at(0));
        assert_eq!((report.state, report.lag_entries), (2, 0));
        assert_eq!(report.members[0].name, "n1");
        assert_eq!(judge.judge(&seen(0, 0), &[], at(0)).state, 0);
    }

    #[test]
    fn a_lag_counts_by_entries_at_once_and_by_time_when_it_lasts() {
        let mut judge = Judge::default();
        assert_eq!(judge.judge(&seen(10, 111), &[], at(0)).state, 1);
        assert_eq!(judge.judge(&seen(111, 111), &[], at(1)).state, 2);
        assert_eq!(judge.judge(&seen(111, 112), &[], at(2)).state, 2);
        let report = judge.judge(&seen(111, 113), &[], at(8));
        assert_eq!(
            (report.state, report.lag_entries, report.lag_seconds),
            (1, 2, 6)
        );
        assert_eq!(judge.judge(&seen(113, 113), &[], at(9)).state, 2);
    }

    #[test]
    fn members_are_those_of_the_table() {
        let mut judge = Judge::default();
        let report = judge.judge(&seen(7, 7), &nodes(&[1, 2]), at(0));
        assert!(
            report.state == 1 && report.reason.contains("n2"),
            "{report:?}"
        );
        let report = judge.judge(&seen(7, 7), &nodes(&[2]), at(0));
        assert_eq!(report.state, 1);
    }

    #[test]
    fn problems_and_faults_are_worse_than_lag() {
        let mut judge = Judge::default();
        judge.checked(vec!["table t differs".into()]);
        let report = judge.judge(&seen(1, 900), &[], at(0));
        assert!(
            report.state == 3 && report.reason.contains("table t"),
            "{report:?}"
        );
        let failed = Status {
            fault: "disk full".into(),
            ..seen(1, 1)
        };
        assert_eq!(judge.judge(&failed, &[], at(0)).state, 4);
        judge.checked(Vec::new());
        assert_eq!(judge.judge(&seen(1, 1), &[], at(0)).state, 2);
    }

    #[test]
    fn only_taking_a_snapshot_over_counts() {
        let mut judge = Judge::default();
        let leader = Status {
            snapshot_running: true,
            ..seen(7, 7)
        };
        assert_eq!(judge.judge(&leader, &[], at(0)).state, 2);
        let learner = Status {
            role: "learner".into(),
            ..leader
        };
        assert_eq!(judge.judge(&learner, &[], at(0)).state, 1);
    }
}
