//! What can go wrong in the store.

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Content that is not what was written. It is never answered.
    #[error(
        "the store is damaged: {0}. It is set aside and rebuilt from snapshot and log at the \
         next start of the database service"
    )]
    Corrupt(String),
    /// Rows without a position: a load from a snapshot did not end.
    #[error("the store was being filled from a snapshot and is not complete")]
    Incomplete,
    /// The operating system refused, or the disk is full.
    #[error("the store could not be read or written: {0}. Check the disk's space and health")]
    Io(String),
}

impl Error {
    /// Whether the content is damaged, so that only a rebuild helps.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::Incomplete)
    }
}

impl From<sled::Error> for Error {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => {
                Self::Corrupt(error.to_string())
            }
            other => Self::Io(other.to_string()),
        }
    }
}
