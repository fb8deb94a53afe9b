//! Reading tags: the syntax that validation, headers and trees share.

use crate::escape::{allowed, reference};

/// The bytes are not well-formed XML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Breaks the grammar.
    Syntax,
    /// Refers to an entity that is not predefined.
    Entity,
}

/// A qualified name, split at its colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QName<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) local: &'a str,
}

impl<'a> QName<'a> {
    /// Splits a name that [`Cursor::name`] has read.
    pub(crate) fn split(name: &'a str) -> Result<Self, Fault> {
        match name.split_once(':') {
            None => Ok(Self {
                prefix: "",
                local: name,
            }),
            Some((prefix, local))
                if !prefix.is_empty()
                    && !local.contains(':')
                    && local.chars().next().is_some_and(starts_name) =>
            {
                Ok(Self { prefix, local })
            }
            Some(_) => Err(Fault::Syntax),
        }
    }
}

/// What follows in a start tag.
pub(crate) enum Next<'a> {
    Attribute {
        name: &'a str,
        value: &'a str,
    },
    /// `>`, or `/>` of an element without content.
    End {
        empty: bool,
    },
}

/// A position in a piece of XML.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(crate) fn starts_with(&self, what: &[u8]) -> bool {
        self.text.as_bytes()[self.at..].starts_with(what)
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(Fault::Syntax)
        }
    }

    /// Skips white space; says whether there was any.
    pub(crate) fn space(&mut self) -> bool {
        let start = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.at > start
    }

    /// Reads a name, colon included.
    pub(crate) fn name(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut ascii = true;
        while let Some(&byte) = bytes.get(self.at) {
            match NAME[usize::from(byte)] {
                0 => break,
                3 => ascii = false,
                _ => {}
            }
            self.at += 1;
        }
        let first = *bytes.get(start).ok_or(Fault::Syntax)?;
        if self.at == start || NAME[usize::from(first)] == 1 {
            return Err(Fault::Syntax);
        }
        let name = &self.text[start..self.at];
        if !ascii {
            let mut characters = name.chars();
            let first = characters
                .next()
                .is_some_and(|c| starts_name(c) || c == ':');
            if !first || !characters.all(continues_name) {
                return Err(Fault::Syntax);
            }
        }
        Ok(name)
    }

    /// Reads an attribute or the end of a start tag.
    pub(crate) fn next(&mut self) -> Result<Next<'a>, Fault> {
        let space = self.space();
        match self.peek() {
            Some(b'>') => {
                self.at += 1;
                Ok(Next::End { empty: false })
            }
            Some(b'/') => {
                self.at += 1;
                self.expect(b'>')?;
                Ok(Next::End { empty: true })
            }
            _ if !space => Err(Fault::Syntax),
            _ => {
                let name = self.name()?;
                self.space();
                self.expect(b'=')?;
                self.space();
                let quote = match self.peek() {
                    Some(quote @ (b'"' | b'\'')) => quote,
                    _ => return Err(Fault::Syntax),
                };
                self.at += 1;
                let rest = &self.text.as_bytes()[self.at..];
                let length = memchr::memchr(quote, rest).ok_or(Fault::Syntax)?;
                let value = &self.text[self.at..self.at + length];
                self.at += length + 1;
                Ok(Next::Attribute { name, value })
            }
        }
    }
}

/// Checks the references in text or in an attribute value.
pub(crate) fn check_references(raw: &str) -> Result<(), Fault> {
    let bytes = raw.as_bytes();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'&', &bytes[at..]) {
        let start = at + found + 1;
        // The longest legal reference is `&#x10FFFF;`, leading zeros aside.
        let end = memchr::memchr(b';', &bytes[start..bytes.len().min(start + 16)])
            .ok_or(Fault::Syntax)?
            + start;
        let name = &bytes[start..end];
        if reference(name).is_none() {
            let entity = name.first() != Some(&b'#')
                && !name.is_empty()
                && name.iter().all(|&b| NAME[usize::from(b)] != 0);
            return Err(if entity { Fault::Entity } else { Fault::Syntax });
        }
        at = end + 1;
    }
    Ok(())
}

/// Whether each character is one that XML allows.
pub(crate) fn check_characters(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Folded without leaving early, so that the compiler makes vectors of it.
    let control = bytes.iter().fold(false, |found, &b| {
        found | (b < 0x20 && b != b'\t' && b != b'\n' && b != b'\r')
    });
    if control {
        return false;
    }
    // U+FFFE and U+FFFF are the only others; both begin with the byte EF.
    memchr::memchr(0xEF, bytes).is_none() || text.chars().all(allowed)
}

/// 0 not a name character, 1 only after the first, 2 anywhere, 3 not ASCII.
const NAME: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b':' => 2,
            b'0'..=b'9' | b'-' | b'.' => 1,
            0x80.. => 3,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Whether a name may start with the character, the colon aside.
fn starts_name(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | '_'
        | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}'
        | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}'
        | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

fn continues_name(c: char) -> bool {
    starts_name(c)
        || matches!(c, ':' | '-' | '.' | '0'..='9' | '\u{B7}'
            | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}
