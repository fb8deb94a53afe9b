//! Frames between the routers of a cluster's nodes.
//!
//! Each router connects to each other one, and sends over the connection that
//! it made; what comes back there are answers. So one connection carries one
//! direction, and neither side depends on the other's attempts.
//!
//! | frame | when |
//! |---|---|
//! | [`PeerFrame::Hello`] | once, as the first frame |
//! | [`PeerReply::Welcome`] | once, as the answer to Hello |
//! | [`PeerFrame::Serves`] | after Welcome, and whenever it changes |
//! | numbered frames | after Welcome; numbers only grow over all connections of one instance. What was not handled is sent again, in order and with its number, on the next connection |
//! | [`PeerReply::Handled`], [`PeerReply::Refused`] | once for each numbered frame, in any order; again for one that is sent again |
//! | [`PeerFrame::Ping`], [`PeerReply::Pong`] | every now and then, so that silence means something |
//! | [`PeerFrame::Bye`] | the router stops |

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::{Fields, put, put_text};
use crate::{Frame, ProtocolError};

/// Most addressees of one [`PeerFrame::Presence`].
pub const ADDRESSEES: usize = 500;

/// What a router tells another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerFrame {
    /// Who connects; which node it is, the connection's certificate says.
    Hello {
        /// Protocol version: [`crate::VERSION`].
        version: u16,
        /// A number that differs at each start of the router.
        instance: u64,
    },
    /// Homes whose users this node serves, with the epoch of each claim. What
    /// was said before is void.
    Serves {
        /// Home node and epoch.
        homes: Vec<(String, u64)>,
    },
    /// A stanza with `from` and `to` for a user that the other node serves.
    Stanza {
        /// Its number.
        number: u64,
        /// The stanza.
        element: Bytes,
    },
    /// A presence stanza without `to` for several users that the other node
    /// serves, [`ADDRESSEES`] at most.
    Presence {
        /// Its number.
        number: u64,
        /// The stanza.
        element: Bytes,
        /// Local parts of the addressees.
        to: Vec<String>,
    },
    /// All presence of this node's users follows; what was known before and
    /// does not come again before [`PeerFrame::Synced`] is over.
    Resync {
        /// Its number.
        number: u64,
    },
    /// The end of it.
    Synced {
        /// Its number.
        number: u64,
    },
    /// Messages for a user were stored while the other node was not reached:
    /// they come before what follows for that user.
    Stored {
        /// Its number.
        number: u64,
        /// Local part of the user's address.
        user: String,
        /// Sequence of the last one.
        sequence: i64,
    },
    /// Wants a [`PeerReply::Pong`].
    Ping,
    /// The router stops: its users are gone.
    Bye,
}

/// What the other one answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerReply {
    /// The connection is taken.
    Welcome {
        /// Protocol version: [`crate::VERSION`].
        version: u16,
        /// A number that differs at each start of the router.
        instance: u64,
        /// Whether the presence of the other node's users is not known any
        /// more and must be told anew.
        forgot: bool,
    },
    /// These frames are handled: what was to be stored is durable.
    Handled {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// These stanzas are for users that this node does not serve.
    Refused {
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// Answer to [`PeerFrame::Ping`].
    Pong,
}

mod kind {
    pub(super) const HELLO: u8 = 128;
    pub(super) const SERVES: u8 = 129;
    pub(super) const STANZA: u8 = 130;
    pub(super) const PRESENCE: u8 = 131;
    pub(super) const RESYNC: u8 = 132;
    pub(super) const SYNCED: u8 = 133;
    pub(super) const STORED: u8 = 134;
    pub(super) const PING: u8 = 135;
    pub(super) const BYE: u8 = 136;
    pub(super) const WELCOME: u8 = 192;
    pub(super) const HANDLED: u8 = 193;
    pub(super) const REFUSED: u8 = 194;
    pub(super) const PONG: u8 = 195;
}

impl PeerFrame {
    /// Number of the frame, if it is one that is answered by its number.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Stanza { number, .. }
            | Self::Presence { number, .. }
            | Self::Resync { number }
            | Self::Synced { number }
            | Self::Stored { number, .. } => Some(*number),
            Self::Hello { .. } | Self::Serves { .. } | Self::Ping | Self::Bye => None,
        }
    }
}

