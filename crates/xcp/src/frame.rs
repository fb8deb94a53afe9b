//! Frames and their codec. No I/O: bytes in, frames out.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Version of this protocol; both sides must have the same one. They are
/// always of one build, so there is nothing to negotiate.
pub const VERSION: u16 = 1;

/// Length prefix, kind and connection.
const HEAD: usize = 4 + 1 + 8;

/// Why a link is closed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// A frame is longer than its direction allows.
    #[error("a frame of {length} bytes is longer than the {limit} allowed")]
    TooLong {
        /// Length that the frame claims.
        length: usize,
        /// Longest allowed.
        limit: usize,
    },
    /// A frame is shorter than what its kind holds, or has bytes left over.
    #[error("a frame of kind {kind} is malformed")]
    Malformed {
        /// The frame's kind.
        kind: u8,
    },
    /// No frame in this direction has that kind.
    #[error("no frame is of kind {kind}")]
    Kind {
        /// The frame's kind.
        kind: u8,
    },
    /// The other side speaks another version.
    #[error(
        "the other side speaks version {0} of the link, this one {VERSION}; restart both after an upgrade"
    )]
    Version(u16),
    /// A frame came when it was not allowed.
    #[error("{0}")]
    OutOfTurn(&'static str),
}

/// A frame of one direction.
pub trait Frame: Sized {
    /// Longest payload of this direction.
    const LIMIT: usize;

    /// Appends the frame to `out`.
    fn encode(&self, out: &mut BytesMut);

    /// Reads a frame from its parts.
    fn decode(kind: u8, connection: u64, payload: Bytes) -> Result<Self, ProtocolError>;
}

/// What a component tells the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRouter {
    /// Who connects.
    Hello {
        /// Protocol version of the component: [`VERSION`].
        version: u16,
        /// Id of its service, such as `xmpp-connection-manager`.
        component: String,
        /// A number that differs at each start of the component.
        instance: u64,
    },
    /// A client signed in.
    Authenticated {
        /// The connection.
        connection: u64,
        /// Bare JID, prepared (the localpart's case folded).
        user: String,
        /// The client's address and port.
        peer: String,
        /// Whether the stream is encrypted.
        secure: bool,
        /// Whether the client wants the connection to be inactive
        /// ([`crate::DUAL`]).
        inactive: bool,
    },
    /// A complete first-level element from the client.
    Element {
        /// The connection.
        connection: u64,
        /// The element.
        element: Bytes,
    },
    /// The client is gone.
    Closed {
        /// The connection.
        connection: u64,
        /// Whether it ended its stream in order; otherwise it may resume.
        clean: bool,
    },
    /// Too much waits to be written to the client.
    Congested {
        /// The connection.
        connection: u64,
    },
    /// The client takes bytes again.
    Relieved {
        /// The connection.
        connection: u64,
    },
    /// Everything before a mark was written.
    Written {
        /// The connection.
        connection: u64,
        /// The mark's token.
        token: u64,
    },
    /// The component serves this host: its stanzas go there.
    Serve {
        /// Host part of the JIDs served.
        host: String,
    },
    /// A stanza from a served host, with `from` and `to`.
    Stanza {
        /// The stanza.
        element: Bytes,
    },
}

/// What the router tells a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToComponent {
    /// The router takes the component.
    Welcome {
        /// Protocol version of the router: [`VERSION`].
        version: u16,
        /// A number that differs at each start of the router.
        instance: u64,
        /// The domain that the router serves.
        domain: String,
    },
    /// Bytes of a complete element to write to the client.
    Element {
        /// The connection.
        connection: u64,
        /// The element.
        element: Bytes,
    },
    /// Write these bytes, end the stream, close the connection.
    Close {
        /// The connection.
        connection: u64,
        /// A stream error, or nothing.
        last: Bytes,
    },
    /// Answer with [`ToRouter::Written`] once all before this was written.
    Mark {
        /// The connection.
        connection: u64,
        /// Returned in the answer.
        token: u64,
    },
    /// A stanza for a served host, with `from` and `to`.
    Stanza {
        /// The stanza.
        element: Bytes,
    },
}

