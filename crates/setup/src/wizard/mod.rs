//! The wizard: questions, answers and what is shown, without a terminal.
//!
//! Events go in, at most one action comes out; the console carries it out and
//! tells the result as another event. [`Wizard::draw`] shows the state.

mod draft;
mod input;
mod pages;
mod view;

use crate::answers::{Answers, Network};
use crate::apply::Step;
use crate::machine::Machine;

pub(crate) use view::wrap;

use draft::Draft;
use input::Input;
use pages::{Body, Page, Topic, pages};

/// A key, as far as the wizard knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Accept and go on.
    Enter,
    /// Back to the screen before.
    Back,
    /// Next field or entry.
    Next,
    /// Field or entry before.
    Previous,
    /// Cursor to the left.
    Left,
    /// Cursor to the right.
    Right,
    /// Cursor to the beginning.
    Home,
    /// Cursor to the end.
    End,
    /// Remove the character before the cursor.
    Backspace,
    /// Remove the character under the cursor.
    Delete,
    /// Remove the whole line.
    Clear,
}

/// One thing that was found out by trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is well.
    pub ok: bool,
    /// A sentence.
    pub text: String,
}

/// What the console tells the wizard.
#[derive(Clone, Debug)]
pub enum Event {
    /// A key was pressed.
    Key(Key),
    /// The wizard of this console may go on; or who has taken set-up.
    Taken(Result<(), String>),
    /// Who else has taken set-up, if anybody.
    Elsewhere(Option<String>),
    /// What trying found out.
    Tried(Vec<Finding>),
    /// Answers from a disk; or why there are none.
    Imported(Result<Box<Answers>, String>),
    /// The answers were saved to the named place; or why not.
    Saved(Result<String, String>),
    /// A step of setting up begins.
    Step(Step),
    /// Setting up ended.
    Applied(Result<(), String>),
}

/// What the wizard wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take set-up for this console.
    Take,
    /// Leave set-up to any console.
    Release,
    /// Try something out.
    Try(Trial),
    /// Read answers from the disk.
    Import,
    /// Write answers to the disk.
    Save(Box<Answers>),
    /// Set the node up.
    Apply(Box<Answers>),
    /// Switch the machine off.
    PowerOff,
}

/// What is to be tried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The network settings, and whether name servers know the full name.
    Network(Box<Network>, String),
    /// Time servers.
    Time(Vec<String>),
    /// A host name.
    Name(String),
    /// Whether the publisher takes the node with these answers.
    Cluster(Box<Answers>),
}

/// What the wizard does now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    /// It asks.
    Ask,
    /// It waits for the console; the text says for what.
    Wait(&'static str),
    /// It shows what trying found out.
    Findings(Vec<Finding>),
    /// It shows the answer file.
    File(String),
    /// The node is being set up.
    Apply(Option<Step>),
    /// Setting up failed.
    Failed(String),
    /// The node is set up.
    Done,
}

/// The wizard.
pub struct Wizard {
    machine: Machine,
    pages: Vec<Page>,
    draft: Draft,
    at: usize,
    focus: usize,
    input: Input,
    mode: Mode,
    message: String,
    elsewhere: Option<String>,
}

const WELCOME: [&str; 3] = [
    "Set this node up by answering questions",
    "Read the answers from a disk labelled SIGNALBOX",
    "Power off",
];

const SUMMARY: [&str; 4] = [
    "Set the node up now",
    "Save the answers on the disk labelled SIGNALBOX",
    "Show the answer file",
    "Go back and change something",
];

impl Wizard {
    /// A wizard at its first screen.
    pub fn new(machine: Machine) -> Self {
        Self {
            pages: pages(&machine),
            machine,
            draft: Draft::new(),
            at: 0,
            focus: 0,
            input: Input::default(),
            mode: Mode::Ask,
            message: String::new(),
            elsewhere: None,
        }
    }

    /// Whether the node is set up and the wizard has no more to do.
    pub fn is_done(&self) -> bool {
        self.mode == Mode::Done
    }

    /// Names what is on the screen: it changes when the screen is another.
    pub fn screen(&self) -> (usize, u8) {
        let kind = match self.mode {
            Mode::Ask => 0,
            Mode::Wait(_) => 1,
            Mode::Findings(_) => 2,
            Mode::File(_) => 3,
            Mode::Apply(_) => 4,
            Mode::Failed(_) => 5,
            Mode::Done => 6,
        };
        (self.at, kind)
    }

    /// Says that something went wrong before the wizard began, such as an
    /// answer file that cannot be used.
    pub fn tell(&mut self, message: &str) {
        self.message = message.into();
    }

