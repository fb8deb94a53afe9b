//! Keys of users, and of those who do not exist.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::tables::{EndUser, ScramKeys};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use xmpp::sasl::{Hash, InvalidPassword, Keys, prepare_password};

/// Fewest iterations that are taken (RFC 7677).
pub const FEWEST_ITERATIONS: u32 = 4096;

/// Both kinds of keys of one password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedKeys {
    /// For SCRAM-SHA-1.
    pub sha1: ScramKeys,
    /// For SCRAM-SHA-256.
    pub sha256: ScramKeys,
}

/// Why keys could not be derived.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// The password cannot be used.
    #[error(transparent)]
    Password(#[from] InvalidPassword),
    /// Too cheap to guess.
    #[error("SCRAM needs at least {FEWEST_ITERATIONS} iterations, not {0}")]
    Iterations(u32),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a salt; try again")]
    Random,
}

/// Derives what is stored of a password. Takes some milliseconds.
pub fn derive_keys(password: &str, iterations: u32) -> Result<DerivedKeys, DeriveError> {
    let prepared = prepare_password(password)?;
    let count = NonZeroU32::new(iterations)
        .filter(|count| count.get() >= FEWEST_ITERATIONS)
        .ok_or(DeriveError::Iterations(iterations))?;
    let derive = |hash| {
        let mut salt = [0; 16];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| DeriveError::Random)?;
        Ok::<_, DeriveError>(to_row(&Keys::derive(hash, &prepared, &salt, count)))
    };
    Ok(DerivedKeys {
        sha1: derive(Hash::Sha1)?,
        sha256: derive(Hash::Sha256)?,
    })
}

fn to_row(keys: &Keys) -> ScramKeys {
    ScramKeys {
        salt: STANDARD.encode(&keys.salt),
        iterations: keys.iterations.get(),
        stored_key: STANDARD.encode(&keys.stored_key),
        server_key: STANDARD.encode(&keys.server_key),
    }
}

/// The keys of a row; none when it holds none that make sense.
fn from_row(hash: Hash, row: Option<&ScramKeys>) -> Option<Keys> {
    let row = row?;
    let decode = |text: &str| STANDARD.decode(text).ok();
    let keys = Keys {
        hash,
        salt: decode(&row.salt)?,
        iterations: NonZeroU32::new(row.iterations)?,
        stored_key: decode(&row.stored_key)?,
        server_key: decode(&row.server_key)?,
    };
    let length = hash.output_length();
    let whole =
        keys.stored_key.len() == length && keys.server_key.len() == length && !keys.salt.is_empty();
    whole.then_some(keys)
}

/// What an exchange is checked against.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// The user's keys, or some that nobody has a password for.
    pub(crate) keys: Keys,
    /// Whether there is such a user with such keys.
    pub(crate) real: bool,
    /// Whether the user may sign in.
    pub(crate) enabled: bool,
}

/// Makes keys for users who do not exist: the same each time they are asked
/// for, so that asking tells nothing.
#[derive(Debug)]
pub(crate) struct Decoys(hmac::Key);

impl Decoys {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// What to check a user against.
    pub(crate) fn account(
        &self,
        name: &str,
        hash: Hash,
        row: Option<&EndUser>,
        iterations: NonZeroU32,
    ) -> Account {
        // Made in either case, so that both take the same time.
        let decoy = self.keys(name, hash, iterations);
        let stored = row.and_then(|row| match hash {
            Hash::Sha1 => from_row(hash, row.scram_sha1.as_ref()),
            Hash::Sha256 => from_row(hash, row.scram_sha256.as_ref()),
        });
        Account {
            real: stored.is_some(),
            enabled: row.is_some_and(|row| row.enabled),
            keys: stored.unwrap_or(decoy),
        }
    }

    fn keys(&self, name: &str, hash: Hash, iterations: NonZeroU32) -> Keys {
        let part = |what: &str, length: usize| {
            let mut context = hmac::Context::with_key(&self.0);
            for text in [what, name] {
                context.update(&(text.len() as u64).to_le_bytes());
                context.update(text.as_bytes());
            }
            context.update(&[hash.output_length() as u8]);
            context.sign().as_ref()[..length].to_vec()
        };
        Keys {
            hash,
            salt: part("salt", 16),
            iterations,
            stored_key: part("stored key", hash.output_length()),
            server_key: part("server key", hash.output_length()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(keys: DerivedKeys) -> EndUser {
        EndUser {
            user: "alice".into(),
            name: "Alice".into(),
            mail: String::new(),
            enabled: true,
            scram_sha1: Some(keys.sha1),
            scram_sha256: Some(keys.sha256),
        }
    }

    #[test]
    fn derived_keys_verify_their_password_only() {
        let row = user(derive_keys("pencil", 4096).unwrap());
        let decoys = Decoys::new(b"secret");
        for hash in [Hash::Sha1, Hash::Sha256] {
            let account = decoys.account("alice", hash, Some(&row), NonZeroU32::MIN);
            assert!(account.real && account.enabled);
            assert!(account.keys.verify("pencil") && !account.keys.verify("Pencil"));
        }
        assert!(matches!(
            derive_keys("x", 4095),
            Err(DeriveError::Iterations(4095))
        ));
        assert!(matches!(
            derive_keys("", 4096),
            Err(DeriveError::Password(_))
        ));
        let other = derive_keys("pencil", 4096).unwrap();
        assert_ne!(Some(other.sha1.salt), row.scram_sha1.map(|keys| keys.salt));
    }

    #[test]
    fn nobody_looks_like_somebody() {
        let decoys = Decoys::new(b"secret");
        let iterations = NonZeroU32::new(4096).unwrap();
        let ask = |name, hash| decoys.account(name, hash, None, iterations);
        let one = ask("ghost", Hash::Sha256);
        assert!(!one.real && !one.enabled);
        assert_eq!(one.keys, ask("ghost", Hash::Sha256).keys);
        assert_ne!(one.keys.salt, ask("spirit", Hash::Sha256).keys.salt);
        assert_ne!(one.keys.salt, ask("ghost", Hash::Sha1).keys.salt);
        assert_eq!(one.keys.salt.len(), 16);
        let elsewhere = Decoys::new(b"other").account("ghost", Hash::Sha256, None, iterations);
        assert_ne!(one.keys.salt, elsewhere.keys.salt);
    }

    #[test]
    fn a_damaged_row_is_nobody() {
        let mut row = user(derive_keys("pencil", 4096).unwrap());
        if let Some(keys) = &mut row.scram_sha1 {
            keys.stored_key = "AAAA".into();
        }
        row.scram_sha256 = None;
        let decoys = Decoys::new(b"secret");
        for hash in [Hash::Sha1, Hash::Sha256] {
            let account = decoys.account("alice", hash, Some(&row), NonZeroU32::MIN);
            assert!(!account.real);
        }
    }
}
