//! What becomes of passwords: never kept, only what they can be checked with.

use anyhow::anyhow;
use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::answers::Secret;

/// An Argon2id hash in PHC form, for the database.
pub(crate) fn hash(password: &Secret) -> anyhow::Result<String> {
    let hash = Argon2::default()
        .hash_password(password.0.as_bytes())
        .map_err(|error| anyhow!("the password cannot be hashed: {error}"))?;
    Ok(hash.to_string())
}

/// What a node keeps of the security password: a key derived from it. A node
/// that joins is told salt and costs, derives the same key, and both sides
/// prove that they have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSecret {
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

impl ClusterSecret {
    /// Derives the key with a new salt.
    pub fn derive(password: &Secret) -> anyhow::Result<Self> {
        let mut salt = [0u8; 16];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| anyhow!("the system has no random numbers"))?;
        Self::derive_with(password, &salt)
    }

    /// Derives the key with the salt of a cluster.
    pub fn derive_with(password: &Secret, salt: &[u8]) -> anyhow::Result<Self> {
        let (memory, passes, lanes) = (64 * 1024, 3, 1);
        let mut key = [0u8; 32];
        Params::new(memory, passes, lanes, Some(key.len()))
            .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
            .and_then(|argon2| argon2.hash_password_into(password.0.as_bytes(), salt, &mut key))
            .map_err(|error| anyhow!("the security password cannot be derived: {error}"))?;
        Ok(Self {
            function: "argon2id".into(),
            memory,
            passes,
            lanes,
            salt: STANDARD.encode(salt),
            key: STANDARD.encode(key),
        })
    }
}
