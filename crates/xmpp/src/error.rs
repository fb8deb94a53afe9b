//! Stream errors (RFC 6120, section 4.9).

use std::fmt;

use crate::{Builder, ns};

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// A stream error condition of RFC 6120, section 4.9.3.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Condition {
            $($(#[$doc])* $name,)*
        }

        impl Condition {
            /// The element name of the condition.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

conditions! {
    /// Well-formed XML that a stream cannot contain there.
    BadFormat => "bad-format",
    /// A namespace prefix that is not declared within the element.
    BadNamespacePrefix => "bad-namespace-prefix",
    /// The stream was replaced by a newer one of the same identity.
    Conflict => "conflict",
    /// The peer did not answer or did not finish in time.
    ConnectionTimeout => "connection-timeout",
    /// The domain is no longer served.
    HostGone => "host-gone",
    /// The domain is not served here.
    HostUnknown => "host-unknown",
    /// `to` or `from` is missing or not an address.
    ImproperAddressing => "improper-addressing",
    /// A fault of our own.
    InternalServerError => "internal-server-error",
    /// `from` is not the authenticated identity.
    InvalidFrom => "invalid-from",
    /// The stream's or an element's namespace is wrong.
    InvalidNamespace => "invalid-namespace",
    /// XML that does not fit its schema.
    InvalidXml => "invalid-xml",
    /// The peer sent data before it was allowed to.
    NotAuthorized => "not-authorized",
    /// XML that is not well-formed, or not UTF-8.
    NotWellFormed => "not-well-formed",
    /// A limit or rule of this server.
    PolicyViolation => "policy-violation",
    /// Another server or component could not be reached.
    RemoteConnectionFailed => "remote-connection-failed",
    /// The stream must be negotiated again.
    Reset => "reset",
    /// The server has no room for the stream.
    ResourceConstraint => "resource-constraint",
    /// A comment, processing instruction, DTD or entity.
    RestrictedXml => "restricted-xml",
    /// The server is going down.
    SystemShutdown => "system-shutdown",
    /// Anything else.
    UndefinedCondition => "undefined-condition",
    /// An encoding other than UTF-8.
    UnsupportedEncoding => "unsupported-encoding",
    /// A stream feature that is mandatory to the peer, or unknown.
    UnsupportedFeature => "unsupported-feature",
    /// A first-level element of unknown name.
    UnsupportedStanzaType => "unsupported-stanza-type",
    /// A stream version below 1.0.
    UnsupportedVersion => "unsupported-version",
}

/// A stream error: the stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The defined condition.
    pub condition: Condition,
    /// What the peer's developer should know; empty for none.
    pub text: &'static str,
}

impl StreamError {
    /// An error with words.
    pub const fn new(condition: Condition, text: &'static str) -> Self {
        Self { condition, text }
    }

    /// The `<stream:error/>` element followed by the end of the stream.
    pub fn to_closing_bytes(self) -> Vec<u8> {
        let mut xml = Builder::new();
        xml.start("stream:error");
        xml.start(self.condition.name())
            .attribute("xmlns", ns::STREAM_ERRORS)
            .end();
        if !self.text.is_empty() {
            xml.start("text")
                .attribute("xmlns", ns::STREAM_ERRORS)
                .attribute("xml:lang", "en")
                .text(self.text)
                .end();
        }
        xml.end();
        let mut bytes = xml.finish();
        bytes.extend_from_slice(b"</stream:stream>");
        bytes
    }
}

impl From<Condition> for StreamError {
    fn from(condition: Condition) -> Self {
        Self::new(condition, "")
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.name())?;
        if !self.text.is_empty() {
            write!(f, " ({})", self.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for StreamError {}
