//! Keys of rows: a tuple of columns in bytes whose order is the tuple's order.
//!
//! Text is its UTF-8 bytes with 0x00 written as 0x00 0xFF, closed by
//! 0x00 0x01; an integer is eight bytes, most significant first, with the sign
//! bit turned. A tag before each keeps the kinds apart. The encoding of a
//! tuple's first columns is a prefix of the encoding of the whole tuple.

const TEXT: u8 = 2;
const INTEGER: u8 = 3;
const ESCAPED: u8 = 0xFF;
const END: u8 = 1;

/// One column of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
        }
    }
}

/// Appends one column to a key.
pub fn push(key: &mut Vec<u8>, part: &Part) {
    match part {
        Part::Text(text) => {
            key.push(TEXT);
            for byte in text.bytes() {
                key.push(byte);
                if byte == 0 {
                    key.push(ESCAPED);
                }
            }
            key.extend([0, END]);
        }
        Part::Integer(number) => {
            key.push(INTEGER);
            key.extend((number.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        }
    }
}

/// Encodes a key, or the first columns of one.
pub fn encode(parts: &[Part]) -> Vec<u8> {
    let mut key = Vec::new();
    for part in parts {
        push(&mut key, part);
    }
    key
}

/// Decodes a key; `None` when the bytes are not one.
pub fn decode(mut key: &[u8]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while let Some((tag, rest)) = key.split_first() {
        let part;
        (part, key) = match *tag {
            TEXT => text(rest)?,
            INTEGER => {
                let (bytes, rest) = rest.split_first_chunk::<8>()?;
                let number = (u64::from_be_bytes(*bytes) ^ (1 << 63)).cast_signed();
                (Part::Integer(number), rest)
            }
            _ => return None,
        };
        parts.push(part);
    }
    Some(parts)
}

fn text(bytes: &[u8]) -> Option<(Part, &[u8])> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (0, Some(&ESCAPED)) => {
                text.push(0);
                at += 2;
            }
            (0, Some(&END)) => {
                let text = String::from_utf8(text).ok()?;
                return Some((Part::Text(text), &bytes[at + 2..]));
            }
            (0, _) => return None,
            (byte, _) => {
                text.push(*byte);
                at += 1;
            }
        }
    }
}

/// The first key behind every key that begins with `prefix`; `None` when
/// there is none.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xFF {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}
