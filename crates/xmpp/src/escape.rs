//! Escaping of text and attribute values, both ways.

use std::borrow::Cow;

/// Appends `text` so that it is safe both as text and in an attribute value.
/// Characters that XML cannot carry become U+FFFD.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let replacement: &[u8] = match byte {
            b'&' => b"&amp;",
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'"' => b"&quot;",
            b'\'' => b"&apos;",
            // Kept as references: a parser would make spaces of them in an
            // attribute value.
            b'\t' => b"&#9;",
            b'\n' => b"&#10;",
            b'\r' => b"&#13;",
            0..0x20 => "\u{FFFD}".as_bytes(),
            0xEF if matches!(bytes.get(at + 1..at + 3), Some([0xBF, 0xBE | 0xBF])) => {
                out.extend_from_slice(&bytes[done..at]);
                out.extend_from_slice("\u{FFFD}".as_bytes());
                done = at + 3;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[done..at]);
        out.extend_from_slice(replacement);
        done = at + 1;
    }
    out.extend_from_slice(&bytes[done..]);
}

/// The text behind raw XML text. A reference that is not one of the predefined
/// or a character stays as it is; validated input has none.
pub fn unescape(raw: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'&', raw.as_bytes()) else {
        return Cow::Borrowed(raw);
    };
    let mut text = String::with_capacity(raw.len());
    text.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(end) = rest.find(';') {
        match reference(&rest.as_bytes()[1..end]) {
            Some(character) => {
                text.push(character);
                rest = &rest[end + 1..];
            }
            None => {
                text.push('&');
                rest = &rest[1..];
            }
        }
        match rest.find('&') {
            Some(next) => {
                text.push_str(&rest[..next]);
                rest = &rest[next..];
            }
            None => break,
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character that the reference `&name;` stands for. Only the predefined
/// entities and characters that XML allows have one.
pub(crate) fn reference(name: &[u8]) -> Option<char> {
    match name {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        [b'#', b'x', digits @ ..] => character(digits, 16),
        [b'#', digits @ ..] => character(digits, 10),
        _ => None,
    }
}

fn character(digits: &[u8], radix: u32) -> Option<char> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut code = 0u32;
    for &digit in digits {
        code = code * radix + char::from(digit).to_digit(radix)?;
        if code > 0x0010_FFFF {
            return None;
        }
    }
    char::from_u32(code).filter(|&character| allowed(character))
}

/// Whether XML 1.0 allows the character at all.
pub(crate) fn allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn markup_is_escaped_and_forbidden_characters_replaced() {
        assert_eq!(escaped("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&apos;");
        assert_eq!(
            escaped("a\u{0}b\u{FFFE}c\u{FFFD}"),
            "a\u{FFFD}b\u{FFFD}c\u{FFFD}"
        );
        assert_eq!(escaped("a\nb"), "a&#10;b");
    }

    #[test]
    fn references_are_resolved() {
        assert_eq!(unescape("a &amp;&lt; b&#x41;&#66;"), "a &< bAB");
        assert_eq!(unescape("&nbsp;&#0;&amp"), "&nbsp;&#0;&amp");
        assert!(matches!(unescape("plain"), Cow::Borrowed(_)));
        assert_eq!(reference(b"#xD800"), None);
        assert_eq!(reference(b"#x110000"), None);
        assert_eq!(reference(b"#99999999"), None);
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in "\\PC*") {
            let raw = escaped(&text);
            prop_assert_eq!(unescape(&raw), text);
        }

        #[test]
        fn unescape_takes_anything(raw in "(&|;|#|x|[0-9a-f]|lt|amp|ü)*") {
            unescape(&raw);
        }
    }
}
