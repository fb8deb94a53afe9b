//! All groups of a cluster, and what may become of them.

use std::collections::BTreeSet;

use crate::Refusal;
use crate::group::{Group, check_description, check_name};

/// The groups of a cluster, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(Vec<Group>);

/// One group before and after; none where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// As it was.
    pub old: Option<Group>,
    /// As it shall be; of the same name.
    pub new: Option<Group>,
}

/// What is to change of a group; what is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Its nodes, one or two.
    pub nodes: Option<(String, Option<String>)>,
}

impl Groups {
    /// The groups as they were read.
    pub fn new(mut groups: Vec<Group>) -> Self {
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Self(groups)
    }

    /// The groups, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.0.iter()
    }

    /// The group of that name.
    pub fn get(&self, name: &str) -> Result<&Group, Refusal> {
        self.0
            .iter()
            .find(|group| group.name == name)
            .ok_or_else(|| {
                let names: Vec<_> = self.0.iter().map(|group| group.name.as_str()).collect();
                Refusal::new(format!(
                    "there is no group {name:?}; those there are: {}",
                    names.join(", ")
                ))
            })
    }

    /// The group that a node is in.
    pub fn of(&self, node: &str) -> Option<&Group> {
        self.0.iter().find(|group| group.has(node))
    }

    /// What must be written to get from these groups to those.
    pub fn edits(&self, to: &Self) -> Vec<Edit> {
        let find = |groups: &Self, name: &str| {
            let mut groups = groups.0.iter();
            groups.find(|group| group.name == name).cloned()
        };
        let names = self.0.iter().chain(&to.0).map(|group| &group.name);
        let names: BTreeSet<_> = names.collect();
        let edits = names.into_iter().map(|name| Edit {
            old: find(self, name),
            new: find(to, name),
        });
        edits.filter(|edit| edit.old != edit.new).collect()
    }

    /// Takes a new node in: into the group that is asked for, otherwise into
    /// the first one with one node, otherwise into a new one named after it.
    pub fn join(&self, node: &str, wanted: Option<&str>) -> Result<Self, Refusal> {
        let mut next = self.clone();
        let group = match wanted {
            Some(name) => Some(self.get(name)?.name.clone()),
            None => {
                let mut groups = self.0.iter();
                let alone = groups.find(|group| group.second.is_none());
                alone.map(|group| group.name.clone())
            }
        };
        let Some(name) = group else {
            next.alone(node);
            return Ok(next);
        };
        for group in next.0.iter_mut().filter(|group| group.name == name) {
            if let Some(second) = &group.second {
                return Err(Refusal::new(format!(
                    "group {name} has its two nodes already, {} and {second}. Name another group, \
                     or none",
                    group.first
                )));
            }
            group.second = Some(node.into());
        }
        Ok(next)
    }

    /// Takes a node out that leaves the cluster. A group that is left empty
    /// ends.
    pub fn leave(&self, node: &str) -> Self {
        let left = self.0.iter().cloned();
        Self(left.filter_map(|group| group.without(node)).collect())
    }

    /// Makes a group of nodes that are taken out of those they are in.
    pub fn create(
        &self,
        name: &str,
        description: &str,
        first: &str,
        second: Option<&str>,
    ) -> Result<Self, Refusal> {
        check_name(name)?;
        check_description(description)?;
        let mut next = self.released(first, second)?;
        next.free(name)?;
        next.0.push(Group {
            description: description.into(),
            second: second.map(Into::into),
            ..Group::of(name, first)
        });
        Ok(Self::new(next.0))
    }

    /// Changes a group. Nodes that it gets are taken out of those they are in;
    /// one that it loses gets a group of its own.
    pub fn change(&self, name: &str, change: &Change) -> Result<Self, Refusal> {
        let old = self.get(name)?.clone();
        let mut new = old.clone();
        if let Some(name) = &change.name {
            check_name(name)?;
            new.name.clone_from(name);
        }
        if let Some(description) = &change.description {
            check_description(description)?;
            new.description.clone_from(description);
        }
        if let Some((first, second)) = &change.nodes {
            new.first.clone_from(first);
            new.second.clone_from(second);
        }
        let moves = (&new.first, &new.second) != (&old.first, &old.second);
        if moves || new.name != old.name {
            not_in_use(&old)?;
        }
        let mut next = self.clone();
        next.0.retain(|group| group.name != name);
        if moves {
            next = next.released(&new.first, new.second.as_deref())?;
        }
        next.free(&new.name)?;
        let lost: Vec<_> = old.nodes().filter(|node| !new.has(node)).collect();
        next.0.push(new.clone());
        for node in lost {
            next.alone(node);
        }
        Ok(Self::new(next.0))
    }

    /// Ends a group of two nodes; each gets a group of its own.
    pub fn delete(&self, name: &str) -> Result<Self, Refusal> {
        let old = self.get(name)?;
        not_in_use(old)?;
        if old.second.is_none() {
            return Err(Refusal::new(format!(
                "group {name} cannot be deleted: its node {0} would be in no group. Take {0} into \
                 another group, and this one ends by itself",
                old.first
            )));
        }
        let mut next = self.clone();
        next.0.retain(|group| group.name != name);
        for node in old.nodes() {
            next.alone(node);
        }
        Ok(Self::new(next.0))
    }

    /// Switches high availability of a group.
    pub fn switch(&self, name: &str, on: bool) -> Result<Self, Refusal> {
        let group = self.get(name)?;
        if on && group.second.is_none() {
            return Err(Refusal::new(format!(
                "group {name} has one node, {}, and high availability needs two. Add a second one \
                 first",
                group.first
            )));
        }
        let mut next = self.clone();
        for group in next.0.iter_mut().filter(|group| group.name == name) {
            group.high_availability = on;
        }
        Ok(next)
    }

    /// The groups without these nodes, which are about to be in another.
    fn released(&self, first: &str, second: Option<&str>) -> Result<Self, Refusal> {
        if second == Some(first) {
            return Err(Refusal::new(format!(
                "{first} was given twice; a group has one node or two different ones"
            )));
        }
        let mut next = self.clone();
        for node in std::iter::once(first).chain(second) {
            if let Some(old) = next.of(node) {
                not_in_use(old)?;
            }
            next = next.leave(node);
        }
        Ok(next)
    }

    /// Refuses a name that a group has.
    fn free(&self, name: &str) -> Result<(), Refusal> {
        if self.0.iter().any(|group| group.name == name) {
            return Err(Refusal::new(format!(
                "there is a group {name} already; give another name"
            )));
        }
        Ok(())
    }

    /// Gives a node a group of its own, named after it as far as that is free.
    fn alone(&mut self, node: &str) {
        let mut name = node.to_owned();
        let mut number = 2;
        while self.free(&name).is_err() {
            name = format!("{node}-{number}");
            number += 1;
        }
        self.0.push(Group::of(&name, node));
        self.0.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// Refuses a change of who stands in for whom while somebody may.
fn not_in_use(group: &Group) -> Result<(), Refusal> {
    if group.high_availability {
        return Err(Refusal::new(format!(
            "high availability of group {0} is on. Switch it off first, with \"utils ha disable \
             {0}\"",
            group.name
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(name: &str, first: &str, second: Option<&str>) -> Group {
        Group {
            second: second.map(Into::into),
            ..Group::of(name, first)
        }
    }

    fn text(result: Result<Groups, Refusal>) -> String {
        result.unwrap_err().0
    }

    #[test]
    fn a_node_that_joins_fills_the_first_group_up_and_then_gets_its_own() {
        let mut groups = Groups::new(vec![group("DefaultCluster", "n1", None)]);
        for node in ["n2", "n3", "n4", "n5"] {
            groups = groups.join(node, None).unwrap();
        }
        assert_eq!(
            groups,
            Groups::new(vec![
                group("DefaultCluster", "n1", Some("n2")),
                group("n3", "n3", Some("n4")),
                group("n5", "n5", None),
            ])
        );
        assert!(text(groups.join("n6", Some("n3"))).contains("n3 and n4"));
        assert!(text(groups.join("n6", Some("x"))).contains("DefaultCluster, n3, n5"));
        let joined = groups.join("n6", Some("n5")).unwrap();
        assert_eq!(joined.of("n6").unwrap().first, "n5");
    }

    #[test]
    fn a_node_that_leaves_ends_availability_and_the_other_is_first() {
        let pair = Groups::new(vec![group("g", "n1", Some("n2"))]);
        let pair = pair.switch("g", true).unwrap();
        let left = pair.leave("n1");
        assert_eq!(left, Groups::new(vec![group("g", "n2", None)]));
        assert_eq!(left.leave("n2"), Groups::default());
        assert_eq!(pair.leave("n9"), pair);
    }

    #[test]
    fn a_new_group_takes_its_nodes_from_where_they_are() {
        let groups = Groups::new(vec![
            group("a", "n1", Some("n2")),
            group("n3", "n3", None),
            group("n4", "n4", None),
        ]);
        let made = groups.create("b", "two", "n3", Some("n2")).unwrap();
        let b = Group {
            description: "two".into(),
            ..group("b", "n3", Some("n2"))
        };
        let expected = vec![group("a", "n1", None), b.clone(), group("n4", "n4", None)];
        assert_eq!(made, Groups::new(expected));
        let edits = groups.edits(&made);
        assert_eq!(edits.len(), 3);
        assert_eq!((&edits[1].old, &edits[1].new), (&None, &Some(b)));
        assert_eq!(edits[2].new, None);
        assert!(text(groups.create("b", "", "n3", Some("n3"))).contains("twice"));
        assert!(text(groups.create("a", "", "n3", None)).contains("already"));
        // Its own old group has ended, so that the name is free.
        assert!(groups.create("n3", "x", "n3", Some("n4")).is_ok());
        let on = groups.switch("a", true).unwrap();
        assert!(text(on.create("b", "", "n3", Some("n2"))).contains("utils ha disable a"));
    }

    #[test]
    fn a_group_is_changed_and_deleted_and_no_node_is_lost() {
        let groups = Groups::new(vec![group("a", "n1", Some("n2")), group("n3", "n3", None)]);
        let nodes = Change {
            nodes: Some(("n1".into(), Some("n3".into()))),
            ..Change::default()
        };
        let changed = groups.change("a", &nodes).unwrap();
        let expected = vec![group("a", "n1", Some("n3")), group("n2", "n2", None)];
        assert_eq!(changed, Groups::new(expected));
        let swap = Change {
            nodes: Some(("n2".into(), Some("n1".into()))),
            ..Change::default()
        };
        assert_eq!(
            groups.change("a", &swap).unwrap().get("a").unwrap().first,
            "n2"
        );
        let name = Change {
            name: Some("b".into()),
            description: Some("text".into()),
            ..Change::default()
        };
        let on = groups.switch("a", true).unwrap();
        assert!(text(on.change("a", &name)).contains("utils ha disable a"));
        assert_eq!(
            groups
                .change("a", &name)
                .unwrap()
                .get("b")
                .unwrap()
                .description,
            "text"
        );
        // A description may change at any time.
        let words = Change {
            description: Some("text".into()),
            ..Change::default()
        };
        assert!(
            on.change("a", &words)
                .unwrap()
                .get("a")
                .unwrap()
                .high_availability
        );
        let expected = vec![
            group("n1", "n1", None),
            group("n2", "n2", None),
            group("n3", "n3", None),
        ];
        assert_eq!(groups.delete("a").unwrap(), Groups::new(expected));
        assert!(text(groups.delete("n3")).contains("would be in no group"));
        assert!(text(on.delete("a")).contains("utils ha disable a"));
        assert!(text(groups.switch("n3", true)).contains("needs two"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is asked for in whatever order: every node stays in exactly
        /// one group, and only pairs have high availability.
        #[test]
        fn every_node_is_in_exactly_one_group(
            steps in prop::collection::vec((0..6_u8, "[a-d]", 0..5_u8, 0..6_u8), 0..40)
        ) {
            let mut nodes = BTreeSet::from(["n0".to_owned()]);
            let mut groups = Groups::new(vec![Group::of(crate::DEFAULT, "n0")]);
            for (what, name, one, two) in steps {
                let (one, two) = (format!("n{one}"), format!("n{two}"));
                let second = nodes.contains(&two).then_some(two.as_str());
                let next = match what {
                    0 if !nodes.contains(&one) => groups.join(&one, None),
                    1 if nodes.len() > 1 && nodes.contains(&one) => Ok(groups.leave(&one)),
                    2 if nodes.contains(&one) => groups.create(&name, "", &one, second),
                    3 if nodes.contains(&one) => {
                        let nodes = Some((one.clone(), second.map(Into::into)));
                        groups.change(&name, &Change { nodes, ..Change::default() })
                    }
                    4 => groups.delete(&name),
                    5 => groups.switch(&name, two != "n0"),
                    _ => continue,
                };
                let Ok(next) = next else { continue };
                match what {
                    0 => nodes.insert(one),
                    1 => nodes.remove(&one),
                    _ => false,
                };
                groups = next;
                let mut found: Vec<_> = groups.iter().flat_map(Group::nodes).collect();
                found.sort_unstable();
                prop_assert_eq!(found, nodes.iter().map(String::as_str).collect::<Vec<_>>());
                let names: BTreeSet<_> = groups.iter().map(|group| &group.name).collect();
                prop_assert_eq!(names.len(), groups.0.len());
                for group in groups.iter().filter(|group| group.high_availability) {
                    prop_assert!(group.second.is_some());
                }
            }
        }
    }
}
