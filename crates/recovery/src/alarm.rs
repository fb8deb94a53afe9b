//! The recovery manager's alarms.

/// Users were moved, or are being moved.
pub(crate) const FAILOVER: &str = "SRMFailover";
/// The group is in failed mode.
pub(crate) const FAILED: &str = "SRMFailed";
/// Failovers came too often.
pub(crate) const HOLD: &str = "SRMFailoverHold";
/// The peer is silent, and its users were not taken over.
pub(crate) const SILENT: &str = "SRMPeerSilent";
/// The peer is heard but does not hear this node.
pub(crate) const DEAF: &str = "SRMPeerDoesNotHear";

/// How urgent an alarm is: the same degrees as in `service`, on which a crate
/// without I/O does not depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is lost, somebody should look.
    Warning,
    /// Something does not work.
    Error,
    /// People are affected now.
    Critical,
}

/// An alarm as it is to be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its name.
    pub id: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// What happened and what to do.
    pub text: String,
}
