//! PLAIN (RFC 4616).

use super::Failure;

/// The one message of PLAIN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plain<'a> {
    /// Identity to act as; none is the user's own.
    pub authzid: Option<&'a str>,
    /// Who signs in.
    pub user: &'a str,
    /// The password as typed.
    pub password: &'a str,
}

impl std::fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl<'a> Plain<'a> {
    /// Reads the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
        let mut parts = text.split('\0');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(authzid), Some(user), Some(password), None)
                if !user.is_empty() && !password.is_empty() =>
            {
                Ok(Self {
                    authzid: (!authzid.is_empty()).then_some(authzid),
                    user,
                    password,
                })
            }
            _ => Err(Failure::MalformedRequest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_are_needed() {
        let plain = Plain::parse(b"\0alice\0secret").unwrap();
        assert_eq!(
            (plain.authzid, plain.user, plain.password),
            (None, "alice", "secret")
        );
        let plain = Plain::parse(b"bob@x\0alice\0secret").unwrap();
        assert_eq!(plain.authzid, Some("bob@x"));
        for bad in [
            &b"alice\0secret"[..],
            b"\0\0secret",
            b"\0alice\0",
            b"\0a\0b\0c",
            b"\0a\0\xff",
        ] {
            assert_eq!(Plain::parse(bad), Err(Failure::MalformedRequest));
        }
    }
}
