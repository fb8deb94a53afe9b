//! Sign-in of application users: the accounts of the pages and APIs.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};

use crate::Operations;
use crate::error::{Error, Result};

/// A hash that no password fits, of the cost that set-up uses, so that an
/// unknown user takes the same work as a wrong password.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2lnbmFsYm94LW5vYm9keQ$\
                      6wZLkQhrZ0kM1eHnq5b4mJc0m0c7vGk0m2b9qJm0p7M";

/// Longest password that is hashed; a longer one is wrong without work.
const PASSWORD_LIMIT: usize = 1024;

fn fits(password: &str, hash: &str) -> bool {
    match PasswordHash::new(hash) {
        Ok(hash) => Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok(),
        Err(error) => {
            tracing::error!(%error, "A stored password hash cannot be read; its user cannot sign in.");
            false
        }
    }
}

impl Operations {
    /// Whether the password is the application user's. Takes the same work
    /// whether or not there is such a user. The caller limits how many of
    /// these run at once: each takes some 20 MB of memory.
    ///
    /// On success, gives the stored hash: a session made from it ends when
    /// the password changes.
    pub async fn check_password(&self, user: &str, password: &str) -> Result<Option<String>> {
        let stored = self.storage().application_user(user).await?;
        let password = password.to_owned();
        tokio::task::spawn_blocking(move || {
            let known = stored.is_some();
            let hash = stored.unwrap_or_else(|| NOBODY.into());
            let fitting = password.len() <= PASSWORD_LIMIT && fits(&password, &hash);
            (fitting && known).then_some(hash)
        })
        .await
        .map_err(|error| Error::failed(format!("the password was not checked: {error}")))
    }

    /// The stored hash of an application user, to see whether a session made
    /// from it still stands.
    pub async fn application_user_hash(&self, user: &str) -> Result<Option<String>> {
        self.storage().application_user(user).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::PasswordHasher;

    #[test]
    fn the_dummy_hash_is_valid_and_of_the_default_cost() {
        let dummy = PasswordHash::new(NOBODY).unwrap();
        let salted = Argon2::default().hash_password(b"secret").unwrap();
        let real = salted.to_string();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(dummy.params, real.params);
        assert_eq!(dummy.algorithm, real.algorithm);
        assert_eq!(
            dummy.hash.as_ref().map(|hash| hash.len()),
            real.hash.as_ref().map(|hash| hash.len())
        );
        assert!(!fits("", NOBODY));
    }

    #[test]
    fn only_the_right_password_fits() {
        let hash = Argon2::default()
            .hash_password(b"secret")
            .unwrap()
            .to_string();
        assert!(fits("secret", &hash));
        assert!(!fits("Secret", &hash));
        assert!(!fits("secret", "nonsense"));
    }
}
