//! Who votes.
//!
//! By default one node does, the publisher: the others learn from it, and
//! nothing can be changed without it. In a cluster of three nodes or more each
//! may have a vote instead. A write counts when a majority has it, and when the
//! node that leads is lost the others elect another one. Which of the two it is
//! is a property of the log's members, so that every node knows it and a
//! restart changes nothing: several voters mean that all are to vote.
//!
//! In here the members, what is expected of them and who answers go in, and
//! the next set of voters comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::{BasicNode, ChangeMembers, Config, RaftMetrics};
use tokio::time::MissedTickBehavior;

use crate::acknowledge::LAG;
use crate::error::{CommitError, commit_error};
use crate::membership::next_change;
use crate::name::number;
use crate::node::{Facts, Node, NodeMember};
use crate::types::{Raft, Vote};

/// Fewer nodes than this elect nobody: of two, the loss of one leaves no
/// majority.
pub const LEAST_VOTERS: usize = 3;

/// A voter gets a sign of life so often, in milliseconds, as exactly as the
/// engine looks at the clock.
const HEARTBEAT: u64 = 200;
/// The same where one node votes: nobody is elected for want of it, and it only
/// tells the others that the publisher is there.
const QUIET: Duration = Duration::from_millis(750);
/// A node that hears nobody for the greater of these and a time between them, in
/// milliseconds, stands for election as soon as it looks at the clock, every one
/// and a half heartbeats. At worst, of two nodes that are left, the one that has
/// the whole log waits for twice the greater one more, since it lacked something
/// once, and the other one spoils its first two attempts: that makes 4.8 s.
const ELECTION: (u64, u64) = (500, 700);
/// A node that leads and was confirmed by a majority so lately takes changes.
const CONFIRMED: Duration = Duration::from_secs(3);
/// How long a change waits for a majority: longer than an election takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// The consensus engine's times.
pub(crate) fn timing() -> Config {
    Config {
        heartbeat_interval: HEARTBEAT,
        election_timeout_min: ELECTION.0,
        election_timeout_max: ELECTION.1,
        ..Config::default()
    }
}

/// Has the engine give signs of life only where nodes are elected, and gives
/// fewer where one votes. Ends with the engine.
pub(crate) async fn give_signs_of_life(raft: Raft) {
    let mut members = raft.server_metrics();
    let mut clock = tokio::time::interval(QUIET);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (one_votes, here) = {
            let now = members.borrow_and_update();
            let known = now.membership_config.membership();
            let others = known.nodes().count() > 1;
            (
                known.voter_ids().count() < 2,
                now.current_leader == Some(now.id) && others,
            )
        };
        raft.runtime_config().heartbeat(!one_votes);
        let ended = tokio::select! {
            changed = members.changed() => changed.is_err(),
            _ = clock.tick(), if one_votes && here => raft.trigger().heartbeat().await.is_err(),
        };
        if ended {
            return;
        }
    }
}

/// Who votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Voting {
    /// One node, which leads; the others are learners.
    #[default]
    One,
    /// Every node that has caught up; they elect the one that leads.
    All,
}

/// The nodes that are to be in the log, as the one that leads knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Addresses of all but the one that leads, by name in the log.
    pub others: BTreeMap<u64, String>,
    /// Those of them that answer.
    pub answering: BTreeSet<u64>,
    /// Whether the one that leads was removed.
    pub leader_removed: bool,
}

/// The log's members, as the one that leads sees them.
struct Seen<'a> {
    own: u64,
    /// Its last entry.
    last: u64,
    members: &'a [NodeMember],
    /// Who is to vote in the end, where a change of that was begun and did not
    /// end.
    goal: Option<BTreeSet<u64>>,
}

