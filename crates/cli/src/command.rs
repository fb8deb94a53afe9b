//! What a command is. Parsing, completion, help and the machine form all come
//! from the one list in [`crate::commands`].

use futures::future::BoxFuture;
use operations::Action;

use crate::reply::Outcome;
use crate::session::Session;

/// What an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One word.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// All the remaining words, joined by blanks: a name with blanks needs no
    /// quotes.
    Joined,
    /// A service's name, joined like [`Kind::Joined`] and completed.
    Service,
    /// Each of the remaining words.
    Several,
    /// `--NAME VALUE`.
    Option,
    /// `--NAME`.
    Flag,
}

/// The flag of commands that go on until Ctrl-C, which is then no failure.
pub(crate) const FOLLOW: &str = "follow";

/// An argument of a command.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name, as help shows it and handlers ask for it.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it may not be left out.
    pub required: bool,
    /// What it is for.
    pub help: &'static str,
}

impl Argument {
    /// An argument that must be given.
    pub const fn required(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            kind,
            required: true,
            help,
        }
    }

    /// An argument that may be left out.
    pub const fn optional(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            kind,
            required: false,
            help,
        }
    }

    /// Whether it is given by `--NAME`.
    pub fn named(&self) -> bool {
        matches!(self.kind, Kind::Option | Kind::Flag)
    }

    /// How help writes it.
    pub fn usage(&self) -> String {
        let text = match self.kind {
            Kind::Choice(words) => words.join("|"),
            Kind::Text | Kind::Joined | Kind::Service => self.name.to_uppercase(),
            Kind::Several => format!("{}…", self.name.to_uppercase()),
            Kind::Option => format!("--{} {}", self.name, self.name.to_uppercase()),
            Kind::Flag => format!("--{}", self.name),
        };
        if self.required {
            text
        } else {
            format!("[{text}]")
        }
    }
}

/// Does the work of a command.
pub type Handler = for<'a> fn(&'a Session<'a>, &'a Arguments) -> BoxFuture<'a, Outcome>;

/// A command.
#[derive(Clone, Copy)]
pub struct Command {
    /// Its words.
    pub words: &'static str,
    /// Its arguments, positional ones in their order.
    pub arguments: &'static [Argument],
    /// The action behind it, which has the privilege level; none for what
    /// only concerns the session.
    pub action: Option<&'static Action>,
    /// What it does, in one line.
    pub help: &'static str,
    /// Does it.
    pub run: Handler,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("words", &self.words)
            .finish_non_exhaustive()
    }
}

impl Command {
    /// Least privilege level.
    pub fn level(&self) -> u8 {
        self.action.map_or(0, |action| action.level.number())
    }

    /// How help writes the whole command.
    pub fn usage(&self) -> String {
        std::iter::once(self.words.to_owned())
            .chain(self.arguments.iter().map(Argument::usage))
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub(crate) fn positional(&self) -> impl Iterator<Item = &'static Argument> {
        self.arguments.iter().filter(|argument| !argument.named())
    }
}

/// The arguments that a command was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(Vec<(&'static str, String)>);

impl Arguments {
    pub(crate) fn push(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    /// The value of an argument, empty when it was left out.
    pub fn text(&self, name: &str) -> &str {
        self.optional(name).unwrap_or_default()
    }

    /// The value of an argument.
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of an argument that takes several.
    pub fn several(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(given, _)| *given == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// Whether a flag, or any other argument, was given.
    pub fn given(&self, name: &str) -> bool {
        self.optional(name).is_some()
    }
}
