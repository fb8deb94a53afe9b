//! Checks a whole element: well-formedness and namespaces.

use crate::error::{Condition, StreamError};
use crate::syntax::{Cursor, Fault, Next, QName, check_characters, check_references};
use crate::{Limits, ns};

/// Deepest nesting that the fixed tables below have room for.
pub(crate) const DEEPEST: usize = 128;

const NOT_WELL_FORMED: StreamError =
    StreamError::new(Condition::NotWellFormed, "The XML is not well-formed.");
const NO_ENTITIES: StreamError = StreamError::new(
    Condition::RestrictedXml,
    "Only the five predefined entities may be used.",
);
const NAMESPACES: StreamError = StreamError::new(
    Condition::NotWellFormed,
    "Namespaces are declared in a way that XML forbids.",
);
const UNDECLARED: StreamError = StreamError::new(
    Condition::BadNamespacePrefix,
    "Declare each prefix inside the element that uses it.",
);
const TOO_MANY: StreamError = StreamError::new(
    Condition::PolicyViolation,
    "An element has more attributes than this server takes.",
);
const NOT_UTF_8: StreamError =
    StreamError::new(Condition::NotWellFormed, "The stream is not valid UTF-8.");

impl From<Fault> for StreamError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax => NOT_WELL_FORMED,
            Fault::Entity => NO_ENTITIES,
        }
    }
}

/// The bytes as text, if they are UTF-8 and of characters that XML allows.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, StreamError> {
    let text = std::str::from_utf8(bytes).map_err(|_| NOT_UTF_8)?;
    if check_characters(text) {
        Ok(text)
    } else {
        Err(NOT_WELL_FORMED)
    }
}

/// A prefix in force: where it was declared, and its namespace.
struct Declared<'a> {
    depth: usize,
    prefix: &'a str,
    namespace: &'a str,
}

/// Checks one first-level element, the whole of `xml`. At the first level the
/// prefix `stream` may stand in front of the element's name; every other
/// prefix is declared within.
pub(crate) fn element(xml: &[u8], limits: &Limits) -> Result<(), StreamError> {
    let text = text(xml)?;
    let mut cursor = Cursor::new(text, 0);
    let mut open: [&str; DEEPEST] = [""; DEEPEST];
    let mut depth = 0;
    // Grows only for elements that declare prefixes, which are rare.
    let mut declared: Vec<Declared<'_>> = Vec::new();
    loop {
        cursor.expect(b'<')?;
        if cursor.peek() == Some(b'/') {
            cursor.at += 1;
            let name = cursor.name()?;
            cursor.space();
            cursor.expect(b'>')?;
            if depth == 0 || open[depth - 1] != name {
                return Err(NOT_WELL_FORMED);
            }
            while declared.last().is_some_and(|last| last.depth == depth) {
                declared.pop();
            }
            depth -= 1;
        } else if cursor.starts_with(b"![CDATA[") && depth > 0 {
            let rest = &xml[cursor.at + 8..];
            cursor.at += 8 + memchr::memmem::find(rest, b"]]>").ok_or(NOT_WELL_FORMED)? + 3;
        } else {
            let (name, empty) = tag(&mut cursor, depth, &mut declared, limits)?;
            if empty {
                while declared.last().is_some_and(|last| last.depth > depth) {
                    declared.pop();
                }
            } else {
                *open.get_mut(depth).ok_or(NOT_WELL_FORMED)? = name;
                depth += 1;
            }
        }
        if depth == 0 {
            break;
        }
        let length = memchr::memchr(b'<', &xml[cursor.at..]).ok_or(NOT_WELL_FORMED)?;
        if length > 0 {
            content(&text[cursor.at..cursor.at + length])?;
            cursor.at += length;
        }
    }
    if cursor.at == xml.len() {
        Ok(())
    } else {
        Err(NOT_WELL_FORMED)
    }
}

/// Checks text between tags.
fn content(raw: &str) -> Result<(), StreamError> {
    check_references(raw)?;
    let bytes = raw.as_bytes();
    if memchr::memchr_iter(b'>', bytes).any(|at| bytes[..at].ends_with(b"]]")) {
        return Err(NOT_WELL_FORMED);
    }
    Ok(())
}

/// Reads a start tag, the cursor standing behind its `<`.
fn tag<'a>(
    cursor: &mut Cursor<'a>,
    depth: usize,
    declared: &mut Vec<Declared<'a>>,
    limits: &Limits,
) -> Result<(&'a str, bool), StreamError> {
    let name = cursor.name()?;
    let qualified = QName::split(name)?;
    let mut attributes: [&str; MOST_ATTRIBUTES] = [""; MOST_ATTRIBUTES];
    let mut count = 0;
    let mut prefixed = 0;
    let empty = loop {
        match cursor.next()? {
            Next::End { empty } => break empty,
            Next::Attribute { name, value } => {
                if count == limits.attributes.min(MOST_ATTRIBUTES) {
                    return Err(TOO_MANY);
                }
                if attributes[..count].contains(&name) {
                    return Err(NOT_WELL_FORMED);
                }
                attributes[count] = name;
                count += 1;
                check_references(value)?;
                let attribute = QName::split(name)?;
                if attribute.prefix == "xmlns" {
                    declare(depth + 1, attribute.local, value, declared)?;
                } else if name == "xmlns" {
                    if value == ns::XML || value == ns::XMLNS {
                        return Err(NAMESPACES);
                    }
                } else if !attribute.prefix.is_empty() {
                    prefixed += 1;
                }
            }
        }
    };
    let of_stream = depth == 0 && qualified.prefix == "stream";
    if !qualified.prefix.is_empty() && !of_stream {
        lookup(qualified.prefix, declared)?;
    }
    if prefixed > 0 {
        distinct(&attributes[..count], prefixed, declared)?;
    }
    Ok((name, empty))
}

/// Most attributes of a tag that the fixed table has room for.
const MOST_ATTRIBUTES: usize = 64;

/// Takes note of `xmlns:prefix='namespace'`.
fn declare<'a>(
    depth: usize,
    prefix: &'a str,
    namespace: &'a str,
    declared: &mut Vec<Declared<'a>>,
) -> Result<(), StreamError> {
    let lawful = match prefix {
        "xml" => namespace == ns::XML,
        "xmlns" => false,
        _ => !namespace.is_empty() && namespace != ns::XML && namespace != ns::XMLNS,
    };
    if !lawful {
        return Err(NAMESPACES);
    }
    declared.push(Declared {
        depth,
        prefix,
        namespace,
    });
    Ok(())
}

fn lookup<'a>(prefix: &str, declared: &[Declared<'a>]) -> Result<&'a str, StreamError> {
    match prefix {
        "xml" => Ok(ns::XML),
        "xmlns" => Err(NAMESPACES),
        _ => declared
            .iter()
            .rfind(|known| known.prefix == prefix)
            .map(|known| known.namespace)
            .ok_or(UNDECLARED),
    }
}

/// Checks that prefixed attributes resolve, and to names of their own.
fn distinct(
    attributes: &[&str],
    prefixed: usize,
    declared: &[Declared<'_>],
) -> Result<(), StreamError> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for name in attributes {
        let attribute = QName::split(name)?;
        if attribute.prefix.is_empty() || attribute.prefix == "xmlns" {
            continue;
        }
        let namespace = lookup(attribute.prefix, declared)?;
        if prefixed > 1 {
            if seen.contains(&(namespace, attribute.local)) {
                return Err(NOT_WELL_FORMED);
            }
            seen.push((namespace, attribute.local));
        }
    }
    Ok(())
}
