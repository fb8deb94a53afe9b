//! SASL mechanisms: SCRAM (RFC 5802, RFC 7677) on both sides, and PLAIN
//! (RFC 4616). No I/O; randomness is handed in.

mod client;
mod keys;
mod mechanism;
mod plain;
mod scram;

pub use client::Client;
pub use keys::{InvalidPassword, Keys, prepare_password};
pub use mechanism::{Hash, Mechanism};
pub use plain::Plain;
pub use scram::{ChannelBinding, ClientFirst, Server};

/// Why an exchange failed: the SASL error conditions of RFC 6120, section
/// 6.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The client gave up.
    #[error("aborted")]
    Aborted,
    /// The user may not sign in.
    #[error("account-disabled")]
    AccountDisabled,
    /// The data is not base64.
    #[error("incorrect-encoding")]
    IncorrectEncoding,
    /// The identity to act as is not the user's own.
    #[error("invalid-authzid")]
    InvalidAuthzid,
    /// There is no such mechanism.
    #[error("invalid-mechanism")]
    InvalidMechanism,
    /// The message breaks the mechanism's grammar.
    #[error("malformed-request")]
    MalformedRequest,
    /// Wrong password or no such user; which of the two is not told.
    #[error("not-authorized")]
    NotAuthorized,
    /// A fault of our own, or too many failures: try later.
    #[error("temporary-auth-failure")]
    TemporaryAuthFailure,
}

impl Failure {
    /// The element name of the condition.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }

    /// The condition of that element name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Aborted,
            Self::AccountDisabled,
            Self::IncorrectEncoding,
            Self::InvalidAuthzid,
            Self::InvalidMechanism,
            Self::MalformedRequest,
            Self::NotAuthorized,
            Self::TemporaryAuthFailure,
        ]
        .into_iter()
        .find(|failure| failure.name() == name)
    }
}
