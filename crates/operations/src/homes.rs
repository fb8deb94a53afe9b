//! Users' home nodes: the mode of assignment, assigning, moving, balancing.
//!
//! Who gets another home signs in again there. So many users move in batches
//! with a pause between them; the move ends at any batch when the caller goes
//! away, and goes on where it was when it is asked for again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use redundancy::{Loads, MODE, Mode, Move, Plan, spread};
use serde::Serialize;

use crate::Operations;
use crate::action::{Action, Caller, actions};
use crate::error::{Error, Kind, Result};
use crate::groups::{find_node, not_found};
use crate::ports::{Assignment, NodeRecord, UserRecord};
use crate::users::user_name;

/// Most users of one batch, and of one transaction.
pub const LARGEST_BATCH: usize = 500;
/// Longest pause between batches.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How often in a row somebody else may be faster.
const REFUSALS: usize = 20;

/// The mode of assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AssignmentMode {
    /// How users who have no home get one.
    pub mode: Mode,
}

/// Which users are to move, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// These, to that node, or to none when it is empty.
    Users {
        /// Their names.
        users: Vec<String>,
        /// The node.
        to: String,
    },
    /// All of a node.
    Leave {
        /// The node.
        from: String,
        /// Where to; otherwise to the others, those with the fewest users
        /// first.
        to: Option<String>,
    },
    /// As few as even the nodes out, as the mode wants it.
    Balance {
        /// Only this group and those who are at home in it.
        group: Option<String>,
    },
}

/// How fast users move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Users at a time.
    pub batch: usize,
    /// Time between two batches.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch: 50,
            pause: Duration::from_secs(1),
        }
    }
}

/// What moves, or has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moves {
    /// How many users move.
    pub moves: usize,
    /// Each node before and after.
    pub nodes: Vec<NodeLoad>,
}

/// The users of a node before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeLoad {
    /// The node; empty for users without a home.
    pub name: String,
    /// Users now.
    pub before: usize,
    /// Users afterwards.
    pub after: usize,
}

/// Told after each batch: users who have moved, of how many.
pub type Moved<'a> = &'a (dyn Fn(usize, usize) + Send + Sync);

/// What plans are made of.
struct Known {
    plan: Plan,
    nodes: Vec<NodeRecord>,
    users: Vec<UserRecord>,
}

impl Operations {
    /// The mode of assignment.
    pub async fn assignment_mode(&self, caller: &Caller) -> Result<AssignmentMode> {
        let work = async {
            let mode = self.mode().await?;
            Ok(AssignmentMode { mode })
        };
        caller.does(&actions::ASSIGNMENT_SHOW, "", work).await
    }

    /// Chooses the mode of assignment. Nobody who has a home moves.
    pub async fn set_assignment_mode(&self, caller: &Caller, mode: Mode) -> Result<AssignmentMode> {
        let work = async {
            self.storage()
                .set_enterprise_parameter(MODE, mode.word())
                .await?;
            Ok(AssignmentMode { mode })
        };
        caller
            .does(&actions::ASSIGNMENT_SET, mode.word(), work)
            .await
    }

    /// What a move would do; nothing is changed.
    pub async fn plan_moves(&self, caller: &Caller, wish: &Wish) -> Result<Moves> {
        caller.may(action(wish))?;
        let known = self.known().await?;
        let moves = known.moves(wish)?;
        Ok(known.summary(&moves))
    }

    /// Moves users, batch by batch. Those who change or are deleted meanwhile
    /// are left as they are.
    pub async fn move_users(
        &self,
        caller: &Caller,
        wish: &Wish,
        pace: Pace,
        moved: Moved<'_>,
    ) -> Result<Moves> {
        let work = async {
            check_pace(pace)?;
            let known = self.known().await?;
            let mut left = known.moves(wish)?;
            let all = left.len();
            let mut done = Vec::new();
            let mut refusals = 0;
            while !left.is_empty() {
                let rest = left.split_off(pace.batch.min(left.len()));
                let batch = std::mem::replace(&mut left, rest);
                match self.move_batch(&batch).await {
                    Ok(()) => {
                        refusals = 0;
                        done.extend(batch);
                        moved(done.len(), all);
                        if !left.is_empty() {
                            tokio::time::sleep(pace.pause).await;
                        }
                    }
                    Err(error) if error.kind == Kind::Refused && refusals < REFUSALS => {
                        refusals += 1;
                        let again = batch.into_iter().chain(left).collect();
                        left = self.still(again).await?;
                    }
                    Err(error) => return Err(unfinished(error, done.len(), all)),
                }
            }
            Ok(known.summary(&done))
        };
        caller.does(action(wish), &subject(wish), work).await
    }

