//! Cuts a stream of bytes into whole, checked first-level elements.

use std::borrow::Cow;

use crate::error::{Condition, StreamError};
use crate::escape::unescape;
use crate::syntax::{Cursor, Fault, Next, QName, check_references};
use crate::{ns, validate};

/// What a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest first-level element, in bytes.
    pub element: usize,
    /// Bytes that may come in all; before authentication there is a limit.
    pub total: Option<u64>,
    /// Deepest nesting, at most 128; a first-level element has depth 1.
    pub depth: u8,
    /// Most attributes of one tag, at most 64.
    pub attributes: usize,
}

impl Limits {
    /// For a peer that has not proven who it is: 64 KiB in all.
    pub const BEFORE_AUTHENTICATION: Self = Self {
        element: 16 * 1024,
        total: Some(64 * 1024),
        depth: 16,
        attributes: 32,
    };

    /// For an authenticated peer: 256 KiB for each element.
    pub const AUTHENTICATED: Self = Self {
        element: 256 * 1024,
        total: None,
        depth: 96,
        attributes: 64,
    };
}

/// The attributes of a stream's opening tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// The domain asked for.
    pub to: Option<String>,
    /// Who asks, as far as it says so.
    pub from: Option<String>,
    /// Stream id, given by the receiving side.
    pub id: Option<String>,
    /// Protocol version; 1.0 or later is what we speak.
    pub version: Option<String>,
    /// Default language.
    pub lang: Option<String>,
}

/// What came out of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// The opening tag.
    Open(StreamHeader),
    /// A whole first-level element: well-formed, in UTF-8, every prefix but
    /// `xml` (and a leading `stream`) declared inside. Without an `xmlns` of
    /// its own it is in `jabber:client`. Borrowed when it lies whole in the
    /// input.
    Element(Cow<'i, [u8]>),
    /// The closing tag. What follows is ignored.
    Close,
}

/// Where in the stream the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before anything.
    Start,
    /// After the XML declaration.
    Declared,
    /// Inside the stream.
    Open,
    /// After its end, or after an error.
    Closed,
}

/// Where in a unit (a first-level element, or a tag of the stream) the next
/// byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scan {
    /// Between units, or in the text of an element.
    Text,
    /// Behind `<`.
    Lt,
    /// In `<![CDATA[`, so many bytes behind `<!`.
    Bang(u8),
    /// In a CDATA section, behind so many `]`.
    Data(u8),
    /// In a start tag.
    Tag,
    /// Behind `/` in a start tag.
    Slash,
    /// In an attribute value.
    Quote(u8),
    /// In an end tag.
    EndTag,
    /// In the XML declaration; whether behind `?`.
    Declaration(bool),
}

/// The incremental half of parsing: finds where a unit ends, byte by byte and
/// with little state, so that a split anywhere costs nothing and nothing is
/// looked at twice. What it cuts out is then checked as a whole.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    consumed: u64,
    /// The beginning of a unit whose end has not come yet.
    partial: Vec<u8>,
    phase: Phase,
    scan: Scan,
    depth: u8,
}

const TOO_LONG: StreamError = StreamError::new(
    Condition::PolicyViolation,
    "An element is longer than this server takes.",
);
const TOO_MUCH: StreamError = StreamError::new(
    Condition::PolicyViolation,
    "Too much was sent before authentication.",
);
const TOO_DEEP: StreamError = StreamError::new(
    Condition::PolicyViolation,
    "Elements are nested deeper than this server takes.",
);
const RESTRICTED: StreamError = StreamError::new(
    Condition::RestrictedXml,
    "Comments, processing instructions and DTDs are not allowed.",
);
const NOT_WELL_FORMED: StreamError =
    StreamError::new(Condition::NotWellFormed, "The XML is not well-formed.");
const STRAY_TEXT: StreamError = StreamError::new(
    Condition::BadFormat,
    "There is text between first-level elements.",
);