    /// Takes an event in; what comes out is to be done.
    pub fn handle(&mut self, event: Event) -> Option<Action> {
        match event {
            Event::Key(key) => return self.key(key),
            Event::Taken(Ok(())) => self.turn(1),
            Event::Taken(Err(who)) => {
                self.mode = Mode::Ask;
                self.elsewhere = Some(who);
            }
            Event::Elsewhere(who) => self.elsewhere = who,
            Event::Tried(findings) => {
                if findings.iter().all(|finding| finding.ok) {
                    self.turn(1);
                    self.message = findings.last().map(|f| f.text.clone()).unwrap_or_default();
                } else {
                    self.mode = Mode::Findings(findings);
                }
            }
            Event::Imported(result) => self.imported(result),
            Event::Saved(result) => {
                self.mode = Mode::Ask;
                self.message = result.map_or_else(|why| why, |place| format!("Saved: {place}."));
            }
            Event::Step(step) => self.mode = Mode::Apply(Some(step)),
            Event::Applied(Ok(())) => self.mode = Mode::Done,
            Event::Applied(Err(why)) => self.mode = Mode::Failed(why),
        }
        None
    }

    fn key(&mut self, key: Key) -> Option<Action> {
        match &self.mode {
            Mode::Wait(_) | Mode::Apply(_) | Mode::Done => None,
            Mode::Findings(_) => {
                match key {
                    Key::Enter => self.turn(1),
                    Key::Back => self.go_to(self.at),
                    _ => {}
                }
                None
            }
            Mode::File(_) | Mode::Failed(_) => {
                if matches!(key, Key::Enter | Key::Back) {
                    self.mode = Mode::Ask;
                }
                None
            }
            Mode::Ask => {
                self.message.clear();
                if key == Key::Back {
                    return self.back();
                }
                match &self.pages[self.at].body {
                    Body::Form(_) => self.form(key),
                    Body::Search(name) => self.search(name, key),
                    Body::Checklist(name, entries) => {
                        let ids: Vec<String> = entries.iter().map(|(id, _)| id.clone()).collect();
                        self.checklist(name, &ids, key)
                    }
                    Body::Menu(name, entries) => {
                        let name = *name;
                        let values: Vec<String> =
                            entries.iter().map(|(id, _)| id.clone()).collect();
                        self.choose(key, values.len());
                        if let Some(value) = values.get(self.focus) {
                            self.draft.set(name, value);
                        }
                        self.submit_on_enter(key)
                    }
                    Body::Welcome => {
                        self.choose(key, WELCOME.len());
                        (key == Key::Enter).then(|| self.welcome()).flatten()
                    }
                    Body::Summary => {
                        self.choose(key, SUMMARY.len());
                        (key == Key::Enter).then(|| self.summary()).flatten()
                    }
                }
            }
        }
    }

    /// Moves in a list of `count` entries.
    fn choose(&mut self, key: Key, count: usize) {
        match key {
            Key::Next | Key::Right if self.focus + 1 < count => self.focus += 1,
            Key::Previous | Key::Left => self.focus = self.focus.saturating_sub(1),
            Key::Home => self.focus = 0,
            Key::End => self.focus = count.saturating_sub(1),
            _ => {}
        }
    }

    fn submit_on_enter(&mut self, key: Key) -> Option<Action> {
        (key == Key::Enter).then(|| self.submit()).flatten()
    }

    fn welcome(&mut self) -> Option<Action> {
        match self.focus {
            0 => {
                self.mode = Mode::Wait("Beginning …");
                Some(Action::Take)
            }
            1 => {
                self.mode = Mode::Wait("Reading the disk …");
                Some(Action::Import)
            }
            _ => {
                self.mode = Mode::Wait("Switching off …");
                Some(Action::PowerOff)
            }
        }
    }

    fn summary(&mut self) -> Option<Action> {
        let answers = self.draft.answers();
        match self.focus {
            0 => {
                // Answers that were read from a disk may have problems on
                // pages that nobody has looked at.
                if let Some((key, text)) = self.draft.problems(&self.machine).into_iter().next() {
                    self.go_to_problem(&key, &text);
                    return None;
                }
                self.mode = Mode::Apply(None);
                Some(Action::Apply(Box::new(answers)))
            }
            1 => {
                self.mode = Mode::Wait("Writing the disk …");
                Some(Action::Save(Box::new(answers)))
            }
            2 => {
                self.mode = Mode::File(shown(answers));
                None
            }
            _ => self.back(),
        }
    }

