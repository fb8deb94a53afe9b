//! One client's stream up to the point where the router takes over: a state
//! machine without I/O.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use xcp::DUAL;
use xmpp::sasl::{Failure, Mechanism};
use xmpp::{Builder, Condition, Event, Framer, Header, Jid, Limits, StreamError, StreamHeader, ns};

use crate::dual::Dual;

/// Attempts to authenticate on one connection.
const ATTEMPTS: u8 = 5;

/// What the session must know of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    /// The domain served.
    pub(crate) domain: &'a str,
    /// Kinds of channel binding that the connection can do.
    pub(crate) bindings: &'a [&'static str],
    /// Whether PLAIN is offered, over TLS.
    pub(crate) plain: bool,
    /// Longest element of an authenticated client.
    pub(crate) element: usize,
    /// Whether there is a router to hand the client to.
    pub(crate) router: bool,
    /// The other node of the redundancy group, for dual connections.
    pub(crate) dual: &'a Dual,
}

/// Where the stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for the opening tag of a stream that is not encrypted.
    Greeting,
    /// Waits for STARTTLS.
    Plaintext,
    /// Encrypted; waits for the opening tag.
    Secured,
    /// Waits for a SASL element.
    Authenticating,
    /// A SASL exchange waits for the client's next message.
    Challenged(u64),
    /// Waits for the answer of the authentication service.
    Checking,
    /// Authenticated; waits for the opening tag.
    Authenticated,
    /// The router has it.
    Live,
    /// It is over.
    Over,
}

/// What must be done before the session can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Begin TLS. What is left of the input must not be looked at.
    StartTls,
    /// Begin a SASL exchange.
    Begin {
        mechanism: String,
        initial: Option<Vec<u8>>,
    },
    /// Go on with a SASL exchange.
    Answer { exchange: u64, response: Vec<u8> },
    /// Forget a SASL exchange.
    Abort(u64),
    /// Tell the router of this user's connection.
    Hand { user: String, inactive: bool },
    /// Close the connection; what is to be sent has been.
    End(End),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed its stream.
    Clean,
    /// Somebody broke the protocol, or a limit.
    Error(StreamError),
}

/// A client's stream.
#[derive(Debug)]
pub(crate) struct Session {
    framer: Framer,
    phase: Phase,
    attempts: u8,
    /// The bare JID, between SASL and the router.
    user: Option<Box<str>>,
    /// Whether the client wants the connection to be inactive.
    inactive: bool,
    /// Whether our opening tag of the present stream was sent.
    opened: bool,
}

impl Session {
    /// A session on a new connection; `secure` when TLS comes first.
    pub(crate) fn new(secure: bool) -> Self {
        Self {
            framer: Framer::new(Limits::BEFORE_AUTHENTICATION),
            phase: if secure {
                Phase::Secured
            } else {
                Phase::Greeting
            },
            attempts: 0,
            user: None,
            inactive: false,
            opened: false,
        }
    }

    /// Whether the client has not proven yet who it is.
    pub(crate) fn is_anonymous(&self) -> bool {
        !matches!(self.phase, Phase::Authenticated | Phase::Live)
    }

    /// Takes input until something must be done or more is needed. Elements
    /// for the router go to `forward`, bytes for the client to `out`.
    pub(crate) fn feed(
        &mut self,
        input: &mut &[u8],
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
        mut forward: impl FnMut(&[u8]),
    ) -> Option<Need> {
        while self.phase != Phase::Checking && self.phase != Phase::Over {
            let need = match self.framer.next(input) {
                Ok(None) => return None,
                Ok(Some(Event::Element(element))) if self.phase == Phase::Live => {
                    forward(&element);
                    Ok(None)
                }
                Ok(Some(event)) => self.event(event, world, out),
                Err(error) => Err(error),
            };
            match need {
                Ok(None) => {}
                Ok(Some(need)) => return Some(need),
                Err(error) => return Some(self.fail(error, world, out)),
            }
        }
        None
    }