impl Framer {
    /// A framer for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            consumed: 0,
            partial: Vec::new(),
            phase: Phase::Start,
            scan: Scan::Text,
            depth: 0,
        }
    }

    /// Expects a new stream on the same connection, as after TLS or SASL. The
    /// count of bytes goes on.
    pub fn restart(&mut self) {
        self.partial = Vec::new();
        self.phase = Phase::Start;
        self.scan = Scan::Text;
        self.depth = 0;
    }

    /// Changes what the peer may send from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the next byte begins something new: no element is half read.
    pub fn is_between_elements(&self) -> bool {
        self.depth == 0 && self.scan == Scan::Text
    }

    /// Whether the stream was closed by its peer or by an error.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Takes bytes off the front of `input` up to the end of the next event.
    /// `None` says that all were taken and more are needed. After an error
    /// the rest of the stream is ignored.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, StreamError> {
        if self.phase == Phase::Closed {
            *input = &[];
            return Ok(None);
        }
        let result = self.advance(input);
        if result.is_err() {
            self.partial = Vec::new();
            self.phase = Phase::Closed;
        }
        result
    }

    fn advance<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, StreamError> {
        loop {
            if self.is_between_elements() {
                self.skip_space(input)?;
            }
            if input.is_empty() {
                return Ok(None);
            }
            // Only bytes within the limits are looked at: the outcome must
            // not depend on how the stream was cut into reads.
            let room = self.limits.element.saturating_sub(self.partial.len());
            let allowed = self.budget().min(room).min(input.len());
            let (length, complete) = self.scan(&input[..allowed])?;
            let (taken, rest) = input.split_at(length);
            if !complete {
                if length < input.len() {
                    return Err(if length == room { TOO_LONG } else { TOO_MUCH });
                }
                self.consumed += length as u64;
                self.partial.extend_from_slice(taken);
                *input = rest;
                return Ok(None);
            }
            self.consumed += length as u64;
            *input = rest;
            let unit = if self.partial.is_empty() {
                Cow::Borrowed(taken)
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(taken);
                Cow::Owned(whole)
            };
            if let Some(event) = self.unit(unit)? {
                return Ok(Some(event));
            }
        }
    }

    fn budget(&self) -> usize {
        match self.limits.total {
            None => usize::MAX,
            Some(total) => {
                usize::try_from(total.saturating_sub(self.consumed)).unwrap_or(usize::MAX)
            }
        }
    }

    fn skip_space(&mut self, input: &mut &[u8]) -> Result<(), StreamError> {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let length = input.iter().take_while(|byte| is_space(byte)).count();
        if length > self.budget() {
            return Err(TOO_MUCH);
        }
        self.consumed += length as u64;
        *input = &input[length..];
        match input.first() {
            Some(_) if self.budget() == 0 => Err(TOO_MUCH),
            Some(b'<') | None => Ok(()),
            Some(_) if self.phase == Phase::Open => Err(STRAY_TEXT),
            Some(_) => Err(NOT_WELL_FORMED),
        }
    }

    /// Moves over `bytes` up to the end of the unit. Says how far, and
    /// whether the end was reached.
    fn scan(&mut self, bytes: &[u8]) -> Result<(usize, bool), StreamError> {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            match self.scan {
                Scan::Text if self.depth > 0 => match memchr::memchr(b'<', &bytes[at..]) {
                    Some(found) => {
                        at += found;
                        self.scan = Scan::Lt;
                    }
                    None => return Ok((bytes.len(), false)),
                },
                // The caller has skipped the space between units.
                Scan::Text => self.scan = Scan::Lt,
                Scan::Lt => {
                    self.scan = match byte {
                        b'/' => Scan::EndTag,
                        b'?' if self.phase == Phase::Start => Scan::Declaration(false),
                        b'?' => return Err(RESTRICTED),
                        b'!' if self.depth == 0 => return Err(RESTRICTED),
                        b'!' => Scan::Bang(0),
                        b'>' | b'<' | b'"' | b'\'' => return Err(NOT_WELL_FORMED),
                        _ if self.depth >= self.deepest() => return Err(TOO_DEEP),
                        _ => Scan::Tag,
                    };
                }
                Scan::Bang(matched) => {
                    if b"[CDATA["[usize::from(matched)] != byte {
                        return Err(RESTRICTED);
                    }
                    self.scan = if matched == 6 {
                        Scan::Data(0)
                    } else {
                        Scan::Bang(matched + 1)
                    };
                }
                Scan::Data(brackets) => {
                    self.scan = match byte {
                        b']' => Scan::Data((brackets + 1).min(2)),
                        b'>' if brackets == 2 => Scan::Text,
                        _ => Scan::Data(0),
                    };
                }
                Scan::Tag => match byte {
                    b'>' => {
                        self.scan = Scan::Text;
                        if self.phase != Phase::Open {
                            return Ok((at + 1, true));
                        }
                        self.depth += 1;
                    }
                    b'/' => self.scan = Scan::Slash,
                    b'"' | b'\'' => self.scan = Scan::Quote(byte),
                    b'<' => return Err(NOT_WELL_FORMED),
                    _ => {}
                },
                Scan::Slash => {
                    if byte != b'>' {
                        return Err(NOT_WELL_FORMED);
                    }
                    self.scan = Scan::Text;
                    if self.depth == 0 {
                        return Ok((at + 1, true));
                    }
                }
                Scan::Quote(quote) => match memchr::memchr2(quote, b'<', &bytes[at..]) {
                    Some(found) if bytes[at + found] == quote => {
                        at += found;
                        self.scan = Scan::Tag;
                    }
                    Some(_) => return Err(NOT_WELL_FORMED),
                    None => return Ok((bytes.len(), false)),
                },
                Scan::EndTag => match byte {
                    b'>' => {
                        self.scan = Scan::Text;
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return Ok((at + 1, true));
                        }
                    }
                    b'<' | b'"' | b'\'' | b'/' => return Err(NOT_WELL_FORMED),
                    _ => {}
                },
                Scan::Declaration(question) => match byte {
                    b'>' if question => {
                        self.scan = Scan::Text;
                        return Ok((at + 1, true));
                    }
                    b'<' | b'>' => return Err(NOT_WELL_FORMED),
                    _ => self.scan = Scan::Declaration(byte == b'?'),
                },
            }
            at += 1;
        }
        Ok((at, false))
    }

    fn deepest(&self) -> u8 {
        self.limits.depth.min(validate::DEEPEST as u8)
    }

    /// Checks a whole unit and makes an event of it; the XML declaration is
    /// none.
    fn unit<'i>(&mut self, unit: Cow<'i, [u8]>) -> Result<Option<Event<'i>>, StreamError> {
        match self.phase {
            Phase::Start if unit.starts_with(b"<?") => {
                declaration(&unit)?;
                self.phase = Phase::Declared;
                Ok(None)
            }
            Phase::Start | Phase::Declared => {
                let header = stream_header(&unit)?;
                self.phase = Phase::Open;
                Ok(Some(Event::Open(header)))
            }
            _ if unit.starts_with(b"</") => {
                if unit[2..unit.len() - 1].trim_ascii_end() != b"stream:stream" {
                    return Err(NOT_WELL_FORMED);
                }
                self.phase = Phase::Closed;
                Ok(Some(Event::Close))
            }
            _ => {
                validate::element(&unit, &self.limits)?;
                Ok(Some(Event::Element(unit)))
            }
        }
    }
}

