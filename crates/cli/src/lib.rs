//! The administrator's command line.
//!
//! One list of commands ([`commands`]) gives parsing, completion, help and the
//! machine form; the work is done by `operations`. There is no shell behind
//! it, and no way to one: nothing is expanded, nothing is run but one program
//! with fixed arguments that reads the journal.
//!
//! An administrator's process is only the terminal ([`main`]); the lines are
//! carried out by a service with an account of its own ([`serve`]).

mod administration;
mod caller;
mod client;
pub mod command;
pub mod commands;
pub mod editor;
mod interactive;
pub mod parse;
mod proto;
pub mod reply;
pub mod run;
mod screen;
pub mod session;
pub mod terminal;
mod text;
pub mod words;

pub use administration::serve;
pub use interactive::main;
pub use screen::status_screen;
