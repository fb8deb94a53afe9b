//! Who votes: the publisher alone, or every node, which elect another one when
//! it is lost.

use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};
use crate::ports::ReplicationNode;
use crate::repair::by;

/// Fewer nodes elect nobody.
pub use database::LEAST_VOTERS;

/// Who votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Voters {
    /// Whether every node votes; otherwise the publisher does alone.
    pub enabled: bool,
    /// The node that takes changes; none while none is known, as during an
    /// election.
    pub publisher: Option<String>,
    /// How many voters more may be lost before nothing can be changed any more;
    /// none when there are too few already.
    pub spare: Option<usize>,
    /// The nodes.
    pub nodes: Vec<Voter>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Voter {
    /// Host name.
    pub name: String,
    /// Whether it votes; a node that joined votes when it has caught up.
    pub votes: bool,
    /// Whether it answers.
    pub answers: bool,
    /// State 0 to 4.
    pub state: u8,
}

/// What a change of the voters means, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VotersChange {
    /// Who votes before it, or after it was done.
    #[serde(flatten)]
    pub voters: Voters,
    /// Whether every node is to vote.
    pub enable: bool,
    /// Why it is refused; empty when it is not.
    pub refusal: String,
    /// What was done, as a sentence; empty when nothing was.
    pub text: String,
}

impl Voters {
    fn of(nodes: &[ReplicationNode]) -> Self {
        let voters: Vec<_> = nodes.iter().filter(|node| node.votes).collect();
        let answer = voters.iter().filter(|node| node.reachable).count();
        Self {
            enabled: voters.len() > 1,
            publisher: nodes
                .iter()
                .find(|node| node.leads())
                .map(|node| node.name.clone()),
            spare: answer.checked_sub(voters.len() / 2 + 1),
            nodes: nodes
                .iter()
                .map(|node| Voter {
                    name: node.name.clone(),
                    votes: node.votes,
                    answers: node.reachable,
                    state: node.state,
                })
                .collect(),
        }
    }

    /// Whether the removal of a node, which is left with less than three, has
    /// the publisher vote alone again.
    pub(crate) fn end_without(&self, name: &str) -> bool {
        let left = self.nodes.iter().filter(|node| node.name != name);
        self.enabled && left.count() < LEAST_VOTERS
    }

    /// Refuses the removal of a node without which the other voters that answer
    /// would be no majority.
    pub(crate) fn may_go(&self, name: &str) -> Result<()> {
        let votes = |node: &&Voter| node.votes && node.name != name;
        let left: Vec<_> = self.nodes.iter().filter(votes).collect();
        let answer = left.iter().filter(|node| node.answers).count();
        if !self.enabled || self.end_without(name) || answer > left.len() / 2 {
            return Ok(());
        }
        let away = left.iter().filter(|node| !node.answers);
        let away: Vec<_> = away.map(|node| node.name.as_str()).collect();
        Err(Error::refused(format!(
            "every node of this cluster votes, and without {name} only {answer} of {} voters answer, \
             which is no majority. Bring these back or remove them first: {}",
            left.len(),
            away.join(", ")
        )))
    }
}

impl Operations {
    /// Who votes.
    pub async fn voters(&self, caller: &Caller) -> Result<Voters> {
        let work = self.who_votes();
        caller.does(&actions::REPLICATION_STATUS, "", work).await
    }

    pub(crate) async fn who_votes(&self) -> Result<Voters> {
        Ok(Voters::of(&self.storage().replication().await?.nodes))
    }

    /// What it means to have every node vote, or the publisher alone, and why
    /// it is refused where it is. Nothing is changed.
    pub async fn voters_preview(&self, caller: &Caller, enable: bool) -> Result<VotersChange> {
        caller.may(&actions::REPLICATION_VOTERS)?;
        let said = self.storage().set_voters(enable, false, "").await?;
        Ok(VotersChange {
            voters: self.who_votes().await?,
            enable,
            refusal: said.refusal,
            text: said.text,
        })
    }

