//! A small tree, for the few elements that a service looks into or stores.

use crate::escape::{escape, unescape};
use crate::header::Malformed;
use crate::ns;
use crate::syntax::{Cursor, Next, QName};
use crate::validate::DEEPEST;

/// An element with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    name: String,
    xmlns: String,
    attributes: Vec<Attribute>,
    nodes: Vec<Node>,
}

/// An attribute. `xml:lang` keeps its prefix in the name; any other prefix is
/// resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    xmlns: Option<String>,
    name: String,
    value: String,
}

/// What an element contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text between elements.
    Text(String),
}

impl Element {
    /// An empty element.
    pub fn new(name: &str, xmlns: &str) -> Self {
        Self {
            name: name.into(),
            xmlns: xmlns.into(),
            attributes: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Reads an element that was validated before, in a stream or an element
    /// whose default namespace is `jabber:client`.
    pub fn parse(xml: &[u8]) -> Result<Self, Malformed> {
        Self::parse_in(xml, ns::CLIENT)
    }

    /// Reads an element where the default namespace is `xmlns`, such as
    /// [`crate::Child::bytes`] with the child's own namespace.
    pub fn parse_in(xml: &[u8], xmlns: &str) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(xml).map_err(|_| Malformed)?;
        Reader {
            cursor: Cursor::new(text, 0),
            prefixes: Vec::new(),
        }
        .read(xmlns)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace.
    pub fn xmlns(&self) -> &str {
        &self.xmlns
    }

    /// Whether this is the element of that name and namespace.
    pub fn is(&self, name: &str, xmlns: &str) -> bool {
        self.name == name && self.xmlns == xmlns
    }

    /// The value of an attribute without prefix (or of `xml:lang`).
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|known| known.xmlns.is_none() && known.name == name)
            .map(|known| known.value.as_str())
    }

    /// Sets or, with `None`, removes an attribute.
    pub fn set_attribute(&mut self, name: &str, value: Option<&str>) {
        self.attributes
            .retain(|known| known.xmlns.is_some() || known.name != name);
        if let Some(value) = value {
            self.attributes.push(Attribute {
                xmlns: None,
                name: name.into(),
                value: value.into(),
            });
        }
    }

    /// This element with an attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: &str, value: &str) -> Self {
        self.set_attribute(name, Some(value));
        self
    }

    /// This element with one more child.
    #[must_use]
    pub fn with_child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    /// This element with text added.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.nodes.push(Node::Text(text.into()));
        self
    }

    /// Adds a child at the end.
    pub fn push(&mut self, child: Self) {
        self.nodes.push(Node::Element(child));
    }

    /// Removes every child of that name and namespace.
    pub fn remove_children(&mut self, name: &str, xmlns: &str) {
        self.nodes
            .retain(|node| !matches!(node, Node::Element(child) if child.is(name, xmlns)));
    }

    /// The child elements.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }

    /// Children and text in their order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The first child of that name and namespace.
    pub fn child(&self, name: &str, xmlns: &str) -> Option<&Self> {
        self.children().find(|child| child.is(name, xmlns))
    }

    /// The element's own text, without that of its children.
    pub fn text(&self) -> String {
        self.nodes
            .iter()
            .filter_map(|node| match node {
                Node::Text(text) => Some(text.as_str()),
                Node::Element(_) => None,
            })
            .collect()
    }

    /// The element as it stands in a `jabber:client` stream.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(ns::CLIENT, &mut out);
        out
    }

    /// Appends the element where the default namespace is `parent`.
    pub fn write(&self, parent: &str, out: &mut Vec<u8>) {
        out.push(b'<');
        out.extend_from_slice(self.name.as_bytes());
        let mut write = |prefix: &str, name: &str, value: &str| {
            out.push(b' ');
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"='");
            escape(value, out);
            out.push(b'\'');
        };
        if self.xmlns != parent {
            write("", "xmlns", &self.xmlns);
        }
        for (index, attribute) in self.attributes.iter().enumerate() {
            if let Some(xmlns) = &attribute.xmlns {
                write("xmlns:", &format!("ns{index}"), xmlns);
                write(&format!("ns{index}:"), &attribute.name, &attribute.value);
            } else {
                write("", &attribute.name, &attribute.value);
            }
        }
        if self.nodes.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write(&self.xmlns, out),
                Node::Text(text) => escape(text, out),
            }
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'>');
    }
}

/// Reads a tree without recursion.
struct Reader<'a> {
    cursor: Cursor<'a>,
    /// Prefixes in force, with the depth of their declaration.
    prefixes: Vec<(usize, &'a str, String)>,
}

/// An element whose end has not come, and the default namespace in it.
struct Open {
    element: Element,
    default: String,
}

