//! Which mechanisms there are.

use ring::{digest, hmac};

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Hash {
    pub(super) fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    pub(super) fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        }
    }

    /// Length of its output in bytes.
    pub fn output_length(self) -> usize {
        self.digest().output_len()
    }
}

/// A SASL mechanism spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// SCRAM with or without channel binding.
    Scram {
        /// Its hash.
        hash: Hash,
        /// Whether it binds to the TLS channel.
        plus: bool,
    },
    /// PLAIN.
    Plain,
}

impl Mechanism {
    /// Every mechanism, best first.
    pub const ALL: [Self; 5] = [
        Self::scram(Hash::Sha256, true),
        Self::scram(Hash::Sha1, true),
        Self::scram(Hash::Sha256, false),
        Self::scram(Hash::Sha1, false),
        Self::Plain,
    ];

    const fn scram(hash: Hash, plus: bool) -> Self {
        Self::Scram { hash, plus }
    }

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scram { hash, plus } => match (hash, plus) {
                (Hash::Sha256, true) => "SCRAM-SHA-256-PLUS",
                (Hash::Sha1, true) => "SCRAM-SHA-1-PLUS",
                (Hash::Sha256, false) => "SCRAM-SHA-256",
                (Hash::Sha1, false) => "SCRAM-SHA-1",
            },
            Self::Plain => "PLAIN",
        }
    }

    /// The mechanism of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
    }

    /// Whether it needs channel binding data.
    pub fn binds_channel(self) -> bool {
        matches!(self, Self::Scram { plus: true, .. })
    }
}
