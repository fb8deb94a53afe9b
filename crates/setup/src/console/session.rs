//! The wizard on a terminal: keys in, screens out, and its actions carried
//! out beside, so that the screen never stands still.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event as Input};

use crate::apply::apply;
use crate::machine::Machine;
use crate::sources;
use crate::system::{Node, Place, System};
use crate::wizard::{Action, Event, Wizard};

use super::keys::{self, Pressed};
use super::lock::Lock;
use super::{Screen, trial};

/// Longest time between two looks at what happened beside.
const STEP: Duration = Duration::from_millis(100);
/// How many of them pass between two looks at the other console.
const STEPS_PER_LOOK: u32 = 10;

/// Runs the wizard until the node is set up, here or at another console.
pub(super) fn wizard(place: &Place, screen: &mut Screen) -> anyhow::Result<()> {
    let mut wizard = Wizard::new(Machine::read(place.root()));
    if let Some(text) = sources::failure(place) {
        wizard.tell(&text);
    }
    let mut session = Session {
        place,
        lock: Lock::open(place)?,
        name: terminal_name(),
        events: channel(),
    };
    let mut steps = 0u32;
    let mut shown = None;
    loop {
        if shown != Some(wizard.screen()) {
            // A new screen is drawn whole: messages of the kernel may stand
            // in the old one.
            shown = Some(wizard.screen());
            screen.clear()?;
        }
        screen.draw(|frame| wizard.draw(frame))?;
        if wizard.is_done() || (place.is_set_up() && !session.lock.is_held()) {
            return Ok(());
        }
        let mut happened: Vec<Event> = session.events.1.try_iter().collect();
        if event::poll(STEP)?
            && let Input::Key(key) = event::read()?
        {
            match keys::read(key) {
                Some(Pressed::Key(key)) => happened.push(Event::Key(key)),
                Some(Pressed::Redraw) => screen.clear()?,
                None => {}
            }
        }
        steps += 1;
        if steps.is_multiple_of(STEPS_PER_LOOK) {
            happened.push(Event::Elsewhere(session.lock.elsewhere()));
        }
        for one in happened {
            if let Some(action) = wizard.handle(one)
                && let Some(reply) = session.carry_out(action)
            {
                // What was done at once; its reply asks for nothing more.
                wizard.handle(reply);
            }
        }
    }
}

struct Session<'a> {
    place: &'a Place,
    lock: Lock,
    name: String,
    events: (Sender<Event>, Receiver<Event>),
}

impl Session<'_> {
    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Take => return Some(Event::Taken(self.lock.take(&self.name))),
            Action::Release => self.lock.release(),
            Action::Import => {
                if let Err(who) = self.lock.take(&self.name) {
                    return Some(Event::Taken(Err(who)));
                }
                self.beside(|place, tell| {
                    tell(Event::Imported(
                        sources::import(place, &mut Node).map(Box::new),
                    ));
                });
            }
            Action::Save(answers) => self.beside(move |place, tell| {
                tell(Event::Saved(sources::save(&answers, place, &mut Node)));
            }),
            Action::Try(trial) => self.beside(move |place, tell| {
                tell(Event::Tried(trial::run(&trial, place)));
            }),
            Action::Apply(answers) => self.beside(move |place, tell| {
                let result = apply(&answers, place, &mut Node, &mut |step| {
                    tell(Event::Step(step))
                });
                tell(Event::Applied(result.map_err(|error| format!("{error:#}"))));
            }),
            Action::PowerOff => self.beside(|_, _| {
                // When systemd refuses, the screen says that it waits; the
                // machine's own switch remains.
                let _ = Node.run("systemctl", &["poweroff"], "");
            }),
        }
        None
    }

    /// Does something while the screen goes on.
    fn beside(&self, work: impl FnOnce(&Place, &dyn Fn(Event)) + Send + 'static) {
        let place = self.place.clone();
        let sender = self.events.0.clone();
        std::thread::spawn(move || {
            // The session may be over; then nobody wants to know.
            work(&place, &|event| drop(sender.send(event)));
        });
    }
}

/// The name of this terminal, such as `ttyS0`.
fn terminal_name() -> String {
    let name = nix::unistd::ttyname(std::io::stdin()).unwrap_or_default();
    let name = name.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
