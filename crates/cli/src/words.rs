//! Taking a command line apart. There is no shell: nothing is expanded, and
//! the only special characters are blanks, quotes, and a backslash.

/// A word of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Its text, without the quotes.
    pub text: String,
    /// Whether any of it was quoted; a quoted word is never an option.
    pub quoted: bool,
}

/// The words of a line, and whether it ends inside a word (so that completion
/// knows what is being typed).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The words.
    pub words: Vec<Word>,
    /// Whether the last word may go on.
    pub open: bool,
    /// The quote that is not closed.
    pub quote: Option<char>,
}

/// Takes a line apart. A quote that is not closed is told, not guessed at.
pub fn split(line: &str) -> Line {
    let mut found = Line::default();
    let mut word: Option<Word> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (found.quote, c) {
            (Some(quote), c) if c == quote => found.quote = None,
            (None, '"' | '\'') => {
                found.quote = Some(c);
                word.get_or_insert_default().quoted = true;
            }
            (None | Some('"'), '\\') if matches!(chars.peek(), Some('"' | '\'' | '\\')) => {
                let escaped = chars.next().unwrap_or('\\');
                word.get_or_insert_default().text.push(escaped);
            }
            (None, c) if c.is_whitespace() => found.words.extend(word.take()),
            (_, c) => word.get_or_insert_default().text.push(c),
        }
    }
    found.open = word.is_some();
    found.words.extend(word);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line)
            .words
            .into_iter()
            .map(|word| word.text)
            .collect()
    }

    #[test]
    fn quotes_join_and_a_backslash_keeps_a_quote() {
        assert_eq!(
            texts(r#"show perf query class "Cisco XCP CM" 'a "b"' \"x c\d"#),
            [
                "show",
                "perf",
                "query",
                "class",
                "Cisco XCP CM",
                "a \"b\"",
                "\"x",
                "c\\d"
            ]
        );
        assert_eq!(texts("  "), Vec::<String>::new());
        assert_eq!(texts("a \"\""), ["a", ""]);
    }

    #[test]
    fn what_a_shell_would_expand_stays_as_it_is() {
        let line = "$(id) `id` ; | & > /tmp/x $HOME ~ * !sh";
        assert_eq!(
            texts(line),
            [
                "$(id)", "`id`", ";", "|", "&", ">", "/tmp/x", "$HOME", "~", "*", "!sh"
            ]
        );
    }

    #[test]
    fn the_end_of_a_line_is_known() {
        assert!(split("show st").open);
        assert!(!split("show ").open);
        assert_eq!(split("a \"b c").quote, Some('"'));
    }
}
