//! Rules that tests break on purpose, to show that the simulation would notice.

/// A broken rule. Only tests can break one: this crate's, and those that ask for
/// the feature `mutation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// What the peer knows of owners is taken even if it is older.
    OlderNews,
    /// Silence is enough to take over; nobody is asked.
    NoVerdict,
    /// An answer to an earlier question counts.
    StaleVerdict,
    /// Owners are not written to the disk.
    Forgetful,
    /// A node that was superseded goes on.
    NoYield,
    /// A node that hands its users over serves them until that is done.
    ServeWhileFailingOver,
    /// A home node does not wait until its backup lets go.
    TakeBackAtOnce,
    /// Failovers may come as often as they like.
    NoHold,
    /// Time in which the manager did not run counts as the peer's silence.
    CountStalls,
    /// A node whose own services are down takes over.
    TakeOverSick,
    /// The manager is started anew, the other one not told.
    LonelyRecovery,
    /// Two nodes that each took the other over stay so.
    KeepCrossed,
}
