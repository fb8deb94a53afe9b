//! The gate that holds services back until this node's replication is good.
//!
//! Its unit becomes active when the gate opens, and what works with replicated
//! data is ordered behind it. It opens when this node's replication is in
//! state 2 and, on the publisher, the sync agent has finished; on the
//! publisher it opens at a time limit all the same. Each subscriber waits for
//! itself alone. Once open it stays so: losing replication later is an alarm.
//!
//! [`Gate`] decides and knows no clock; [`serve`] asks the database and tells
//! systemd.

mod gate;
mod serve;

mod settings;

pub use gate::{Gate, Raised, Replication, Settings, Step, SyncAgent};
pub use serve::serve;
pub use settings::PARAMETERS;
