//! The decision: users, nodes and groups go in, who gets which home comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redundancy::{Groups, Loads, Mode, Move, Plan};

/// Most users of one transaction.
const BATCH: usize = 500;
/// A node must be gone for so long before its users get another home: one that
/// is renamed is not gone.
const GONE: Duration = Duration::from_secs(60);
/// Pause after a change that was not taken.
const PAUSE: Duration = Duration::from_secs(1);

/// Gives users homes. Times are on any clock that only grows.
#[derive(Debug, Default)]
pub struct Agent {
    plan: Plan,
    /// Every node of the cluster, joined or not.
    nodes: BTreeSet<String>,
    /// Home of each user; empty while there is none.
    homes: BTreeMap<String, String>,
    /// Users without a home.
    waiting: BTreeSet<String>,
    /// Number of users of each home.
    counts: BTreeMap<String, usize>,
    /// Homes that are no nodes of the cluster, and since when.
    gone: BTreeMap<String, Duration>,
    /// Users whose change is refused by itself, until something is heard of
    /// them.
    stuck: BTreeSet<String>,
    /// Users of the next change, as a power of two fewer than [`BATCH`] after
    /// refusals.
    halvings: u32,
    not_before: Duration,
}

impl Agent {
    /// The nodes of the cluster, and whether each has joined.
    pub fn set_nodes(&mut self, nodes: impl IntoIterator<Item = (String, bool)>) {
        self.nodes.clear();
        self.plan.joined.clear();
        for (node, joined) in nodes {
            if joined {
                self.plan.joined.push(node.clone());
            }
            self.nodes.insert(node);
        }
    }

    /// The groups of the cluster.
    pub fn set_groups(&mut self, groups: Groups) {
        self.plan.groups = groups;
    }

    /// The mode of assignment.
    pub fn set_mode(&mut self, mode: Mode) {
        self.plan.mode = mode;
    }

    /// A user and the home that the database has.
    pub fn set_user(&mut self, user: &str, home: &str) {
        self.stuck.remove(user);
        if self.homes.get(user).is_some_and(|old| old == home) {
            return;
        }
        self.forget(user);
        self.homes.insert(user.into(), home.into());
        if home.is_empty() {
            self.waiting.insert(user.into());
        } else {
            *self.counts.entry(home.into()).or_default() += 1;
        }
    }

