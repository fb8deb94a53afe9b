//! The line editor: bytes of the keyboard go in, bytes for the screen and
//! events come out.
//!
//! It is our own because scripts drive this command line through a bare
//! pseudo-terminal and wait for `admin:` as the last bytes on the screen. The
//! editors there are either ask the terminal where its cursor is, which such
//! a script never answers, or end the prompt with cursor movements. This one
//! asks nothing and draws nothing but what changes.

/// What a key led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Enter: the line is complete.
    Line(String),
    /// `?` was typed; it is not in the line.
    Help,
    /// Tab.
    Complete,
    /// Ctrl-C: the line is given up.
    Interrupt,
    /// Ctrl-D on an empty line, or the end of input.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    /// `ESC [` with the digits so far.
    Sequence(u16),
    /// `ESC O`.
    Application,
}

/// A line that is being typed, with the lines before it.
#[derive(Debug, Default)]
pub struct Editor {
    prompt: String,
    line: Vec<char>,
    cursor: usize,
    /// Columns of the screen; 0 when it is not known.
    columns: usize,
    history: Vec<String>,
    /// Where in the history we are; its length when on the new line.
    place: usize,
    stash: Vec<char>,
    escape: Escape,
    utf8: Vec<u8>,
    after_return: bool,
    /// Whether what is typed is shown.
    hidden: bool,
}

/// Lines of history that are kept.
const HISTORY: usize = 500;

impl Editor {
    /// An editor that remembers these lines, oldest first.
    pub fn new(history: Vec<String>) -> Self {
        Self {
            place: history.len(),
            history,
            ..Self::default()
        }
    }

    /// Begins a line; the result is to be shown.
    pub fn begin(&mut self, prompt: &str, columns: usize, hidden: bool) -> String {
        prompt.clone_into(&mut self.prompt);
        self.columns = columns;
        self.hidden = hidden;
        self.line.clear();
        self.cursor = 0;
        self.place = self.history.len();
        self.prompt.clone()
    }

    /// Remembers a line for the up arrow.
    pub fn remember(&mut self, line: &str) {
        if !line.trim().is_empty() && self.history.last().is_none_or(|last| last != line) {
            self.history.push(line.to_owned());
            if self.history.len() > HISTORY {
                self.history.remove(0);
            }
        }
        self.place = self.history.len();
    }

    /// The remembered lines.
    pub fn history(&self) -> &[String] {
        &self.history
    }

    /// The line up to the cursor.
    pub fn before_cursor(&self) -> String {
        self.line[..self.cursor].iter().collect()
    }

    /// Prompt and line as they stand, to be shown again after other output.
    pub fn redraw(&self) -> String {
        let mut out = self.prompt.clone();
        if !self.hidden {
            out.extend(&self.line);
            out += &self.travel(self.line.len(), self.cursor);
        }
        out
    }

