//! What goes into the machine and what comes out.

use std::collections::BTreeSet;

use crate::alarm::Alarm;
use crate::history::Transition;
use crate::memory::Memory;
use crate::message::Keepalive;
use crate::ownership::{Epoch, Node};
use crate::parameters::Parameters;

/// Who is asked before a silent peer's users are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arbiter {
    /// A third node of the cluster, the first that answers.
    ThirdNode,
    /// A cluster of two nodes has none: the local host and other known hosts,
    /// such as the gateway and the name servers, must be reached (seed 003,
    /// events of a status change, step 2).
    KnownHosts,
}

/// What an arbiter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The third node does not hear the peer either, or the known hosts are
    /// reached.
    Confirmed,
    /// The third node hears the peer.
    Denied,
    /// Nobody answers: it is this node that is cut off.
    Isolated,
}

/// Settings of the group and of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Whether high availability is on.
    pub enabled: bool,
    /// Who is asked about a silent peer.
    pub arbiter: Arbiter,
    /// The service parameters.
    pub parameters: Parameters,
    /// Ids of the critical services that exist and are activated on this node
    /// (`Critical=` in their units).
    pub critical: BTreeSet<String>,
}

/// An administrator's request, to the node that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Move this node's users to its peer and stop its critical services.
    Failover,
    /// Start this node's critical services and take its users back.
    Fallback,
    /// Leave failed mode: both managers start anew.
    Recover,
}

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Nothing but time: due at least once in an interval.
    Tick,
    /// Settings changed.
    Configure(Settings),
    /// A service was seen to run or not.
    Service {
        /// Its id.
        id: String,
        /// Whether it runs.
        running: bool,
    },
    /// State 0 to 4 of the database's replication on this node.
    Replication(u8),
    /// A message of the peer.
    Message(Keepalive),
    /// An answer to [`Action::Verify`].
    Verdict {
        /// The number of the question.
        round: u64,
        /// The answer.
        verdict: Verdict,
    },
    /// [`Action::Serve`] has ended.
    Served {
        /// Whose users.
        home: Node,
        /// In which epoch.
        epoch: Epoch,
        /// Why they could not be moved.
        result: Result<(), String>,
    },
    /// An administrator asks.
    Request(Request),
    /// This node shuts down or reboots.
    Leaving,
    /// Something failed for which there is no other event.
    InternalError(String),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this to the disk before the next action.
    Persist(Memory),
    /// Serve these users no longer: let their connections go and take no write
    /// below this epoch.
    Yield {
        /// Whose users.
        home: Node,
        /// The latest epoch that is known.
        epoch: Epoch,
    },
    /// Serve these users in this epoch: adopt the rows of their owner before,
    /// of which the one with the higher epoch and sequence counts. Doing it
    /// twice is no harm. Ends with [`Event::Served`].
    Serve {
        /// Whose users.
        home: Node,
        /// The epoch that every write carries.
        epoch: Epoch,
    },
    /// Start these services.
    Start(BTreeSet<String>),
    /// Stop these services.
    Stop(BTreeSet<String>),
    /// Send this to the peer and to every third node.
    Send(Keepalive),
    /// Ask the arbiter of [`Settings`] about the silent peer.
    Verify {
        /// Number of the question.
        round: u64,
    },
    /// Raise an alarm, or change its words.
    Raise(Alarm),
    /// Clear the alarm of this name.
    Clear(&'static str),
    /// Keep this in the history.
    Record(Transition),
    /// Answer the administrator.
    Answer(Result<(), Refusal>),
    /// End this manager; systemd starts it anew.
    Restart,
}
