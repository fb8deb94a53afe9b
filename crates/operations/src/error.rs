//! Why an action did not happen, and what to do next.

use serde::Serialize;

/// What sort of failure it is; faces turn it into an exit status, an HTTP
/// status or a SOAP fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The input is wrong; the text names the field and what is allowed.
    Invalid,
    /// What the input names does not exist.
    NotFound,
    /// A rule of the appliance forbids it now.
    Refused,
    /// The caller's privilege level is too low.
    Forbidden,
    /// A service that is needed does not answer.
    Unavailable,
    /// It was tried and went wrong.
    Failed,
}

/// A failed action. The message is for the administrator and ends with what
/// to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What sort of failure.
    pub kind: Kind,
    /// The sentence to show.
    pub message: String,
}

impl Error {
    /// An error of that kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Wrong input.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// Something named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// A rule forbids it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// A needed service is away.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// It went wrong.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }
}

/// Result of an action.
pub type Result<T> = std::result::Result<T, Error>;
