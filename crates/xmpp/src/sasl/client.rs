//! The client's side of SCRAM, for load generators and tests.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::keys::{equal, mac, salted_password};
use super::{ChannelBinding, Failure, Hash, prepare_password};

/// An exchange on the client's side.
#[derive(Debug)]
pub struct Client {
    hash: Hash,
    password: String,
    nonce: String,
    gs2: String,
    bare: String,
    binding: Option<ChannelBinding>,
    /// What the server will prove itself with.
    expected: Option<Vec<u8>>,
}

impl Client {
    /// Begins an exchange; gives the first message. With a binding the
    /// mechanism is the one with `-PLUS`.
    pub fn begin(
        hash: Hash,
        user: &str,
        password: &str,
        nonce: &str,
        binding: Option<ChannelBinding>,
    ) -> Result<(Self, String), Failure> {
        let password = prepare_password(password).map_err(|_| Failure::NotAuthorized)?;
        let gs2 = match &binding {
            None => "n,,".to_owned(),
            Some(binding) => format!("p={},,", binding.kind),
        };
        let bare = format!(
            "n={},r={nonce}",
            user.replace('=', "=3D").replace(',', "=2C")
        );
        let message = format!("{gs2}{bare}");
        let client = Self {
            hash,
            password: password.into_owned(),
            nonce: nonce.into(),
            gs2,
            bare,
            binding,
            expected: None,
        };
        Ok((client, message))
    }

    /// Answers the server's first message.
    pub fn answer(&mut self, challenge: &[u8]) -> Result<String, Failure> {
        let (nonce, salt, iterations) =
            read_challenge(challenge).ok_or(Failure::MalformedRequest)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Failure::NotAuthorized);
        }
        let mut input = self.gs2.as_bytes().to_vec();
        if let Some(binding) = &self.binding {
            input.extend_from_slice(&binding.data);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&input));
        let challenge = String::from_utf8_lossy(challenge);
        let signed = format!("{},{challenge},{without_proof}", self.bare);
        let salted = salted_password(self.hash, &self.password, &salt, iterations);
        let client_key = mac(self.hash, &salted, b"Client Key");
        let stored = digest::digest(self.hash.digest(), client_key.as_ref());
        let signature = mac(self.hash, stored.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(key, signature)| key ^ signature)
            .collect();
        let server_key = mac(self.hash, &salted, b"Server Key");
        let expected = mac(self.hash, server_key.as_ref(), signed.as_bytes());
        self.expected = Some(expected.as_ref().to_vec());
        Ok(format!("{without_proof},p={}", STANDARD.encode(&proof)))
    }

    /// Checks that the server knows the user's keys.
    pub fn verify(&self, last: &[u8]) -> Result<(), Failure> {
        let proof = last
            .strip_prefix(b"v=")
            .and_then(|proof| STANDARD.decode(proof).ok())
            .ok_or(Failure::MalformedRequest)?;
        match &self.expected {
            Some(expected) if equal(expected, &proof) => Ok(()),
            _ => Err(Failure::NotAuthorized),
        }
    }
}

/// Nonce, salt and iterations.
fn read_challenge(message: &[u8]) -> Option<(&str, Vec<u8>, NonZeroU32)> {
    let message = std::str::from_utf8(message).ok()?;
    let mut parts = message.split(',');
    let nonce = parts.next()?.strip_prefix("r=")?;
    let salt = STANDARD.decode(parts.next()?.strip_prefix("s=")?).ok()?;
    let iterations = parts.next()?.strip_prefix("i=")?.parse().ok()?;
    Some((nonce, salt, iterations))
}
