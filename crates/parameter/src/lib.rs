//! What a setting of a service is: its name, default and values, where it
//! holds, and when a change applies.
//!
//! The crate that uses a setting defines it, once; administration shows and
//! checks by the same definition. The database keeps only what differs from
//! the default.

use std::fmt;

use serde::Serialize;

/// Where a parameter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The same on every node.
    Cluster,
    /// Set on each node; see [`owner`].
    Node,
}

/// When a change applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applies {
    /// At once.
    Hot,
    /// With the next start of the service.
    Restart,
}

/// What a parameter's text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// A whole number from the first to the second, with its unit; the unit
    /// may be empty.
    Number(u64, u64, &'static str),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Part of what the node is: no setting, shown beside them.
    Fixed,
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(low, high, "") => write!(f, "a whole number from {low} to {high}"),
            Self::Number(low, high, unit) => {
                write!(f, "a whole number from {low} to {high} ({unit})")
            }
            Self::Flag => f.write_str("true or false"),
            Self::Word(words) => f.write_str(&words.join(" or ")),
            Self::Fixed => f.write_str("what set-up made it"),
        }
    }
}

/// A parameter: what an administrator sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name, under which the database keeps it.
    pub name: &'static str,
    /// Where it holds.
    pub scope: Scope,
    /// When a change applies.
    pub applies: Applies,
    /// Its default, as text.
    pub default: &'static str,
    /// What it may be.
    pub values: Values,
    /// What it does, as a sentence.
    pub help: &'static str,
}

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value:?}; it must be {expected}")]
pub struct Invalid {
    /// The parameter.
    pub name: &'static str,
    /// What it was to be.
    pub value: String,
    /// What it may be.
    pub expected: Values,
}

impl Definition {
    /// One that is the same on every node and whose change applies at once.
    pub const fn new(
        name: &'static str,
        default: &'static str,
        values: Values,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            scope: Scope::Cluster,
            applies: Applies::Hot,
            default,
            values,
            help,
        }
    }

    /// The same, but set on each node.
    #[must_use]
    pub const fn on_each_node(self) -> Self {
        Self {
            scope: Scope::Node,
            ..self
        }
    }

    /// The same, but applied by a restart of the service.
    #[must_use]
    pub const fn by_restart(self) -> Self {
        Self {
            applies: Applies::Restart,
            ..self
        }
    }

    /// Whether a text may be its value. Numbers are written plainly, without
    /// sign or leading zeros.
    pub fn check(&self, value: &str) -> Result<(), Invalid> {
        let fits = match self.values {
            Values::Number(low, high, _) => value.parse().is_ok_and(|number: u64| {
                (low..=high).contains(&number) && number.to_string() == value
            }),
            Values::Flag => matches!(value, "true" | "false"),
            Values::Word(words) => words.contains(&value),
            Values::Fixed => false,
        };
        match fits {
            true => Ok(()),
            false => Err(Invalid {
                name: self.name,
                value: value.into(),
                expected: self.values,
            }),
        }
    }
}

/// Under which service the database keeps a parameter: the service's id, and
/// for a parameter of one node `ID@NODE`.
pub fn owner(definition: &Definition, service: &str, node: &str) -> String {
    match definition.scope {
        Scope::Cluster => service.into(),
        Scope::Node => format!("{service}@{node}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Definition = Definition::new("Limit", "5", Values::Number(1, 9, "s"), "A limit.");

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        assert_eq!(LIMIT.check("9"), Ok(()));
        for wrong in ["0", "10", "", "-1", "+1", "05", " 5", "5 ", "five", "5.0"] {
            let error = LIMIT.check(wrong).unwrap_err().to_string();
            let expected = format!("Limit is {wrong:?}; it must be a whole number from 1 to 9 (s)");
            assert_eq!(error, expected);
        }
        let flag = Definition {
            values: Values::Flag,
            ..LIMIT
        };
        assert_eq!(flag.check("true"), Ok(()));
        assert!(flag.check("TRUE").is_err());
        let word = Definition {
            values: Values::Word(&["a", "b"]),
            ..LIMIT
        };
        assert_eq!(word.check("b"), Ok(()));
        assert_eq!(
            word.check("c").unwrap_err().to_string(),
            "Limit is \"c\"; it must be a or b"
        );
    }

    #[test]
    fn a_parameter_of_a_node_is_kept_apart() {
        assert_eq!(owner(&LIMIT, "web", "node1"), "web");
        assert_eq!(owner(&LIMIT.on_each_node(), "web", "node1"), "web@node1");
    }
}
