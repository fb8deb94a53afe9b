//! A terminal that is never asked anything: a serial line may have nobody at
//! its other end, or a program that does not answer.

use std::io::{self, Stdout, stdout};

use ratatui::backend::{Backend, ClearType, CrosstermBackend, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};

/// Size of a terminal that does not tell its own.
const ASSUMED: Size = Size {
    width: 80,
    height: 24,
};

/// The terminal of this process.
pub(super) struct Plain {
    inner: CrosstermBackend<Stdout>,
    cursor: Position,
}

impl Plain {
    /// Standard output.
    pub(super) fn new() -> Self {
        Self {
            inner: CrosstermBackend::new(stdout()),
            cursor: Position::ORIGIN,
        }
    }
}

impl Backend for Plain {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        self.inner.draw(content)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.cursor = position.into();
        self.inner.set_cursor_position(self.cursor)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.inner.clear_region(region)
    }

    fn size(&self) -> io::Result<Size> {
        Ok(match self.inner.size() {
            Ok(size) if size.width > 0 && size.height > 0 => size,
            _ => ASSUMED,
        })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize {
            columns_rows: self.size()?,
            pixels: Size::ZERO,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.inner)
    }
}
