//! Which node a user is at home on.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;

use crate::{Group, Groups, Refusal};

/// Enterprise parameter that holds the [`Mode`].
pub const MODE: &str = "UserAssignmentMode";

/// How users who have no home get one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Evenly over all nodes.
    #[default]
    Balanced,
    /// Evenly over the first nodes of the groups; the second ones only stand
    /// in for them.
    ActiveStandby,
    /// Not at all: administrators assign them.
    None,
}

impl Mode {
    /// The word of the parameter and of commands.
    pub fn word(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::ActiveStandby => "active-standby",
            Self::None => "none",
        }
    }

    /// The nodes that get users, in the groups' order; only those that have
    /// joined.
    pub fn nodes<'a>(
        self,
        groups: impl IntoIterator<Item = &'a Group>,
        joined: &dyn Fn(&str) -> bool,
    ) -> Vec<&'a str> {
        let of = |group: &'a Group| {
            let nodes = group.nodes().filter(|node| joined(node));
            let most = match self {
                Self::Balanced => 2,
                // The second, while the first has not joined yet.
                Self::ActiveStandby => 1,
                Self::None => 0,
            };
            nodes.take(most)
        };
        groups.into_iter().flat_map(of).collect()
    }
}

impl FromStr for Mode {
    type Err = Refusal;

    fn from_str(word: &str) -> Result<Self, Refusal> {
        let modes = [Self::Balanced, Self::ActiveStandby, Self::None];
        let found = modes.into_iter().find(|mode| mode.word() == word);
        found.ok_or_else(|| {
            Refusal::new(format!(
                "{word:?} is no mode of assignment; balanced, active-standby and none are"
            ))
        })
    }
}

/// How many users each node has that may get more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loads(Vec<(String, usize)>);

impl Loads {
    /// No users yet on these nodes.
    pub fn new<'a>(nodes: impl IntoIterator<Item = &'a str>) -> Self {
        Self(nodes.into_iter().map(|node| (node.into(), 0)).collect())
    }

    /// Counts users of a node, if it is one of these.
    pub fn add(&mut self, node: &str, users: usize) {
        if let Some((_, load)) = self.0.iter_mut().find(|(one, _)| one == node) {
            *load += users;
        }
    }

    /// The node with the fewest users, the first of several; counts one more
    /// there. None when there is no node.
    pub fn take(&mut self) -> Option<&str> {
        let (node, users) = self.0.iter_mut().min_by_key(|(_, users)| *users)?;
        *users += 1;
        Some(node)
    }
}

/// A user who gets another home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The user.
    pub user: String,
    /// Home until now; empty for none.
    pub from: String,
    /// The new one.
    pub to: String,
}

/// The fewest moves after which these users (name, home) are spread evenly
/// over `nodes`, and none is elsewhere. Neighbours in the list go to different
/// nodes, so that a part of it burdens none more than others.
pub fn spread(users: &[(String, String)], nodes: &[&str]) -> Vec<Move> {
    let mut at: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (user, node) in users {
        at.entry(node).or_default().push(user);
    }
    if nodes.is_empty() {
        return Vec::new();
    }
    let here = |node: &str| at.get(node).map_or(0, Vec::len);
    // What does not divide stays where most are.
    let mut order = nodes.to_vec();
    order.sort_by_key(|node| std::cmp::Reverse(here(node)));
    let (each, rest) = (users.len() / nodes.len(), users.len() % nodes.len());
    let aim = |place: usize| each + usize::from(place < rest);
    let mut leaving: Vec<(&str, &str)> = Vec::new();
    let mut wanting: Vec<(&str, usize)> = Vec::new();
    for (place, node) in order.iter().enumerate() {
        let mut users = at.remove(node).unwrap_or_default();
        if users.len() < aim(place) {
            wanting.push((node, aim(place) - users.len()));
        } else {
            let surplus = users.split_off(aim(place));
            leaving.extend(surplus.into_iter().map(|user| (user, *node)));
        }
    }
    for (node, users) in at {
        leaving.extend(users.into_iter().map(|user| (user, node)));
    }
    leaving.sort_unstable();
    let mut moves = Vec::with_capacity(leaving.len());
    let mut leaving = leaving.into_iter();
    while !wanting.is_empty() {
        for (to, wanted) in &mut wanting {
            if let Some((user, from)) = leaving.next() {
                moves.push(Move {
                    user: user.into(),
                    from: from.into(),
                    to: (*to).into(),
                });
            }
            *wanted -= 1;
        }
        wanting.retain(|(_, wanted)| *wanted > 0);
    }
    moves
}

