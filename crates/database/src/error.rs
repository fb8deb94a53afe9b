//! What can go wrong for a client.

use std::error::Error as _;

use replication::CommitError;
use tonic::Code;

use crate::Invalid;

/// An error of the database, as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A row, key or file that is not as it must be. Names the field and what
    /// is allowed.
    #[error("{0}")]
    Invalid(String),
    /// An insert found a row with that key.
    #[error("{0}")]
    Exists(String),
    /// A row changed since it was read, so that the transaction's
    /// requirement does not hold. Read again and decide anew.
    #[error("{0}")]
    Changed(String),
    /// The database cannot be reached or cannot commit now. Whether a
    /// transaction that ended so took effect is not known.
    #[error("{0}")]
    Unavailable(String),
    /// This kind of callers may not ask that.
    #[error("{0}")]
    Forbidden(String),
    /// Stored content is damaged; it is not answered.
    #[error("{0}")]
    Damaged(String),
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid.0)
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        let text = error.to_string();
        match error {
            CommitError::TooFew(_) => Self::Invalid(text),
            CommitError::Elsewhere(_)
            | CommitError::Stopped(_)
            | CommitError::Superseded(_)
            | CommitError::NoMajority
            | CommitError::Unconfirmed
            | CommitError::Forgot => Self::Unavailable(text),
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::OutOfRange => Self::Invalid(text),
            Code::AlreadyExists => Self::Exists(text),
            Code::Aborted => Self::Changed(text),
            Code::DataLoss => Self::Damaged(text),
            Code::PermissionDenied => Self::Forbidden(text),
            // The service itself says what it cannot do.
            Code::Unavailable if status.source().is_none() => Self::Unavailable(text),
            _ => Self::Unavailable(format!(
                "the database service does not answer ({text}); see its state with `utils service list`"
            )),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(_) => Self::invalid_argument(text),
            Error::Exists(_) => Self::already_exists(text),
            Error::Changed(_) => Self::aborted(text),
            Error::Unavailable(_) => Self::unavailable(text),
            Error::Damaged(_) => Self::data_loss(text),
            Error::Forbidden(_) => Self::permission_denied(text),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let text = error.to_string();
        if error.is_corruption() {
            Self::Damaged(text)
        } else {
            Self::Unavailable(text)
        }
    }
}
