//! Reading what routing needs from an element's bytes, and changing it there.

use std::borrow::Cow;
use std::ops::Range;

use crate::escape::{escape, unescape};
use crate::ns;
use crate::syntax::{Cursor, Fault, Next, QName};

/// The bytes are not an element. Never the case for what [`crate::Framer`]
/// gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not one XML element")]
pub struct Malformed;

impl From<Fault> for Malformed {
    fn from(_: Fault) -> Self {
        Self
    }
}

/// An attribute value as it stands in the bytes, references unresolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    /// The value with references resolved; borrowed when there are none.
    pub fn get(self) -> Cow<'a, str> {
        unescape(self.0)
    }

    /// The value as it stands.
    pub fn raw(self) -> &'a str {
        self.0
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other || (self.0.contains('&') && self.get() == other)
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// Where an attribute stands, with the space before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attribute<'a> {
    value: Value<'a>,
    start: usize,
    end: usize,
}

/// The start tag of an element, read without looking at its content.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    text: &'a str,
    name: QName<'a>,
    xmlns: Option<&'a str>,
    attributes: [Option<Attribute<'a>>; 4],
    lang: Option<Value<'a>>,
    /// Behind the element's name.
    name_end: usize,
    /// Behind the start tag.
    content: usize,
    empty: bool,
}

const TO: usize = 0;
const FROM: usize = 1;
const ID: usize = 2;
const TYPE: usize = 3;

impl<'a> Header<'a> {
    /// Reads the start tag of a first-level element.
    pub fn parse(element: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(element).map_err(|_| Malformed)?;
        let mut cursor = Cursor::new(text, 0);
        cursor.expect(b'<')?;
        let name = QName::split(cursor.name()?)?;
        let mut header = Self {
            text,
            name,
            xmlns: None,
            attributes: [None; 4],
            lang: None,
            name_end: cursor.at,
            content: 0,
            empty: false,
        };
        loop {
            let start = cursor.at;
            match cursor.next()? {
                Next::End { empty } => {
                    header.content = cursor.at;
                    header.empty = empty;
                    return Ok(header);
                }
                Next::Attribute { name, value } => {
                    let which = match name {
                        "to" => TO,
                        "from" => FROM,
                        "id" => ID,
                        "type" => TYPE,
                        "xml:lang" => {
                            header.lang = Some(Value(value));
                            continue;
                        }
                        _ => {
                            if header.name.is_declared_by(name) {
                                header.xmlns = Some(value);
                            }
                            continue;
                        }
                    };
                    header.attributes[which] = Some(Attribute {
                        value: Value(value),
                        start,
                        end: cursor.at,
                    });
                }
            }
        }
    }

    /// The element's name, without prefix.
    pub fn name(&self) -> &'a str {
        self.name.local
    }

    /// The element's namespace, references in it unresolved.
    pub fn xmlns(&self) -> &'a str {
        match (self.xmlns, self.name.prefix) {
            (Some(xmlns), _) => xmlns,
            (None, "stream") => ns::STREAM,
            (None, _) => ns::CLIENT,
        }
    }

    /// Whether the element has this name and is in `jabber:client`.
    pub fn is_stanza(&self, name: &str) -> bool {
        self.name.local == name && self.xmlns() == ns::CLIENT
    }

    /// Attribute `to`.
    pub fn to(&self) -> Option<Value<'a>> {
        self.value(TO)
    }

    /// Attribute `from`.
    pub fn from(&self) -> Option<Value<'a>> {
        self.value(FROM)
    }

    /// Attribute `id`.
    pub fn id(&self) -> Option<Value<'a>> {
        self.value(ID)
    }

    /// Attribute `type`.
    pub fn kind(&self) -> Option<Value<'a>> {
        self.value(TYPE)
    }

    /// Attribute `xml:lang`.
    pub fn lang(&self) -> Option<Value<'a>> {
        self.lang
    }

    fn value(&self, which: usize) -> Option<Value<'a>> {
        self.attributes[which].map(|attribute| attribute.value)
    }

    /// The whole element.
    pub fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// What stands between the start tag and the end tag.
    pub fn content(&self) -> &'a [u8] {
        if self.empty {
            return &[];
        }
        let content = &self.text.as_bytes()[self.content..];
        memchr::memmem::rfind(content, b"</").map_or(&[], |end| &content[..end])
    }

    /// The element's children, read one by one as they are asked for.
    pub fn children(&self) -> Children<'a> {
        Children {
            cursor: (!self.empty).then(|| Cursor::new(self.text, self.content)),
            parent: self.clone_tag(),
        }
    }

    /// The first child of that name and namespace.
    pub fn child(&self, name: &str, xmlns: &str) -> Option<Child<'a>> {
        self.children()
            .find(|child| child.name == name && child.xmlns == xmlns)
    }

    /// Whether there is a child of that name and namespace.
    pub fn has(&self, name: &str, xmlns: &str) -> bool {
        self.child(name, xmlns).is_some()
    }

    fn clone_tag(&self) -> Tag<'a> {
        Tag {
            text: &self.text[..self.content],
            default: if self.name.prefix.is_empty() {
                self.xmlns()
            } else {
                declared(&self.text[..self.content], "").unwrap_or(ns::CLIENT)
            },
        }
    }

    /// Appends the element with changed attributes to `out`. Everything else
    /// stays byte for byte.
    pub fn write(&self, changes: &Rewrite<'_>, out: &mut Vec<u8>) {
        let bytes = self.text.as_bytes();
        out.reserve(bytes.len() + changes.room());
        out.extend_from_slice(&bytes[..self.name_end]);
        let mut cuts: [Range<usize>; 4] = [const { 0..0 }; 4];
        let mut count = 0;
        for (which, name) in [(TO, "to"), (FROM, "from"), (ID, "id"), (TYPE, "type")] {
            let change = changes.0[which];
            if matches!(change, Change::Keep) {
                continue;
            }
            if let Some(old) = self.attributes[which] {
                cuts[count] = old.start..old.end;
                count += 1;
            }
            if let Change::Set(value) = change {
                out.push(b' ');
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"='");
                escape(value, out);
                out.push(b'\'');
            }
        }
        let cuts = &mut cuts[..count];
        cuts.sort_unstable_by_key(|cut| cut.start);
        let mut at = self.name_end;
        for cut in cuts {
            out.extend_from_slice(&bytes[at..cut.start]);
            at = cut.end;
        }
        out.extend_from_slice(&bytes[at..]);
    }
}

