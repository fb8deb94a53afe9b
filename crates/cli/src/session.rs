//! What a running command may use: the actions, the caller, the terminal.

use operations::{Caller, Operations};

use crate::reply::Failure;

/// The administrator's terminal, or a test's.
#[tonic::async_trait]
pub trait Terminal: Send + Sync {
    /// Shows text at once, as it is.
    fn show(&self, text: &str);
    /// Shows a long text, page by page where that is wanted.
    fn page(&self, text: &str);
    /// Chooses whether [`Terminal::page`] stops after each screen.
    fn set_pagination(&self, on: bool);
    /// Asks for a line; none at the end of input.
    async fn ask(&self, prompt: &str) -> Option<String>;
    /// Asks for a line that is not shown while it is typed.
    async fn ask_secret(&self, prompt: &str) -> Option<String>;
    /// A file that the administrator can read, up to `limit` bytes and one
    /// more; `-` and `/dev/stdin` are what is left of standard input.
    async fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>>;
}

/// The surroundings of one command.
pub struct Session<'a> {
    /// The actions.
    pub operations: &'a Operations,
    /// Who asks.
    pub caller: &'a Caller,
    /// The terminal.
    pub terminal: &'a dyn Terminal,
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
    pub async fn confirm(&self, warning: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if self.json {
            // A machine cannot be asked in the middle of its answer.
            return Err(Failure::Declined);
        }
        self.terminal.show(&format!("{warning}\n"));
        match self.terminal.ask("Continue (y/n)?").await {
            Some(answer) if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES") => Ok(()),
            Some(_) => Err(Failure::Declined),
            None => {
                // Nobody has ended the line of the question.
                self.terminal.show("\n");
                Err(Failure::Declined)
            }
        }
    }
}
