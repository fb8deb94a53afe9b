//! The server's side of SCRAM.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::keys::{equal, mac};
use super::{Failure, Hash, Keys};

/// Data that binds an exchange to its TLS channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBinding {
    /// Registered name, such as `tls-exporter`.
    pub kind: String,
    /// The data of that kind.
    pub data: Vec<u8>,
}

/// What the client says about channel binding.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Flag {
    /// It knows none.
    None,
    /// It knows some but thinks that the server does not.
    Unused,
    /// It uses this kind.
    Used(String),
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    flag: Flag,
    /// Identity to act as; none is the user's own.
    pub authzid: Option<String>,
    /// Who signs in.
    pub user: String,
    nonce: String,
    /// The part about channel binding and identity, as sent.
    gs2: String,
    /// The rest, as sent.
    bare: String,
}

impl ClientFirst {
    /// Reads the message.
    pub fn parse(message: &[u8]) -> Result<Self, Failure> {
        Self::read(message).ok_or(Failure::MalformedRequest)
    }

    fn read(message: &[u8]) -> Option<Self> {
        let message = std::str::from_utf8(message).ok()?;
        let (flag, rest) = message.split_once(',')?;
        let (authzid, bare) = rest.split_once(',')?;
        let flag = match flag {
            "n" => Flag::None,
            "y" => Flag::Unused,
            _ => Flag::Used(flag.strip_prefix("p=").filter(|k| !k.is_empty())?.into()),
        };
        let authzid = match authzid {
            "" => None,
            _ => Some(unescape(authzid.strip_prefix("a=")?)?),
        };
        let mut parts = bare.split(',');
        // An `m=` here would be an extension that we must know, and do not.
        let user = unescape(parts.next()?.strip_prefix("n=")?)?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        if user.is_empty() || nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        Some(Self {
            flag,
            authzid,
            user,
            nonce: nonce.into(),
            gs2: message[..message.len() - bare.len()].into(),
            bare: bare.into(),
        })
    }
}

/// A user name in a message: `=2C` is a comma and `=3D` an equals sign.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = match part.get(..2)? {
            "2C" => (',', &part[2..]),
            "3D" => ('=', &part[2..]),
            _ => return None,
        };
        text.push(character);
        text.push_str(rest);
    }
    (!text.contains('\0')).then_some(text)
}

/// An exchange on the server's side, between its first message and its last.
#[derive(Debug)]
pub struct Server {
    keys: Keys,
    nonce: String,
    /// What the client must repeat, base64-encoded.
    binding: String,
    /// Both first messages, as the signatures cover them.
    first: String,
}

impl Server {
    /// Answers the client's first message. `nonce` is fresh and printable
    /// without commas. `plus` says which of the two mechanisms was chosen,
    /// `offered` which bindings the server offered it: a client that thinks
    /// there was no such offer has been lied to on the way.
    pub fn begin(
        client: &ClientFirst,
        keys: Keys,
        nonce: &str,
        plus: bool,
        offered: &[ChannelBinding],
    ) -> Result<(Self, String), Failure> {
        let mut input = client.gs2.as_bytes().to_vec();
        match (&client.flag, plus) {
            (Flag::None, false) => {}
            (Flag::Unused, false) if offered.is_empty() => {}
            (Flag::Unused, false) => return Err(Failure::NotAuthorized),
            (Flag::Used(kind), true) => {
                let binding = offered.iter().find(|binding| binding.kind == *kind);
                input.extend_from_slice(&binding.ok_or(Failure::MalformedRequest)?.data);
            }
            _ => return Err(Failure::MalformedRequest),
        }
        let nonce = format!("{}{nonce}", client.nonce);
        let message = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&keys.salt),
            keys.iterations
        );
        let server = Self {
            binding: STANDARD.encode(&input),
            first: format!("{},{message}", client.bare),
            keys,
            nonce,
        };
        Ok((server, message))
    }

    /// Checks the client's last message. The answer proves the server to the
    /// client.
    pub fn finish(self, message: &[u8]) -> Result<String, Failure> {
        let (binding, nonce, without_proof, proof) =
            read_final(message).ok_or(Failure::MalformedRequest)?;
        let hash: Hash = self.keys.hash;
        if proof.len() != hash.output_length() {
            return Err(Failure::MalformedRequest);
        }
        let signed = format!("{},{without_proof}", self.first);
        let signature = mac(hash, &self.keys.stored_key, signed.as_bytes());
        let client_key: Vec<u8> = proof
            .iter()
            .zip(signature.as_ref())
            .map(|(proof, signature)| proof ^ signature)
            .collect();
        let stored = digest::digest(hash.digest(), &client_key);
        // All is looked at before anything is decided.
        let proven = equal(stored.as_ref(), &self.keys.stored_key);
        let bound = equal(binding.as_bytes(), self.binding.as_bytes());
        let fresh = equal(nonce.as_bytes(), self.nonce.as_bytes());
        if !(proven & bound & fresh) {
            return Err(Failure::NotAuthorized);
        }
        let verifier = mac(hash, &self.keys.server_key, signed.as_bytes());
        Ok(format!("v={}", STANDARD.encode(verifier.as_ref())))
    }
}

/// Binding, nonce, the message without its proof, and the proof.
fn read_final(message: &[u8]) -> Option<(&str, &str, &str, Vec<u8>)> {
    let message = std::str::from_utf8(message).ok()?;
    let (without_proof, proof) = message.rsplit_once(",p=")?;
    let mut parts = without_proof.split(',');
    let binding = parts.next()?.strip_prefix("c=")?;
    let nonce = parts.next()?.strip_prefix("r=")?;
    Some((binding, nonce, without_proof, STANDARD.decode(proof).ok()?))
}
