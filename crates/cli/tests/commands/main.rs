//! The command line in process, over a supervisor and a database in memory:
//! every answer that scripts parse, byte by byte.

#![allow(clippy::unwrap_used)] // A test that cannot go on is to end.

mod access;
mod answers;
mod failover;
mod grammar;
mod groups;
mod machine_form;
mod node;
mod parameters;
mod services;
mod users;
mod voters;
