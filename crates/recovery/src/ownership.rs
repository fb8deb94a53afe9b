//! Who serves whose users: the two nodes of a group, and epochs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A node by its place in its redundancy group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    /// The group's first node.
    One,
    /// The group's second node.
    Two,
}

impl Node {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::One, Self::Two];

    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::One => Self::Two,
            Self::Two => Self::One,
        }
    }

    /// Its place in an array that has something for each node.
    pub fn index(self) -> usize {
        match self {
            Self::One => 0,
            Self::Two => 1,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.index() + 1)
    }
}

/// A number that fences owners off: every claim to a home's users has a higher
/// one than the claim before.
///
/// Odd numbers belong to the first node, even ones to the second, so that two
/// nodes that do not hear each other can never claim the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch in which a home serves its own users before any failover.
    pub fn first(home: Node) -> Self {
        Self(match home {
            Node::One => 1,
            Node::Two => 2,
        })
    }

    /// The number, to be carried by every write.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The node to which this epoch belongs.
    pub fn owner(self) -> Node {
        if self.0 % 2 == 1 {
            Node::One
        } else {
            Node::Two
        }
    }

    /// The lowest epoch above this one that belongs to `node`.
    #[must_use]
    pub fn next(self, node: Node) -> Self {
        let next = Self(self.0 + 1);
        if next.owner() == node {
            next
        } else {
            Self(next.0 + 1)
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who serves the users of one home node.
///
/// The order is that of knowledge: of two, the greater is the later. A release
/// is later than the claim that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ownership {
    epoch: Epoch,
    released: bool,
}

impl Ownership {
    /// A home that serves its own users, before any failover.
    pub fn first(home: Node) -> Self {
        Self {
            epoch: Epoch::first(home),
            released: false,
        }
    }

    /// The latest epoch that is known.
    pub fn epoch(self) -> Epoch {
        self.epoch
    }

    /// The node that serves, or none after a release.
    pub fn owner(self) -> Option<Node> {
        (!self.released).then(|| self.epoch.owner())
    }

    /// The claim of `node` that follows.
    #[must_use]
    pub fn claimed(self, node: Node) -> Self {
        Self {
            epoch: self.epoch.next(node),
            released: false,
        }
    }

    /// The end of the present claim.
    #[must_use]
    pub fn released(self) -> Self {
        Self {
            released: true,
            ..self
        }
    }

    /// Whether a write that carries `epoch` is still to be taken.
    pub fn admits(self, epoch: Epoch) -> bool {
        epoch >= self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_two_nodes_never_meet() {
        let start = Ownership::first(Node::One);
        let [one, two] = Node::BOTH.map(|node| start.claimed(node));
        assert_eq!((one.epoch().number(), two.epoch().number()), (3, 2));
        assert_eq!(
            (one.owner(), two.owner()),
            (Some(Node::One), Some(Node::Two))
        );
        assert_ne!(
            one.claimed(Node::Two).epoch(),
            two.claimed(Node::One).epoch()
        );
    }

    #[test]
    fn a_release_is_later_than_its_claim_and_older_than_the_next() {
        let claim = Ownership::first(Node::Two);
        let release = claim.released();
        assert!(claim < release && release < release.claimed(Node::One));
        assert_eq!(release.owner(), None);
    }

    #[test]
    fn an_older_epoch_is_refused() {
        let before = Ownership::first(Node::One);
        let after = before.claimed(Node::Two);
        assert!(!after.admits(before.epoch()));
        assert!(after.admits(after.epoch()));
    }
}
