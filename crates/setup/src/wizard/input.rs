//! Editing one line of text.

/// A line being edited. What stands in it when it is entered is replaced by
/// the first character that is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    text: Vec<char>,
    cursor: usize,
    fresh: bool,
}

/// Longest line.
const LIMIT: usize = 256;

impl Input {
    /// Begins to edit a text.
    pub(crate) fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        Self {
            cursor: text.len(),
            fresh: !text.is_empty(),
            text,
        }
    }

    /// The text now.
    pub(crate) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// Where the cursor is, in characters.
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Whether the next character replaces everything.
    pub(crate) fn fresh(&self) -> bool {
        self.fresh
    }

    /// Types a character.
    pub(crate) fn insert(&mut self, c: char) {
        if self.fresh {
            self.clear();
        }
        if !c.is_control() && self.text.len() < LIMIT {
            self.text.insert(self.cursor, c);
            self.cursor += 1;
        }
    }

    /// Removes the character before the cursor, or everything when nothing
    /// was typed yet.
    pub(crate) fn backspace(&mut self) {
        if self.fresh {
            self.clear();
        } else if self.cursor > 0 {
            self.cursor -= 1;
            self.text.remove(self.cursor);
        }
    }

    /// Removes the character under the cursor.
    pub(crate) fn delete(&mut self) {
        self.fresh = false;
        if self.cursor < self.text.len() {
            self.text.remove(self.cursor);
        }
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Moves the cursor; the text is then edited, not replaced.
    pub(crate) fn go(&mut self, by: isize) {
        self.fresh = false;
        self.cursor = self.cursor.saturating_add_signed(by).min(self.text.len());
    }
}
