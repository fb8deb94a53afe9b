//! Writing XML without a tree.

use crate::escape::escape;

/// Appends elements to a buffer. Element and attribute names are the
/// program's own and are not checked; values and text are escaped.
#[derive(Debug, Default)]
pub struct Builder {
    out: Vec<u8>,
    open: Vec<&'static str>,
    /// Whether the last start tag still lacks its `>`.
    in_tag: bool,
}

impl Builder {
    /// An empty document.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on at the end of bytes that are there already.
    pub fn after(out: Vec<u8>) -> Self {
        Self {
            out,
            ..Self::default()
        }
    }

    /// Starts an element inside the one that is open.
    pub fn start(&mut self, name: &'static str) -> &mut Self {
        self.seal();
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        self.open.push(name);
        self.in_tag = true;
        self
    }

    /// Adds an attribute to the element just started.
    pub fn attribute(&mut self, name: &str, value: &str) -> &mut Self {
        debug_assert!(self.in_tag, "attribute {name} after content");
        self.out.push(b' ');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"='");
        escape(value, &mut self.out);
        self.out.push(b'\'');
        self
    }

    /// Adds an attribute when there is a value.
    pub fn maybe(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.attribute(name, value);
        }
        self
    }

    /// Adds text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.seal();
        escape(text, &mut self.out);
        self
    }

    /// Adds bytes that are XML already.
    pub fn raw(&mut self, xml: &[u8]) -> &mut Self {
        if !xml.is_empty() {
            self.seal();
            self.out.extend_from_slice(xml);
        }
        self
    }

    /// Ends the innermost open element.
    pub fn end(&mut self) -> &mut Self {
        let name = self.open.pop();
        debug_assert!(name.is_some(), "end without start");
        if let Some(name) = name {
            if self.in_tag {
                self.out.extend_from_slice(b"/>");
                self.in_tag = false;
            } else {
                self.out.extend_from_slice(b"</");
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'>');
            }
        }
        self
    }

    /// Ends every open element and gives the bytes.
    pub fn finish(mut self) -> Vec<u8> {
        while !self.open.is_empty() {
            self.end();
        }
        self.out
    }

    /// Gives the bytes with every open element left open, as the opening tag
    /// of a stream.
    pub fn finish_open(mut self) -> Vec<u8> {
        self.seal();
        self.out
    }

    fn seal(&mut self) {
        if std::mem::take(&mut self.in_tag) {
            self.out.push(b'>');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_nest_and_values_are_escaped() {
        let mut xml = Builder::new();
        xml.start("iq").attribute("id", "a'b").maybe("to", None);
        xml.start("ping").attribute("xmlns", "urn:xmpp:ping").end();
        xml.start("x").text("<").raw(b"<y/>");
        assert_eq!(
            String::from_utf8(xml.finish()).unwrap(),
            "<iq id='a&apos;b'><ping xmlns='urn:xmpp:ping'/><x>&lt;<y/></x></iq>"
        );
    }
}
