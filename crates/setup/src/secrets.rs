//! What becomes of passwords: never kept, only what they can be checked with.

use anyhow::anyhow;
use argon2::Argon2;
use argon2::password_hash::PasswordHasher;

use crate::answers::Secret;

/// An Argon2id hash in PHC form, for the database.
pub(crate) fn hash(password: &Secret) -> anyhow::Result<String> {
    let hash = Argon2::default()
        .hash_password(password.0.as_bytes())
        .map_err(|error| anyhow!("the password cannot be hashed: {error}"))?;
    Ok(hash.to_string())
}