    async fn mode(&self) -> Result<Mode> {
        match self.storage().enterprise_parameter(MODE).await? {
            // What is no mode counts as the default, as everywhere.
            Some(word) => Ok(word.parse().unwrap_or_default()),
            None => Ok(Mode::default()),
        }
    }

    async fn known(&self) -> Result<Known> {
        let nodes = self.storage().nodes().await?;
        let joined = nodes.iter().filter(|node| node.joined);
        Ok(Known {
            plan: Plan {
                groups: self.storage().groups().await?,
                joined: joined.map(|node| node.name.clone()).collect(),
                mode: self.mode().await?,
            },
            nodes,
            users: self.storage().users().await?,
        })
    }

    async fn move_batch(&self, batch: &[Move]) -> Result<()> {
        let nodes = self.storage().nodes().await?;
        for one in batch.iter().filter(|one| !one.to.is_empty()) {
            // A node may be removed while others move to it.
            find_node(&nodes, &one.to)?;
        }
        let batch: Vec<_> = batch
            .iter()
            .map(|one| Assignment {
                user: one.user.clone(),
                from: one.from.clone(),
                to: one.to.clone(),
            })
            .collect();
        self.storage().assign(&batch).await
    }

    /// The moves of those who are still where they were.
    async fn still(&self, moves: Vec<Move>) -> Result<Vec<Move>> {
        let users = self.storage().users().await?;
        let homes: HashMap<_, _> = users
            .into_iter()
            .map(|user| (user.user, user.node))
            .collect();
        let still = |one: &Move| homes.get(&one.user) == Some(&one.from);
        Ok(moves.into_iter().filter(still).collect())
    }
}

impl Known {
    fn moves(&self, wish: &Wish) -> Result<Vec<Move>> {
        match wish {
            Wish::Users { users, to } => self.named(users, to),
            Wish::Leave { from, to } => self.leaving(from, to.as_deref()),
            Wish::Balance { group } => self.balancing(group.as_deref()),
        }
    }

    fn named(&self, names: &[String], to: &str) -> Result<Vec<Move>> {
        if !to.is_empty() {
            self.target(to)?;
        }
        let mut moves = Vec::new();
        for name in names {
            let name = user_name(name).map_err(Error::invalid)?;
            let user = self.users.iter().find(|user| user.user == name);
            let user = user.ok_or_else(|| {
                Error::not_found(format!(
                    "there is no user {name}; nobody was moved. \"users list\" shows those there \
                     are"
                ))
            })?;
            if user.node != to {
                moves.push(move_of(user, to));
            }
        }
        moves.sort_by(|a: &Move, b| a.user.cmp(&b.user));
        moves.dedup();
        Ok(moves)
    }

    fn leaving(&self, from: &str, to: Option<&str>) -> Result<Vec<Move>> {
        let leaving = self.users.iter().filter(|user| user.node == from);
        if let Some(to) = to {
            self.target(to)?;
            if from == to {
                return Err(Error::invalid(format!(
                    "{from} was given twice; give the node to move users from, and another to \
                     move them to"
                )));
            }
            return Ok(leaving.map(|user| move_of(user, to)).collect());
        }
        find_node(&self.nodes, from)?;
        let nodes = self.plan.nodes();
        let mut others = Loads::new(nodes.into_iter().filter(|node| *node != from));
        for user in &self.users {
            others.add(&user.node, 1);
        }
        leaving
            .map(|user| match others.take() {
                Some(to) => Ok(move_of(user, to)),
                None => Err(Error::refused(format!(
                    "no other node than {from} gets users in the mode {}. Name the node to move \
                     them to",
                    self.plan.mode.word()
                ))),
            })
            .collect()
    }

