//! First boot: the fence, the wizard, and applying its answers.

mod account;
mod answers;
mod apply;
mod change;
mod check;
mod command;
mod console;
mod file;
mod issue;
mod machine;
mod network;
mod ovf;
pub mod rules;
mod secrets;
mod seed;
mod sources;
mod system;
pub mod wizard;

pub use answers::{Account, Answers, DEFAULT_FEATURES, Network, Secret, Smtp};
pub use apply::{Step, apply};
pub use change::change_network;
pub use check::{MOST_DNS, MOST_NTP, Problem, check};
pub use command::run;
pub use machine::{Feature, Machine};
pub use network::INTERFACE;
pub use system::{Node, Place, System};
