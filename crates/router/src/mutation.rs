//! Rules that tests break on purpose, to show that the simulation of a cluster
//! (`crates/simulation`) would notice.

/// A broken rule. Only tests can break one, with the feature `mutation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// What the other node had is not taken over.
    PhantomsNotAdopted,
    /// Sessions that go to the other node are announced as unavailable.
    AdoptedShownGone,
    /// Phantoms whose client does not come back stay for ever.
    PhantomsStay,
    /// What is stored, or handled by another node, counts as handled before it
    /// is.
    AcknowledgedBeforeStored,
    /// What other nodes say they serve is not heard.
    ClaimsNotHeard,
    /// A node that begins to serve users is not told whom they see.
    PresenceNotTold,
    /// What a lost connection between routers had under way is not sent again.
    NotSentAgain,
    /// What another router refuses counts as handled.
    RefusedDropped,
    /// Stanzas go to inactive connections.
    InactiveRoutedTo,
    /// Inactive connections do not become sessions.
    ActivationForgotten,
}

#[cfg(not(feature = "mutation"))]
impl Mutation {
    /// Nobody can break a rule.
    pub(crate) fn never(self) -> bool {
        false
    }
}
