//! From words to a command: parsing, and what may come next.

use crate::command::{Argument, Arguments, Command, Kind};
use crate::words::{Line, Word};

/// Options that every command takes.
const COMMON: &[(&str, &str)] = &[
    ("json", "Answer in the stable machine form"),
    ("yes", "Do not ask whether to continue"),
];

/// Words of a session, which stand alone.
const SESSION: &[(&str, &str)] = &[
    ("exit", "End the session; so does quit"),
    ("help", "List the commands; so does ?"),
];

/// A command with its arguments.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The command.
    pub command: &'static Command,
    /// Its arguments.
    pub arguments: Arguments,
    /// Whether the answer is to be JSON.
    pub json: bool,
    /// Whether confirmations are answered beforehand.
    pub yes: bool,
}

/// Why a line is not a command, and what is allowed instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The sentence to show.
    pub message: String,
    /// The words that may come at that place.
    pub next: Vec<String>,
    /// Whether the line asks for JSON.
    pub json: bool,
}

/// Something that may come next, with what it means.
pub type Candidate = (String, String);

/// The commands and the words that begin them.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// Every command.
    pub commands: &'static [Command],
    /// What each group of commands is about.
    pub groups: &'static [(&'static str, &'static str)],
}

impl Tree {
    fn below(&self, path: &[&str]) -> impl Iterator<Item = &'static Command> {
        let path: Vec<String> = path.iter().map(|word| (*word).to_owned()).collect();
        self.commands.iter().filter(move |command| {
            let mut words = command.words.split(' ');
            path.iter().all(|word| words.next() == Some(word))
        })
    }

    fn exact(&self, path: &[&str]) -> Option<&'static Command> {
        let words = path.join(" ");
        self.commands.iter().find(|command| command.words == words)
    }

    /// The literal words that may follow a path, with what they mean.
    fn literals(&self, path: &[&str]) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        for command in self.below(path) {
            let Some(word) = command.words.split(' ').nth(path.len()) else {
                continue;
            };
            if found.iter().any(|(known, _)| known == word) {
                continue;
            }
            let longer = [path, &[word]].concat();
            let help = match self.exact(&longer) {
                Some(command) => command.help,
                None => self
                    .groups
                    .iter()
                    .find(|(words, _)| *words == longer.join(" "))
                    .map_or("", |(_, help)| help),
            };
            found.push((word.into(), help.into()));
        }
        found.sort();
        found
    }

    /// How many of the words are words of commands.
    fn path<'w>(&self, words: &'w [Word]) -> Vec<&'w str> {
        let mut path = Vec::new();
        for word in words.iter().filter(|word| !is_option(word)) {
            let longer = [path.as_slice(), &[word.text.as_str()]].concat();
            if word.quoted || self.below(&longer).next().is_none() {
                break;
            }
            path = longer;
        }
        path
    }

    /// Finds the command and its arguments.
    pub fn parse(&self, line: &Line) -> Result<Parsed, Usage> {
        let json = line
            .words
            .iter()
            .any(|word| is_option(word) && word.text == "--json");
        let usage = |message: String, next: Vec<String>| Usage {
            message,
            next,
            json,
        };
        if let Some(quote) = line.quote {
            let message =
                format!("a quotation mark {quote} is not closed. Close it, or put a \\ before it");
            return Err(usage(message, vec![quote.to_string()]));
        }
        let path = self.path(&line.words);
        let Some(command) = self.exact(&path) else {
            let next: Vec<_> = self
                .literals(&path)
                .into_iter()
                .map(|(word, _)| word)
                .collect();
            let wrong = line
                .words
                .iter()
                .filter(|word| !is_option(word))
                .nth(path.len());
            let place = if path.is_empty() {
                "a command begins with".to_owned()
            } else {
                format!("after \"{}\" comes", path.join(" "))
            };
            let allowed = match next.as_slice() {
                [one] => one.clone(),
                several => format!("one of: {}", several.join(", ")),
            };
            let message = match wrong {
                Some(word) => format!("{:?} is not known here; {place} {allowed}", word.text),
                None => format!("the command is not complete; {place} {allowed}"),
            };
            return Err(usage(message, next));
        };
        let mut parsed = Parsed {
            command,
            arguments: Arguments::default(),
            json,
            yes: false,
        };
        let mut positional = Vec::new();
        let mut literal = path.len();
        let mut words = line.words.iter();
        while let Some(word) = words.next() {
            if !is_option(word) {
                if literal > 0 {
                    literal -= 1;
                } else {
                    positional.push(word.text.clone());
                }
                continue;
            }
            let (name, value) = match word.text[2..].split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (&word.text[2..], None),
            };
            match (name, value) {
                ("json", None) => {}
                ("yes", None) => parsed.yes = true,
                (name, value) => {
                    let known = command
                        .arguments
                        .iter()
                        .find(|argument| argument.named() && argument.name == name);
                    let value = match (known.map(|argument| argument.kind), value) {
                        (Some(Kind::Flag), None) => String::new(),
                        (Some(Kind::Option), Some(value)) => value,
                        (Some(Kind::Option), None) => match words.next() {
                            Some(word) => word.text.clone(),
                            None => {
                                let message = format!("--{name} needs a value behind it");
                                return Err(usage(message, vec![name.to_uppercase()]));
                            }
                        },
                        _ => {
                            let next = options(command);
                            let message = format!(
                                "\"{}\" has no option --{name}; it has {}",
                                command.words,
                                next.join(", ")
                            );
                            return Err(usage(message, next));
                        }
                    };
                    if let Some(argument) = known {
                        parsed.arguments.push(argument.name, value);
                    }
                }
            }
        }
        assign(command, positional, &mut parsed.arguments)
            .map_err(|(message, next)| usage(message, next))?;
        Ok(parsed)
    }

    /// What may come at the end of a line, with what it means. `services`
    /// gives service names when one is to be completed.
    pub fn next(&self, line: &Line, services: &dyn Fn() -> Vec<String>) -> Vec<Candidate> {
        let (typed, before) = match line.words.split_last() {
            Some((last, before)) if line.open => (last.text.as_str(), before),
            _ => ("", line.words.as_slice()),
        };
        let path = self.path(before);
        let command = self.exact(&path);
        let given: Vec<_> = before
            .iter()
            .filter(|word| !is_option(word))
            .skip(path.len())
            .collect();
        let mut found = if given.is_empty() {
            self.literals(&path)
        } else {
            Vec::new()
        };
        if let Some(command) = command {
            found.extend(next_argument(command, given.len(), services));
            if typed.starts_with('-') {
                found.extend(options(command).into_iter().map(|name| {
                    let help = option_help(command, &name[2..]);
                    (name, help)
                }));
            }
        }
        let lower = typed.to_lowercase();
        found.retain(|(word, _)| word.to_lowercase().starts_with(&lower) || word.starts_with('<'));
        found
    }

    /// The lines that `?` shows at the end of a line.
    pub fn help(&self, line: &Line, services: &dyn Fn() -> Vec<String>) -> String {
        let mut candidates = self.next(line, services);
        if line.words.is_empty() {
            let words = SESSION.iter();
            candidates.extend(words.map(|(word, help)| ((*word).into(), (*help).into())));
        }
        let before = if line.open {
            &line.words[..line.words.len() - 1]
        } else {
            &line.words[..]
        };
        let complete = self.exact(&self.path(before));
        let width = candidates
            .iter()
            .map(|(word, _)| word.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        if let Some(command) = complete {
            text += &format!("Syntax: {}\n{}.\n", command.usage(), command.help);
            for argument in command.arguments {
                text += &format!("    {}: {}\n", argument.usage(), argument.help);
            }
        }
        if complete.is_some() {
            for (name, help) in COMMON {
                text += &format!("    [--{name}]: {help}\n");
            }
        }
        for (word, help) in candidates {
            text += format!("    {word:width$}  {help}").trim_end();
            text.push('\n');
        }
        if text.is_empty() {
            text = "Nothing can come here; remove the last word.\n".into();
        }
        text
    }
}