    /// Ends the session with a stream error.
    pub(crate) fn fail(
        &mut self,
        error: StreamError,
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Need {
        if self.phase != Phase::Over {
            // An error needs a stream to stand in.
            self.open(world, out);
            out.extend_from_slice(&error.to_closing_bytes());
            self.phase = Phase::Over;
        }
        Need::End(End::Error(error))
    }

    /// TLS was negotiated after [`Need::StartTls`].
    pub(crate) fn secured(&mut self) {
        self.framer.restart();
        self.phase = Phase::Secured;
        self.opened = false;
    }

    /// The SASL exchange goes on.
    pub(crate) fn challenge(&mut self, exchange: u64, data: &[u8], out: &mut Vec<u8>) {
        sasl("challenge", data, out);
        self.phase = Phase::Challenged(exchange);
    }

    /// The client is authenticated.
    pub(crate) fn succeed(
        &mut self,
        user: &str,
        data: Option<&[u8]>,
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) {
        sasl("success", data.unwrap_or_default(), out);
        self.user = Some(user.into());
        self.framer.restart();
        self.framer.set_limits(Limits {
            element: world.element,
            ..Limits::AUTHENTICATED
        });
        self.phase = Phase::Authenticated;
        self.opened = false;
    }

    /// The client is not authenticated. It may try again, a few times.
    pub(crate) fn refuse(
        &mut self,
        failure: Failure,
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Need> {
        let mut xml = Builder::new();
        xml.start("failure").attribute("xmlns", ns::SASL);
        xml.start(failure.name());
        out.extend_from_slice(&xml.finish());
        self.phase = Phase::Authenticating;
        self.attempts += 1;
        (self.attempts >= ATTEMPTS).then(|| {
            let error = StreamError::new(
                Condition::PolicyViolation,
                "Too many attempts to authenticate.",
            );
            self.fail(error, world, out)
        })
    }

    fn event(
        &mut self,
        event: Event<'_>,
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Need>, StreamError> {
        match event {
            Event::Open(header) => self.opening(&header, world, out),
            Event::Close => {
                out.extend_from_slice(b"</stream:stream>");
                self.phase = Phase::Over;
                Ok(Some(Need::End(End::Clean)))
            }
            Event::Element(element) => self.element(&element, world, out),
        }
    }

    /// The client opened a stream: answer with ours, and what it can do next.
    fn opening(
        &mut self,
        header: &StreamHeader,
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Need>, StreamError> {
        self.open(world, out);
        let served = header.to.as_deref().is_some_and(|to| {
            to == world.domain || Jid::new(to).is_ok_and(|to| to.as_str() == world.domain)
        });
        if !served {
            return Err(Condition::HostUnknown.into());
        }
        let major = header.version.as_deref().and_then(|v| v.split('.').next());
        if !major.is_some_and(|major| major.parse::<u8>().is_ok_and(|major| major >= 1)) {
            return Err(Condition::UnsupportedVersion.into());
        }
        if !world.router {
            return Err(StreamError::new(
                Condition::SystemShutdown,
                "The service is starting; try again in a moment.",
            ));
        }
        let mut xml = Builder::after(std::mem::take(out));
        xml.start("stream:features");
        let need = match self.phase {
            Phase::Greeting => {
                xml.start("starttls").attribute("xmlns", ns::TLS);
                xml.start("required").end().end();
                self.phase = Phase::Plaintext;
                None
            }
            Phase::Secured => {
                self.offer_mechanisms(world, &mut xml);
                world.dual.offer(&mut xml);
                self.phase = Phase::Authenticating;
                None
            }
            _ => {
                offer_session(world, &mut xml);
                world.dual.offer(&mut xml);
                self.phase = Phase::Live;
                let inactive = self.inactive;
                self.user.take().map(|user| Need::Hand {
                    user: user.into(),
                    inactive,
                })
            }
        };
        *out = xml.finish();
        Ok(need)
    }

    fn offer_mechanisms(&self, world: &Surroundings<'_>, xml: &mut Builder) {
        xml.start("mechanisms").attribute("xmlns", ns::SASL);
        for mechanism in Mechanism::ALL {
            if offered(mechanism, world) {
                xml.start("mechanism").text(mechanism.name()).end();
            }
        }
        xml.end();
        if !world.bindings.is_empty() {
            xml.start("sasl-channel-binding")
                .attribute("xmlns", ns::SASL_CHANNEL_BINDING);
            for kind in world.bindings {
                xml.start("channel-binding").attribute("type", kind).end();
            }
            xml.end();
        }
    }

    /// An element before the router has the client.
    fn element(
        &mut self,
        element: &[u8],
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Need>, StreamError> {
        let header = Header::parse(element).map_err(|_| Condition::InternalServerError)?;
        match (&self.phase, header.xmlns(), header.name()) {
            (Phase::Plaintext, ns::TLS, "starttls") => {
                let mut xml = Builder::new();
                xml.start("proceed").attribute("xmlns", ns::TLS);
                out.extend_from_slice(&xml.finish());
                Ok(Some(Need::StartTls))
            }
            (Phase::Plaintext, ns::SASL, "auth") => {
                let mut xml = Builder::new();
                xml.start("failure").attribute("xmlns", ns::SASL);
                xml.start("encryption-required");
                out.extend_from_slice(&xml.finish());
                Err(StreamError::new(
                    Condition::PolicyViolation,
                    "Begin TLS before you authenticate.",
                ))
            }
            (Phase::Authenticating, DUAL, "inactive") if world.dual.is_offered() => {
                self.inactive = true;
                Ok(None)
            }
            (Phase::Authenticating | Phase::Challenged(_), ns::SASL, name) => {
                Ok(self.sasl(name, element, &header, world, out))
            }
            _ => Err(StreamError::new(
                Condition::NotAuthorized,
                "Authenticate before you send anything else.",
            )),
        }
    }

    fn sasl(
        &mut self,
        name: &str,
        element: &[u8],
        header: &Header<'_>,
        world: &Surroundings<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Need> {
        let exchange = match self.phase {
            Phase::Challenged(exchange) => Some(exchange),
            _ => None,
        };
        let content = std::str::from_utf8(header.content()).unwrap_or("!").trim();
        let data = match content {
            // An equals sign stands for data of no length.
            "" | "=" => Some(Vec::new()),
            _ => STANDARD.decode(content).ok(),
        };
        match (name, exchange, data) {
            ("auth", None, Some(data)) => {
                let mechanism = xmpp::Element::parse(element)
                    .ok()
                    .and_then(|auth| auth.attribute("mechanism").map(str::to_owned))
                    .unwrap_or_default();
                let known = Mechanism::from_name(&mechanism);
                if !known.is_some_and(|mechanism| offered(mechanism, world)) {
                    return self.refuse(Failure::InvalidMechanism, world, out);
                }
                self.phase = Phase::Checking;
                Some(Need::Begin {
                    mechanism,
                    initial: (!content.is_empty()).then_some(data),
                })
            }
            ("response", Some(exchange), Some(response)) => {
                self.phase = Phase::Checking;
                Some(Need::Answer { exchange, response })
            }
            ("abort", Some(exchange), _) => {
                let over = self.refuse(Failure::Aborted, world, out);
                Some(over.unwrap_or(Need::Abort(exchange)))
            }
            ("auth", None, None) | ("response", Some(_), None) => {
                self.refuse(Failure::IncorrectEncoding, world, out)
            }
            _ => self.refuse(Failure::MalformedRequest, world, out),
        }
    }

    /// Sends the opening tag of our stream, unless it was sent.
    fn open(&mut self, world: &Surroundings<'_>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.opened, true) {
            return;
        }
        let mut xml = Builder::after(std::mem::take(out));
        xml.raw(b"<?xml version='1.0'?>");
        xml.start("stream:stream")
            .attribute("xmlns", ns::CLIENT)
            .attribute("xmlns:stream", ns::STREAM)
            .attribute("id", &stream_id())
            .attribute("from", world.domain)
            .attribute("version", "1.0")
            .attribute("xml:lang", "en");
        *out = xml.finish_open();
    }
}

fn offered(mechanism: Mechanism, world: &Surroundings<'_>) -> bool {
    (mechanism != Mechanism::Plain || world.plain)
        && (!mechanism.binds_channel() || !world.bindings.is_empty())
}

/// What an authenticated client can do: the router's part of the protocol.
fn offer_session(world: &Surroundings<'_>, xml: &mut Builder) {
    xml.start("bind").attribute("xmlns", ns::BIND).end();
    xml.start("session").attribute("xmlns", ns::SESSION);
    xml.start("optional").end().end();
    for (name, namespace) in [
        ("sm", ns::STREAM_MANAGEMENT),
        ("ver", ns::ROSTER_VERSIONING),
        ("sub", ns::PRE_APPROVAL),
    ] {
        xml.start(name).attribute("xmlns", namespace).end();
    }
    xml.start("limits").attribute("xmlns", ns::STREAM_LIMITS);
    xml.start("max-bytes")
        .text(&world.element.to_string())
        .end()
        .end();
}

fn sasl(name: &'static str, data: &[u8], out: &mut Vec<u8>) {
    let mut xml = Builder::after(std::mem::take(out));
    xml.start(name).attribute("xmlns", ns::SASL);
    if !data.is_empty() {
        xml.text(&STANDARD.encode(data));
    }
    *out = xml.finish();
}

/// An id that cannot be guessed. Nothing here depends on that, but RFC 6120
/// asks for it.
fn stream_id() -> String {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 12];
    // Without randomness TLS would not have come this far.
    let _ = SystemRandom::new().fill(&mut bytes);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