impl Frame for PeerFrame {
    /// A stanza and [`ADDRESSEES`] names, each of the largest size.
    const LIMIT: usize = 2 << 20;

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello { version, instance } => put(out, kind::HELLO, *instance, |out| {
                out.put_u16_le(*version);
            }),
            Self::Serves { homes } => put(out, kind::SERVES, 0, |out| {
                for (home, epoch) in homes {
                    out.put_u64_le(*epoch);
                    put_text(out, home);
                }
            }),
            Self::Stanza { number, element } => put(out, kind::STANZA, *number, |out| {
                out.put_slice(element);
            }),
            Self::Presence {
                number,
                element,
                to,
            } => put(out, kind::PRESENCE, *number, |out| {
                out.put_u16_le(u16::try_from(to.len()).unwrap_or(u16::MAX));
                for user in to {
                    put_text(out, user);
                }
                out.put_slice(element);
            }),
            Self::Resync { number } => put(out, kind::RESYNC, *number, |_| {}),
            Self::Synced { number } => put(out, kind::SYNCED, *number, |_| {}),
            Self::Stored {
                number,
                user,
                sequence,
            } => put(out, kind::STORED, *number, |out| {
                out.put_u64_le(sequence.cast_unsigned());
                put_text(out, user);
            }),
            Self::Ping => put(out, kind::PING, 0, |_| {}),
            Self::Bye => put(out, kind::BYE, 0, |_| {}),
        }
    }

    fn decode(kind: u8, number: u64, payload: Bytes) -> Result<Self, ProtocolError> {
        let mut fields = Fields::new(kind, payload);
        match kind {
            kind::HELLO => {
                let version = fields.u16()?;
                fields.end(Self::Hello {
                    version,
                    instance: number,
                })
            }
            kind::SERVES => {
                let mut homes = Vec::new();
                while !fields.is_empty() {
                    let epoch = fields.u64()?;
                    homes.push((fields.text()?, epoch));
                }
                Ok(Self::Serves { homes })
            }
            kind::STANZA => Ok(Self::Stanza {
                number,
                element: fields.rest(),
            }),
            kind::PRESENCE => {
                let count = usize::from(fields.u16()?);
                if count > ADDRESSEES {
                    return Err(ProtocolError::Malformed { kind });
                }
                let mut to = Vec::with_capacity(count);
                for _ in 0..count {
                    to.push(fields.text()?);
                }
                Ok(Self::Presence {
                    number,
                    element: fields.rest(),
                    to,
                })
            }
            kind::RESYNC => fields.end(Self::Resync { number }),
            kind::SYNCED => fields.end(Self::Synced { number }),
            kind::STORED => {
                let sequence = fields.u64()?.cast_signed();
                let user = fields.text()?;
                fields.end(Self::Stored {
                    number,
                    user,
                    sequence,
                })
            }
            kind::PING => fields.end(Self::Ping),
            kind::BYE => fields.end(Self::Bye),
            _ => Err(ProtocolError::Kind { kind }),
        }
    }
}

fn put_numbers(out: &mut BytesMut, kind: u8, numbers: &[u64]) {
    put(out, kind, 0, |out| {
        for number in numbers {
            out.put_u64_le(*number);
        }
    });
}

fn numbers(mut fields: Fields) -> Result<Vec<u64>, ProtocolError> {
    let mut numbers = Vec::new();
    while !fields.is_empty() {
        numbers.push(fields.u64()?);
    }
    Ok(numbers)
}

impl Frame for PeerReply {
    /// The numbers of all frames that may be on their way.
    const LIMIT: usize = 1 << 20;

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Welcome {
                version,
                instance,
                forgot,
            } => put(out, kind::WELCOME, *instance, |out| {
                out.put_u16_le(*version);
                out.put_u8((*forgot).into());
            }),
            Self::Handled { numbers } => put_numbers(out, kind::HANDLED, numbers),
            Self::Refused { numbers } => put_numbers(out, kind::REFUSED, numbers),
            Self::Pong => put(out, kind::PONG, 0, |_| {}),
        }
    }

    fn decode(kind: u8, number: u64, payload: Bytes) -> Result<Self, ProtocolError> {
        let mut fields = Fields::new(kind, payload);
        match kind {
            kind::WELCOME => {
                let version = fields.u16()?;
                let forgot = fields.flag()?;
                fields.end(Self::Welcome {
                    version,
                    instance: number,
                    forgot,
                })
            }
            kind::HANDLED => Ok(Self::Handled {
                numbers: numbers(fields)?,
            }),
            kind::REFUSED => Ok(Self::Refused {
                numbers: numbers(fields)?,
            }),
            kind::PONG => fields.end(Self::Pong),
            _ => Err(ProtocolError::Kind { kind }),
        }
    }
}
