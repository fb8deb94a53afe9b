//! What an administrator may set of the gate.

use std::time::Duration;

use database::Parameters;
use parameter::{Definition, Values};

use crate::Settings;

const MONITOR: &str = "Replication Sync Monitor";
const LIMIT: &str = "Start Time Limit";
const ALONE: &str = "Start Without Publisher";

/// Every parameter of the gate.
pub const PARAMETERS: [Definition; 3] = [
    Definition::new(
        MONITOR,
        "true",
        Values::Flag,
        "Whether services wait for replication when the node starts.",
    ),
    Definition::new(
        LIMIT,
        "1200",
        Values::Number(60, 86_400, "s"),
        "After so long the publisher's services start all the same, with an alarm.",
    ),
    Definition::new(
        ALONE,
        "true",
        Values::Flag,
        "Whether a node that was good before starts while its publisher is away, with an alarm.",
    ),
];

/// The gate's settings as the database has them.
pub(crate) fn settings(parameters: &Parameters) -> Settings {
    let default = Settings::default();
    Settings {
        enabled: parameters.get(MONITOR, default.enabled),
        limit: Duration::from_secs(parameters.get(LIMIT, default.limit.as_secs())),
        without_publisher: parameters.get(ALONE, default.without_publisher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_that_are_shown_are_those_that_hold() {
        let default = Settings::default();
        let hold = [
            (MONITOR, default.enabled.to_string()),
            (LIMIT, default.limit.as_secs().to_string()),
            (ALONE, default.without_publisher.to_string()),
        ];
        let shown = PARAMETERS.map(|one| (one.name, one.default.to_owned()));
        assert_eq!(shown, hold);
    }
}
