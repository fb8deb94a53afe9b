//! The authority of a cluster, and what it issues.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::Error;

/// Years that an authority is valid.
pub const AUTHORITY_YEARS: i64 = 10;

/// Years that a component's certificate is valid.
pub const CERTIFICATE_YEARS: i64 = 5;

/// How far before its making a certificate is valid: clocks differ, and a node
/// is set up before its clock is.
const EARLIER: Duration = Duration::days(1);

/// Whom a certificate is about, beside its common name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Unit of the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// City.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// State or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Country, two letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

impl Subject {
    fn with_common_name(&self, common_name: &str) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        for (kind, value) in [
            (DnType::CountryName, &self.country),
            (DnType::StateOrProvinceName, &self.state),
            (DnType::LocalityName, &self.location),
            (DnType::OrganizationName, &self.organization),
            (DnType::OrganizationalUnitName, &self.unit),
        ] {
            if let Some(value) = value {
                name.push(kind, value.as_str());
            }
        }
        name.push(DnType::CommonName, common_name);
        name
    }
}

/// The names that a certificate is valid for; the first DNS name is also its
/// common name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Host and domain names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
}

/// The certificate authority of a cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    /// Makes a new authority with a key of its own.
    pub fn create(
        common_name: &str,
        subject: &Subject,
        now: OffsetDateTime,
    ) -> Result<Self, Error> {
        let key = new_key()?;
        let mut params = params(subject.with_common_name(common_name), AUTHORITY_YEARS, now)?;
        // It signs certificates of nodes, never another authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem,
        })
    }

    /// Takes up an authority that was made earlier.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate_pem, key)?,
            certificate_pem: certificate_pem.into(),
        })
    }

    /// The authority's own certificate, which clients trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key, PKCS #8.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate with a new key. It serves both ends of a
    /// connection: clients trust the node by it, and nodes each other.
    pub fn issue(
        &self,
        subject: &Subject,
        names: &Names,
        now: OffsetDateTime,
    ) -> Result<Issued, Error> {
        let key = new_key()?;
        Ok(Issued {
            certificate_pem: self.sign(subject, names, &key, now)?,
            key_pem: key.serialize_pem(),
        })
    }

    /// Issues a certificate for the key of another node, which keeps it to
    /// itself. `public_key` is a SubjectPublicKeyInfo in PEM form.
    pub fn certify(
        &self,
        subject: &Subject,
        names: &Names,
        public_key: &str,
        now: OffsetDateTime,
    ) -> Result<String, Error> {
        let key = SubjectPublicKeyInfo::from_pem(public_key)?;
        self.sign(subject, names, &key, now)
    }

    fn sign(
        &self,
        subject: &Subject,
        names: &Names,
        key: &impl PublicKeyData,
        now: OffsetDateTime,
    ) -> Result<String, Error> {
        let common_name = match (names.dns.first(), names.addresses.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(address)) => address.to_string(),
            (None, None) => return Err(Error::Name(String::new())),
        };
        let subject = subject.with_common_name(&common_name);
        let mut params = params(subject, CERTIFICATE_YEARS, now)?;
        for name in &names.dns {
            let ascii = name.as_str().try_into();
            let ascii = ascii.map_err(|_| Error::Name(name.clone()))?;
            params.subject_alt_names.push(SanType::DnsName(ascii));
        }
        for address in &names.addresses {
            params.subject_alt_names.push(SanType::IpAddress(*address));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

/// A key of a node's own, for [`Authority::certify`].
pub struct NodeKey {
    /// The private key, PKCS #8.
    pub private_pem: String,
    /// The public key, SubjectPublicKeyInfo.
    pub public_pem: String,
}

impl NodeKey {
    /// Makes a new key.
    pub fn create() -> Result<Self, Error> {
        let key = new_key()?;
        Ok(Self {
            private_pem: key.serialize_pem(),
            public_pem: key.public_key_pem(),
        })
    }
}

fn new_key() -> Result<KeyPair, Error> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// What every certificate of ours has: a subject, a time and a random serial.
fn params(
    subject: DistinguishedName,
    years: i64,
    now: OffsetDateTime,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = subject;
    params.not_before = now - EARLIER;
    params.not_after = now + Duration::days(365 * years);
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// 127 random bits: positive, never zero, and never the same again.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Random)?;
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
