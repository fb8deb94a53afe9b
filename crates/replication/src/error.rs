//! Why a node does not make a change.

use openraft::BasicNode;
use openraft::error::{ClientWriteError, RaftError};

use crate::epoch::Epoch;
use crate::voters::PATIENCE;

/// Why a transaction was not committed, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another node leads, and nothing was changed.
    #[error("node {0} takes changes now, not this one; send them there")]
    Elsewhere(String),
    /// The cluster continues with another log, in which this node does not
    /// lead.
    #[error(
        "this node led the cluster's log, or had a vote in it, until another one was begun ({0}), and \
         takes no changes any more. \"utils dbreplication reset\" has it begin anew as a subscriber"
    )]
    Superseded(Epoch),
    /// The node led, and lost the end of its log.
    #[error(
        "the publisher lost the end of its log and leads no more; another node may have it. \"utils \
         dbreplication promote\", on the node that has the most of the log, makes that one the \
         publisher"
    )]
    Forgot,
    /// The node leads, and too few of the voters follow it.
    #[error(
        "no majority of the voters answers this node, which leads: nothing can be changed, and nothing \
         was. Bring back those who are away; \"utils dbreplication runtimestate\" shows them. Where a \
         majority is lost for good, \"utils dbreplication promote\" has a node go on without them"
    )]
    NoMajority,
    /// A change was begun, and too few of the voters have confirmed it.
    #[error(
        "no majority of the voters confirmed the change in {} s, and it may still be made when they are \
         back. Look whether it was before you try again; \"utils dbreplication runtimestate\" shows who is \
         away", PATIENCE.as_secs()
    )]
    Unconfirmed,
    /// Too few nodes to elect one.
    #[error(
        "nodes that have all of the log: {0}. An election takes three, since of two the loss of one \
         leaves no majority. Add another node, or wait until all are in state 2"
    )]
    TooFew(usize),
    /// The node stops, or stopped because its disk failed.
    #[error("this node takes no changes: {0}")]
    Stopped(String),
}

/// The engine says that another node leads only of what was not written, or is
/// no longer in the log: it is certain then that nothing was changed.
pub(crate) fn commit_error(
    error: &RaftError<u64, ClientWriteError<u64, BasicNode>>,
) -> CommitError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            let leader = forward
                .leader_id
                .map_or_else(|| "none yet".into(), |id| id.to_string());
            CommitError::Elsewhere(leader)
        }
        other => CommitError::Stopped(other.to_string()),
    }
}