    fn balancing(&self, group: Option<&str>) -> Result<Vec<Move>> {
        if self.plan.mode == Mode::None {
            return Err(Error::refused(
                "the mode of assignment is none, so there is nothing to balance by. Choose \
                 balanced or active-standby with \"set user-assignment mode\", or move users with \
                 \"users move\"",
            ));
        }
        let only = group.map(|name| self.plan.groups.get(name));
        let only = only.transpose().map_err(not_found)?;
        let inside = |node: &str| only.is_none_or(|group| group.has(node));
        let nodes = self.plan.nodes();
        let nodes: Vec<_> = nodes.into_iter().filter(|node| inside(node)).collect();
        let users = self.users.iter().filter(|user| inside(&user.node));
        let users: Vec<_> = users
            .map(|user| (user.user.clone(), user.node.clone()))
            .collect();
        Ok(spread(&users, &nodes))
    }

    /// A node that users may be at home on.
    fn target(&self, node: &str) -> Result<()> {
        if !find_node(&self.nodes, node)?.joined {
            return Err(Error::refused(format!(
                "{node} was added and has not joined the cluster yet, so that nobody could sign in \
                 there. Set it up first"
            )));
        }
        Ok(())
    }

    fn summary(&self, moves: &[Move]) -> Moves {
        let mut loads: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for group in self.plan.groups.iter() {
            loads.extend(group.nodes().map(|node| (node, (0, 0))));
        }
        for user in &self.users {
            let load = loads.entry(&user.node).or_default();
            load.0 += 1;
            load.1 += 1;
        }
        for one in moves {
            loads.entry(&one.from).or_default().1 -= 1;
            loads.entry(&one.to).or_default().1 += 1;
        }
        let nodes = loads.into_iter().map(|(name, (before, after))| NodeLoad {
            name: name.into(),
            before,
            after,
        });
        Moves {
            moves: moves.len(),
            nodes: nodes.collect(),
        }
    }
}

fn move_of(user: &UserRecord, to: &str) -> Move {
    Move {
        user: user.user.clone(),
        from: user.node.clone(),
        to: to.into(),
    }
}

fn action(wish: &Wish) -> &'static Action {
    match wish {
        Wish::Users { .. } => &actions::USERS_ASSIGN,
        Wish::Leave { .. } => &actions::USERS_MOVE,
        Wish::Balance { .. } => &actions::USERS_REBALANCE,
    }
}

fn subject(wish: &Wish) -> String {
    match wish {
        Wish::Users { users, to } if to.is_empty() => format!("{}, to none", users.join(", ")),
        Wish::Users { users, to } => format!("{}, to {to}", users.join(", ")),
        Wish::Leave { from, to: Some(to) } => format!("from {from} to {to}"),
        Wish::Leave { from, to: None } => format!("from {from}"),
        Wish::Balance { group } => group.clone().unwrap_or_default(),
    }
}

fn check_pace(pace: Pace) -> Result<()> {
    if !(1..=LARGEST_BATCH).contains(&pace.batch) {
        return Err(Error::invalid(format!(
            "a batch has 1 to {LARGEST_BATCH} users, not {}",
            pace.batch
        )));
    }
    if pace.pause > LONGEST_PAUSE {
        return Err(Error::invalid(format!(
            "the pause is at most {} s",
            LONGEST_PAUSE.as_secs()
        )));
    }
    Ok(())
}