    /// Has every node vote, or the node that is the publisher now alone.
    pub async fn set_voters(&self, caller: &Caller, enable: bool) -> Result<VotersChange> {
        let work = async {
            let done = self.storage().set_voters(enable, true, &by(caller)).await?;
            if !done.refusal.is_empty() {
                return Err(Error::refused(done.refusal));
            }
            Ok(VotersChange {
                voters: self.who_votes().await?,
                enable,
                refusal: done.refusal,
                text: done.text,
            })
        };
        let subject = if enable { "all" } else { "publisher" };
        caller
            .does(&actions::REPLICATION_VOTERS, subject, work)
            .await
    }
}

#[cfg(test)]
mod tests {
    use crate::Level;
    use crate::error::Kind;
    use crate::fakes::{Fakes, administrator, replication_node};

    use super::*;

    fn voter(name: &str, votes: bool, answers: bool) -> ReplicationNode {
        ReplicationNode {
            votes,
            reachable: answers,
            ..replication_node(name, 2)
        }
    }

    fn five(away: &[&str]) -> Voters {
        let names = ["alpha", "beta", "gamma", "delta", "epsilon"];
        Voters::of(&names.map(|name| voter(name, true, !away.contains(&name))))
    }

    #[tokio::test]
    async fn it_is_shown_and_done_unless_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fakes = Fakes::default();
        let operations = fakes.operations(folder.path());
        let admin = administrator();
        fakes.world().replication = vec![
            voter("alpha", true, true),
            voter("beta", false, true),
            voter("gamma", false, true),
        ];
        assert!(!operations.voters(&admin).await.unwrap().enabled);
        let shown = operations.voters_preview(&admin, true).await.unwrap();
        assert!(!shown.voters.enabled && shown.text.is_empty(), "{shown:?}");
        let done = operations.set_voters(&admin, true).await.unwrap();
        assert!(done.voters.enabled && !done.text.is_empty(), "{done:?}");
        assert_eq!(done.voters.spare, Some(1));
        assert!(
            fakes
                .world()
                .commands
                .contains(&"voters true true for by admin from test".to_owned())
        );
        fakes.world().voters_refusal = "two nodes".into();
        let shown = operations.voters_preview(&admin, false).await.unwrap();
        assert_eq!(shown.refusal, "two nodes");
        let refused = operations.set_voters(&admin, false).await.unwrap_err();
        assert_eq!(
            (refused.kind, &*refused.message),
            (Kind::Refused, "two nodes")
        );
        let operator = Caller {
            level: Level::Operate,
            ..admin
        };
        let forbidden = operations.voters_preview(&operator, true).await;
        assert_eq!(forbidden.unwrap_err().kind, Kind::Forbidden);
    }

    #[test]
    fn how_many_may_be_lost_is_told() {
        assert_eq!(five(&[]).spare, Some(2));
        assert_eq!(five(&["beta", "delta"]).spare, Some(0));
        assert_eq!(five(&["beta", "delta", "alpha"]).spare, None);
    }

    #[test]
    fn a_node_that_a_majority_needs_is_not_removed() {
        let refused = five(&["delta", "epsilon"]).may_go("gamma").unwrap_err();
        assert!(refused.message.contains("delta, epsilon"), "{refused}");
        five(&["delta", "epsilon"]).may_go("delta").unwrap();
        five(&["delta"]).may_go("gamma").unwrap();
        assert!(!five(&[]).end_without("gamma"));
        let three = Voters::of(&["a", "b", "c"].map(|name| voter(name, true, name != "b")));
        // The publisher votes alone then.
        assert!(three.end_without("c"));
        three.may_go("c").unwrap();
        let one = Voters::of(&[voter("a", true, true), voter("b", false, true)]);
        assert!(!one.enabled && !one.end_without("b"));
        one.may_go("b").unwrap();
    }
}
