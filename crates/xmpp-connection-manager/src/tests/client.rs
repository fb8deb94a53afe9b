//! A client as small as can be, which sends what it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::ring as provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use xmpp::sasl::{self, ChannelBinding, Hash};
use xmpp::{Event, Framer, Limits};

use super::{DOMAIN, World, within};

pub(super) const OPEN: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='example.com' version='1.0'>";
pub(super) const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A stream to the connection manager.
pub(super) struct Client<S> {
    pub(super) socket: S,
    framer: Framer,
    input: Vec<u8>,
}

impl Client<TcpStream> {
    /// Connects where TLS comes second.
    pub(super) async fn plain(world: &World) -> Self {
        Self::over(TcpStream::connect(world.starttls).await.unwrap())
    }

    /// Goes on over TLS.
    pub(super) async fn start_tls(
        mut self,
        world: &World,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client<TlsStream<TcpStream>> {
        self.send(OPEN).await;
        assert_eq!(self.open().await, DOMAIN);
        let features = self.element().await;
        assert!(features.contains("<required/>"), "{features}");
        assert!(!features.contains("mechanism"), "{features}");
        self.send(STARTTLS).await;
        assert!(self.element().await.starts_with("<proceed"));
        Client::over(tls(&world.into(), self.socket, versions).await)
    }
}

/// Where TLS comes first, and the certificate there.
pub(super) struct Place {
    pub(super) direct: SocketAddr,
    pub(super) certificate: CertificateDer<'static>,
}

impl From<&World> for Place {
    fn from(world: &World) -> Self {
        Self {
            direct: world.direct,
            certificate: world.around.certificate.clone(),
        }
    }
}

/// TLS as a client, with the certificate checked.
pub(super) async fn tls(
    place: &Place,
    socket: TcpStream,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(place.certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = match socket.peer_addr().unwrap() == place.direct {
        true => vec![b"xmpp-client".to_vec()],
        false => Vec::new(),
    };
    let connector = TlsConnector::from(Arc::new(config));
    let name = DOMAIN.try_into().unwrap();
    within(connector.connect(name, socket)).await.unwrap()
}

impl Client<TlsStream<TcpStream>> {
    /// Connects where TLS comes first.
    pub(super) async fn direct(world: &World) -> Self {
        let socket = TcpStream::connect(world.direct).await.unwrap();
        Self::over(tls(&world.into(), socket, rustls::DEFAULT_VERSIONS).await)
    }

    /// Connects and signs in as alice.
    pub(super) async fn alice(world: &World) -> Self {
        let mut client = Self::direct(world).await;
        client.send(OPEN).await;
        client.open().await;
        let features = client.element().await;
        assert!(features.contains("SCRAM-SHA-256-PLUS"), "{features}");
        let binding = client.exporter();
        client
            .scram(Hash::Sha256, "pencil", Some(binding))
            .await
            .unwrap();
        client.restart().await;
        client
    }

    /// The exporter's data of this connection.
    pub(super) fn exporter(&self) -> ChannelBinding {
        let (_, tls) = self.socket.get_ref();
        ChannelBinding {
            kind: "tls-exporter".into(),
            data: tls
                .export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(b""))
                .unwrap(),
        }
    }
}

impl<S: Socket> Client<S> {
    pub(super) fn over(socket: S) -> Self {
        Self {
            socket,
            framer: Framer::new(Limits::AUTHENTICATED),
            input: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, xml: &str) {
        within(self.socket.write_all(xml.as_bytes())).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    /// What comes next: an opening tag as its `from`, an element as it is, the
    /// stream's end and the connection's as nothing.
    async fn next(&mut self) -> Option<String> {
        loop {
            let mut input = self.input.as_slice();
            let event = self.framer.next(&mut input).unwrap();
            let event = match event {
                Some(Event::Open(header)) => Some(header.from),
                Some(Event::Element(bytes)) => {
                    Some(Some(String::from_utf8(bytes.into_owned()).unwrap()))
                }
                Some(Event::Close) => Some(None),
                None => None,
            };
            self.input = input.to_vec();
            if let Some(event) = event {
                return event;
            }
            let mut buffer = [0; 4096];
            match within(self.socket.read(&mut buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
            }
        }
    }

    pub(super) async fn open(&mut self) -> String {
        self.next().await.unwrap()
    }

    pub(super) async fn element(&mut self) -> String {
        self.next().await.unwrap()
    }

    /// Waits for the end of the stream and of the connection.
    pub(super) async fn ended(&mut self) {
        assert_eq!(self.next().await, None);
        let mut rest = Vec::new();
        // An end without TLS's own goodbye is an error, and an end.
        let _ = within(self.socket.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }

    /// Waits for a stream error of that condition, and the end.
    pub(super) async fn failed(&mut self, condition: &str) {
        let error = self.element().await;
        assert!(error.starts_with("<stream:error>"), "{error}");
        assert!(error.contains(&format!("<{condition} ")), "{error}");
        self.ended().await;
    }

    /// Opens a stream after SASL and sees the features.
    pub(super) async fn restart(&mut self) {
        self.framer = Framer::new(Limits::AUTHENTICATED);
        self.send(OPEN).await;
        self.open().await;
        let features = self.element().await;
        for feature in ["<bind ", "<sm ", "<ver ", "<sub ", "<limits "] {
            assert!(features.contains(feature), "{features}");
        }
    }

    /// A SCRAM exchange as alice; the failure's element on failure.
    pub(super) async fn scram(
        &mut self,
        hash: Hash,
        password: &str,
        binding: Option<ChannelBinding>,
    ) -> Result<(), String> {
        let name = match (hash, binding.is_some()) {
            (Hash::Sha1, false) => "SCRAM-SHA-1",
            (Hash::Sha1, true) => "SCRAM-SHA-1-PLUS",
            (Hash::Sha256, false) => "SCRAM-SHA-256",
            (Hash::Sha256, true) => "SCRAM-SHA-256-PLUS",
        };
        let (mut exchange, first) =
            sasl::Client::begin(hash, "alice", password, "nonce", binding).unwrap();
        self.auth(name, &first).await;
        let challenge = self.element().await;
        let Some(challenge) = data(&challenge, "challenge") else {
            return Err(challenge);
        };
        let response = exchange.answer(&challenge).unwrap();
        let response = STANDARD.encode(response);
        self.send(&format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"
        ))
        .await;
        let last = self.element().await;
        match data(&last, "success") {
            Some(proof) => {
                exchange.verify(&proof).unwrap();
                Ok(())
            }
            None => Err(last),
        }
    }

    pub(super) async fn auth(&mut self, mechanism: &str, message: &str) {
        let message = STANDARD.encode(message);
        self.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{message}</auth>"
        ))
        .await;
    }
}

/// The decoded content of a SASL element of that name.
fn data(element: &str, name: &str) -> Option<Vec<u8>> {
    let element = xmpp::Element::parse(element.as_bytes()).unwrap();
    (element.name() == name).then(|| STANDARD.decode(element.text()).unwrap())
}
