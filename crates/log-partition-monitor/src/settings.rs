//! What an administrator may set of the monitor.

use parameter::{Definition, Values};

use crate::Marks;

const LOW: &str = "Low Water Mark";
const HIGH: &str = "High Water Mark";
const FREE: &str = "Low Available Disk Space";

/// Every parameter of the monitor.
pub const PARAMETERS: [Definition; 3] = [
    Definition::new(
        LOW,
        "90",
        Values::Number(6, 98, "%"),
        "With so much of the log partition in use there is an alarm, and a purge ends.",
    ),
    Definition::new(
        HIGH,
        "95",
        Values::Number(7, 99, "%"),
        "With so much of the log partition in use the oldest logs are purged.",
    ),
    Definition::new(
        FREE,
        "10",
        Values::Number(0, 99, "%"),
        "With less than that free on the data partition there is an alarm.",
    ),
];

/// The marks by what `get` gives for a name and its default.
pub(crate) fn wanted(get: impl Fn(&str, u64) -> u64) -> Marks {
    let default = Marks::default();
    Marks {
        low: get(LOW, default.low),
        high: get(HIGH, default.high),
        free: get(FREE, default.free),
    }
}

/// Whether the values go together; `get` gives none for one that is not set.
pub fn check(get: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let number = |name: &str, default| {
        let text = get(name);
        text.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    wanted(number).check().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_that_are_shown_are_those_that_hold() {
        let default = Marks::default();
        let hold = [
            (LOW, default.low),
            (HIGH, default.high),
            (FREE, default.free),
        ];
        let shown = PARAMETERS.map(|one| (one.name, one.default.parse().unwrap()));
        assert_eq!(shown, hold);
    }

    #[test]
    fn marks_the_wrong_way_round_are_refused() {
        assert_eq!(check(|_| None), Ok(()));
        let low = |name: &str| (name == LOW).then(|| "96".to_owned());
        assert!(check(low).unwrap_err().contains("must be below"));
    }
}
