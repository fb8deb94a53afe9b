//! Running one line.

use operations::{Caller, Operations};

use crate::command::FOLLOW;
use crate::commands::TREE;
use crate::reply::{Failure, Outcome, Reply};
use crate::session::{Session, Terminal};
use crate::words::{Line, Word};

/// What every line runs in.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The actions.
    pub operations: &'a Operations,
    /// Who asks.
    pub caller: &'a Caller,
    /// The terminal.
    pub terminal: &'a dyn Terminal,
}

/// Runs a line, shows the answer, and gives the exit status. `interrupted`
/// completes at Ctrl-C.
pub async fn run(
    surroundings: Surroundings<'_>,
    line: &Line,
    interrupted: impl Future<Output = ()>,
) -> u8 {
    let terminal = surroundings.terminal;
    if let [Word { text, .. }] = line.words.as_slice()
        && text == "help"
    {
        terminal.page(&TREE.help(&Line::default(), &Vec::new));
        return 0;
    }
    // `?` as the last word asks for help where keys cannot be told apart.
    if let Some((
        Word {
            text,
            quoted: false,
        },
        before,
    )) = line.words.split_last()
        && text == "?"
    {
        let line = Line {
            words: before.to_vec(),
            ..Line::default()
        };
        terminal.page(&TREE.help(&line, &Vec::new));
        return 0;
    }
    let (json, outcome) = match TREE.parse(line) {
        Err(usage) => (usage.json, Err(Failure::Usage(usage))),
        Ok(parsed) => {
            let session = Session {
                operations: surroundings.operations,
                caller: surroundings.caller,
                terminal,
                json: parsed.json,
                yes: parsed.yes,
            };
            let permitted = parsed
                .command
                .action
                .map_or(Ok(()), |action| session.caller.may(action));
            let outcome: Outcome = match permitted {
                Err(error) => Err(error.into()),
                Ok(()) => tokio::select! {
                    biased;
                    () = interrupted => match parsed.arguments.given(FOLLOW) {
                        true => Ok(Reply::new(&(), "")),
                        false => Err(Failure::Interrupted),
                    },
                    outcome = (parsed.command.run)(&session, &parsed.arguments) => outcome,
                },
            };
            (parsed.json, outcome)
        }
    };
    match outcome {
        Ok(reply) if json => terminal.show(&(reply.json() + "\n")),
        Ok(reply) => terminal.page(&reply.text),
        Err(failure) => {
            let text = if json {
                failure.json() + "\n"
            } else {
                failure.text()
            };
            terminal.show(&text);
            return failure.status();
        }
    }
    0
}
