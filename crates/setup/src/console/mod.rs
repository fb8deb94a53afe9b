//! The console: the wizard until the node is set up, then its status and the
//! way to the command line.

mod keys;
mod lock;
mod plain;
mod session;
mod status;
mod trial;
mod watch;

use std::io::{IsTerminal, stdout};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Context;
use ratatui::Terminal;
use ratatui::crossterm::{cursor, execute, terminal};

use crate::system::Place;

use plain::Plain;

/// A screen is drawn on this.
type Screen = Terminal<Plain>;

/// Exit status when there is no terminal: the unit is not to try again, as
/// for a serial port that the machine does not have.
const NO_TERMINAL: u8 = 78;

/// Runs the console on the terminal of this process.
pub(crate) fn run(place: &Place) -> ExitCode {
    if !std::io::stdin().is_terminal() || terminal::enable_raw_mode().is_err() {
        eprintln!("signalbox setup console: standard input is no terminal.");
        return ExitCode::from(NO_TERMINAL);
    }
    let outcome = on_screen(place);
    leave();
    match outcome {
        Ok(()) => sign_in(),
        Err(error) => {
            eprintln!("signalbox setup console: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn on_screen(place: &Place) -> anyhow::Result<()> {
    let mut screen = open().context("the terminal cannot be drawn on")?;
    if !place.is_set_up() {
        session::wizard(place, &mut screen)?;
    }
    watch::status(place, &mut screen)
}

/// Takes the whole terminal.
fn open() -> std::io::Result<Screen> {
    execute!(stdout(), terminal::EnterAlternateScreen)?;
    let mut screen = Terminal::new(Plain::new())?;
    screen.clear()?;
    Ok(screen)
}

fn leave() {
    // The terminal may be gone; there is nobody to tell then.
    let _ = terminal::disable_raw_mode();
    let _ = execute!(
        stdout(),
        terminal::LeaveAlternateScreen,
        terminal::Clear(terminal::ClearType::All),
        cursor::MoveTo(0, 0),
        cursor::Show
    );
}

/// Becomes the system's sign-in, whose shell is the command line. When that
/// ends, systemd starts the console again.
fn sign_in() -> ExitCode {
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "vt220".into());
    let error = Command::new("/usr/sbin/agetty")
        .args(["--noclear", "--noissue", "-", &terminal])
        .exec();
    eprintln!("signalbox setup console: agetty does not start: {error}");
    ExitCode::FAILURE
}