impl Seen<'_> {
    fn voters(&self) -> BTreeSet<u64> {
        let voters = self.members.iter().filter(|member| member.voter);
        voters.map(|member| member.node).collect()
    }

    /// Whether a member may vote: one that lacks much would make a majority
    /// wait for it.
    fn ready(&self, member: &NodeMember, expected: &Expected) -> bool {
        let matched = member.matched.unwrap_or(0);
        let near = expected.answering.contains(&member.node) && matched + LAG >= self.last;
        member.node == self.own || member.voter || near
    }

    /// The set in which all that are expected and ready vote.
    fn all(&self, expected: &Expected) -> BTreeSet<u64> {
        let belongs = |name: u64| {
            if name == self.own {
                !expected.leader_removed
            } else {
                expected.others.contains_key(&name)
            }
        };
        let mut all: BTreeSet<u64> = self
            .members
            .iter()
            .filter(|member| belongs(member.node) && self.ready(member, expected))
            .map(|member| member.node)
            .collect();
        // A node that began anew has a new name: the old one stays in its place,
        // or two others would be all that vote, until it has caught up.
        for voter in self.voters() {
            let same = |name: &u64| number(*name) == number(voter);
            if expected.others.keys().any(same) && !all.iter().any(same) {
                all.insert(voter);
            }
        }
        all
    }

    /// The set in which one node votes: the one that leads, or the best of the
    /// others when that was removed.
    fn one(&self, expected: &Expected) -> BTreeSet<u64> {
        if !expected.leader_removed {
            return BTreeSet::from([self.own]);
        }
        let others = self.members.iter().filter(|member| {
            expected.others.contains_key(&member.node) && expected.answering.contains(&member.node)
        });
        let best = others.max_by_key(|member| member.matched);
        best.map(|member| member.node).into_iter().collect()
    }

    /// The next set of voters; none when it is as it should be, and when the
    /// next one would have no majority that answers.
    fn next(&self, expected: &Expected) -> Option<BTreeSet<u64>> {
        let voters = self.voters();
        if voters.len() < 2 {
            return None;
        }
        let nodes = expected.others.len() + usize::from(!expected.leader_removed);
        let next = match &self.goal {
            // One was to vote: that is ended as it was begun.
            Some(goal) if goal.len() == 1 => goal.clone(),
            _ if nodes < LEAST_VOTERS => self.one(expected),
            _ => self.all(expected),
        };
        let there = |name: &&u64| **name == self.own || expected.answering.contains(name);
        let majority = next.iter().filter(there).count() > next.len() / 2;
        (majority && (self.goal.is_some() || next != voters)).then_some(next)
    }
}

impl Facts {
    /// Who votes.
    pub fn voting(&self) -> Voting {
        match self.members.iter().filter(|member| member.voter).count() {
            0 | 1 => Voting::One,
            _ => Voting::All,
        }
    }
}

