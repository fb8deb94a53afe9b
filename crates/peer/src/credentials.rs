//! A node's certificate and key for connections to other nodes.

use std::path::Path;
use std::sync::Arc;

use certificates::{Certificate, Identity};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Why certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or unreadable.
    #[error("{0} cannot be read: {1}. It is made when the node is set up")]
    Read(String, std::io::Error),
    /// The content is not what it must be.
    #[error("the certificate for connections between nodes cannot be used: {0}")]
    Invalid(String),
}

/// What a node shows others, and what it trusts.
#[derive(Clone, Debug)]
pub struct Credentials {
    identity: Identity,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Credentials {
    /// Reads `cluster.crt`, `cluster.key` and `ca.crt` in a folder.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path)
                .map_err(|error| Error::Read(path.display().to_string(), error))
        };
        Self::from_pem(
            &read("cluster.crt")?,
            &read("cluster.key")?,
            &read("ca.crt")?,
        )
    }

    /// Takes certificate, key and the cluster's authority as PEM texts.
    pub fn from_pem(certificate: &str, key: &str, authority: &str) -> Result<Self, Error> {
        let chain = chain(certificate)?;
        let identity = chain
            .first()
            .and_then(|leaf| Certificate::from_der(leaf).ok()?.identity())
            .ok_or_else(|| Error::Invalid("it names no node of a cluster".into()))?;
        let key = || {
            PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| Error::Invalid(format!("its key: {error}")))
        };
        let mut roots = RootCertStore::empty();
        for authority in self::chain(authority)? {
            roots.add(authority).map_err(invalid)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(invalid)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key()?)
            .map_err(invalid)?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(invalid)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key()?)
            .map_err(invalid)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            identity,
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }

    /// The same for something else than HTTP/2: both ends must speak `protocol`
    /// (ALPN, RFC 7301), or the handshake fails.
    pub fn speaking(&self, protocol: &[u8]) -> Self {
        let mut server = (*self.server).clone();
        let mut client = (*self.client).clone();
        server.alpn_protocols = vec![protocol.into()];
        client.alpn_protocols = vec![protocol.into()];
        Self {
            identity: self.identity.clone(),
            server: Arc::new(server),
            client: Arc::new(client),
        }
    }

    /// The node that these are of.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Invalid(error.to_string()))
}

fn invalid(error: rustls::Error) -> Error {
    Error::Invalid(error.to_string())
}
