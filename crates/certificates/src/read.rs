//! Reading a certificate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use crate::{Error, Identity};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Distinguished name of whom it is about.
    pub subject: String,
    /// Distinguished name of who signed it.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Valid from.
    pub not_before: OffsetDateTime,
    /// Valid until.
    pub not_after: OffsetDateTime,
    /// Host and domain names that it is valid for.
    pub dns: Vec<String>,
    /// Addresses that it is valid for.
    pub addresses: Vec<IpAddr>,
    /// Whether it may sign other certificates.
    pub authority: bool,
    /// SHA-256 of the whole certificate, as `AB:CD:…`.
    pub fingerprint: String,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        Self::from_der(&first(text)?.contents)
    }

    /// Reads a certificate as it comes over the wire.
    pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
        let (_, parsed) = x509_parser::parse_x509_certificate(bytes)
            .map_err(|error| Error::Read(error.to_string()))?;
        let mut dns = Vec::new();
        let mut addresses = Vec::new();
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| Error::Read(error.to_string()))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).into()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string().replace(':', ""),
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            dns,
            addresses,
            authority: parsed.is_ca(),
            fingerprint: fingerprint(bytes),
        })
    }

    /// The node that it is for, if it is one for connections between nodes.
    pub fn identity(&self) -> Option<Identity> {
        self.dns.iter().find_map(|name| Identity::parse(name))
    }

    /// Whole days until it expires; negative when it has.
    pub fn days_left(&self, now: OffsetDateTime) -> i64 {
        (self.not_after - now).whole_days()
    }
}

/// The first certificate of a PEM text.
pub(crate) fn first(text: &str) -> Result<Pem, Error> {
    for pem in Pem::iter_from_buffer(text.as_bytes()) {
        let pem = pem.map_err(|error| Error::Read(error.to_string()))?;
        if pem.label == "CERTIFICATE" {
            return Ok(pem);
        }
    }
    Err(Error::Read("no CERTIFICATE block".into()))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(sixteen).into())
}

fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let bytes: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    bytes.join(":")
}
