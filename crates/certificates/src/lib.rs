//! Certificates of a node: its authority, and the certificates each component
//! serves with.
//!
//! A cluster has one [`Authority`], made when its first node is set up. It
//! signs one certificate for each [`Component`] of each node. Everything goes
//! in and out as PEM; where the files lie is the callers' affair.

mod authority;
mod identity;
mod read;
mod verify;

pub use authority::{
    AUTHORITY_YEARS, Authority, CERTIFICATE_YEARS, Issued, Names, NodeKey, Subject,
};
pub use identity::Identity;
pub use read::Certificate;
pub use verify::verify;

/// What a certificate is for; the name of its folder below
/// `/etc/signalbox/certificates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The web front.
    Tomcat,
    /// XMPP clients.
    Xmpp,
    /// Connections between the nodes of the cluster; its names are an
    /// [`Identity`] and nothing else.
    Cluster,
}

impl Component {
    /// Every component that has a certificate.
    pub const ALL: [Self; 3] = [Self::Tomcat, Self::Xmpp, Self::Cluster];

    /// The name that administrators know it by, and its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tomcat => "tomcat",
            Self::Xmpp => "xmpp",
            Self::Cluster => "cluster",
        }
    }
}

/// Why something could not be done with a certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key could not be made.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The system gave no random numbers.
    #[error("the system has no random numbers; no certificate can be made now")]
    Random,
    /// PEM text that is not a certificate.
    #[error("this is not a certificate in PEM form ({0}). It begins with a BEGIN CERTIFICATE line")]
    Read(String),
    /// A certificate that must not be trusted.
    #[error("the certificate is not to be trusted: {0}")]
    Untrusted(String),
    /// A name that no certificate can be for.
    #[error("{0:?} is neither a host name nor an address")]
    Name(String),
}
