//! The terminals: one for people and their scripts on a pseudo-terminal, one
//! for pipes and single commands.

use std::io::{IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize,
    tcsetattr,
};

use crate::commands::TREE;
use crate::editor::{Editor, Event};
use crate::session::Terminal;
use crate::words;

const MORE: &str = "Press <enter> for 1 line, <space> for one page, or <q> to quit";

fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    // A terminal that is gone ends the session by its next read.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn key() -> Option<u8> {
    let mut byte = [0];
    loop {
        match std::io::stdin().lock().read(&mut byte) {
            Ok(0) => return None,
            Ok(_) => return Some(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Whether a path means standard input.
fn is_input(path: &str) -> bool {
    matches!(path, "-" | "/dev/stdin")
}

/// Reads standard input or a file, up to `limit` bytes and one more.
pub fn read(path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    if is_input(path) {
        let mut rest = std::io::stdin().lock().take(limit + 1);
        rest.read_to_end(&mut content)?;
        return Ok(content);
    }
    // A pipe would hang the session, a device never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other(
            "it is not a file; give a file or /dev/stdin",
        ));
    }
    let mut file = std::fs::File::open(path)?.take(limit + 1);
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Standard input and output as they come.
#[derive(Debug, Default)]
pub struct Plain;

#[tonic::async_trait]
impl Terminal for Plain {
    fn show(&self, text: &str) {
        put(text);
    }

    fn page(&self, text: &str) {
        put(text);
    }

    async fn ask(&self, prompt: &str) -> Option<String> {
        put(prompt);
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    async fn ask_secret(&self, prompt: &str) -> Option<String> {
        let before = std::io::stdin()
            .is_terminal()
            .then(|| tcgetattr(std::io::stdin()).ok())
            .flatten();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes -= LocalModes::ECHO;
            quiet.local_modes |= LocalModes::ECHONL;
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &quiet);
        }
        let answer = self.ask(prompt).await;
        if let Some(before) = before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &before);
        }
        answer
    }

    fn set_pagination(&self, _: bool) {}

    async fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        read(path, limit)
    }
}

/// A terminal with line editing. Restores the terminal's modes at its end.
pub struct Console<'a> {
    editor: Mutex<Editor>,
    before: Termios,
    pagination: AtomicBool,
    services: Box<dyn Fn() -> Vec<String> + Send + Sync + 'a>,
}

impl Drop for Console<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before);
    }
}

impl<'a> Console<'a> {
    /// Takes the terminal over; none when standard input is not one.
    pub fn open(
        history: Vec<String>,
        services: impl Fn() -> Vec<String> + Send + Sync + 'a,
    ) -> Option<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return None;
        }
        let console = Self {
            editor: Mutex::new(Editor::new(history)),
            before: tcgetattr(std::io::stdin()).ok()?,
            pagination: AtomicBool::new(true),
            services: Box::new(services),
        };
        console.mode(true);
        Some(console)
    }

    /// Keys one by one and without echo, at all times: what a script types
    /// ahead is then neither shown twice nor lost. Ctrl-C is a key while a
    /// line is typed and a signal while a command runs.
    fn mode(&self, signals: bool) {
        let mut mode = self.before.clone();
        mode.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN;
        mode.input_modes -= InputModes::IXON | InputModes::ICRNL;
        if !signals {
            mode.local_modes -= LocalModes::ISIG;
        }
        mode.special_codes[SpecialCodeIndex::VMIN] = 1;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &mode);
    }

    /// Rows and columns, 0 where they are not known.
    fn size() -> (usize, usize) {
        tcgetwinsize(std::io::stdout()).map_or((0, 0), |size| {
            (usize::from(size.ws_row), usize::from(size.ws_col))
        })
    }

    /// Reads a command line, with help, completion and history. None at the
    /// end of input; the empty line after Ctrl-C.
    pub fn line(&self, prompt: &str) -> Option<String> {
        self.mode(false);
        let line = self.edit(prompt, false, true);
        self.mode(true);
        line
    }

    /// Remembers a line for the up arrow.
    pub fn remember(&self, line: &str) {
        self.editor().remember(line);
    }

    /// The lines that are remembered.
    pub fn history(&self) -> Vec<String> {
        self.editor().history().to_vec()
    }

    fn editor(&self) -> std::sync::MutexGuard<'_, Editor> {
        self.editor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, prompt: &str, hidden: bool, command: bool) -> Option<String> {
        let mut editor = self.editor();
        put(&editor.begin(prompt, Self::size().1, hidden));
        loop {
            let (screen, event) = editor.feed(key()?);
            put(&screen);
            match event {
                None => {}
                Some(Event::Line(line)) => return Some(line),
                Some(Event::End) => return None,
                Some(Event::Interrupt) if command => return Some(String::new()),
                Some(Event::Interrupt) => return None,
                Some(Event::Help) if command => put(&self.help(&mut editor)),
                Some(Event::Help) => put(&editor.insert("?")),
                Some(Event::Complete) if command => put(&self.complete(&mut editor)),
                Some(Event::Complete) => {}
            }
        }
    }

    fn help(&self, editor: &mut Editor) -> String {
        let line = words::split(&editor.before_cursor());
        if TREE.is_free_text(&line) {
            return editor.insert("?");
        }
        let help = TREE.help(&line, &*self.services);
        format!("?\n{help}{}", editor.redraw())
    }

    fn complete(&self, editor: &mut Editor) -> String {
        let line = words::split(&editor.before_cursor());
        match TREE.complete(&line, &*self.services) {
            crate::parse::Completion::Insert { replace, text } => editor.replace(replace, &text),
            crate::parse::Completion::Choose(words) => {
                format!("\n{}\n{}", words.join("  "), editor.redraw())
            }
            crate::parse::Completion::Nothing => String::new(),
        }
    }
}

#[tonic::async_trait]
impl Terminal for Console<'_> {
    fn show(&self, text: &str) {
        put(text);
    }

    fn page(&self, text: &str) {
        let (rows, _) = Self::size();
        if !self.pagination.load(Ordering::Relaxed) || rows < 3 {
            put(text);
            return;
        }
        let mut left = rows - 1;
        for line in text.split_inclusive('\n') {
            if left == 0 {
                put(MORE);
                self.mode(false);
                let key = key();
                self.mode(true);
                put(&format!("\r{}\r", " ".repeat(MORE.len())));
                left = match key {
                    Some(b'\r' | b'\n') => 1,
                    Some(b'q' | b'Q' | 0x03) | None => return,
                    Some(_) => rows - 1,
                };
            }
            put(line);
            left -= 1;
        }
    }

    async fn ask(&self, prompt: &str) -> Option<String> {
        self.mode(false);
        let answer = self.edit(prompt, false, false);
        self.mode(true);
        answer
    }

    async fn ask_secret(&self, prompt: &str) -> Option<String> {
        self.mode(false);
        let answer = self.edit(prompt, true, false);
        self.mode(true);
        answer
    }

    fn set_pagination(&self, on: bool) {
        self.pagination.store(on, Ordering::Relaxed);
    }

    async fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        if is_input(path) {
            // Typed or pasted text up to Ctrl-D needs the ordinary modes.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before);
        }
        let content = read(path, limit);
        self.mode(true);
        content
    }
}
