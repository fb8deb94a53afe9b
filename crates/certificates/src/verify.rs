//! Is a certificate to be trusted?

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;

use crate::Error;

/// Checks that the first certificate of `chain_pem` is signed, over those that
/// follow it, by an authority in `authorities_pem`, is valid now, and is for
/// `name` (a host or domain name, or an address).
pub fn verify(
    chain_pem: &str,
    authorities_pem: &str,
    name: &str,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let chain = certificates(chain_pem)?;
    let Some((leaf, between)) = chain.split_first() else {
        return Err(Error::Read("no CERTIFICATE block".into()));
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities_pem)? {
        roots
            .add(authority)
            .map_err(|error| Error::Read(error.to_string()))?;
    }
    let server = ServerName::try_from(name).map_err(|_| Error::Name(name.into()))?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(|error| Error::Untrusted(error.to_string()))?
        .verify_server_cert(leaf, between, &server, &[], now)
        .map_err(|error| Error::Untrusted(error.to_string()))?;
    Ok(())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Read(error.to_string()))
}
