//! Passwords in command lines that a log repeats.

/// The options whose values are secret.
const OPTIONS: [&str; 2] = ["--password", "--pw"];
const MASK: &str = "***";

/// The text with the value behind each password option masked. Where a value
/// ends is read as a shell does: quotes and backslashes keep blanks in it.
pub(super) fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, option)) = OPTIONS
        .iter()
        .filter_map(|option| Some((rest.find(option)?, *option)))
        .min()
    {
        let (before, after) = rest.split_at(at + option.len());
        shown += before;
        // The option itself may be quoted, as in a list of arguments.
        let bare = after.strip_prefix(['"', '\'']).unwrap_or(after);
        let value = bare.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '=' | ','));
        if value.is_empty() || value.len() == bare.len() {
            rest = after;
            continue;
        }
        shown += &after[..after.len() - value.len()];
        shown += MASK;
        rest = behind(value);
    }
    shown + rest
}

/// What follows the first word.
fn behind(text: &str) -> &str {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (_, '\\') => {
                characters.next();
            }
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, blank) if blank.is_whitespace() => return &text[at..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_command_line_is_shown() {
        for (text, expected) in [
            (
                "Starting /usr/bin/signalbox cli users add al --password SECRET...",
                "Starting /usr/bin/signalbox cli users add al --password ***",
            ),
            ("--password=SECRET --name Al", "--password=*** --name Al"),
            (
                "users add al --pw \"SEC RET\\\" SECRET\" --mail a@b",
                "users add al --pw *** --mail a@b",
            ),
            (
                "\"--password\" 'SECRET one' \"--name\" x",
                "\"--password\" *** \"--name\" x",
            ),
            ("--password SECRET\\ SECRET end", "--password *** end"),
            (
                "--password SECRET --password SECRET",
                "--password *** --password ***",
            ),
            ("--password \"SECRET without end", "--password ***"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in ["", "a --passwords file", "it ends in --password", "ä — ö"] {
            assert_eq!(masked(text), text);
        }
    }
}