impl Node {
    fn seen<'a>(&self, facts: &'a Facts) -> Seen<'a> {
        let metrics = self.raft().metrics();
        let config = metrics.borrow().membership_config.clone();
        let goal = match config.membership().get_joint_config().as_slice() {
            [_, .., goal] => Some(goal.clone()),
            _ => None,
        };
        Seen {
            own: self.name(),
            last: facts.last_log,
            members: &facts.members,
            goal,
        }
    }

    /// Makes the members of the cluster what they should be: who is there, and
    /// in a cluster in which all vote, who does. Answers how many changes that
    /// took; a node that does not lead changes nothing, nor does one on which
    /// the members are being changed already.
    pub async fn settle_members(&self, expected: &Expected) -> Result<u32, CommitError> {
        let Ok(_changing) = self.changing().try_lock() else {
            return Ok(0);
        };
        let mut changes = 0;
        loop {
            let facts = self.facts();
            if facts.superseded.is_some() || facts.leader != Some(self.name()) {
                return Ok(changes);
            }
            let own = (self.name(), self.address());
            let voters = self.seen(&facts).next(expected);
            let change = match voters {
                Some(voters) => ChangeMembers::ReplaceAllVoters(voters),
                None => match next_change(&facts.members, own, &expected.others) {
                    Some(change) => change,
                    None => return Ok(changes),
                },
            };
            self.change_members(change).await?;
            changes += 1;
        }
    }

    /// Has one node vote, which leads and is this one, or all of them that have
    /// caught up. Answers when that holds, also after a restart.
    pub async fn set_voting(&self, voting: Voting, expected: &Expected) -> Result<(), CommitError> {
        // It takes two steps. Whoever looked at the members between them would
        // end it in another way.
        let _changing = self.changing().lock().await;
        let facts = self.facts();
        if let Some(by) = facts.superseded {
            return Err(CommitError::Superseded(by));
        }
        let voters = match voting {
            Voting::One => BTreeSet::from([self.name()]),
            Voting::All => self.seen(&facts).all(expected),
        };
        if voting == Voting::All && voters.len() < LEAST_VOTERS {
            return Err(CommitError::TooFew(voters.len()));
        }
        self.change_members(ChangeMembers::ReplaceAllVoters(voters))
            .await
    }

    /// Who does not vote any more learns on.
    async fn change_members(
        &self,
        change: ChangeMembers<u64, BasicNode>,
    ) -> Result<(), CommitError> {
        tracing::info!(?change, "The members of the cluster change.");
        let changed = self.raft().change_membership(change, true);
        // One that does not end is ended by the next look at the members.
        let changed = tokio::time::timeout(PATIENCE, changed)
            .await
            .map_err(|_| CommitError::Unconfirmed)?;
        changed.map(drop).map_err(|error| commit_error(&error))
    }

    /// Waits until a majority of the voters confirms that this node leads, if
    /// it does: what is taken without one is not known to be made.
    pub(crate) async fn await_majority(&self) -> Result<(), CommitError> {
        let mut metrics = self.raft().metrics();
        let left = match &*metrics.borrow_and_update() {
            now if confirmed(now) => return Ok(()),
            now => PATIENCE.saturating_sub(age(now).unwrap_or_default()),
        };
        match tokio::time::timeout(left, metrics.wait_for(confirmed)).await {
            Err(_) => Err(CommitError::NoMajority),
            // An engine that ended says so to the change.
            Ok(_) => Ok(()),
        }
    }

    /// Waits for the answer to a change, for as long as a majority may take.
    /// Where one node votes, only its disk is waited for.
    pub(crate) async fn confirmed<T>(
        &self,
        answer: impl Future<Output = T>,
    ) -> Result<T, CommitError> {
        match self.facts().voting() {
            Voting::One => Ok(answer.await),
            Voting::All => tokio::time::timeout(PATIENCE, answer)
                .await
                .map_err(|_| CommitError::Unconfirmed),
        }
    }
}

type Metrics = RaftMetrics<u64, BasicNode>;

/// How long ago a majority confirmed that a node leads.
fn age(metrics: &Metrics) -> Option<Duration> {
    metrics.millis_since_quorum_ack.map(Duration::from_millis)
}

/// Whether a change may be proposed here: a majority confirmed lately that
/// this node leads, or it is not needed, or another node leads, which the
/// engine says at once.
fn confirmed(metrics: &Metrics) -> bool {
    let voters = metrics.membership_config.membership().voter_ids().count();
    voters < 2
        || metrics.current_leader != Some(metrics.id)
        || age(metrics).is_some_and(|age| age <= CONFIRMED)
}

/// The entry behind which a majority of several voters has all that is
/// written; none where one node votes.
pub(crate) fn majority_from(metrics: &Metrics) -> Option<u64> {
    let members = &metrics.membership_config;
    let several = members.membership().voter_ids().count() > 1;
    several.then(|| members.log_id().map_or(0, |id| id.index))
}

/// The vote of a node that leads and that a majority followed a moment ago. It
/// votes for nobody else: one that hears nobody and is heard would end the lead
/// again and again.
pub(crate) fn leads_surely(metrics: &Metrics) -> Option<Vote> {
    let lease = Duration::from_millis(ELECTION.1);
    let surely =
        metrics.current_leader == Some(metrics.id) && sure(metrics).is_some_and(|age| age <= lease);
    surely.then_some(metrics.vote)
}

