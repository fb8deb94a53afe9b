//! What administrators are told of a redundancy group.

use recovery::{Reason, Standing, State, explain};
use serde::{Deserialize, Serialize};

/// State of a redundancy group, as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the group.
    pub group: String,
    /// Whether high availability is on.
    pub high_availability: bool,
    /// Whether failovers came too often, so that nothing moves by itself.
    pub held: bool,
    /// Its nodes, the first one first.
    pub nodes: Vec<NodeStatus>,
    /// What the two states mean; empty when nothing is known of it.
    pub cause: String,
    /// What an administrator should do, in order; empty when nothing.
    pub advice: Vec<String>,
}

/// State of a node of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name of the node.
    pub name: String,
    /// Its state, in the words of the seed.
    pub state: String,
    /// Why; `Normal` when there is nothing to say.
    pub reason: String,
    /// Whether it is heard, or is the one that answers.
    pub heard: bool,
    /// Home nodes whose users it serves, as far as that is known.
    pub serves: Vec<String>,
    /// Critical services of it that do not run.
    pub down: Vec<String>,
}

/// Words for the state of a node that is not heard.
const UNKNOWN: (&str, &str) = ("Unknown", "Not Heard");

impl NodeStatus {
    /// A node that is in that state, or not heard.
    pub(crate) fn new(name: &str, standing: Option<Standing>) -> Self {
        let (state, reason) = match standing {
            Some(standing) => (standing.state.to_string(), standing.reason.to_string()),
            None => (UNKNOWN.0.into(), UNKNOWN.1.into()),
        };
        Self {
            name: name.into(),
            state,
            reason,
            heard: standing.is_some(),
            serves: Vec::new(),
            down: Vec::new(),
        }
    }
}

/// How a node stands that is asked while high availability is off: it serves
/// its own users. Of its peer it knows nothing (`utils ha status`).
pub(crate) const ALONE: Standing = Standing::new(State::Normal, Reason::Normal);
/// How its peer stands then.
pub(crate) const NOT_ENABLED: Standing =
    Standing::new(State::Unknown, Reason::HighAvailabilityNotEnabled);

/// What a pair of states means and what to do.
pub(crate) fn words(one: Option<Standing>, two: Option<Standing>) -> (String, Vec<String>) {
    explain(one, two).map_or_else(Default::default, |row| {
        let advice = row.advice.iter().map(|line| (*line).to_owned());
        (row.cause.into(), advice.collect())
    })
}