impl QName<'_> {
    /// Whether an attribute of that name declares this name's namespace.
    fn is_declared_by(&self, attribute: &str) -> bool {
        match attribute.strip_prefix("xmlns") {
            Some("") => self.prefix.is_empty(),
            Some(rest) => !self.prefix.is_empty() && rest.strip_prefix(':') == Some(self.prefix),
            None => false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum Change<'v> {
    #[default]
    Keep,
    Remove,
    Set(&'v str),
}

/// Changes to the attributes of an element, for [`Header::write`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewrite<'v>([Change<'v>; 4]);

impl<'v> Rewrite<'v> {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets or, with `None`, removes `to`.
    #[must_use]
    pub fn to(self, value: Option<&'v str>) -> Self {
        self.change(TO, value)
    }

    /// Sets or, with `None`, removes `from`.
    #[must_use]
    pub fn from(self, value: Option<&'v str>) -> Self {
        self.change(FROM, value)
    }

    /// Sets or, with `None`, removes `id`.
    #[must_use]
    pub fn id(self, value: Option<&'v str>) -> Self {
        self.change(ID, value)
    }

    /// Sets or, with `None`, removes `type`.
    #[must_use]
    pub fn kind(self, value: Option<&'v str>) -> Self {
        self.change(TYPE, value)
    }

    fn change(mut self, which: usize, value: Option<&'v str>) -> Self {
        self.0[which] = value.map_or(Change::Remove, Change::Set);
        self
    }

    fn room(&self) -> usize {
        let set = |change: &Change<'_>| match change {
            Change::Set(value) => value.len() + 8,
            Change::Keep | Change::Remove => 0,
        };
        self.0.iter().map(set).sum()
    }
}

/// A child element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child<'a> {
    /// Its name, without prefix.
    pub name: &'a str,
    /// Its namespace, references in it unresolved.
    pub xmlns: &'a str,
    /// The whole of it. Prefixes and the default namespace may be those of
    /// its parent.
    pub bytes: &'a [u8],
}

impl<'a> Child<'a> {
    /// The child's start tag and children. Reads `xmlns` right only when the
    /// child declares it itself; take it from [`Child::xmlns`].
    pub fn header(&self) -> Result<Header<'a>, Malformed> {
        let mut header = Header::parse(self.bytes)?;
        header.xmlns = Some(self.xmlns);
        Ok(header)
    }
}

/// A start tag, for what its content inherits.
#[derive(Clone, Copy, Debug)]
struct Tag<'a> {
    text: &'a str,
    default: &'a str,
}

/// Iterates over the children of an element.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    cursor: Option<Cursor<'a>>,
    parent: Tag<'a>,
}

impl<'a> Iterator for Children<'a> {
    type Item = Child<'a>;

    fn next(&mut self) -> Option<Child<'a>> {
        let mut cursor = self.cursor.take()?;
        let child = self.read(&mut cursor)?;
        self.cursor = Some(cursor);
        Some(child)
    }
}