/// How long ago a node that leads was sure of that; none when it never was.
pub(crate) fn sure(metrics: &Metrics) -> Option<Duration> {
    match metrics.membership_config.membership().voter_ids().count() {
        0 | 1 => Some(Duration::ZERO),
        _ => age(metrics),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u64, voter: bool, matched: u64) -> NodeMember {
        NodeMember {
            node,
            address: String::new(),
            voter,
            matched: Some(matched),
        }
    }

    /// Node 1 leads at entry 1000.
    fn next(members: &[NodeMember], expected: &Expected) -> Option<Vec<u64>> {
        ended(members, expected, None)
    }

    /// The same where a change was begun.
    fn ended(
        members: &[NodeMember],
        expected: &Expected,
        goal: Option<&[u64]>,
    ) -> Option<Vec<u64>> {
        let seen = Seen {
            own: 1,
            last: 1000,
            members,
            goal: goal.map(|goal| goal.iter().copied().collect()),
        };
        let next = seen.next(expected)?;
        Some(next.into_iter().collect())
    }

    fn expected(others: &[u64], answering: &[u64]) -> Expected {
        Expected {
            others: others.iter().map(|node| (*node, String::new())).collect(),
            answering: answering.iter().copied().collect(),
            leader_removed: false,
        }
    }

    fn three() -> Vec<NodeMember> {
        [1, 2, 3].map(|node| member(node, true, 1000)).to_vec()
    }

    #[test]
    fn where_one_votes_nobody_else_comes_to() {
        let members = [member(1, true, 1000), member(2, false, 1000)];
        assert_eq!(next(&members, &expected(&[2], &[2])), None);
        let members = [member(1, true, 1000), member(2, false, 1000)];
        assert_eq!(next(&members, &expected(&[2, 3], &[2, 3])), None);
    }

    #[test]
    fn a_node_that_joins_votes_when_it_has_caught_up_and_answers() {
        let mut members = three();
        members.push(member(4, false, 899));
        let all = expected(&[2, 3, 4], &[2, 3, 4]);
        assert_eq!(next(&members, &all), None);
        members[3].matched = Some(900);
        assert_eq!(next(&members, &all), Some(vec![1, 2, 3, 4]));
        let silent = expected(&[2, 3, 4], &[2, 3]);
        assert_eq!(next(&members, &silent), None);
        // A voter that is late or away goes on to be one.
        members[3] = member(4, true, 0);
        assert_eq!(next(&members, &silent), None);
    }

    #[test]
    fn a_change_that_did_not_end_is_ended() {
        let two = expected(&[2, 3], &[2]);
        assert_eq!(next(&three(), &two), None);
        let all = ended(&three(), &two, Some(&[1, 2, 3]));
        assert_eq!(all, Some(vec![1, 2, 3]));
        // In the way it was begun.
        assert_eq!(ended(&three(), &two, Some(&[1])), Some(vec![1]));
    }

    #[test]
    fn of_two_nodes_that_are_left_one_votes() {
        let left = expected(&[2], &[2]);
        assert_eq!(next(&three(), &left), Some(vec![1]));
        // The one that led was removed.
        let mut left = expected(&[2, 3], &[3]);
        left.leader_removed = true;
        assert_eq!(next(&three(), &left), Some(vec![3]));
        left.answering.insert(2);
        let mut members = three();
        members[1].matched = Some(990);
        assert_eq!(next(&members, &left), Some(vec![3]));
        left.others.insert(4, String::new());
        left.answering.insert(4);
        members.push(member(4, true, 1000));
        assert_eq!(next(&members, &left), Some(vec![2, 3, 4]));
    }

    #[test]
    fn nobody_is_removed_whom_a_majority_needs() {
        let mut members = three();
        members.push(member(4, true, 10));
        members.push(member(5, true, 10));
        // Nodes 4 and 5 are away: without node 3 nobody could be elected.
        assert_eq!(next(&members, &expected(&[2, 4, 5], &[2])), None);
        let all_but_one = next(&members, &expected(&[2, 3, 4], &[2, 3]));
        assert_eq!(all_but_one, Some(vec![1, 2, 3, 4]));
    }

    #[test]
    fn a_node_that_began_anew_votes_under_its_new_name_when_it_has_caught_up() {
        let anew = 7 << 32 | 3;
        let mut members = three();
        let known = expected(&[2, anew], &[2, anew]);
        assert_eq!(next(&members, &known), None);
        members.push(member(anew, false, 10));
        assert_eq!(next(&members, &known), None);
        members[3].matched = Some(1000);
        assert_eq!(next(&members, &known), Some(vec![1, 2, anew]));
    }
}
