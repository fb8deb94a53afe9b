//! `show parameters`.

use operations::parameters::Parameter;
use parameter::{Applies, Scope};

/// The parameters below their services, each with what it does.
pub(crate) fn parameters(parameters: &[Parameter]) -> String {
    let mut text = String::new();
    for of_service in parameters.chunk_by(|a, b| a.service == b.service) {
        if !text.is_empty() {
            text.push('\n');
        }
        let [first, ..] = of_service else { continue };
        text += &format!("{} ({})\n", first.compat, first.service);
        for one in of_service {
            let mut notes = Vec::new();
            if one.value != one.default {
                notes.push(format!("default {}", one.default));
            }
            if one.scope == Scope::Node {
                notes.push("set on each node".into());
            }
            if one.applies == Applies::Restart {
                notes.push("applies after a restart".into());
            }
            let notes = match notes.as_slice() {
                [] => String::new(),
                notes => format!("  ({})", notes.join(", ")),
            };
            text += &format!(
                "  {} = {}{notes}\n      {} It is {}.\n",
                one.name, one.value, one.help, one.values
            );
        }
    }
    text
}