fn is_option(word: &Word) -> bool {
    !word.quoted && word.text.starts_with("--") && word.text.len() > 2
}

fn options(command: &Command) -> Vec<String> {
    let own = command.arguments.iter().filter(|argument| argument.named());
    own.map(|argument| format!("--{}", argument.name))
        .chain(COMMON.iter().map(|(name, _)| format!("--{name}")))
        .collect()
}

fn option_help(command: &Command, name: &str) -> String {
    let own = command
        .arguments
        .iter()
        .find(|argument| argument.named() && argument.name == name)
        .map(|argument| argument.help);
    let common = || {
        COMMON
            .iter()
            .find(|(common, _)| *common == name)
            .map(|(_, help)| *help)
    };
    own.or_else(common).unwrap_or_default().into()
}

fn next_argument(
    command: &Command,
    given: usize,
    services: &dyn Fn() -> Vec<String>,
) -> Vec<Candidate> {
    let mut positional = command.positional();
    let last = command.positional().last();
    let argument = positional.nth(given).or_else(|| {
        last.filter(|last| matches!(last.kind, Kind::Joined | Kind::Service | Kind::Several))
    });
    match argument {
        None => Vec::new(),
        Some(Argument {
            kind: Kind::Choice(words),
            help,
            ..
        }) => words
            .iter()
            .map(|word| ((*word).to_owned(), (*help).to_owned()))
            .collect(),
        Some(Argument {
            kind: Kind::Service,
            ..
        }) => services()
            .into_iter()
            .map(|name| (name, String::new()))
            .collect(),
        Some(argument) => vec![(
            format!("<{}>", argument.name.to_uppercase()),
            argument.help.into(),
        )],
    }
}

