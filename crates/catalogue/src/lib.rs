//! The unit files read as the catalogue of services.
//!
//! A unit with a section `[X-Signalbox]` is a service of the catalogue; see
//! `units/README.md` for the keys. Everything that lists or names services
//! asks this crate.

mod catalogue;
mod entry;
mod unit;

pub use catalogue::{Catalogue, Problem, Problems};
pub use entry::{Applies, Control, Kind, Port, Protocol, Role, Service, Spread};
pub use unit::{Line, Unit};

/// Where the units are on a node.
pub const UNIT_FOLDER: &str = "/usr/lib/systemd/system";
