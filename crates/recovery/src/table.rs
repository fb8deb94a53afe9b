//! What a pair of states means and what to do about it: table 2 of seed 004,
//! the one place for these words.

use crate::state::{Reason, Standing, State};

/// One node's half of a row.
#[derive(Clone, Copy, Debug)]
pub struct Half {
    /// The states that it covers; none for a node that is not there.
    pub states: &'static [State],
    /// The reasons that it covers.
    pub reasons: &'static [Reason],
}

impl Half {
    fn covers(&self, standing: Option<Standing>, any_reason: bool) -> bool {
        match standing {
            None => self.states.is_empty(),
            Some(Standing { state, reason }) => {
                self.states.contains(&state) && (any_reason || self.reasons.contains(&reason))
            }
        }
    }
}

/// A row: the home node, its backup, what this means.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number in the seed's table, from 1.
    pub number: u8,
    /// The node that the row is about.
    pub home: Half,
    /// Its peer.
    pub backup: Half,
    /// How it came to this.
    pub cause: &'static str,
    /// What an administrator should do, in order; empty when nothing.
    pub advice: &'static [&'static str],
}

impl Row {
    fn covers(&self, home: Option<Standing>, backup: Option<Standing>, any_reason: bool) -> bool {
        self.home.covers(home, any_reason) && self.backup.covers(backup, any_reason)
    }
}

/// The row of two nodes, in either order.
///
/// The seed does not list every reason that can stand beside a state, such as
/// the one of a home node that was cut off and is back. Where no row has both
/// reasons, the first with the same states is meant.
pub fn explain(one: Option<Standing>, two: Option<Standing>) -> Option<&'static Row> {
    exact(one, two).or_else(|| {
        let rows = ROWS.iter();
        let mut rows = rows.filter(|row| row.covers(one, two, true) || row.covers(two, one, true));
        rows.next()
    })
}

/// The row that has just these states and reasons, in either order.
pub fn exact(one: Option<Standing>, two: Option<Standing>) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.covers(one, two, false) || row.covers(two, one, false))
}

const fn half(states: &'static [State], reasons: &'static [Reason]) -> Half {
    Half { states, reasons }
}

const fn row(
    number: u8,
    home: Half,
    backup: Half,
    cause: &'static str,
    advice: &'static [&'static str],
) -> Row {
    Row {
        number,
        home,
        backup,
        cause,
        advice,
    }
}

const ABSENT: Half = half(&[], &[]);
const FALL_BACK: &str = "When the node is up and all its critical services run, fall back by hand \
                         (utils ha fallback); both nodes are Normal then.";
const RECOVER: &str = "Use \"utils ha recover\".";
const REBOOT_BOTH: &str = "If that does not help, reboot the nodes.";

use Reason as R;
use State as S;