/// Writes head and payload; the length is known only afterwards.
pub(crate) fn put(
    out: &mut BytesMut,
    kind: u8,
    connection: u64,
    payload: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    out.put_u64_le(connection);
    payload(out);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

pub(crate) fn put_text(out: &mut BytesMut, text: &str) {
    // A text is a name, a JID (at most 3071 bytes) or an address.
    let length = text.len().min(usize::from(u16::MAX));
    out.put_u16_le(u16::try_from(length).unwrap_or(u16::MAX));
    out.put_slice(&text.as_bytes()[..length]);
}

/// Reads the fields of one payload.
pub(crate) struct Fields {
    kind: u8,
    rest: Bytes,
}

impl Fields {
    pub(crate) fn new(kind: u8, payload: Bytes) -> Self {
        Self {
            kind,
            rest: payload,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub(crate) fn rest(self) -> Bytes {
        self.rest
    }

    fn need(&self, length: usize) -> Result<(), ProtocolError> {
        if self.rest.len() < length {
            return Err(ProtocolError::Malformed { kind: self.kind });
        }
        Ok(())
    }

    fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    pub(crate) fn flag(&mut self) -> Result<bool, ProtocolError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ProtocolError::Malformed { kind: self.kind }),
        }
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.need(2)?;
        Ok(self.rest.get_u16_le())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.need(8)?;
        Ok(self.rest.get_u64_le())
    }

    pub(crate) fn text(&mut self) -> Result<String, ProtocolError> {
        let length = usize::from(self.u16()?);
        self.need(length)?;
        String::from_utf8(self.rest.split_to(length).into())
            .map_err(|_| ProtocolError::Malformed { kind: self.kind })
    }

    /// The frame, if nothing of the payload is left.
    pub(crate) fn end<T>(self, frame: T) -> Result<T, ProtocolError> {
        if !self.rest.is_empty() {
            return Err(ProtocolError::Malformed { kind: self.kind });
        }
        Ok(frame)
    }
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const AUTHENTICATED: u8 = 2;
    pub(super) const ELEMENT: u8 = 3;
    pub(super) const CLOSED: u8 = 4;
    pub(super) const CONGESTED: u8 = 5;
    pub(super) const RELIEVED: u8 = 6;
    pub(super) const WRITTEN: u8 = 7;
    pub(super) const SERVE: u8 = 8;
    pub(super) const STANZA: u8 = 9;
    pub(super) const WELCOME: u8 = 64;
    pub(super) const TO_CLIENT: u8 = 65;
    pub(super) const CLOSE: u8 = 66;
    pub(super) const MARK: u8 = 67;
    pub(super) const TO_HOST: u8 = 68;
}

/// A connection number, which must not be 0.
fn numbered(kind: u8, connection: u64) -> Result<u64, ProtocolError> {
    if connection == 0 {
        return Err(ProtocolError::Malformed { kind });
    }
    Ok(connection)
}

impl Frame for ToRouter {
    /// A client's element may have 512 KiB at most after sign-in; this leaves
    /// room for whatever a component adds.
    const LIMIT: usize = 1 << 20;

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello {
                version,
                component,
                instance,
            } => put(out, kind::HELLO, 0, |out| {
                out.put_u16_le(*version);
                out.put_u64_le(*instance);
                put_text(out, component);
            }),
            Self::Authenticated {
                connection,
                user,
                peer,
                secure,
                inactive,
            } => put(out, kind::AUTHENTICATED, *connection, |out| {
                out.put_u8((*secure).into());
                out.put_u8((*inactive).into());
                put_text(out, user);
                put_text(out, peer);
            }),
            Self::Element {
                connection,
                element,
            } => put(out, kind::ELEMENT, *connection, |out| {
                out.put_slice(element);
            }),
            Self::Closed { connection, clean } => put(out, kind::CLOSED, *connection, |out| {
                out.put_u8((*clean).into());
            }),
            Self::Congested { connection } => put(out, kind::CONGESTED, *connection, |_| {}),
            Self::Relieved { connection } => put(out, kind::RELIEVED, *connection, |_| {}),
            Self::Written { connection, token } => put(out, kind::WRITTEN, *connection, |out| {
                out.put_u64_le(*token);
            }),
            Self::Serve { host } => put(out, kind::SERVE, 0, |out| put_text(out, host)),
            Self::Stanza { element } => put(out, kind::STANZA, 0, |out| out.put_slice(element)),
        }
    }

    fn decode(kind: u8, connection: u64, payload: Bytes) -> Result<Self, ProtocolError> {
        let mut fields = Fields::new(kind, payload);
        match kind {
            kind::HELLO => {
                let version = fields.u16()?;
                let instance = fields.u64()?;
                let component = fields.text()?;
                fields.end(Self::Hello {
                    version,
                    component,
                    instance,
                })
            }
            kind::AUTHENTICATED => {
                let connection = numbered(kind, connection)?;
                let secure = fields.flag()?;
                let inactive = fields.flag()?;
                let user = fields.text()?;
                let peer = fields.text()?;
                fields.end(Self::Authenticated {
                    connection,
                    user,
                    peer,
                    secure,
                    inactive,
                })
            }
            kind::ELEMENT => Ok(Self::Element {
                connection: numbered(kind, connection)?,
                element: fields.rest,
            }),
            kind::CLOSED => {
                let connection = numbered(kind, connection)?;
                let clean = fields.flag()?;
                fields.end(Self::Closed { connection, clean })
            }
            kind::CONGESTED => {
                let connection = numbered(kind, connection)?;
                fields.end(Self::Congested { connection })
            }
            kind::RELIEVED => {
                let connection = numbered(kind, connection)?;
                fields.end(Self::Relieved { connection })
            }
            kind::WRITTEN => {
                let connection = numbered(kind, connection)?;
                let token = fields.u64()?;
                fields.end(Self::Written { connection, token })
            }
            kind::SERVE => {
                let host = fields.text()?;
                fields.end(Self::Serve { host })
            }
            kind::STANZA => Ok(Self::Stanza {
                element: fields.rest,
            }),
            _ => Err(ProtocolError::Kind { kind }),
        }
    }
}