impl<'a> Reader<'a> {
    fn read(mut self, default: &str) -> Result<Element, Malformed> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.cursor.expect(b'<')?;
            let mut done = None;
            if self.cursor.peek() == Some(b'/') {
                self.cursor.at += 1;
                self.cursor.name()?;
                self.cursor.space();
                self.cursor.expect(b'>')?;
                done = Some(open.pop().ok_or(Malformed)?.element);
            } else if self.cursor.starts_with(b"![CDATA[") {
                let data = self.data()?;
                open.last_mut().ok_or(Malformed)?.element.add_text(data);
            } else {
                let inherited = open.last().map_or(default, |parent| &parent.default);
                let (tag, empty) = self.tag(open.len() + 1, inherited)?;
                if empty {
                    done = Some(tag.element);
                } else if open.len() < DEEPEST {
                    open.push(tag);
                } else {
                    return Err(Malformed);
                }
            }
            if let Some(element) = done {
                let depth = open.len();
                self.prefixes.retain(|(declared, ..)| *declared <= depth);
                match open.last_mut() {
                    Some(parent) => parent.element.push(element),
                    None if self.cursor.peek().is_none() => return Ok(element),
                    None => return Err(Malformed),
                }
            }
            let parent = open.last_mut().ok_or(Malformed)?;
            parent.element.add_text(&unescape(self.text()?));
        }
    }

    /// The raw text up to the next tag.
    fn text(&mut self) -> Result<&'a str, Malformed> {
        let rest = &self.cursor.text()[self.cursor.at..];
        let length = memchr::memchr(b'<', rest.as_bytes()).ok_or(Malformed)?;
        self.cursor.at += length;
        Ok(&rest[..length])
    }

    /// A CDATA section, behind its `<`.
    fn data(&mut self) -> Result<&'a str, Malformed> {
        let rest = &self.cursor.text()[self.cursor.at + 8..];
        let length = memchr::memmem::find(rest.as_bytes(), b"]]>").ok_or(Malformed)?;
        self.cursor.at += 8 + length + 3;
        Ok(&rest[..length])
    }

    /// A start tag, behind its `<`.
    fn tag(&mut self, depth: usize, default: &str) -> Result<(Open, bool), Malformed> {
        let name = QName::split(self.cursor.name()?)?;
        let mut default = default.to_owned();
        let mut attributes = Vec::new();
        let empty = loop {
            match self.cursor.next()? {
                Next::End { empty } => break empty,
                Next::Attribute { name, value } => {
                    let value = attribute_value(value);
                    let attribute = QName::split(name)?;
                    if name == "xmlns" {
                        default = value;
                    } else if attribute.prefix == "xmlns" {
                        self.prefixes.push((depth, attribute.local, value));
                    } else {
                        attributes.push((name, attribute, value));
                    }
                }
            }
        };
        let attributes = attributes
            .into_iter()
            .map(|(whole, name, value)| match name.prefix {
                "" | "xml" => Ok(Attribute {
                    xmlns: None,
                    name: whole.into(),
                    value,
                }),
                prefix => Ok(Attribute {
                    xmlns: Some(self.namespace(prefix)?),
                    name: name.local.into(),
                    value,
                }),
            })
            .collect::<Result<_, Malformed>>()?;
        let xmlns = match name.prefix {
            "" => default.clone(),
            "stream" if depth == 1 => self
                .namespace("stream")
                .unwrap_or_else(|_| ns::STREAM.into()),
            prefix => self.namespace(prefix)?,
        };
        let element = Element {
            name: name.local.into(),
            xmlns,
            attributes,
            nodes: Vec::new(),
        };
        Ok((Open { element, default }, empty))
    }

    fn namespace(&self, prefix: &str) -> Result<String, Malformed> {
        if prefix == "xml" {
            return Ok(ns::XML.into());
        }
        let known = self.prefixes.iter().rfind(|(_, known, _)| *known == prefix);
        known.map(|(.., xmlns)| xmlns.clone()).ok_or(Malformed)
    }
}

impl Element {
    /// Adds text, one node for adjoining pieces.
    fn add_text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            _ if text.is_empty() => {}
            Some(Node::Text(before)) => before.push_str(text),
            _ => self.nodes.push(Node::Text(text.into())),
        }
    }
}

/// The value of an attribute: literal white space counts as spaces.
fn attribute_value(raw: &str) -> String {
    if raw.contains(['\t', '\n', '\r']) {
        let spaced = raw.replace("\r\n", " ").replace(['\t', '\n', '\r'], " ");
        return unescape(&spaced).into_owned();
    }
    unescape(raw).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(xml: &str) -> String {
        String::from_utf8(Element::parse(xml.as_bytes()).unwrap().to_bytes()).unwrap()
    }

    #[test]
    fn a_tree_keeps_what_the_bytes_said() {
        let xml = "<iq type='set' xml:lang='de'><query xmlns='jabber:iq:roster'>\
            <item jid='a@b' name='&lt;A&gt;'><group>Work &amp; play</group></item></query></iq>";
        assert_eq!(round(xml), xml);
        let iq = Element::parse(xml.as_bytes()).unwrap();
        let query = iq.child("query", "jabber:iq:roster").unwrap();
        let item = query.child("item", "jabber:iq:roster").unwrap();
        assert_eq!(item.attribute("name"), Some("<A>"));
        assert_eq!(item.children().next().unwrap().text(), "Work & play");
        assert!(iq.is("iq", "jabber:client"));
    }

    #[test]
    fn prefixes_become_namespaces() {
        assert_eq!(
            round("<p:a xmlns:p='urn:p' xmlns='urn:d' p:k='1' k='2'><b/><p:c/></p:a>"),
            "<a xmlns='urn:p' xmlns:ns0='urn:p' ns0:k='1' k='2'><b xmlns='urn:d'/><c/></a>"
        );
        // A prefix ends with the element that declared it.
        assert!(Element::parse(b"<a><p:b xmlns:p='u'/><p:c/></a>").is_err());
        assert!(Element::parse(b"<a><b xmlns:p='u'><c/></b><p:c/></a>").is_err());
    }

    #[test]
    fn text_and_sections_are_joined() {
        let element = Element::parse(b"<a>1&lt;<![CDATA[<2&amp;]]>3<b/>4</a>").unwrap();
        assert_eq!(element.nodes().len(), 3);
        assert_eq!(element.text(), "1<<2&amp;34");
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for bad in [
            "",
            "<a>",
            "<a/>x",
            "<a/><b/>",
            "</a>",
            "x<a/>",
            "<p:a/>",
            "<a p:b=''/>",
        ] {
            assert_eq!(Element::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        let deep = "<a>".repeat(200) + &"</a>".repeat(200);
        assert_eq!(Element::parse(deep.as_bytes()), Err(Malformed));
    }
}