/// The 24 rows in the seed's order. "This node" in the words is the home node.
pub const ROWS: [Row; 24] = [
    row(
        1,
        half(&[S::Normal], &[R::Normal]),
        half(&[S::Normal], &[R::Normal]),
        "Both nodes run and serve their own users.",
        &[],
    ),
    row(
        2,
        half(&[S::FailingOver], &[R::OnAdminRequest]),
        half(&[S::TakingOver], &[R::OnAdminRequest]),
        "An administrator began to move the users to the backup; it is in progress.",
        &[],
    ),
    row(
        3,
        half(&[S::Idle], &[R::OnAdminRequest]),
        half(&[S::RunningInBackupMode], &[R::OnAdminRequest]),
        "An administrator moved the users to the backup; it is complete.",
        &[],
    ),
    row(
        4,
        half(&[S::TakingBack], &[R::OnAdminRequest]),
        half(&[S::FallingBack], &[R::OnAdminRequest]),
        "An administrator began to move the users back home; it is in progress.",
        &[],
    ),
    row(
        5,
        half(&[S::Idle], &[R::Initialization]),
        half(&[S::RunningInBackupMode], &[R::OnAdminRequest]),
        "The recovery manager of the idle node was started anew.",
        &[],
    ),
    row(
        6,
        half(&[S::Idle], &[R::Initialization]),
        half(&[S::RunningInBackupMode], &[R::Initialization]),
        "After a failover by hand both nodes, or both recovery managers, were started anew.",
        &[],
    ),
    row(
        7,
        half(&[S::Idle], &[R::OnAdminRequest]),
        half(&[S::RunningInBackupMode], &[R::Initialization]),
        "The backup's recovery manager was started anew, before the home node missed it.",
        &[],
    ),
    row(
        8,
        half(&[S::FailingOver], &[R::OnAdminRequest]),
        half(&[S::TakingOver], &[R::Initialization]),
        "The backup's recovery manager was started anew while it took the users over, before the \
         home node missed it.",
        &[],
    ),
    row(
        9,
        half(&[S::TakingBack], &[R::Initialization]),
        half(&[S::FallingBack], &[R::OnAdminRequest]),
        "The home node's recovery manager was started anew while it took its users back, before \
         the backup missed it. Both nodes are Normal when that is done.",
        &[],
    ),
    row(
        10,
        half(&[S::TakingBack], &[R::AutomaticFallback]),
        half(&[S::FallingBack], &[R::AutomaticFallback]),
        "The home node has been healthy for long enough and takes its users back by itself.",
        &[],
    ),
    row(
        11,
        half(
            &[S::FailedOver],
            &[R::Initialization, R::CriticalServicesDown],
        ),
        half(&[S::RunningInBackupMode], &[R::CriticalServicesDown]),
        "The home node's critical services run again, after a reboot or because they were \
         started. It could take its users back.",
        &["Fall back by hand (utils ha fallback); both nodes are Normal then."],
    ),
    row(
        12,
        half(
            &[S::FailedOverWithCriticalServicesNotRunning],
            &[R::CriticalServicesDown],
        ),
        half(&[S::RunningInBackupMode], &[R::CriticalServicesDown]),
        "A critical service of the home node is down, so its users were moved to the backup.",
        &[
            "Look which critical service of the home node is down, and try to start it.",
            "If it does not start, reboot the home node.",
            FALL_BACK,
        ],
    ),
    row(
        13,
        half(
            &[S::FailedOverWithCriticalServicesNotRunning],
            &[R::DatabaseFailure],
        ),
        half(&[S::RunningInBackupMode], &[R::DatabaseFailure]),
        "The home node's database is down, so its users were moved to the backup.",
        &["Reboot the home node.", FALL_BACK],
    ),
    row(
        14,
        half(
            &[S::RunningInFailedMode],
            &[R::StartOfCriticalServicesFailed],
        ),
        half(
            &[S::RunningInFailedMode],
            &[R::StartOfCriticalServicesFailed],
        ),
        "Critical services did not start on the node that was to take users back.",
        &[
            "Look which critical service of that node is down. \"utils ha recover\" starts it.",
            "If it does not start, reboot the node.",
            FALL_BACK,
        ],
    ),
    row(
        15,
        half(&[S::RunningInFailedMode], &[R::CriticalServicesDown]),
        half(&[S::RunningInFailedMode], &[R::CriticalServicesDown]),
        "Critical services are down on the node that served everybody, and its peer could not \
         help.",
        &[
            "Look which critical service of the backup is down. \"utils ha recover\" starts it.",
            "If it does not start, reboot the node.",
        ],
    ),
    row(
        16,
        ABSENT,
        half(&[S::RunningInBackupMode], &[R::PeerDown]),
        "The home node is not heard: the network between the nodes is cut, or the node or its \
         recovery manager does not run. Its users were taken over.",
        &[
            "Check the network between the nodes and repair it. If the nodes are in failed mode \
             when they see each other again, use \"utils ha recover\".",
            "Start the home node's recovery manager if it does not run.",
            "If the home node is down, repair it and switch it on.",
            FALL_BACK,
        ],
    ),
    row(
        17,
        ABSENT,
        half(&[S::RunningInBackupMode], &[R::PeerReboot]),
        "The home node was shut down, rebooted or lost its power. Its users were taken over.",
        &[
            "Repair the home node if need be and switch it on.",
            FALL_BACK,
        ],
    ),
    row(
        18,
        half(
            &[S::FailedOverWithCriticalServicesNotRunning, S::FailedOver],
            &[R::Initialization],
        ),
        half(
            &[S::RunningInBackupMode],
            &[R::PeerDownDuringInitialization],
        ),
        "The backup did not see the home node when it started, and took its users over.",
        &[FALL_BACK],
    ),
    row(
        19,
        half(&[S::RunningInFailedMode], &[R::TakeOverUsersFailed]),
        half(&[S::RunningInFailedMode], &[R::TakeOverUsersFailed]),
        "Users could not be moved to the backup; likely its database has a fault.",
        &[RECOVER, REBOOT_BOTH],
    ),
    row(
        20,
        half(&[S::RunningInFailedMode], &[R::TakeBackUsersFailed]),
        half(&[S::RunningInFailedMode], &[R::TakeBackUsersFailed]),
        "Users could not be moved back home; likely the database has a fault.",
        &[RECOVER, REBOOT_BOTH],
    ),
    row(
        21,
        half(&[S::RunningInFailedMode], &[R::Unknown]),
        half(&[S::RunningInFailedMode], &[R::Unknown]),
        "A recovery manager found its peer in failed mode when it started, or had an internal \
         error.",
        &[RECOVER, REBOOT_BOTH],
    ),
    row(
        22,
        half(&[S::BackupActivated], &[R::AutoRecoverDatabaseFailure]),
        half(
            &[S::FailoverAffectedServices],
            &[R::AutoRecoverDatabaseFailure],
        ),
        "The backup's database went down. The home node was able to serve everybody, so all users \
         were moved to it.",
        &[],
    ),
    row(
        23,
        half(&[S::BackupActivated], &[R::AutoRecoverCriticalServiceDown]),
        half(
            &[S::FailoverAffectedServices],
            &[R::AutoRecoverCriticalServiceDown],
        ),
        "A critical service of the backup went down. The home node was able to serve everybody, \
         so all users were moved to it.",
        &[],
    ),
    row(
        24,
        half(&[S::Unknown], &[R::HighAvailabilityNotEnabled, R::Unknown]),
        half(&[S::Unknown], &[R::HighAvailabilityNotEnabled, R::Unknown]),
        "The states are not known; most likely high availability is not enabled.",
        &["Enable high availability, or restart the recovery manager of both nodes."],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_as_in_the_seed_and_find_themselves() {
        for (row, number) in ROWS.iter().zip(1..) {
            assert_eq!(row.number, number);
            let standing = |half: &Half| {
                let first = half.states.first().zip(half.reasons.first());
                first.map(|(state, reason)| Standing::new(*state, *reason))
            };
            let (home, backup) = (standing(&row.home), standing(&row.backup));
            for found in [exact(home, backup), exact(backup, home)] {
                assert_eq!(found.map(|row| row.number), Some(number));
            }
        }
    }

    #[test]
    fn reasons_beyond_the_table_are_explained_by_the_states() {
        let number = |home, backup| explain(home, backup).map(|row| row.number);
        let cut_off = Standing::new(S::FailedOver, R::PeerDown);
        let backup = Standing::new(S::RunningInBackupMode, R::PeerDown);
        assert_eq!(number(Some(cut_off), Some(backup)), Some(11));
        assert_eq!(number(Some(backup), Some(cut_off)), Some(11));
        let normal = Standing::new(S::Normal, R::Normal);
        assert_eq!(number(Some(normal), Some(backup)), None);
    }
}