/// What assigns homes: the groups, the nodes that have joined, the mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The groups.
    pub groups: Groups,
    /// Names of the nodes that have joined.
    pub joined: Vec<String>,
    /// The mode.
    pub mode: Mode,
}

impl Plan {
    /// The nodes that get users.
    pub fn nodes(&self) -> Vec<&str> {
        self.mode
            .nodes(self.groups.iter(), &|node| self.is_joined(node))
    }

    /// Whether a node is there and has joined.
    pub fn is_joined(&self, node: &str) -> bool {
        self.joined.iter().any(|one| one == node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups() -> Groups {
        let mut groups = Groups::default();
        for node in ["n1", "n2", "n3", "n4", "n5"] {
            groups = groups.join(node, None).unwrap();
        }
        groups
    }

    #[test]
    fn the_mode_says_which_nodes_get_users() {
        let groups = groups();
        let all = |_: &str| true;
        let nodes = |mode: Mode| mode.nodes(groups.iter(), &all);
        assert_eq!(nodes(Mode::Balanced), ["n1", "n2", "n3", "n4", "n5"]);
        assert_eq!(nodes(Mode::ActiveStandby), ["n1", "n3", "n5"]);
        assert_eq!(nodes(Mode::None), [""; 0]);
        let without = |node: &str| node != "n3" && node != "n5";
        let nodes = Mode::ActiveStandby.nodes(groups.iter(), &without);
        assert_eq!(nodes, ["n1", "n4"]);
        for mode in [Mode::Balanced, Mode::ActiveStandby, Mode::None] {
            assert_eq!(mode.word().parse(), Ok(mode));
        }
        assert!("Balanced".parse::<Mode>().is_err());
    }

    #[test]
    fn who_has_fewest_gets_the_next() {
        let mut loads = Loads::new(["a", "b", "c"]);
        for node in ["a", "a", "c", "elsewhere"] {
            loads.add(node, 1);
        }
        let next: Vec<_> = (0..4).map(|_| loads.take().unwrap().to_owned()).collect();
        assert_eq!(next, ["b", "b", "c", "a"]);
        assert_eq!(Loads::new([]).take(), None);
    }

    fn users(homes: &[&str]) -> Vec<(String, String)> {
        let users = homes.iter().enumerate();
        users
            .map(|(n, home)| (format!("u{n}"), (*home).into()))
            .collect()
    }

    #[test]
    fn a_part_of_the_moves_burdens_no_node_more_than_others() {
        let moves = spread(&users(&["a"; 9]), &["a", "b", "c"]);
        let to: Vec<_> = moves.iter().map(|one| one.to.as_str()).collect();
        assert_eq!(to, ["b", "c", "b", "c", "b", "c"]);
        assert!(spread(&users(&["a", "b", "a"]), &["a", "b"]).is_empty());
        assert!(spread(&users(&["a"]), &[]).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn users_are_even_after_the_fewest_moves(
            homes in prop::collection::vec("[abcd]|", 0..60), last in 1..5_usize
        ) {
            let homes: Vec<&str> = homes.iter().map(String::as_str).collect();
            let nodes = &["a", "b", "c", "d"][..last];
            let users = users(&homes);
            let moves = spread(&users, nodes);
            let mut now: BTreeMap<_, _> = users.iter().cloned().collect();
            for one in &moves {
                prop_assert_ne!(&one.from, &one.to);
                prop_assert_eq!(now.insert(one.user.clone(), one.to.clone()), Some(one.from.clone()));
            }
            let count = |node: &str| now.values().filter(|home| *home == node).count();
            let counts: Vec<_> = nodes.iter().map(|node| count(node)).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), users.len());
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
            // A node that ends with more than it had lost nobody, and the
            // other way round.
            for node in nodes {
                let went = moves.iter().any(|one| one.from == *node);
                let came = moves.iter().any(|one| one.to == *node);
                prop_assert!(!(went && came), "{}", node);
            }
        }
    }
}
