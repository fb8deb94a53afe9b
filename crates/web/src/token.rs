//! Secrets that the web front gives out, and how they are compared.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// A fingerprint of a secret. Tables are keyed by it, so that a look-up takes
/// the same time for every wrong guess and a dump of memory gives no session
/// away.
pub(crate) type Fingerprint = [u8; 32];

/// Fresh random text of 256 bits.
pub(crate) fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The fingerprint of a secret.
pub(crate) fn fingerprint(secret: &str) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    bytes
}

/// Makes and checks form tokens: a form is good only together with the cookie
/// it was made for.
#[derive(Debug)]
pub(crate) struct Forms(hmac::Key);

impl Forms {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        Ok(Self(key))
    }

    /// The token for the holder of that cookie.
    pub(crate) fn token(&self, cookie: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, cookie.as_bytes()))
    }

    /// Whether the token was made for that cookie; in constant time.
    pub(crate) fn fits(&self, cookie: &str, token: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(token)
            .is_ok_and(|tag| hmac::verify(&self.0, cookie.as_bytes(), &tag).is_ok())
    }

    /// A keyed fingerprint, for secrets that people chose.
    pub(crate) fn seal(&self, secret: &str) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&self.0, secret.as_bytes()).as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_token_fits_its_cookie_alone() {
        let forms = Forms::new().unwrap();
        let token = forms.token("a");
        assert!(forms.fits("a", &token));
        assert!(!forms.fits("b", &token));
        assert!(!forms.fits("a", ""));
        assert!(!Forms::new().unwrap().fits("a", &token));
    }
}