impl<'a> Children<'a> {
    fn read(&self, cursor: &mut Cursor<'a>) -> Option<Child<'a>> {
        let text = cursor.text();
        next_tag(cursor)?;
        let start = cursor.at;
        if cursor.starts_with(b"</") {
            return None;
        }
        let mut depth = 0usize;
        let mut child: Option<(QName<'a>, &'a str)> = None;
        loop {
            cursor.at += 1;
            if cursor.peek() == Some(b'/') {
                cursor.at += 1;
                cursor.name().ok()?;
                cursor.space();
                cursor.expect(b'>').ok()?;
                depth = depth.checked_sub(1)?;
            } else {
                let tag = cursor.at - 1;
                let name = cursor.name().ok()?;
                let empty = loop {
                    if let Next::End { empty } = cursor.next().ok()? {
                        break empty;
                    }
                };
                if child.is_none() {
                    child = Some((QName::split(name).ok()?, &text[tag..cursor.at]));
                }
                depth += usize::from(!empty);
            }
            if depth == 0 {
                break;
            }
            next_tag(cursor)?;
        }
        let (name, tag) = child?;
        let own = declared(tag, name.prefix);
        let xmlns = if name.prefix.is_empty() {
            own.unwrap_or(self.parent.default)
        } else {
            own.or_else(|| declared(self.parent.text, name.prefix))?
        };
        Some(Child {
            name: name.local,
            xmlns,
            bytes: &text.as_bytes()[start..cursor.at],
        })
    }
}

/// Moves to the next `<` that begins a tag.
fn next_tag(cursor: &mut Cursor<'_>) -> Option<()> {
    loop {
        let rest = &cursor.text().as_bytes()[cursor.at..];
        cursor.at += memchr::memchr(b'<', rest)?;
        if !cursor.starts_with(b"<![CDATA[") {
            return Some(());
        }
        let rest = &cursor.text().as_bytes()[cursor.at..];
        cursor.at += memchr::memmem::find(rest, b"]]>")? + 3;
    }
}

/// What a start tag declares the prefix, or the default for `""`, to be.
fn declared<'a>(tag: &'a str, prefix: &str) -> Option<&'a str> {
    let mut cursor = Cursor::new(tag, 1);
    cursor.name().ok()?;
    let name = QName { prefix, local: "" };
    loop {
        match cursor.next().ok()? {
            Next::End { .. } => return None,
            Next::Attribute {
                name: attribute,
                value,
            } => {
                if name.is_declared_by(attribute) {
                    return Some(value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(xml: &str, changes: &Rewrite<'_>) -> String {
        let mut out = Vec::new();
        Header::parse(xml.as_bytes())
            .unwrap()
            .write(changes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_header_is_read_and_the_body_left_alone() {
        let xml = b"<message to='a@b' type=\"chat\" id='x&amp;y' xml:lang='de'>\
            <body>hi</body><x xmlns='urn:x'><y/></x><p:z xmlns:p='urn:p'/></message>";
        let header = Header::parse(xml).unwrap();
        assert!(header.is_stanza("message"));
        assert_eq!(header.to().unwrap().get(), "a@b");
        assert!(header.kind().unwrap() == "chat");
        assert!(header.id().unwrap() == "x&y");
        assert_eq!(header.from(), None);
        assert_eq!(header.lang().unwrap().raw(), "de");
        let children: Vec<_> = header.children().map(|c| (c.name, c.xmlns)).collect();
        assert_eq!(
            children,
            [("body", "jabber:client"), ("x", "urn:x"), ("z", "urn:p")]
        );
        assert_eq!(
            header.child("x", "urn:x").unwrap().bytes,
            b"<x xmlns='urn:x'><y/></x>"
        );
        assert!(header.content().starts_with(b"<body>") && header.content().ends_with(b"/>"));
    }

    #[test]
    fn a_prefix_of_the_parent_reaches_its_children() {
        let xml = b"<p:iq xmlns:p='urn:p' xmlns='urn:d'><p:a/>t<b/><![CDATA[</x>]]></p:iq>";
        let header = Header::parse(xml).unwrap();
        assert_eq!(header.xmlns(), "urn:p");
        let children: Vec<_> = header.children().map(|c| (c.name, c.xmlns)).collect();
        assert_eq!(children, [("a", "urn:p"), ("b", "urn:d")]);
    }

    #[test]
    fn addresses_are_spliced_in() {
        let stamp = Rewrite::new().from(Some("a@b/c'"));
        assert_eq!(
            rewritten("<presence/>", &stamp),
            "<presence from='a@b/c&apos;'/>"
        );
        assert_eq!(
            rewritten(
                "<iq type='get' from = \"x\"  to='y' id='1'><q/></iq>",
                &stamp
            ),
            "<iq from='a@b/c&apos;' type='get'  to='y' id='1'><q/></iq>"
        );
        let swap = Rewrite::new().to(None).from(Some("y")).kind(Some("result"));
        assert_eq!(
            rewritten("<iq type='get' to='y' id='1'/>", &swap),
            "<iq from='y' type='result' id='1'/>"
        );
        assert_eq!(rewritten("<iq to='y'/>", &Rewrite::new()), "<iq to='y'/>");
    }

    #[test]
    fn bytes_that_are_no_element_are_refused() {
        for bad in ["", "x", "<", "<a", "<a b", "<a b=>", "<a b='c>", "< a/>"] {
            assert!(Header::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Header::parse(b"<a\xff/>").is_err());
        // Children of something cut short end, they do not panic.
        let header = Header::parse(b"<a><b><c></b>").unwrap();
        assert_eq!(header.children().count(), 0);
    }
}
