//! What a running command may use: the actions, the caller, the terminal.

use std::sync::atomic::{AtomicBool, Ordering};

use operations::{Caller, Operations};

use crate::reply::Failure;

/// The administrator's terminal, or a test's.
pub trait Terminal: Send + Sync {
    /// Shows text at once, as it is.
    fn show(&self, text: &str);
    /// Shows a long text, page by page where that is wanted.
    fn page(&self, text: &str);
    /// Asks for a line; none at the end of input.
    fn ask(&self, prompt: &str) -> Option<String>;
    /// Asks for a line that is not shown while it is typed.
    fn ask_secret(&self, prompt: &str) -> Option<String>;
    /// Everything that is left of standard input, up to `limit` bytes and one
    /// more.
    fn rest(&self, limit: u64) -> std::io::Result<Vec<u8>>;
}

/// What lasts from one command to the next.
#[derive(Debug)]
pub struct Preferences {
    pagination: AtomicBool,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            pagination: AtomicBool::new(true),
        }
    }
}

impl Preferences {
    /// Whether long answers stop after each screen.
    pub fn pagination(&self) -> bool {
        self.pagination.load(Ordering::Relaxed)
    }

    /// Chooses whether long answers stop after each screen.
    pub fn set_pagination(&self, on: bool) {
        self.pagination.store(on, Ordering::Relaxed);
    }
}

/// The surroundings of one command.
pub struct Session<'a> {
    /// The actions.
    pub operations: &'a Operations,
    /// Who asks.
    pub caller: &'a Caller,
    /// The terminal.
    pub terminal: &'a dyn Terminal,
    /// What lasts from command to command.
    pub preferences: &'a Preferences,
    /// Whether the answer is to be JSON.
    pub json: bool,
    /// Whether confirmations are answered beforehand.
    pub yes: bool,
}

impl Session<'_> {
    /// Shows a line while the work goes on. Machines get only the answer.
    pub fn progress(&self, line: &str) {
        if !self.json {
            self.terminal.show(&format!("{line}\n"));
        }
    }

    /// Asks whether to go on, after a warning.
    pub fn confirm(&self, warning: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if self.json {
            // A machine cannot be asked in the middle of its answer.
            return Err(Failure::Declined);
        }
        self.terminal.show(&format!("{warning}\n"));
        match self.terminal.ask("Continue (y/n)?") {
            Some(answer) if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES") => Ok(()),
            _ => Err(Failure::Declined),
        }
    }
}
