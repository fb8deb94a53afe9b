//! Keys derived from a password, which is itself never stored.

use std::borrow::Cow;
use std::num::NonZeroU32;

use pbkdf2::pbkdf2_hmac;
use ring::{digest, hmac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Hash;

/// Why a password cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPassword {
    /// Nothing is left of it.
    #[error("the password is empty")]
    Empty,
    /// More than anybody types.
    #[error("the password is longer than 1024 bytes")]
    TooLong,
    /// SASLprep (RFC 4013) refuses it.
    #[error(
        "the password has a character that cannot be typed the same way everywhere, such as a control character"
    )]
    Character,
}

/// Prepares a password, so that it gives the same bytes whichever way it was
/// typed (SASLprep).
pub fn prepare_password(password: &str) -> Result<Cow<'_, str>, InvalidPassword> {
    if password.len() > 1024 {
        return Err(InvalidPassword::TooLong);
    }
    let prepared = stringprep::saslprep(password).map_err(|_| InvalidPassword::Character)?;
    if prepared.is_empty() {
        return Err(InvalidPassword::Empty);
    }
    Ok(prepared)
}

/// What a server stores to check a password by SCRAM.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Which hash they are of.
    pub hash: Hash,
    /// The salt.
    pub salt: Vec<u8>,
    /// How often the hash is iterated.
    pub iterations: NonZeroU32,
    /// Checks the client's proof.
    pub stored_key: Vec<u8>,
    /// Proves the server to the client.
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys have no place in a log.
        f.debug_struct("Keys")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Derives keys from a prepared password. Takes a few milliseconds, as it
    /// must.
    pub fn derive(hash: Hash, prepared: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let salted = salted_password(hash, prepared, salt, iterations);
        let client_key = mac(hash, &salted, b"Client Key");
        Self {
            hash,
            salt: salt.to_vec(),
            iterations,
            stored_key: digest::digest(hash.digest(), client_key.as_ref())
                .as_ref()
                .to_vec(),
            server_key: mac(hash, &salted, b"Server Key").as_ref().to_vec(),
        }
    }

    /// Whether the keys are those of the prepared password. Takes as long as
    /// [`Keys::derive`], whatever the outcome.
    pub fn verify(&self, prepared: &str) -> bool {
        let theirs = Self::derive(self.hash, prepared, &self.salt, self.iterations);
        equal(&theirs.stored_key, &self.stored_key)
    }
}

/// Compares without telling by time where the difference is.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

pub(super) fn mac(hash: Hash, key: &[u8], data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hash.hmac(), key), data)
}

pub(super) fn salted_password(
    hash: Hash,
    prepared: &str,
    salt: &[u8],
    iterations: NonZeroU32,
) -> Vec<u8> {
    let mut salted = vec![0; hash.output_length()];
    let (password, rounds) = (prepared.as_bytes(), iterations.get());
    // Not ring's: its SHA-1 does not use the processor's own instructions, and
    // this is what an import of thousands of users waits for.
    match hash {
        Hash::Sha1 => pbkdf2_hmac::<Sha1>(password, salt, rounds, &mut salted),
        Hash::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut salted),
    }
    salted
}
