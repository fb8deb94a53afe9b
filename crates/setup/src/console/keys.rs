//! From the terminal's keys to ours. Each has a plain character too, for
//! serial lines whose other end sends no more.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::wizard::Key;

/// What a key means to a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressed {
    /// For what is on the screen.
    Key(Key),
    /// Draw everything again.
    Redraw,
}

/// Reads a key of the terminal.
pub(crate) fn read(event: KeyEvent) -> Option<Pressed> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        let key = match event.code {
            KeyCode::Char('l') => return Some(Pressed::Redraw),
            KeyCode::Char('j' | 'm') => Key::Enter,
            KeyCode::Char('b') => Key::Back,
            KeyCode::Char('n') => Key::Next,
            KeyCode::Char('p') => Key::Previous,
            KeyCode::Char('h') => Key::Backspace,
            KeyCode::Char('u') => Key::Clear,
            KeyCode::Char('a') => Key::Home,
            KeyCode::Char('e') => Key::End,
            _ => return None,
        };
        return Some(Pressed::Key(key));
    }
    let key = match event.code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc | KeyCode::PageUp => Key::Back,
        KeyCode::Tab | KeyCode::Down => Key::Next,
        KeyCode::BackTab | KeyCode::Up => Key::Previous,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        _ => return None,
    };
    Some(Pressed::Key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_plain_character() {
        let control = |c| read(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        for (c, key) in [
            ('j', Key::Enter),
            ('b', Key::Back),
            ('n', Key::Next),
            ('p', Key::Previous),
            ('u', Key::Clear),
            ('h', Key::Backspace),
        ] {
            assert_eq!(control(c), Some(Pressed::Key(key)));
        }
        assert_eq!(control('l'), Some(Pressed::Redraw));
        assert_eq!(control('c'), None);
    }
}