    fn imported(&mut self, result: Result<Box<Answers>, String>) {
        self.mode = Mode::Ask;
        match result {
            Err(why) => self.message = why,
            Ok(answers) => {
                self.draft.load(&answers);
                match self.draft.problems(&self.machine).into_iter().next() {
                    Some((key, text)) => self.go_to_problem(&key, &text),
                    None => self.go_to(self.pages.len() - 1),
                }
            }
        }
    }

    /// Shows the page that has the field, with what is wrong with it.
    fn go_to_problem(&mut self, key: &str, text: &str) {
        let page = self
            .pages
            .iter()
            .position(|page| (page.when)(&self.draft) && page.keys().any(|one| one == key));
        if let Some(page) = page {
            self.go_to(page);
            if let Body::Form(fields) = &self.pages[page].body
                && let Some(at) = fields.iter().position(|field| field.key == key)
            {
                self.focus_on(at);
            }
        }
        self.message = self.sentence(key, text);
    }

    /// A problem with the words that stand before the field.
    fn sentence(&self, key: &str, text: &str) -> String {
        let asked = self.pages.iter().filter(|page| (page.when)(&self.draft));
        let label = asked.into_iter().find_map(|page| page.label(key));
        format!("{} {text}.", label.unwrap_or_else(|| key.into()))
    }

    fn form(&mut self, key: Key) -> Option<Action> {
        let fields = match &self.pages[self.at].body {
            Body::Form(fields) => fields.len(),
            _ => 0,
        };
        match key {
            Key::Char(c) => self.input.insert(c),
            Key::Backspace => self.input.backspace(),
            Key::Delete => self.input.delete(),
            Key::Clear => self.input.clear(),
            Key::Left => self.input.go(-1),
            Key::Right => self.input.go(1),
            Key::Home => self.input.go(isize::MIN),
            Key::End => self.input.go(isize::MAX),
            Key::Next => self.leave((self.focus + 1).min(fields - 1)),
            Key::Previous => self.leave(self.focus.saturating_sub(1)),
            Key::Enter => {
                self.store();
                let own = self.focused_key();
                if let Some(problem) = own.and_then(|own| self.problem_of(|key| key == own)) {
                    self.message = problem.1;
                } else if self.focus + 1 < fields {
                    self.focus_on(self.focus + 1);
                } else {
                    return self.submit();
                }
            }
            Key::Back => {}
        }
        self.store();
        None
    }

    /// Moves to another field, and says what is wrong with the one left.
    fn leave(&mut self, to: usize) {
        self.store();
        let own = self.focused_key();
        if let Some(problem) = own.and_then(|own| self.problem_of(|key| key == own)) {
            self.message = problem.1;
        }
        self.focus_on(to);
    }

    /// Puts what is typed into the draft.
    fn store(&mut self) {
        if let Some(key) = self.focused_key() {
            self.draft.set(&key, &self.input.text());
        }
    }

    fn focused_key(&self) -> Option<String> {
        match &self.pages[self.at].body {
            Body::Form(fields) => fields.get(self.focus).map(|field| field.key.clone()),
            _ => None,
        }
    }

    fn focus_on(&mut self, field: usize) {
        self.focus = field;
        if let Some(key) = self.focused_key() {
            self.input = Input::new(self.draft.get(&key));
        }
    }

    /// The first problem among the keys that count, with its sentence.
    fn problem_of(&self, counts: impl Fn(&str) -> bool) -> Option<(String, String)> {
        let problems = self.draft.problems(&self.machine);
        let (key, text) = problems.into_iter().find(|(key, _)| counts(key))?;
        let sentence = self.sentence(&key, &text);
        Some((key, sentence))
    }

    /// The zones that have what is typed.
    fn matches(&self) -> Vec<&str> {
        let wanted = self.input.text().trim().to_lowercase().replace(' ', "_");
        let fits = |zone: &&str| zone.to_lowercase().contains(&wanted);
        self.machine.zones().filter(fits).collect()
    }

    fn search(&mut self, name: &'static str, key: Key) -> Option<Action> {
        match key {
            Key::Char(c) => self.input.insert(c),
            Key::Backspace => self.input.backspace(),
            Key::Clear => self.input.clear(),
            Key::Enter => {
                let Some(zone) = self.matches().get(self.focus).map(ToString::to_string) else {
                    self.message = "No time zone has that in its name.".into();
                    return None;
                };
                self.draft.set(name, &zone);
                return self.submit();
            }
            _ => {
                let count = self.matches().len();
                self.choose(key, count);
                return None;
            }
        }
        self.focus = 0;
        None
    }

    fn checklist(&mut self, name: &'static str, ids: &[String], key: Key) -> Option<Action> {
        self.choose(key, ids.len());
        if key == Key::Char(' ')
            && let Some(id) = ids.get(self.focus)
        {
            let mut chosen = self.draft.features();
            match chosen.iter().position(|one| one == id) {
                Some(at) => {
                    chosen.remove(at);
                }
                None => chosen.push(id.clone()),
            }
            self.draft.set(name, &chosen.join(" "));
        }
        self.submit_on_enter(key)
    }

