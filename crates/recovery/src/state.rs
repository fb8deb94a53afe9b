//! States of a node and their reasons (seed 004, tables 1 and 2).

use std::fmt;

use serde::{Deserialize, Serialize};

/// State of a node of a redundancy group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// The recovery manager has just started.
    Initializing,
    /// Failed over by an administrator; the critical services are stopped.
    Idle,
    /// Everything runs, and the node serves its own users.
    Normal,
    /// Serves the peer's users beside its own.
    RunningInBackupMode,
    /// Is taking the peer's users over.
    TakingOver,
    /// Is handing its users over to the peer.
    FailingOver,
    /// Failed over; its critical services run.
    FailedOver,
    /// Failed over; a critical service is down.
    FailedOverWithCriticalServicesNotRunning,
    /// The backup, while it hands the users back.
    FallingBack,
    /// The home node, while it takes its users back.
    TakingBack,
    /// Something went wrong from which only an administrator leads out.
    RunningInFailedMode,
    /// Not known, or high availability is off.
    Unknown,
    /// The home node that serves everybody after its backup failed (rows 22, 23).
    BackupActivated,
    /// The backup that failed (rows 22, 23).
    FailoverAffectedServices,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 14] = [
        Self::Initializing,
        Self::Idle,
        Self::Normal,
        Self::RunningInBackupMode,
        Self::TakingOver,
        Self::FailingOver,
        Self::FailedOver,
        Self::FailedOverWithCriticalServicesNotRunning,
        Self::FallingBack,
        Self::TakingBack,
        Self::RunningInFailedMode,
        Self::Unknown,
        Self::BackupActivated,
        Self::FailoverAffectedServices,
    ];

    /// Whether the node serves its peer's users, too.
    pub fn is_backup(self) -> bool {
        matches!(self, Self::RunningInBackupMode | Self::BackupActivated)
    }

    /// Whether the node's users have been moved to its peer.
    pub fn is_failed_over(self) -> bool {
        matches!(
            self,
            Self::Idle
                | Self::FailedOver
                | Self::FailedOverWithCriticalServicesNotRunning
                | Self::FailoverAffectedServices
        )
    }

    /// Whether the node stays in this state as long as nothing happens.
    pub fn is_stable(self) -> bool {
        !matches!(
            self,
            Self::Initializing
                | Self::TakingOver
                | Self::FailingOver
                | Self::FallingBack
                | Self::TakingBack
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initializing => "Initializing",
            Self::Idle => "Idle",
            Self::Normal => "Normal",
            Self::RunningInBackupMode => "Running in Backup Mode",
            Self::TakingOver => "Taking Over",
            Self::FailingOver => "Failing Over",
            Self::FailedOver => "Failed Over",
            Self::FailedOverWithCriticalServicesNotRunning => {
                "Failed Over with Critical Services Not Running"
            }
            Self::FallingBack => "Falling Back",
            Self::TakingBack => "Taking Back",
            Self::RunningInFailedMode => "Running in Failed Mode",
            Self::Unknown => "Unknown",
            Self::BackupActivated => "Backup Activated",
            Self::FailoverAffectedServices => "Failover Affected Services",
        })
    }
}

/// Why a node is in its state. Of two reasons for failed mode the greater one
/// stands, so that both nodes come to show the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing is wrong.
    Normal,
    /// The recovery manager started.
    Initialization,
    /// An administrator asked for it.
    OnAdminRequest,
    /// The home node was healthy for long enough.
    AutomaticFallback,
    /// The peer was lost.
    PeerDown,
    /// The peer's node shut down or was started anew.
    PeerReboot,
    /// The peer was not heard while this node started.
    PeerDownDuringInitialization,
    /// The backup's database failed, and the home node took everybody back.
    AutoRecoverDatabaseFailure,
    /// A critical service of the backup failed, and the home node took
    /// everybody back.
    AutoRecoverCriticalServiceDown,
    /// A critical service is down.
    CriticalServicesDown,
    /// The database is down.
    DatabaseFailure,
    /// Critical services did not start while users were taken back.
    StartOfCriticalServicesFailed,
    /// Users could not be moved to the backup.
    TakeOverUsersFailed,
    /// Users could not be moved back home.
    TakeBackUsersFailed,
    /// High availability is off.
    HighAvailabilityNotEnabled,
    /// An internal error, or a peer in failed mode found at start.
    Unknown,
}

impl Reason {
    /// Whether what has this reason was begun by the machine itself because
    /// something failed.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::PeerDown
                | Self::PeerDownDuringInitialization
                | Self::AutoRecoverDatabaseFailure
                | Self::AutoRecoverCriticalServiceDown
                | Self::CriticalServicesDown
                | Self::DatabaseFailure
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "Normal",
            Self::Initialization => "Initialization",
            Self::OnAdminRequest => "On Admin Request",
            Self::AutomaticFallback => "Automatic Fallback",
            Self::PeerDown => "Peer Down",
            Self::PeerReboot => "Peer Reboot",
            Self::PeerDownDuringInitialization => "Peer Down During Initialization",
            Self::AutoRecoverDatabaseFailure => "Auto Recover Database Failure",
            Self::AutoRecoverCriticalServiceDown => "Auto Recover Critical Service Down",
            Self::CriticalServicesDown => "Critical Services Down",
            Self::DatabaseFailure => "Database Failure",
            Self::StartOfCriticalServicesFailed => "Start of Critical Services Failed",
            Self::TakeOverUsersFailed => "Cisco Server Recovery Manager Take Over Users Failed",
            Self::TakeBackUsersFailed => "Cisco Server Recovery Manager Take Back Users Failed",
            Self::HighAvailabilityNotEnabled => "High Availability Not Enabled",
            Self::Unknown => "Unknown",
        })
    }
}

/// A state with its reason: one half of a row of table 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// The state.
    pub state: State,
    /// Why.
    pub reason: Reason,
}

impl Standing {
    /// A state with its reason.
    pub const fn new(state: State, reason: Reason) -> Self {
        Self { state, reason }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.state, self.reason)
    }
}
