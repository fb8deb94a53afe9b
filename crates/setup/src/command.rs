//! `signalbox setup …`: what the units and a person call.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use libsystemd::daemon::NotifyState;

use crate::answers::Answers;
use crate::apply::{Step, apply, forget};
use crate::change::change_network;
use crate::check::check;
use crate::console;
use crate::machine::Machine;
use crate::sources;
use crate::system::{Node, Place, System};

const USAGE: &str = "\
usage: signalbox setup COMMAND [--root FOLDER]

  unattended           set the node up from an answer file, if there is one:
                       /var/lib/signalbox/setup/answers.toml, or answers.toml
                       on a disk labelled SIGNALBOX
  apply --answers FILE set the node up from this file
  console              the wizard, then the status of the node, on this terminal
  change-network       apply the network settings that the supervisor left
  check --answers FILE tell what is wrong with an answer file

With --root, the node whose files are below FOLDER.";

/// Runs `signalbox setup` with the words that follow it.
pub fn run(words: &[&str]) -> ExitCode {
    let options = match Options::parse(words) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("signalbox setup: {error:#}");
            return ExitCode::from(64);
        }
    };
    if options.command == "console" {
        return console::run(&options.place);
    }
    let outcome = (|| match options.command {
        "unattended" => unattended(&options.place),
        "apply" => apply_file(&options.place, &options.answers()?),
        "change-network" => change_network(&options.place, &mut Node).inspect_err(tell),
        "check" => check_file(&options.place, &options.answers()?),
        _ => bail!("{USAGE}"),
    })();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("signalbox setup: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Gives systemd the reason as the unit's status, where the supervisor, which
/// cannot read the journal, finds it.
fn tell(error: &anyhow::Error) {
    // A status is one line.
    let text = format!("{error:#}").replace('\n', " ");
    if let Err(error) = libsystemd::daemon::notify(false, &[NotifyState::Status(text)]) {
        eprintln!("signalbox setup: the service manager cannot be told: {error}");
    }
}

struct Options<'a> {
    command: &'a str,
    place: Place,
    answers: Option<PathBuf>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a str]) -> anyhow::Result<Self> {
        let Some((&command, mut rest)) = words.split_first() else {
            bail!("{USAGE}");
        };
        let mut options = Self {
            command,
            place: Place::at(Path::new("/")),
            answers: None,
        };
        while let Some((&word, after)) = rest.split_first() {
            let Some((&value, after)) = after.split_first() else {
                bail!("{word} wants a value.\n{USAGE}");
            };
            match word {
                "--root" => options.place = Place::at(Path::new(value)),
                "--answers" => options.answers = Some(value.into()),
                _ => bail!("{word} is not known.\n{USAGE}"),
            }
            rest = after;
        }
        Ok(options)
    }

    fn answers(&self) -> anyhow::Result<String> {
        let path = self.answers.as_ref().context("--answers FILE is missing")?;
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// Reads and checks; the error lists every problem.
fn checked(answers: Result<Answers, String>, place: &Place) -> anyhow::Result<Answers> {
    let answers =
        answers.map_err(|error| anyhow::anyhow!("the answers cannot be read: {error}"))?;
    let problems = check(&answers, &Machine::read(place.root()));
    if problems.is_empty() {
        return Ok(answers);
    }
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("  {problem}"))
        .collect();
    bail!("the answers cannot be used:\n{}", lines.join("\n"));
}

fn check_file(place: &Place, text: &str) -> anyhow::Result<()> {
    checked(Answers::parse(text), place)?;
    println!("The answers can be used.");
    Ok(())
}

fn apply_file(place: &Place, text: &str) -> anyhow::Result<()> {
    if place.is_set_up() {
        bail!("this node is set up already; its settings are changed with the command line");
    }
    set_up(&checked(Answers::parse(text), place)?, place, &mut Node)
}

fn set_up(answers: &Answers, place: &Place, system: &mut dyn System) -> anyhow::Result<()> {
    let all = Step::ALL.len();
    apply(answers, place, system, &mut |step| {
        let number = Step::ALL.iter().position(|one| *one == step).unwrap_or(0) + 1;
        println!("[{number}/{all}] {}", step.title());
    })?;
    println!("{} is set up.", answers.network.hostname);
    Ok(())
}

/// At boot: applies what is there to apply, or leaves the node to the wizard.
fn unattended(place: &Place) -> anyhow::Result<()> {
    if place.is_set_up() {
        // The power was cut after the node was set up and before this.
        return forget(place);
    }
    let mut system = Node;
    let Some(found) = sources::find(place, &mut system)? else {
        println!("There is no answer file; the wizard on the console asks.");
        return Ok(());
    };
    println!("Set-up from {}.", found.place);
    let outcome = checked(found.answers, place)
        .and_then(|answers| set_up(&answers, place, &mut system))
        .with_context(|| found.place.clone());
    if let Err(error) = &outcome {
        sources::fail(place, &format!("Set-up from {error:#}"))?;
    }
    outcome
}