/// Gives the words to the positional arguments.
fn assign(
    command: &Command,
    words: Vec<String>,
    arguments: &mut Arguments,
) -> Result<(), (String, Vec<String>)> {
    let mut words = words.into_iter().peekable();
    for argument in command.positional() {
        let missing = || {
            (
                format!(
                    "the command is not complete; \"{}\" needs {}. Syntax: {}",
                    command.words,
                    argument.name.to_uppercase(),
                    command.usage()
                ),
                vec![argument.usage()],
            )
        };
        match argument.kind {
            Kind::Joined | Kind::Service => {
                let all: Vec<_> = words.by_ref().collect();
                let all = all.join(" ");
                if !all.trim().is_empty() {
                    arguments.push(argument.name, all);
                } else if argument.required {
                    return Err(missing());
                }
            }
            Kind::Several => {
                if words.peek().is_none() && argument.required {
                    return Err(missing());
                }
                for word in words.by_ref() {
                    arguments.push(argument.name, word);
                }
            }
            Kind::Choice(choices) => match words.next() {
                Some(word) if choices.contains(&word.as_str()) => {
                    arguments.push(argument.name, word);
                }
                Some(word) => {
                    let next: Vec<_> = choices.iter().map(|one| (*one).to_owned()).collect();
                    return Err((
                        format!(
                            "{word:?} is not known here; after \"{}\" comes one of: {}",
                            command.words,
                            next.join(", ")
                        ),
                        next,
                    ));
                }
                None if argument.required => return Err(missing()),
                None => {}
            },
            Kind::Text => match words.next() {
                Some(word) => arguments.push(argument.name, word),
                None if argument.required => return Err(missing()),
                None => {}
            },
            Kind::Option | Kind::Flag => {}
        }
    }
    match words.next() {
        None => Ok(()),
        Some(word) => Err((
            format!(
                "{word:?} is one word too many. Syntax: {}; a value with blanks needs double quotes",
                command.usage()
            ),
            Vec::new(),
        )),
    }
}

/// What Tab does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Replaces so many characters before the cursor.
    Insert {
        /// How many characters.
        replace: usize,
        /// By what.
        text: String,
    },
    /// Shows the words there are.
    Choose(Vec<String>),
    /// There is nothing to complete.
    Nothing,
}

impl Tree {
    /// Whether `?` at the end of the line is a character like any other: in
    /// quotes, and in the middle of a value that can be anything.
    pub fn is_free_text(&self, line: &Line) -> bool {
        if line.quote.is_some() {
            return true;
        }
        let (true, Some((last, before))) = (line.open, line.words.split_last()) else {
            return false;
        };
        let value = before
            .last()
            .is_some_and(|word| is_option(word) && !word.text.contains('='))
            || (is_option(last) && last.text.contains('='));
        let candidates = self.next(line, &Vec::new);
        value
            || (!candidates.is_empty() && candidates.iter().all(|(word, _)| word.starts_with('<')))
    }

    /// Completes the end of a line as far as it is unambiguous.
    pub fn complete(&self, line: &Line, services: &dyn Fn() -> Vec<String>) -> Completion {
        if line.quote.is_some() {
            return Completion::Nothing;
        }
        // A service's name may have blanks: what is typed of it are all the
        // words behind the command.
        let path = self.path(&line.words);
        let service = self.exact(&path).is_some_and(|command| {
            command
                .positional()
                .next()
                .is_some_and(|argument| argument.kind == Kind::Service)
        });
        let (typed, found): (String, Vec<String>) = if service && line.words.len() > path.len() {
            let typed: Vec<_> = line.words[path.len()..]
                .iter()
                .map(|word| word.text.as_str())
                .collect();
            let blank = if line.open { "" } else { " " };
            let typed = typed.join(" ") + blank;
            let lower = typed.to_lowercase();
            let found = services()
                .into_iter()
                .filter(|name| name.to_lowercase().starts_with(&lower))
                .collect();
            (typed, found)
        } else {
            let typed = match line.words.last() {
                Some(last) if line.open => last.text.clone(),
                _ => String::new(),
            };
            let found = self
                .next(line, services)
                .into_iter()
                .map(|(word, _)| word)
                .filter(|word| !word.starts_with('<'))
                .collect();
            (typed, found)
        };
        let replace = typed.chars().count();
        match found.as_slice() {
            [] => Completion::Nothing,
            [one] => Completion::Insert {
                replace,
                text: format!("{one} "),
            },
            [first, rest @ ..] => {
                let same = |candidate: &String| {
                    first
                        .chars()
                        .zip(candidate.chars())
                        .take_while(|(a, b)| a == b)
                        .count()
                };
                let common = rest.iter().map(same).min().unwrap_or(0);
                if common > replace {
                    let text = first.chars().take(common).collect();
                    return Completion::Insert { replace, text };
                }
                Completion::Choose(found)
            }
        }
    }
}
