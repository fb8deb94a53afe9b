//! Rules that tests break on purpose, to show that the simulation of a cluster
//! (`crates/simulation`) would notice.

/// A broken rule. Only tests can break one, with the feature `mutation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A peer that cannot go on is not sent everything.
    CopyLeftOut,
    /// What a whole copy does not have stays.
    OldCopiesStay,
    /// Rows that are gone are not told to the peer.
    RemovalsNotSent,
}

#[cfg(not(feature = "mutation"))]
impl Mutation {
    /// Nobody can break a rule.
    pub(crate) fn never(self) -> bool {
        false
    }
}
