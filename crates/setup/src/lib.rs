//! First boot: the fence, the wizard, and applying its answers.

mod answers;
mod check;
mod machine;
pub mod rules;

pub use answers::{Account, Answers, CertificateData, DEFAULT_FEATURES, Network, Secret, Smtp};
pub use check::{MOST_DNS, MOST_NTP, Problem, check};
pub use machine::Machine;
