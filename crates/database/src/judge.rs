//! The state of replication: what was seen and the time go in, the judgement
//! comes out.

use std::time::Duration;

use crate::{Report, Status};

/// More entries than this are a lag.
const LAG_ENTRIES: u64 = 100;
/// Something unapplied for longer than this is a lag.
const LAG: Duration = Duration::from_secs(5);
/// Without a word from the node that leads for so long, what is here is stale.
const STALE: Duration = Duration::from_secs(60);

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
    /// `now` is on any clock that only grows. What lasts for longer than
    /// `patience` does not end by itself.
    pub(crate) fn judge(
        &mut self,
        seen: &Status,
        expected: &[(u64, String, String)],
        patience: Duration,
        now: Duration,
    ) -> Report {
        let last = seen.last_log.max(seen.leader_last);
        let lag_entries = last.saturating_sub(seen.applied);
        if lag_entries == 0 {
            self.behind_since = None;
        }
        let since = (lag_entries > 0).then(|| *self.behind_since.get_or_insert(now));
        let behind = since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        // What was not heard of may be missing, too.
        let lag = behind.max(Duration::from_secs(seen.silent_seconds));
        let (state, reason) = self.state(seen, expected, (lag_entries, behind), patience);
        Report {
            state,
            lag_entries,
            lag_seconds: lag.as_secs(),
            reason,
        }
    }

    fn state(
        &self,
        seen: &Status,
        expected: &[(u64, String, String)],
        (lag_entries, lag): (u64, Duration),
        patience: Duration,
    ) -> (u8, String) {
        if !seen.fault.is_empty() {
            return (state::FAILED, seen.fault.clone());
        }
        if !seen.superseded.is_empty() {
            return (state::FAILED, seen.superseded.clone());
        }
        if !seen.refused.is_empty() {
            let text = format!("the publisher refuses this node: {}", seen.refused);
            return (state::FAILED, text);
        }
        if !seen.stopped.is_empty() {
            let text = format!("replication of this node was stopped: {}", seen.stopped);
            return (state::STARTING, text);
        }
        if let Some(first) = self.problems.first() {
            return (state::MISMATCH, format!("the last check found: {first}"));
        }
        if !seen.mismatched.is_empty() {
            let text = format!(
                "tables differ from the publisher's: {}",
                seen.mismatched.join(", ")
            );
            return (state::MISMATCH, text);
        }
        if seen.members.is_empty() || seen.applied == 0 {
            return (state::STARTING, "nothing is applied yet".into());
        }
        if !seen.complete {
            let text = "the tables are being copied from the publisher".into();
            return (state::BEHIND, text);
        }
        // A leader writes snapshots of its own beside its work; only taking
        // one over means that the rows are not there yet.
        if seen.snapshot_running && seen.role != "leader" {
            return (state::BEHIND, "a snapshot is being taken over".into());
        }
        let silence = Duration::from_secs(seen.silent_seconds);
        if !seen.heard || silence > LAG {
            let since = if seen.heard {
                format!("for {} s", seen.silent_seconds)
            } else {
                "since the database started".into()
            };
            let text = if !seen.elects() {
                format!("no word from the publisher {since}")
            } else if seen.role == "leader" {
                format!("no majority of the voters answers {since}: nothing can be changed")
            } else {
                format!("no word from a node that leads {since}")
            };
            let state = match silence {
                silence if silence > patience => state::FAILED,
                silence if silence > STALE => state::MISMATCH,
                _ => state::BEHIND,
            };
            return (state, text);
        }
        if lag_entries > LAG_ENTRIES || lag > LAG {
            let text = format!(
                "{lag_entries} entries are not applied, for {} s",
                lag.as_secs()
            );
            let failed = lag > patience;
            return (if failed { state::FAILED } else { state::BEHIND }, text);
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
    use crate::Member;

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
            heard: true,
            complete: true,
            ..Status::default()
        }
    }

    const PATIENCE: Duration = Duration::from_secs(300);

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
        let report = judge.judge(&seen(7, 7), &nodes(&[1]), PATIENCE, at(0));
        assert_eq!((report.state, report.lag_entries), (2, 0));
        assert_eq!(judge.judge(&seen(0, 0), &[], PATIENCE, at(0)).state, 0);
    }

    #[test]
    fn a_lag_counts_by_entries_at_once_and_by_time_when_it_lasts() {
        let mut judge = Judge::default();
        assert_eq!(judge.judge(&seen(10, 111), &[], PATIENCE, at(0)).state, 1);
        assert_eq!(judge.judge(&seen(111, 111), &[], PATIENCE, at(1)).state, 2);
        assert_eq!(judge.judge(&seen(111, 112), &[], PATIENCE, at(2)).state, 2);
        let report = judge.judge(&seen(111, 113), &[], PATIENCE, at(8));
        assert_eq!(
            (report.state, report.lag_entries, report.lag_seconds),
            (1, 2, 6)
        );
        assert_eq!(judge.judge(&seen(113, 113), &[], PATIENCE, at(9)).state, 2);
    }

    #[test]
    fn members_are_those_of_the_table() {
        let mut judge = Judge::default();
        let report = judge.judge(&seen(7, 7), &nodes(&[1, 2]), PATIENCE, at(0));
        assert!(
            report.state == 1 && report.reason.contains("n2"),
            "{report:?}"
        );
        let report = judge.judge(&seen(7, 7), &nodes(&[2]), PATIENCE, at(0));
        assert_eq!(report.state, 1);
    }

    #[test]
    fn problems_and_faults_are_worse_than_lag() {
        let mut judge = Judge::default();
        judge.checked(vec!["table t differs".into()]);
        let report = judge.judge(&seen(1, 900), &[], PATIENCE, at(0));
        assert!(
            report.state == 3 && report.reason.contains("table t"),
            "{report:?}"
        );
        let failed = Status {
            fault: "disk full".into(),
            ..seen(1, 1)
        };
        assert_eq!(judge.judge(&failed, &[], PATIENCE, at(0)).state, 4);
        judge.checked(Vec::new());
        assert_eq!(judge.judge(&seen(1, 1), &[], PATIENCE, at(0)).state, 2);
    }

    #[test]
    fn only_taking_a_snapshot_over_counts() {
        let mut judge = Judge::default();
        let leader = Status {
            snapshot_running: true,
            ..seen(7, 7)
        };
        assert_eq!(judge.judge(&leader, &[], PATIENCE, at(0)).state, 2);
        let learner = Status {
            role: "learner".into(),
            ..leader
        };
        assert_eq!(judge.judge(&learner, &[], PATIENCE, at(0)).state, 1);
    }

    #[test]
    fn a_subscriber_is_behind_what_its_publisher_told() {
        let mut judge = Judge::default();
        let status = Status {
            leader_last: 250,
            ..seen(100, 100)
        };
        let report = judge.judge(&status, &[], PATIENCE, at(0));
        assert_eq!((report.state, report.lag_entries), (1, 150));
        let status = Status {
            mismatched: vec!["end_user".into()],
            ..seen(7, 7)
        };
        let report = judge.judge(&status, &[], PATIENCE, at(1));
        assert!(report.state == 3 && report.reason.contains("end_user"));
    }

    #[test]
    fn a_publisher_that_is_silent_makes_it_stale_and_in_the_end_a_failure() {
        let mut judge = Judge::default();
        let mut state = |seconds, heard| {
            let status = Status {
                silent_seconds: seconds,
                heard,
                ..seen(7, 7)
            };
            judge.judge(&status, &[], PATIENCE, at(seconds)).state
        };
        assert_eq!(state(0, false), 1);
        assert_eq!(state(5, true), 2);
        assert_eq!(state(6, true), 1);
        assert_eq!(state(61, true), 3);
        assert_eq!(state(61, false), 3);
        assert_eq!(state(301, true), 4);
    }

    #[test]
    fn where_nodes_elect_a_leader_one_without_a_majority_says_so() {
        let mut judge = Judge::default();
        let voter = |node| Member {
            node,
            voter: true,
            ..Member::default()
        };
        let elected = Status {
            members: vec![voter(1), voter(2), voter(3)],
            ..seen(7, 7)
        };
        let all = nodes(&[1, 2, 3]);
        assert_eq!(judge.judge(&elected, &all, PATIENCE, at(0)).state, 2);
        let alone = Status {
            silent_seconds: 20,
            ..elected
        };
        let report = judge.judge(&alone, &all, PATIENCE, at(20));
        assert!(
            report.state == 1 && report.reason.contains("no majority of the voters"),
            "{report:?}"
        );
        let follower = Status {
            role: "follower".into(),
            silent_seconds: 61,
            ..alone
        };
        let report = judge.judge(&follower, &all, PATIENCE, at(61));
        assert!(
            report.state == 3 && report.reason.contains("a node that leads for 61 s"),
            "{report:?}"
        );
    }

    #[test]
    fn a_node_that_was_removed_has_failed() {
        let mut judge = Judge::default();
        let status = Status {
            refused: "node number 2 is not a member".into(),
            ..seen(7, 7)
        };
        let report = judge.judge(&status, &[], PATIENCE, at(0));
        assert!(report.state == 4 && report.reason.contains("not a member"));
    }

    #[test]
    fn a_lag_that_lasts_for_too_long_is_a_failure() {
        let mut judge = Judge::default();
        let mut state = |seconds| judge.judge(&seen(7, 8), &[], PATIENCE, at(seconds)).state;
        assert_eq!((state(0), state(6), state(300), state(301)), (2, 1, 1, 4));
    }

    #[test]
    fn a_node_that_was_stopped_has_not_started_and_says_who_stopped_it() {
        let mut judge = Judge::default();
        let status = Status {
            stopped: "admin wanted it".into(),
            leader_last: 900,
            mismatched: vec!["end_user".into()],
            ..seen(7, 7)
        };
        let report = judge.judge(&status, &[], PATIENCE, at(0));
        assert!(report.state == 0 && report.reason.contains("admin wanted it"));
        let copying = Status {
            complete: false,
            ..seen(7, 7)
        };
        assert_eq!(judge.judge(&copying, &[], PATIENCE, at(0)).state, 1);
    }
}