fn unfinished(error: Error, done: usize, all: usize) -> Error {
    if done == 0 {
        return error;
    }
    Error::new(
        error.kind,
        format!("{done} of {all} users have moved, then: {error}. Run it again to go on"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use redundancy::{Group, Groups};
    use tokio::time::Instant;

    use crate::fakes::{Fakes, administrator, node, user_at};

    use super::*;

    /// Nodes n1 to n4 in two pairs, of which n4 has not joined.
    fn cluster(users: &[(usize, &str)]) -> (Fakes, Operations, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let fakes = Fakes::default();
        let pair = |name: &str, first: &str, second: &str| Group {
            second: Some(second.into()),
            ..Group::of(name, first)
        };
        let mut world = fakes.world();
        let nodes = (1..5).map(|n| NodeRecord {
            joined: n < 4,
            ..node(&format!("n{n}"), n == 1)
        });
        world.nodes = nodes.collect();
        world.groups = Groups::new(vec![pair("a", "n1", "n2"), pair("b", "n3", "n4")]);
        for (number, home) in users {
            for _ in 0..*number {
                let user = user_at(&format!("u{:04}", world.users.len()), home);
                world.users.insert(user.user.clone(), user);
            }
        }
        drop(world);
        let operations = fakes.operations(folder.path());
        (fakes, operations, folder)
    }

    fn homes(fakes: &Fakes) -> BTreeMap<String, usize> {
        let mut homes = BTreeMap::new();
        for user in fakes.world().users.values() {
            *homes.entry(user.node.clone()).or_default() += 1;
        }
        homes
    }

    fn loads(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
        of.iter().map(|(name, n)| ((*name).into(), *n)).collect()
    }

    const NO_NEWS: Moved<'static> = &|_, _| {};

    #[tokio::test(start_paused = true)]
    async fn a_balance_is_shown_first_and_then_moves_in_batches_with_pauses() {
        let (fakes, operations, _folder) = cluster(&[(290, "n1"), (7, ""), (3, "gone")]);
        let admin = administrator();
        let wish = Wish::Balance { group: None };
        let plan = operations.plan_moves(&admin, &wish).await.unwrap();
        assert_eq!(plan.moves, 200);
        let nodes = plan.nodes.iter();
        let shown: Vec<_> = nodes
            .map(|one| (&*one.name, one.before, one.after))
            .collect();
        let expected = [
            ("", 7, 0),
            ("gone", 3, 0),
            ("n1", 290, 100),
            ("n2", 0, 100),
            ("n3", 0, 100),
            ("n4", 0, 0),
        ];
        assert_eq!(shown, expected);
        assert_eq!(homes(&fakes), loads(&[("", 7), ("gone", 3), ("n1", 290)]));

        let news = Mutex::new(Vec::new());
        let begin = Instant::now();
        let pace = Pace {
            batch: 60,
            pause: Duration::from_secs(2),
        };
        let tell = |done, all| news.lock().unwrap().push((done, all));
        let done = operations.move_users(&admin, &wish, pace, &tell).await;
        assert_eq!(done.unwrap(), plan);
        assert_eq!(begin.elapsed(), Duration::from_secs(6));
        let news = news.into_inner().unwrap();
        assert_eq!(news, [(60, 200), (120, 200), (180, 200), (200, 200)]);
        assert_eq!(
            homes(&fakes),
            loads(&[("n1", 100), ("n2", 100), ("n3", 100)])
        );
        let again = operations.plan_moves(&admin, &wish).await.unwrap();
        assert_eq!(again.moves, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_that_is_cancelled_goes_on_where_it_was() {
        let (fakes, operations, _folder) = cluster(&[(100, "n1")]);
        let admin = administrator();
        let wish = Wish::Leave {
            from: "n1".into(),
            to: Some("n3".into()),
        };
        let cancelled = tokio::time::timeout(
            Duration::from_millis(500),
            operations.move_users(&admin, &wish, Pace::default(), NO_NEWS),
        );
        assert!(cancelled.await.is_err());
        assert_eq!(homes(&fakes), loads(&[("n1", 50), ("n3", 50)]));
        let done = operations.move_users(&admin, &wish, Pace::default(), NO_NEWS);
        assert_eq!(done.await.unwrap().moves, 50);
        assert_eq!(homes(&fakes), loads(&[("n3", 100)]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_changes_meanwhile_is_left_as_they_are_and_the_others_move() {
        let (fakes, operations, _folder) = cluster(&[(120, "n1")]);
        let admin = administrator();
        let wish = Wish::Leave {
            from: "n1".into(),
            to: Some("n2".into()),
        };
        // After the first batch somebody deletes one and moves another.
        let meddle = |done: usize, _| {
            if done == 50 {
                let mut world = fakes.world();
                world.users.remove("u0060");
                world.users.get_mut("u0061").unwrap().node = "n3".into();
            }
        };
        let done = operations.move_users(&admin, &wish, Pace::default(), &meddle);
        assert_eq!(done.await.unwrap().moves, 118);
        assert_eq!(homes(&fakes), loads(&[("n2", 118), ("n3", 1)]));
        // A node that goes away stops it.
        let wish = Wish::Leave {
            from: "n2".into(),
            to: Some("n3".into()),
        };
        let remove = |_, _| fakes.world().nodes.retain(|node| node.name != "n3");
        let done = operations.move_users(&admin, &wish, Pace::default(), &remove);
        let error = done.await.unwrap_err();
        assert!(
            error.message.starts_with("50 of 118 users have moved")
                && error.message.contains("no node \"n3\""),
            "{error}"
        );
    }

    #[tokio::test]
    async fn users_are_assigned_and_unassigned_by_name() {
        let (fakes, operations, _folder) = cluster(&[(3, "")]);
        let admin = administrator();
        let wish = |users: &[&str], to: &str| Wish::Users {
            users: users.iter().map(|user| (*user).into()).collect(),
            to: to.into(),
        };
        let run = async |wish: Wish| {
            let (admin, pace) = (&admin, Pace::default());
            operations.move_users(admin, &wish, pace, NO_NEWS).await
        };
        let done = run(wish(&["U0000", "u0001", "u0001"], "n2")).await;
        assert_eq!(done.unwrap().moves, 2);
        assert_eq!(run(wish(&["u0000"], "n2")).await.unwrap().moves, 0);
        assert_eq!(run(wish(&["u0000"], "")).await.unwrap().moves, 1);
        assert_eq!(homes(&fakes), loads(&[("", 2), ("n2", 1)]));
        for (users, to, words) in [
            (&["u0000", "nobody"][..], "n1", "no user nobody"),
            (&["u0000"], "n9", "no node \"n9\""),
            (&["u0000"], "n4", "has not joined"),
        ] {
            let error = run(wish(users, to)).await.unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
        assert_eq!(homes(&fakes), loads(&[("", 2), ("n2", 1)]));
    }

    #[tokio::test]
    async fn the_mode_decides_where_users_go() {
        let (fakes, operations, _folder) = cluster(&[(4, "n2"), (2, "n3")]);
        let admin = administrator();
        let moves = async |wish: Wish| operations.plan_moves(&admin, &wish).await;
        let balance = |group: Option<&str>| Wish::Balance {
            group: group.map(Into::into),
        };
        let mode = operations.assignment_mode(&admin).await.unwrap().mode;
        assert_eq!(mode, Mode::Balanced);
        assert_eq!(moves(balance(None)).await.unwrap().moves, 2);
        assert_eq!(moves(balance(Some("a"))).await.unwrap().moves, 2);
        assert_eq!(moves(balance(Some("b"))).await.unwrap().moves, 0);
        let error = moves(balance(Some("c"))).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
        let set = operations.set_assignment_mode(&admin, Mode::ActiveStandby);
        set.await.unwrap();
        let plan = moves(balance(None)).await.unwrap();
        let n2 = plan.nodes.iter().find(|node| node.name == "n2").unwrap();
        assert_eq!((plan.moves, n2.after), (4, 0));
        let leave = || Wish::Leave {
            from: "n2".into(),
            to: None,
        };
        let plan = moves(leave()).await.unwrap();
        let n1 = plan.nodes.iter().find(|node| node.name == "n1").unwrap();
        assert_eq!((plan.moves, n1.after), (4, 3));
        let set = operations.set_assignment_mode(&admin, Mode::None);
        set.await.unwrap();
        for wish in [leave(), balance(None)] {
            assert_eq!(moves(wish).await.unwrap_err().kind, Kind::Refused);
        }
        assert_eq!(homes(&fakes), loads(&[("n2", 4), ("n3", 2)]));
    }
}
