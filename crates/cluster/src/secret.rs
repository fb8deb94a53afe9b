//! What a node keeps of the security password, and what it proves by it.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// Costs of the derivation: memory in KiB, passes, lanes.
const COSTS: (u32, u32, u32) = (64 * 1024, 3, 1);
/// More than this is not spent for anybody.
const HIGHEST: (u32, u32, u32) = (1024 * 1024, 16, 4);
const FUNCTION: &str = "argon2id";

/// What is wrong with a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(String);

/// A key derived from the security password, the same on every node of a
/// cluster. The password itself is not kept. A node that joins is told salt
/// and costs, derives the same key, and both sides prove that they have it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The function.
    pub function: String,
    /// Memory in KiB.
    pub memory: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// Salt, base64.
    pub salt: String,
    /// The derived key of 32 bytes, base64.
    pub key: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The node that joins.
    Candidate,
    /// The cluster that it joins.
    Publisher,
}

impl Side {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Candidate => b"signalbox join candidate",
            Self::Publisher => b"signalbox join publisher",
        }
    }
}

impl Secret {
    /// Derives the key with a new salt.
    pub fn derive(password: &str) -> Result<Self, SecretError> {
        let mut salt = [0u8; 16];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| SecretError("the system has no random numbers".into()))?;
        Self::derive_with(password, &salt, COSTS)
    }

    /// Derives the key as a cluster told. Lower costs than our own are
    /// refused: somebody may only want a proof that is cheap to guess from.
    pub(crate) fn derive_as_told(
        password: &str,
        function: &str,
        salt: &[u8],
        costs: (u32, u32, u32),
    ) -> Result<Self, SecretError> {
        let low = costs.0 < COSTS.0 || costs.1 < COSTS.1 || costs.2 < COSTS.2;
        let high = costs.0 > HIGHEST.0 || costs.1 > HIGHEST.1 || costs.2 > HIGHEST.2;
        if function != FUNCTION || low || high || salt.len() < 16 {
            return Err(SecretError(
                "the other side wants the security password derived in a way that this version \
                 does not use; it may not be a publisher"
                    .into(),
            ));
        }
        Self::derive_with(password, salt, costs)
    }

    fn derive_with(
        password: &str,
        salt: &[u8],
        (memory, passes, lanes): (u32, u32, u32),
    ) -> Result<Self, SecretError> {
        let mut key = [0u8; 32];
        Params::new(memory, passes, lanes, Some(key.len()))
            .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
            .and_then(|argon2| argon2.hash_password_into(password.as_bytes(), salt, &mut key))
            .map_err(|error| {
                SecretError(format!("the security password cannot be derived: {error}"))
            })?;
        Ok(Self {
            function: FUNCTION.into(),
            memory,
            passes,
            lanes,
            salt: STANDARD.encode(salt),
            key: STANDARD.encode(key),
        })
    }

    pub(crate) fn salt_bytes(&self) -> Vec<u8> {
        STANDARD.decode(&self.salt).unwrap_or_default()
    }

    fn hmac_key(&self) -> hmac::Key {
        let bytes = STANDARD.decode(&self.key).unwrap_or_default();
        hmac::Key::new(hmac::HMAC_SHA256, &bytes)
    }

    /// One side's proof on a connection, named by its TLS exporter (RFC 9266).
    pub(crate) fn prove(&self, side: Side, connection: &[u8; 32]) -> Vec<u8> {
        let message = [side.label(), connection].concat();
        hmac::sign(&self.hmac_key(), &message).as_ref().to_vec()
    }

    /// Whether a proof is that of the side, on that connection.
    pub(crate) fn accepts(&self, side: Side, connection: &[u8; 32], proof: &[u8]) -> bool {
        let message = [side.label(), connection].concat();
        hmac::verify(&self.hmac_key(), &message, proof).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_side_on_one_connection_with_one_password() {
        let ours = Secret::derive("correct horse").unwrap();
        let told = |password: &str| {
            Secret::derive_as_told(password, "argon2id", &ours.salt_bytes(), COSTS).unwrap()
        };
        let theirs = told("correct horse");
        assert!(ours == theirs);
        let proof = theirs.prove(Side::Candidate, &[1; 32]);
        assert!(ours.accepts(Side::Candidate, &[1; 32], &proof));
        assert!(!ours.accepts(Side::Publisher, &[1; 32], &proof));
        assert!(!ours.accepts(Side::Candidate, &[2; 32], &proof));
        let wrong = told("correct horses").prove(Side::Candidate, &[1; 32]);
        assert!(!ours.accepts(Side::Candidate, &[1; 32], &wrong));
        assert!(!ours.accepts(Side::Candidate, &[1; 32], b""));
    }

    #[test]
    fn cheap_derivations_are_refused() {
        let told = |function, salt: &[u8], costs| {
            Secret::derive_as_told("password", function, salt, costs).is_err()
        };
        assert!(told("argon2id", &[0; 16], (8, 1, 1)));
        assert!(told("argon2i", &[0; 16], COSTS));
        assert!(told("argon2id", &[0; 8], COSTS));
        assert!(told("argon2id", &[0; 16], (u32::MAX, 3, 1)));
    }
}
