//! One group, and what it may be called.

use serde::Serialize;

use crate::Refusal;

/// The group that a cluster begins with.
pub const DEFAULT: &str = "DefaultCluster";

/// Longest name and description, in characters (seed 004).
const LIMIT: usize = 128;
/// What a description may not have (seed 004).
const FORBIDDEN: &[char] = &['"', '%', '&', '\\', '<', '>'];

/// One node or two that stand in for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What an administrator says of it.
    pub description: String,
    /// Its first node.
    pub first: String,
    /// Its second node; none in a group of one.
    pub second: Option<String>,
    /// Whether each of its nodes takes the other's users over.
    pub high_availability: bool,
}

impl Group {
    /// A group of one node.
    pub fn of(name: &str, node: &str) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            first: node.into(),
            second: None,
            high_availability: false,
        }
    }

    /// Its nodes, the first one first.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.first.as_str()).chain(self.second.as_deref())
    }

    /// Whether that node is in it.
    pub fn has(&self, node: &str) -> bool {
        self.nodes().any(|one| one == node)
    }

    /// The group without a node; none when that was its last. What is left has
    /// nobody to stand in for.
    pub(crate) fn without(self, node: &str) -> Option<Self> {
        if !self.has(node) {
            return Some(self);
        }
        let left = self.nodes().find(|one| *one != node)?.to_owned();
        Some(Self {
            first: left,
            second: None,
            high_availability: false,
            ..self
        })
    }
}

/// Checks a group's name: at most 128 letters, digits, `_` and `-`.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match name.chars().find(|c| !allowed(*c)) {
        None if name.is_empty() => Err(Refusal::new(
            "the group has no name; give letters, digits, \"_\" and \"-\"",
        )),
        None => check_length("name", name),
        Some(other) => Err(Refusal::new(format!(
            "the group's name may not have {other:?}; letters, digits, \"_\" and \"-\" are allowed"
        ))),
    }
}

/// Checks a group's description: at most 128 characters, none of them a control
/// character or one of `"` `%` `&` `\` `<` `>`.
pub fn check_description(description: &str) -> Result<(), Refusal> {
    let forbidden = |c: char| c.is_control() || FORBIDDEN.contains(&c);
    match description.chars().find(|c| forbidden(*c)) {
        None => check_length("description", description),
        Some(other) => Err(Refusal::new(format!(
            "the description may not have {other:?}; all but control characters and \" % & \\ < > \
             is allowed"
        ))),
    }
}

fn check_length(what: &str, text: &str) -> Result<(), Refusal> {
    let length = text.chars().count();
    if length > LIMIT {
        return Err(Refusal::new(format!(
            "the {what} has {length} characters; at most {LIMIT} are allowed"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_descriptions_are_those_of_the_seed() {
        let long = "x".repeat(128);
        for name in ["a", "Group-1_b", &long] {
            assert_eq!(check_name(name), Ok(()));
        }
        let longer = "x".repeat(129);
        for name in ["", "a b", "a.b", "a/b", "a%", "Zürich", &longer] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for text in ["", "North & South", "a\"b", "50%", "a\\b", "<b>"] {
            assert_eq!(check_description(text).is_ok(), text.is_empty(), "{text}");
        }
        let text = "First floor, (building #2); it's 100 m² / 3 - 'x' * ~$@!?";
        assert_eq!(check_description(text), Ok(()));
        assert_eq!(check_description(&long), Ok(()));
        assert!(check_description(&longer).is_err());
        assert!(check_description("a\nb").is_err());
    }
}