/// Checks `<?xml version='1.0' encoding='UTF-8'?>`.
fn declaration(unit: &[u8]) -> Result<(), StreamError> {
    let text = validate::text(unit)?;
    let inner = text.strip_prefix("<?xml").ok_or(RESTRICTED)?;
    let inner = inner.strip_suffix("?>").ok_or(NOT_WELL_FORMED)?;
    // The rest has the grammar of attributes in fixed order.
    let closed = format!("{}>", inner.trim_end_matches([' ', '\t', '\r', '\n']));
    let mut cursor = Cursor::new(&closed, 0);
    let mut stage = 0;
    loop {
        match cursor.next()? {
            Next::End { .. } if stage == 0 => return Err(NOT_WELL_FORMED),
            Next::End { empty } => {
                return if empty { Err(NOT_WELL_FORMED) } else { Ok(()) };
            }
            Next::Attribute { name, value } => {
                stage = match (name, stage) {
                    ("version", 0) if value == "1.0" => 1,
                    ("encoding", 1) if value.eq_ignore_ascii_case("utf-8") => 2,
                    ("encoding", 1) => return Err(Condition::UnsupportedEncoding.into()),
                    ("standalone", 1 | 2) if value == "yes" || value == "no" => 3,
                    _ => return Err(NOT_WELL_FORMED),
                };
            }
        }
    }
}

/// Reads the opening tag.
fn stream_header(unit: &[u8]) -> Result<StreamHeader, StreamError> {
    let text = validate::text(unit)?;
    let mut cursor = Cursor::new(text, 0);
    cursor.expect(b'<')?;
    let name = QName::split(cursor.name()?)?;
    let mut header = StreamHeader::default();
    let (mut stream, mut content) = (None, None);
    let mut seen: Vec<&str> = Vec::new();
    loop {
        match cursor.next()? {
            // A stream that is over before it began carries nothing.
            Next::End { empty: true } => return Err(Condition::BadFormat.into()),
            Next::End { empty: false } => break,
            Next::Attribute { name, value } => {
                check_references(value)?;
                QName::split(name)?;
                if seen.contains(&name) || seen.len() == 32 {
                    return Err(NOT_WELL_FORMED);
                }
                seen.push(name);
                let value = unescape(value).into_owned();
                match name {
                    "to" => header.to = Some(value),
                    "from" => header.from = Some(value),
                    "id" => header.id = Some(value),
                    "version" => header.version = Some(value),
                    "xml:lang" => header.lang = Some(value),
                    "xmlns" => content = Some(value),
                    "xmlns:stream" => stream = Some(value),
                    _ => {}
                }
            }
        }
    }
    if cursor.at != unit.len() {
        return Err(Fault::Syntax.into());
    }
    match (name.prefix, name.local) {
        ("stream", "stream") => {}
        (_, "stream") => return Err(Condition::BadNamespacePrefix.into()),
        _ => return Err(Condition::BadFormat.into()),
    }
    let Some(stream) = stream else {
        return Err(Condition::BadNamespacePrefix.into());
    };
    if stream != ns::STREAM || content.as_deref() != Some(ns::CLIENT) {
        return Err(StreamError::new(
            Condition::InvalidNamespace,
            "Open the stream in jabber:client.",
        ));
    }
    Ok(header)
}