    /// The page is answered: back to what is wrong with it, or on.
    fn submit(&mut self) -> Option<Action> {
        let keys: Vec<String> = self.pages[self.at].keys().map(String::from).collect();
        if let Some((key, sentence)) = self.problem_of(|key| keys.iter().any(|one| one == key)) {
            if let Body::Form(fields) = &self.pages[self.at].body
                && let Some(at) = fields.iter().position(|field| field.key == key)
            {
                self.focus_on(at);
            }
            self.message = sentence;
            return None;
        }
        let trial = self.pages[self.at]
            .probe
            .and_then(|topic| self.trial(topic));
        let Some(trial) = trial else {
            self.turn(1);
            return None;
        };
        self.mode = Mode::Wait(match trial {
            Trial::Network(..) => "Trying the network …",
            Trial::Time(_) => "Asking the time servers …",
            Trial::Name(_) => "Looking the name up …",
            Trial::Cluster(_) => "Asking the publisher …",
        });
        Some(Action::Try(trial))
    }

    fn trial(&self, topic: Topic) -> Option<Trial> {
        let answers = self.draft.answers();
        let full_name = answers.full_name();
        match topic {
            Topic::Network => Some(Trial::Network(Box::new(answers.network), full_name)),
            Topic::Time if answers.ntp.is_empty() => None,
            Topic::Time => Some(Trial::Time(answers.ntp)),
            Topic::Cluster => Some(Trial::Cluster(Box::new(answers))),
            Topic::Mail => answers.smtp.map(|smtp| Trial::Name(smtp.server)),
        }
    }

    /// The screens that are asked, by their place among all.
    fn asked(&self) -> Vec<usize> {
        let asked = |at: &usize| (self.pages[*at].when)(&self.draft);
        (0..self.pages.len()).filter(asked).collect()
    }

    fn turn(&mut self, by: isize) {
        let asked = self.asked();
        let here = asked.iter().position(|at| *at == self.at).unwrap_or(0);
        let there = here.saturating_add_signed(by).min(asked.len() - 1);
        self.go_to(asked[there]);
    }

    fn back(&mut self) -> Option<Action> {
        let first = self.at == 0;
        self.turn(-1);
        (self.at == 0 && !first).then_some(Action::Release)
    }

    fn go_to(&mut self, at: usize) {
        self.at = at;
        self.mode = Mode::Ask;
        self.message.clear();
        self.focus = 0;
        self.input = Input::default();
        match &self.pages[at].body {
            Body::Form(_) => self.focus_on(0),
            Body::Menu(name, entries) => {
                let value = self.draft.get(name);
                self.focus = entries.iter().position(|(id, _)| id == value).unwrap_or(0);
            }
            Body::Search(name) => {
                let value = self.draft.get(name).to_owned();
                self.input = Input::new(&value);
                let exact = self.matches().iter().position(|zone| *zone == value);
                self.focus = exact.unwrap_or(0);
            }
            Body::Checklist(..) | Body::Welcome | Body::Summary => {}
        }
    }
}

impl Page {
    /// The keys that are asked for here.
    fn keys(&self) -> impl Iterator<Item = &str> {
        let (one, fields): (Option<&str>, &[pages::Field]) = match &self.body {
            Body::Menu(key, _) | Body::Search(key) | Body::Checklist(key, _) => (Some(key), &[]),
            Body::Form(fields) => (None, fields),
            Body::Welcome | Body::Summary => (None, &[]),
        };
        one.into_iter()
            .chain(fields.iter().map(|field| field.key.as_str()))
    }

    /// The words before a field.
    fn label(&self, key: &str) -> Option<String> {
        match &self.body {
            Body::Form(fields) => {
                let field = fields.iter().find(|field| field.key == key)?;
                Some(field.label.clone())
            }
            Body::Menu(own, _) | Body::Search(own) | Body::Checklist(own, _) => {
                (*own == key).then(|| format!("{}: it", self.title))
            }
            Body::Welcome | Body::Summary => None,
        }
    }
}

/// The answer file without its passwords, to be looked at.
fn shown(mut answers: Answers) -> String {
    let accounts = [
        Some(&mut answers.administrator),
        answers.application_user.as_mut(),
    ];
    for account in accounts.into_iter().flatten() {
        account.password.0 = "…".into();
    }
    answers.security_password.0 = "…".into();
    answers.to_toml().unwrap_or_else(|error| error.to_string())
}