    /// A user who was deleted.
    pub fn forget(&mut self, user: &str) {
        self.stuck.remove(user);
        self.waiting.remove(user);
        if let Some(home) = self.homes.remove(user)
            && let Some(count) = self.counts.get_mut(&home)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&home);
            }
        }
    }

    /// Forgets every user: they are told anew.
    pub fn forget_all(&mut self) {
        self.homes.clear();
        self.waiting.clear();
        self.counts.clear();
        self.stuck.clear();
    }

    /// The users that there are.
    pub fn users(&self) -> usize {
        self.homes.len()
    }

    /// Users without a home.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Why users wait; empty when none does, or not for long.
    pub fn obstacle(&self) -> &'static str {
        if self.waiting.is_empty() {
            ""
        } else if self.plan.mode == Mode::None {
            "the mode of assignment is none"
        } else if self.plan.nodes().is_empty() {
            "no node of a group has joined"
        } else {
            ""
        }
    }

    /// What to change now, all of it at once; nothing when nothing is to do.
    pub fn next(&mut self, now: Duration) -> Vec<Move> {
        self.notice_gone(now);
        if now < self.not_before || self.nodes.is_empty() {
            return Vec::new();
        }
        let limit = (BATCH >> self.halvings).max(1);
        let nodes = self.plan.nodes();
        let mut loads = Loads::new(nodes.iter().copied());
        for (home, count) in &self.counts {
            loads.add(home, *count);
        }
        let mut lost = self.gone.iter();
        let lost = lost.find(|(_, since)| now.saturating_sub(**since) >= GONE);
        let users: Box<dyn Iterator<Item = &String>> = match lost {
            Some((home, _)) => {
                let here = self.homes.iter().filter(move |(_, at)| *at == home);
                Box::new(here.map(|(user, _)| user))
            }
            None if nodes.is_empty() => return Vec::new(),
            None => Box::new(self.waiting.iter()),
        };
        let users = users.filter(|user| !self.stuck.contains(*user));
        users
            .take(limit)
            .map(|user| Move {
                user: user.clone(),
                from: self.homes.get(user).cloned().unwrap_or_default(),
                // None: nobody is to be at home on a node that is no more.
                to: loads.take().unwrap_or_default().to_owned(),
            })
            .collect()
    }

    /// The change is durable.
    pub fn done(&mut self, moves: &[Move]) {
        self.halvings = self.halvings.saturating_sub(1);
        for one in moves {
            // The feed may have told something newer already.
            if self.homes.get(&one.user) == Some(&one.from) {
                self.set_user(&one.user, &one.to);
            }
        }
    }

    /// The change was refused: one of the users is not as was thought. Fewer
    /// are tried next, until it is known who.
    pub fn refused(&mut self, moves: &[Move], now: Duration) {
        if let [one] = moves {
            self.stuck.insert(one.user.clone());
        } else {
            self.halvings = (self.halvings + 1).min(BATCH.ilog2());
        }
        self.not_before = now + PAUSE / 20;
    }

    /// The database does not answer, so that it is not known what became of
    /// the change.
    pub fn unanswered(&mut self, now: Duration) {
        self.not_before = now + PAUSE;
    }

    fn notice_gone(&mut self, now: Duration) {
        let (nodes, counts) = (&self.nodes, &self.counts);
        let is_gone = |home: &String| !nodes.contains(home) && counts.contains_key(home);
        self.gone.retain(|home, _| is_gone(home));
        for home in counts.keys().filter(|home| is_gone(home)) {
            self.gone.entry(home.clone()).or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// An agent that knows nodes n1, n2, … in pairs.
    fn agent(nodes: usize) -> Agent {
        let mut agent = Agent::default();
        let names: Vec<_> = (1..=nodes).map(|n| format!("n{n}")).collect();
        let mut groups = Groups::default();
        for node in &names {
            groups = groups.join(node, None).unwrap();
        }
        agent.set_groups(groups);
        agent.set_nodes(names.into_iter().map(|node| (node, true)));
        agent
    }

    /// Carries out what the agent wants until it wants nothing; answers the
    /// sizes of the changes.
    fn run(agent: &mut Agent, now: Duration) -> Vec<usize> {
        let mut sizes = Vec::new();
        loop {
            let moves = agent.next(now);
            if moves.is_empty() {
                return sizes;
            }
            sizes.push(moves.len());
            agent.done(&moves);
        }
    }

    fn count(agent: &Agent, home: &str) -> usize {
        agent.homes.values().filter(|at| *at == home).count()
    }

    #[test]
    fn ten_thousand_users_at_once_are_spread_evenly_in_few_changes() {
        let mut agent = agent(3);
        for n in 0..10_000 {
            agent.set_user(&format!("u{n}"), if n < 100 { "n1" } else { "" });
        }
        assert_eq!(agent.waiting(), 9900);
        let sizes = run(&mut agent, at(0));
        assert_eq!(sizes.len(), 20);
        assert!(sizes.iter().all(|size| *size <= 500));
        let counts = ["n1", "n2", "n3"].map(|node| count(&agent, node));
        assert_eq!(counts, [3334, 3333, 3333]);
        assert_eq!((agent.waiting(), agent.users()), (0, 10_000));
        // The feed tells the same again.
        let told: Vec<_> = agent.homes.clone().into_iter().collect();
        for (user, home) in &told {
            agent.set_user(user, home);
        }
        assert!(agent.next(at(1)).is_empty());
    }

    #[test]
    fn the_mode_and_who_has_joined_decide() {
        let mut agent = agent(4);
        agent.set_mode(Mode::None);
        for n in 0..4 {
            agent.set_user(&format!("u{n}"), "");
        }
        assert!(agent.next(at(0)).is_empty());
        assert_eq!(agent.obstacle(), "the mode of assignment is none");
        agent.set_mode(Mode::ActiveStandby);
        assert_eq!(agent.obstacle(), "");
        run(&mut agent, at(0));
        assert_eq!((count(&agent, "n1"), count(&agent, "n3")), (2, 2));
        // Who has a home keeps it, whatever the mode.
        agent.set_mode(Mode::Balanced);
        assert!(agent.next(at(0)).is_empty());
        agent.set_nodes([
            ("n1".into(), true),
            ("n2".into(), false),
            ("n3".into(), true),
        ]);
        for n in 4..6 {
            agent.set_user(&format!("u{n}"), "");
        }
        run(&mut agent, at(0));
        assert_eq!((count(&agent, "n1"), count(&agent, "n3")), (3, 3));
        agent.set_nodes([("n2".into(), false)]);
        agent.set_user("late", "");
        assert!(agent.next(at(0)).is_empty());
        assert_eq!(agent.obstacle(), "no node of a group has joined");
    }

    #[test]
    fn users_of_a_node_that_has_left_get_another_home_after_a_while() {
        let mut agent = agent(3);
        agent.set_user("a", "n2");
        agent.set_user("b", "n1");
        agent.set_nodes([("n1".into(), true), ("n3".into(), true)]);
        assert!(agent.next(at(10)).is_empty());
        // A node that is renamed is back under its name by then.
        let back = ["n1", "n2", "n3"].map(|node| (node.to_owned(), true));
        agent.set_nodes(back);
        assert!(agent.next(at(100)).is_empty());
        agent.set_nodes([("n1".into(), true), ("n3".into(), true)]);
        assert!(agent.next(at(110)).is_empty());
        assert!(agent.next(at(169)).is_empty());
        run(&mut agent, at(170));
        assert_eq!(agent.homes["a"], "n3");
        // Without assignment they have none.
        agent.set_mode(Mode::None);
        agent.set_nodes([("n1".into(), true)]);
        assert!(agent.next(at(171)).is_empty());
        run(&mut agent, at(231));
        assert_eq!(agent.homes["a"], "");
        // No table of nodes at all is not a cluster without nodes.
        agent.set_nodes([]);
        assert!(agent.next(at(400)).is_empty() && agent.next(at(500)).is_empty());
    }

    #[test]
    fn one_user_who_cannot_be_assigned_holds_nobody_else_up() {
        let mut agent = agent(2);
        for n in 0..2000 {
            agent.set_user(&format!("u{n:04}"), "");
        }
        let mut now = at(0);
        let mut changes = 0;
        while agent.waiting() > 1 {
            let moves = agent.next(now);
            if moves.is_empty() {
                now += Duration::from_millis(50);
                continue;
            }
            changes += 1;
            if moves.iter().any(|one| one.user == "u1234") {
                agent.refused(&moves, now);
            } else {
                agent.done(&moves);
            }
        }
        assert!(changes < 60, "{changes}");
        assert!(now < at(3), "{now:?}");
        assert!(agent.next(at(1000)).is_empty());
        // As soon as something is heard of the user, it is tried again.
        agent.set_user("u1234", "");
        assert_eq!(agent.next(at(1000)).len(), 1);
        agent.unanswered(at(1000));
        assert!(agent.next(Duration::from_millis(1_000_900)).is_empty());
        assert_eq!(agent.next(at(1001)).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens to users between a change and its echo, nobody who
        /// is there stays without a home, and nobody's count is wrong.
        #[test]
        fn in_the_end_every_user_has_a_home(
            steps in prop::collection::vec((0..6_u8, 0..12_u8, 1..4_u8), 0..80)
        ) {
            // The database, with what it has not told yet.
            let mut rows: BTreeMap<String, String> = BTreeMap::new();
            let mut feed: std::collections::VecDeque<(String, Option<String>)> = Default::default();
            let mut agent = agent(3);
            let mut now = at(0);
            let change = |agent: &mut Agent, rows: &mut BTreeMap<String, String>, now| {
                let moves = agent.next(now);
                if moves.is_empty() {
                    return Vec::new();
                }
                if moves.iter().any(|one| rows.get(&one.user) != Some(&one.from)) {
                    agent.refused(&moves, now);
                    return Vec::new();
                }
                for one in &moves {
                    rows.insert(one.user.clone(), one.to.clone());
                }
                agent.done(&moves);
                moves
            };
            for (what, user, node) in steps {
                now += Duration::from_millis(20);
                let user = format!("u{user}");
                match what {
                    0 | 1 => {
                        rows.insert(user.clone(), String::new());
                        feed.push_back((user, Some(String::new())));
                    }
                    2 => {
                        let home = format!("n{node}");
                        rows.insert(user.clone(), home.clone());
                        feed.push_back((user, Some(home)));
                    }
                    3 => {
                        rows.remove(&user);
                        feed.push_back((user, None));
                    }
                    4 => match feed.pop_front() {
                        Some((user, Some(home))) => agent.set_user(&user, &home),
                        Some((user, None)) => agent.forget(&user),
                        None => {}
                    },
                    _ => {
                        for one in change(&mut agent, &mut rows, now) {
                            feed.push_back((one.user, Some(one.to)));
                        }
                    }
                }
            }
            for _ in 0..200 {
                now += Duration::from_secs(1);
                while let Some((user, home)) = feed.pop_front() {
                    match home {
                        Some(home) => agent.set_user(&user, &home),
                        None => agent.forget(&user),
                    }
                }
                for one in change(&mut agent, &mut rows, now) {
                    feed.push_back((one.user, Some(one.to)));
                }
            }
            prop_assert!(rows.values().all(|home| !home.is_empty()), "{:?}", rows);
            prop_assert_eq!(&agent.homes, &rows);
            for node in ["n1", "n2", "n3"] {
                let counted = agent.counts.get(node).copied().unwrap_or(0);
                prop_assert_eq!(counted, count(&agent, node));
            }
        }
    }
}
