//! The server's side of TLS.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use ring::digest;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use xmpp::sasl::ChannelBinding;

/// What connections need for TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// After STARTTLS.
    started: Arc<ServerConfig>,
    /// Where TLS comes first; the client may name its protocol (XEP-0368).
    direct: Arc<ServerConfig>,
    /// Hash of the certificate, for channel binding.
    end_point: Arc<[u8]>,
}

/// Kinds of channel binding under TLS 1.3.
const KINDS: [&str; 2] = ["tls-exporter", "tls-server-end-point"];

impl Tls {
    /// Reads `tls.crt` and `tls.key` of a folder.
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        let certificate = folder.join("tls.crt");
        let chain = CertificateDer::pem_file_iter(&certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| anyhow!("{} holds no certificate: {error}", certificate.display()))?;
        let key = folder.join("tls.key");
        let key = PrivateKeyDer::from_pem_file(&key)
            .map_err(|error| anyhow!("{} holds no private key: {error}", key.display()))?;
        Self::new(chain, key)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> anyhow::Result<Self> {
        let own = chain.first().context("the certificate chain is empty")?;
        let end_point = end_point(own)?;
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .context("certificate and key do not belong together")?;
        // A client that comes back resumes its TLS session without a
        // signature, and nothing is kept here for that.
        config.ticketer = provider::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        let mut direct = config.clone();
        direct.alpn_protocols = vec![b"xmpp-client".to_vec()];
        Ok(Self {
            started: Arc::new(config),
            direct: Arc::new(direct),
            end_point: end_point.into(),
        })
    }

    /// TLS for a new connection.
    pub(crate) fn accept(&self, direct: bool) -> Result<Box<ServerConnection>, rustls::Error> {
        let config = if direct { &self.direct } else { &self.started };
        let mut connection = ServerConnection::new(config.clone())?;
        // What may wait is counted and bounded by the connection itself.
        connection.set_buffer_limit(None);
        Ok(Box::new(connection))
    }

    /// Kinds of channel binding that a connection can do. Under TLS 1.2 there
    /// are none: old clients that see a mechanism with `-PLUS` take it to mean
    /// `tls-unique`, which is not safe and not offered, and would fail.
    pub(crate) fn kinds(connection: &ServerConnection) -> &'static [&'static str] {
        match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => &KINDS,
            _ => &[],
        }
    }

    /// The data of each of those kinds.
    pub(crate) fn bindings(&self, connection: &ServerConnection) -> Vec<ChannelBinding> {
        let data = |kind: &str| match kind {
            "tls-exporter" => connection
                .export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(b""))
                .ok(),
            _ => Some(self.end_point.to_vec()),
        };
        Self::kinds(connection)
            .iter()
            .filter_map(|kind| {
                Some(ChannelBinding {
                    kind: (*kind).into(),
                    data: data(kind)?,
                })
            })
            .collect()
    }
}

/// The certificate's hash by the rules of RFC 5929: with the hash of its
/// signature, but SHA-256 in place of MD5 and SHA-1.
fn end_point(certificate: &CertificateDer<'_>) -> anyhow::Result<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| anyhow!("the certificate cannot be read: {error}"))?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // ecdsa-with-SHA384, sha384WithRSAEncryption.
        "1.2.840.10045.4.3.3" | "1.2.840.113549.1.1.12" => &digest::SHA384,
        // ecdsa-with-SHA512, sha512WithRSAEncryption.
        "1.2.840.10045.4.3.4" | "1.2.840.113549.1.1.13" => &digest::SHA512,
        _ => &digest::SHA256,
    };
    Ok(digest::digest(algorithm, certificate).as_ref().to_vec())
}
