//! The client's side of SCRAM (RFC 5802), without channel binding.

use std::num::NonZeroU32;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SecureRandom;
use ring::{digest, hmac, pbkdf2, rand};

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    /// Name of the mechanism.
    pub(crate) fn mechanism(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }

    fn digest(self, data: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, data)
    }
}

/// One exchange.
pub(crate) struct Scram {
    hash: Hash,
    password: String,
    first_bare: String,
    nonce: String,
    server_signature: Vec<u8>,
}

impl Scram {
    /// Begins an exchange with a fresh nonce.
    pub(crate) fn new(hash: Hash, user: &str, password: &str) -> Result<Self> {
        let mut random = [0; 18];
        rand::SystemRandom::new()
            .fill(&mut random)
            .ok()
            .context("no randomness")?;
        let nonce = BASE64.encode(random);
        let first_bare = format!("n={user},r={nonce}");
        Ok(Self {
            hash,
            password: password.into(),
            first_bare,
            nonce,
            server_signature: Vec::new(),
        })
    }

    /// The client-first message.
    pub(crate) fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The client-final message to a server-first message.
    pub(crate) fn answer(&mut self, challenge: &[u8]) -> Result<String> {
        let challenge = std::str::from_utf8(challenge)?;
        let field = |name: &str| {
            challenge
                .split(',')
                .find_map(|part| part.strip_prefix(name))
                .context("a SCRAM field is missing")
        };
        let (nonce, salt) = (field("r=")?, BASE64.decode(field("s=")?)?);
        let iterations: NonZeroU32 = field("i=")?.parse()?;
        if !nonce.starts_with(&self.nonce) {
            bail!("the server changed the nonce");
        }
        let mut salted = vec![0; self.hash.hmac().digest_algorithm().output_len()];
        pbkdf2::derive(
            self.hash.pbkdf2(),
            iterations,
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let salted = hmac::Key::new(self.hash.hmac(), &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let server_key = hmac::sign(&salted, b"Server Key");
        let stored_key = self.hash.digest(client_key.as_ref());
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{challenge},{without_proof}", self.first_bare);
        let sign =
            |key: &[u8]| hmac::sign(&hmac::Key::new(self.hash.hmac(), key), message.as_bytes());
        let signature = sign(stored_key.as_ref());
        let proof: Vec<u8> = client_key
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(a, b)| a ^ b)
            .collect();
        self.server_signature = sign(server_key.as_ref()).as_ref().to_vec();
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Checks that the server knows the password too.
    pub(crate) fn verify(&self, last: &[u8]) -> Result<()> {
        let expected = format!("v={}", BASE64.encode(&self.server_signature));
        if last != expected.as_bytes() {
            bail!("the server's signature is wrong");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example exchange of RFC 7677, section 3.
    #[test]
    fn the_example_of_rfc_7677() {
        let mut scram = Scram::new(Hash::Sha256, "user", "pencil").unwrap();
        scram.nonce = "rOprNGfwEbeRWgbNEkqO".into();
        scram.first_bare = "n=user,r=rOprNGfwEbeRWgbNEkqO".into();
        let challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = scram.answer(challenge).unwrap();
        assert!(
            answer.ends_with("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
            "{answer}"
        );
        scram
            .verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
            .unwrap();
        assert!(
            scram
                .verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=")
                .is_err()
        );
    }
}