    /// Types text at the cursor.
    pub fn insert(&mut self, text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            self.line.insert(self.cursor, c);
            self.cursor += 1;
            if !self.hidden {
                out.push(c);
            }
        }
        out + &self.tail(0)
    }

    /// Replaces the last `count` characters before the cursor.
    pub fn replace(&mut self, count: usize, text: &str) -> String {
        let out = self.remove(self.cursor.saturating_sub(count), self.cursor);
        out + &self.insert(text)
    }

    /// Takes one byte of the keyboard.
    pub fn feed(&mut self, byte: u8) -> (String, Option<Event>) {
        // Terminals send CR for Enter, scripts LF or both.
        let after_return = std::mem::take(&mut self.after_return);
        if byte == b'\n' && after_return {
            return (String::new(), None);
        }
        match self.escape {
            Escape::None => {}
            _ => return (self.escaped(byte), None),
        }
        if byte >= 0x80 {
            return (self.utf8(byte), None);
        }
        self.utf8.clear();
        let silent = |event| (String::new(), Some(event));
        let out = match byte {
            b'\r' | b'\n' => {
                self.after_return = byte == b'\r';
                let out = self.go(self.line.len()) + "\n";
                let line: String = self.line.drain(..).collect();
                self.cursor = 0;
                return (out, Some(Event::Line(line)));
            }
            b'\t' if !self.hidden => return silent(Event::Complete),
            b'?' if !self.hidden => return silent(Event::Help),
            0x03 => {
                self.line.clear();
                self.cursor = 0;
                return ("^C\n".into(), Some(Event::Interrupt));
            }
            0x04 if self.line.is_empty() => return silent(Event::End),
            0x04 => self.remove(self.cursor, (self.cursor + 1).min(self.line.len())),
            0x08 | 0x7f => self.remove(self.cursor.saturating_sub(1), self.cursor),
            0x01 => self.go(0),
            0x05 => self.go(self.line.len()),
            0x02 => self.go(self.cursor.saturating_sub(1)),
            0x06 => self.go((self.cursor + 1).min(self.line.len())),
            0x0b => self.remove(self.cursor, self.line.len()),
            0x15 => self.remove(0, self.cursor),
            0x17 => self.remove(self.word_start(), self.cursor),
            0x10 => self.older(),
            0x0e => self.newer(),
            0x0c => "\x1b[H\x1b[2J".to_owned() + &self.redraw(),
            0x1b => {
                self.escape = Escape::Begun;
                String::new()
            }
            byte if byte < 0x20 => String::new(),
            byte => self.insert(char::from(byte).encode_utf8(&mut [0; 4])),
        };
        (out, None)
    }

    fn utf8(&mut self, byte: u8) -> String {
        self.utf8.push(byte);
        match std::str::from_utf8(&self.utf8) {
            Ok(text) => {
                let text = text.to_owned();
                self.utf8.clear();
                // C1 controls are as good as escape sequences.
                if text.chars().any(char::is_control) {
                    return String::new();
                }
                self.insert(&text)
            }
            Err(error) if error.error_len().is_some() || self.utf8.len() >= 4 => {
                self.utf8.clear();
                String::new()
            }
            Err(_) => String::new(),
        }
    }

    fn escaped(&mut self, byte: u8) -> String {
        let state = std::mem::take(&mut self.escape);
        let end = self.line.len();
        match (state, byte) {
            (Escape::Begun, b'[') => self.escape = Escape::Sequence(0),
            (Escape::Begun, b'O') => self.escape = Escape::Application,
            (Escape::Sequence(number), b'0'..=b'9') => {
                let number = number
                    .saturating_mul(10)
                    .saturating_add(u16::from(byte - b'0'));
                self.escape = Escape::Sequence(number);
            }
            // Parameters and intermediate bytes of keys that we do not know.
            (Escape::Sequence(_), 0x20..=0x3f) => self.escape = Escape::Sequence(0),
            (Escape::Sequence(_) | Escape::Application, b'A') => return self.older(),
            (Escape::Sequence(_) | Escape::Application, b'B') => return self.newer(),
            (Escape::Sequence(_) | Escape::Application, b'C') => {
                return self.go((self.cursor + 1).min(end));
            }
            (Escape::Sequence(_) | Escape::Application, b'D') => {
                return self.go(self.cursor.saturating_sub(1));
            }
            (Escape::Sequence(_) | Escape::Application, b'H') | (Escape::Sequence(1 | 7), b'~') => {
                return self.go(0);
            }
            (Escape::Sequence(_) | Escape::Application, b'F') | (Escape::Sequence(4 | 8), b'~') => {
                return self.go(end);
            }
            (Escape::Sequence(3), b'~') => {
                return self.remove(self.cursor, (self.cursor + 1).min(end));
            }
            _ => {}
        }
        String::new()
    }

    fn word_start(&self) -> usize {
        let mut start = self.cursor;
        while start > 0 && self.line[start - 1].is_whitespace() {
            start -= 1;
        }
        while start > 0 && !self.line[start - 1].is_whitespace() {
            start -= 1;
        }
        start
    }

    fn older(&mut self) -> String {
        if self.hidden || self.place == 0 {
            return String::new();
        }
        if self.place == self.history.len() {
            self.stash = self.line.clone();
        }
        self.place -= 1;
        let line = self.history[self.place].chars().collect();
        self.swap(line)
    }

    fn newer(&mut self) -> String {
        if self.hidden || self.place >= self.history.len() {
            return String::new();
        }
        self.place += 1;
        let line = match self.history.get(self.place) {
            Some(line) => line.chars().collect(),
            None => std::mem::take(&mut self.stash),
        };
        self.swap(line)
    }

    fn swap(&mut self, line: Vec<char>) -> String {
        let out = self.remove(0, self.line.len());
        out + &self.insert(&line.into_iter().collect::<String>())
    }

    fn remove(&mut self, from: usize, to: usize) -> String {
        if from >= to {
            return String::new();
        }
        let out = self.go(from);
        self.line.drain(from..to);
        out + &self.tail(to - from)
    }

    fn go(&mut self, to: usize) -> String {
        let out = self.travel(self.cursor, to);
        self.cursor = to;
        out
    }

    /// Shows what stands behind the cursor, and blanks over `gone`
    /// characters that stood there.
    fn tail(&self, gone: usize) -> String {
        if self.hidden || (gone == 0 && self.cursor == self.line.len()) {
            return String::new();
        }
        let mut out: String = self.line[self.cursor..].iter().collect();
        out.extend(std::iter::repeat_n(' ', gone));
        out + &self.travel(self.line.len() + gone, self.cursor)
    }

    /// Moves the screen's cursor between two places of the line.
    fn travel(&self, from: usize, to: usize) -> String {
        if self.hidden || from == to {
            return String::new();
        }
        let columns = if self.columns == 0 {
            usize::MAX
        } else {
            self.columns
        };
        let offset = self.prompt.chars().count();
        let (from, to) = (from + offset, to + offset);
        if from / columns == to / columns {
            if to < from {
                return "\u{8}".repeat(from - to);
            }
            return self.line[from - offset..to - offset].iter().collect();
        }
        let (up, down) = (
            (from / columns).saturating_sub(to / columns),
            (to / columns).saturating_sub(from / columns),
        );
        let mut out = String::from("\r");
        if up > 0 {
            out += &format!("\x1b[{up}A");
        }
        if down > 0 {
            out += &format!("\x1b[{down}B");
        }
        if to % columns > 0 {
            out += &format!("\x1b[{}C", to % columns);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(editor: &mut Editor, keys: &str) -> (String, Vec<Event>) {
        let (mut screen, mut events) = (String::new(), Vec::new());
        for byte in keys.bytes() {
            let (out, event) = editor.feed(byte);
            screen += &out;
            events.extend(event);
        }
        (screen, events)
    }

    fn line(keys: &str) -> String {
        let mut editor = Editor::new(vec!["old one".into(), "old two".into()]);
        editor.begin("admin:", 80, false);
        let (_, events) = typed(&mut editor, &(keys.to_owned() + "\r"));
        match events.last() {
            Some(Event::Line(line)) => line.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_screen_gets_the_prompt_and_what_is_typed_and_nothing_else() {
        let mut editor = Editor::new(Vec::new());
        assert_eq!(editor.begin("admin:", 80, false), "admin:");
        let (screen, events) = typed(&mut editor, "show status\r\n");
        assert_eq!(screen, "show status\n");
        assert_eq!(events, [Event::Line("show status".into())]);
    }

    #[test]
    fn keys_edit_the_line() {
        for (keys, expected) in [
            ("abc\x7f\x7fx", "ax"),
            ("abc\x1b[D\x1b[Dx", "axbc"),
            ("abc\x01x\x05y", "xabcy"),
            ("one two\x17three", "one three"),
            ("one two\x15three", "three"),
            ("abc\x01\x0b", ""),
            ("abc\x1b[H\x1b[3~", "bc"),
            ("abc\x01\x04", "bc"),
            ("\x1b[A", "old two"),
            ("\x1b[A\x1b[A", "old one"),
            ("new\x1b[A\x1b[B", "new"),
            ("\x1bOA!", "old two!"),
            ("a\x1b[1;5Cb", "ab"),
            ("gr\u{fc}n\x7f\x7fo", "gro"),
            ("a\u{85}b", "ab"),
            ("a\x1ab", "ab"),
        ] {
            assert_eq!(line(keys), expected, "{keys:?}");
        }
    }

    #[test]
    fn the_middle_of_a_line_is_redrawn_with_backspaces_alone() {
        let mut editor = Editor::new(Vec::new());
        editor.begin("admin:", 80, false);
        typed(&mut editor, "abc\x1b[D");
        assert_eq!(typed(&mut editor, "x").0, "xc\u{8}");
        assert_eq!(typed(&mut editor, "\x7f").0, "\u{8}c \u{8}\u{8}");
    }

    #[test]
    fn a_line_longer_than_the_screen_is_reached_over_its_rows() {
        let mut editor = Editor::new(Vec::new());
        editor.begin("admin:", 10, false);
        typed(&mut editor, "0123456789");
        assert_eq!(typed(&mut editor, "\x01").0, "\r\x1b[1A\x1b[6C");
        assert_eq!(typed(&mut editor, "\x05").0, "\r\x1b[1B\x1b[6C");
    }

    #[test]
    fn help_and_completion_leave_the_line_as_it_is() {
        let mut editor = Editor::new(Vec::new());
        editor.begin("admin:", 80, false);
        let (screen, events) = typed(&mut editor, "show ?\t");
        assert_eq!(screen, "show ");
        assert_eq!(events, [Event::Help, Event::Complete]);
        assert_eq!(editor.before_cursor(), "show ");
        assert_eq!(editor.redraw(), "admin:show ");
        assert_eq!(editor.replace(0, "status "), "status ");
    }

    #[test]
    fn a_hidden_line_leaves_no_trace() {
        let mut editor = Editor::new(vec!["old".into()]);
        editor.begin("Password: ", 80, true);
        let (screen, events) = typed(&mut editor, "sec?ret\x7f\x1b[A\x01\x05\r");
        assert_eq!(screen, "\n");
        assert_eq!(events, [Event::Line("sec?re".into())]);
    }

    #[test]
    fn control_keys_end_or_give_up() {
        let mut editor = Editor::new(Vec::new());
        editor.begin("admin:", 80, false);
        assert_eq!(
            typed(&mut editor, "abc\x03\x04").1,
            [Event::Interrupt, Event::End]
        );
    }
}