impl Frame for ToComponent {
    /// The largest is the roster of a user with very many contacts.
    const LIMIT: usize = 16 << 20;

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Welcome {
                version,
                instance,
                domain,
            } => put(out, kind::WELCOME, 0, |out| {
                out.put_u16_le(*version);
                out.put_u64_le(*instance);
                put_text(out, domain);
            }),
            Self::Element {
                connection,
                element,
            } => put(out, kind::TO_CLIENT, *connection, |out| {
                out.put_slice(element);
            }),
            Self::Close { connection, last } => put(out, kind::CLOSE, *connection, |out| {
                out.put_slice(last);
            }),
            Self::Mark { connection, token } => put(out, kind::MARK, *connection, |out| {
                out.put_u64_le(*token);
            }),
            Self::Stanza { element } => put(out, kind::TO_HOST, 0, |out| out.put_slice(element)),
        }
    }

    fn decode(kind: u8, connection: u64, payload: Bytes) -> Result<Self, ProtocolError> {
        let mut fields = Fields::new(kind, payload);
        match kind {
            kind::WELCOME => {
                let version = fields.u16()?;
                let instance = fields.u64()?;
                let domain = fields.text()?;
                fields.end(Self::Welcome {
                    version,
                    instance,
                    domain,
                })
            }
            kind::TO_CLIENT => Ok(Self::Element {
                connection: numbered(kind, connection)?,
                element: fields.rest,
            }),
            kind::CLOSE => Ok(Self::Close {
                connection: numbered(kind, connection)?,
                last: fields.rest,
            }),
            kind::MARK => {
                let connection = numbered(kind, connection)?;
                let token = fields.u64()?;
                fields.end(Self::Mark { connection, token })
            }
            kind::TO_HOST => Ok(Self::Stanza {
                element: fields.rest,
            }),
            _ => Err(ProtocolError::Kind { kind }),
        }
    }
}

impl ToRouter {
    /// Appends a [`ToRouter::Element`] from borrowed bytes, which a component
    /// need not own.
    pub fn encode_element(out: &mut BytesMut, connection: u64, element: &[u8]) {
        put(out, kind::ELEMENT, connection, |out| out.put_slice(element));
    }
}

impl ToComponent {
    /// Appends an [`ToComponent::Element`] from borrowed pieces: the router's
    /// hot path, which never owns the element.
    pub fn encode_element(out: &mut BytesMut, connection: u64, pieces: &[&[u8]]) {
        put(out, kind::TO_CLIENT, connection, |out| {
            for piece in pieces {
                out.put_slice(piece);
            }
        });
    }
}

/// Cuts a byte stream into frames of one direction.
#[derive(Debug)]
pub struct Decoder<F> {
    buffer: BytesMut,
    direction: PhantomData<fn() -> F>,
}

impl<F> Default for Decoder<F> {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            direction: PhantomData,
        }
    }
}

impl<F: Frame> Decoder<F> {
    /// Where the bytes that were read go.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next complete frame. Payloads share the buffer, so what is kept for
    /// long should be copied.
    pub fn next_frame(&mut self) -> Result<Option<F>, ProtocolError> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [a, b, c, d, kind, connection @ ..] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let limit = F::LIMIT + HEAD - 4;
        if length > limit {
            return Err(ProtocolError::TooLong { length, limit });
        }
        if length < HEAD - 4 {
            return Err(ProtocolError::Malformed { kind });
        }
        if self.buffer.len() < 4 + length {
            self.buffer.reserve(4 + length - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(4 + length);
        frame.advance(HEAD);
        F::decode(kind, u64::from_le_bytes(connection), frame.freeze()).map(Some)
    }
}
