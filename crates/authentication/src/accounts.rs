//! Keys of users, and of those who do not exist.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use database::tables::{EndUser, ScramKeys};
use ring::rand::{SecureRandom, SystemRandom};
use xmpp::sasl::{Hash, InvalidPassword, Keys, prepare_password};

/// Fewest iterations that are taken (RFC 7677).
pub const FEWEST_ITERATIONS: u32 = 4096;

/// Most iterations that the table of users takes.
const MOST_ITERATIONS: u32 = 10_000_000;

/// Name of our parameter with the iterations for new passwords.
pub const ITERATIONS: &str = "ScramIterations";

/// The iterations for new passwords, by the parameter's text: what cannot be
/// used counts as the nearest that can.
pub fn iterations(parameter: Option<&str>) -> u32 {
    parameter
        .and_then(|text| text.trim().parse::<u64>().ok())
        .and_then(|count| u32::try_from(count.min(MOST_ITERATIONS.into())).ok())
        .unwrap_or(FEWEST_ITERATIONS)
        .max(FEWEST_ITERATIONS)
}

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

impl Account {
    /// What to check a user against: the keys of the row, or else the decoy,
    /// which is made in either case, so that both take the same time.
    pub(crate) fn new(hash: Hash, row: Option<&EndUser>, decoy: Keys) -> Self {
        let stored = row.and_then(|row| match hash {
            Hash::Sha1 => from_row(hash, row.scram_sha1.as_ref()),
            Hash::Sha256 => from_row(hash, row.scram_sha256.as_ref()),
        });
        Self {
            real: stored.is_some(),
            enabled: row.is_some_and(|row| row.enabled),
            keys: stored.unwrap_or(decoy),
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
            node: String::new(),
            scram_sha1: Some(keys.sha1),
            scram_sha256: Some(keys.sha256),
        }
    }

    fn decoy(hash: Hash) -> Keys {
        Keys::derive(hash, "decoy", b"salt", NonZeroU32::MIN)
    }

    #[test]
    fn derived_keys_verify_their_password_only() {
        let row = user(derive_keys("pencil", 4096).unwrap());
        for hash in [Hash::Sha1, Hash::Sha256] {
            let account = Account::new(hash, Some(&row), decoy(hash));
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
    fn the_parameter_counts_as_far_as_it_can_be_used() {
        for (text, count) in [
            (None, 4096),
            (Some("10000"), 10_000),
            (Some(" 8192 "), 8192),
            (Some("1"), 4096),
            (Some("-5"), 4096),
            (Some("many"), 4096),
            (Some("99999999999"), MOST_ITERATIONS),
        ] {
            assert_eq!(iterations(text), count, "{text:?}");
        }
    }

    #[test]
    fn a_damaged_row_is_nobody() {
        let mut row = user(derive_keys("pencil", 4096).unwrap());
        if let Some(keys) = &mut row.scram_sha1 {
            keys.stored_key = "AAAA".into();
        }
        row.scram_sha256 = None;
        for hash in [Hash::Sha1, Hash::Sha256] {
            let account = Account::new(hash, Some(&row), decoy(hash));
            assert!(!account.real);
        }
    }
}
