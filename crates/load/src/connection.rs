//! One XMPP client connection: TCP, STARTTLS, SASL, bind.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::scram::{Hash, Scram};
use crate::{Mechanism, Target};

/// The resource that every generated session binds.
pub(crate) const RESOURCE: &str = "load";

/// Longest answer awaited during negotiation.
const ANSWER_LIMIT: usize = 256 * 1024;

/// Another node serves the user: its address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moved(pub(crate) String);

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the user is served at {}", self.0)
    }
}

impl std::error::Error for Moved {}

/// A signed-in session.
pub(crate) struct Connection {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) buffer: Vec<u8>,
}

impl Connection {
    /// Connects, authenticates `user` and binds [`RESOURCE`].
    pub(crate) async fn open(
        target: &Target,
        tls: &Arc<rustls::ClientConfig>,
        user: &str,
    ) -> Result<Self> {
        let (connection, _) = Self::negotiate(target, tls, user, false).await?;
        Ok(connection)
    }

    /// Connects to the node that would take the user over, and waits until it
    /// does (`crates/router/DUAL.md`). `ready` is called when the connection
    /// is inactive.
    pub(crate) async fn stand_by(
        target: &Target,
        tls: &Arc<rustls::ClientConfig>,
        user: &str,
        ready: impl FnOnce(),
    ) -> Result<Self> {
        let (mut connection, active) = Self::negotiate(target, tls, user, true).await?;
        if !active {
            ready();
            connection.expect(b"<active").await?;
        }
        Ok(connection)
    }

    /// Signs in; tells whether the server said that the connection is active.
    async fn negotiate(
        target: &Target,
        tls: &Arc<rustls::ClientConfig>,
        user: &str,
        inactive: bool,
    ) -> Result<(Self, bool)> {
        let mut tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        tcp.set_nodelay(true)?;
        let header = format!(
            "<stream:stream to='{}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>",
            target.domain
        );
        let mut plain = Vec::new();
        tcp.write_all(header.as_bytes()).await?;
        expect(&mut tcp, &mut plain, b"</stream:features>")
            .await
            .context("features before TLS")?;
        tcp.write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            .await?;
        expect(&mut tcp, &mut plain, b"<proceed")
            .await
            .context("STARTTLS")?;
        let name = rustls::pki_types::ServerName::try_from(target.domain.clone())?;
        let stream = TlsConnector::from(tls.clone())
            .connect(name, tcp)
            .await
            .context("TLS")?;
        let mut this = Self {
            stream,
            buffer: Vec::new(),
        };
        this.send(&header).await?;
        this.expect(b"</stream:features>")
            .await
            .context("features before SASL")?;
        if inactive {
            this.send("<inactive xmlns='urn:signalbox:dual:0'/>")
                .await?;
        }
        this.authenticate(target, user).await?;
        this.send(&header).await?;
        let features = this
            .expect(b"</stream:features>")
            .await
            .context("features after SASL")?;
        this.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{RESOURCE}</resource></bind></iq>"
        ))
        .await?;
        let bound = this.expect(b"</iq>").await.context("bind")?;
        let says = |answer: &[u8]| memmem::find(answer, b"<active ").is_some();
        Ok((this, says(&features) || says(&bound)))
    }

    async fn authenticate(&mut self, target: &Target, user: &str) -> Result<()> {
        let hash = match target.mechanism {
            Mechanism::Plain => {
                let initial = BASE64.encode(format!("\0{user}\0{}", target.password));
                self.send(&auth("PLAIN", &initial)).await?;
                return self.expect(b"<success").await.map(drop).context("PLAIN");
            }
            Mechanism::ScramSha1 => Hash::Sha1,
            Mechanism::ScramSha256 => Hash::Sha256,
        };
        let mut scram = Scram::new(hash, user, &target.password)?;
        self.send(&auth(hash.mechanism(), &BASE64.encode(scram.first())))
            .await?;
        let challenge = self
            .expect(b"</challenge>")
            .await
            .context("SCRAM challenge")?;
        let challenge = BASE64.decode(text(&challenge)?)?;
        let answer = BASE64.encode(scram.answer(&challenge)?);
        self.send(&format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{answer}</response>"
        ))
        .await?;
        let success = self.expect(b"</success>").await.context("SCRAM success")?;
        scram.verify(&BASE64.decode(text(&success)?)?)
    }

    /// Sends text as it is.
    pub(crate) async fn send(&mut self, text: &str) -> Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        Ok(())
    }

    async fn expect(&mut self, needle: &[u8]) -> Result<Vec<u8>> {
        expect(&mut self.stream, &mut self.buffer, needle).await
    }
}

fn auth(mechanism: &str, initial: &str) -> String {
    format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{initial}</auth>"
    )
}

/// The character data of the last element in an answer.
fn text(answer: &[u8]) -> Result<&[u8]> {
    let end = memmem::rfind(answer, b"</").context("an element without its end")?;
    let start = memchr::memrchr(b'>', &answer[..end]).context("an element without its start")?;
    Ok(&answer[start + 1..end])
}

/// Reads until `needle` has come; returns everything up to and with it, and
/// leaves the rest in the buffer.
async fn expect(
    stream: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut Vec<u8>,
    needle: &[u8],
) -> Result<Vec<u8>> {
    loop {
        if let Some(at) = memmem::find(buffer, needle) {
            let mut end = at + needle.len();
            // `<proceed` and `<success` end with their own tag.
            if needle.last() != Some(&b'>') {
                match memchr::memchr(b'>', &buffer[end..]) {
                    Some(close) => end += close + 1,
                    None => end = usize::MAX,
                }
            }
            if end <= buffer.len() {
                return Ok(buffer.drain(..end).collect());
            }
        }
        if let Some(start) = memmem::find(buffer, b"<see-other-host")
            && let Some(end) = memmem::find(buffer, b"</see-other-host>")
        {
            let host = text(&buffer[start..end + 2])?;
            let host = String::from_utf8_lossy(host);
            return Err(Moved(host.trim_matches(['[', ']']).to_owned()).into());
        }
        let failed = memmem::find(buffer, b"<failure").is_some()
            || memmem::find(buffer, b"<stream:error").is_some();
        if failed || buffer.len() > ANSWER_LIMIT {
            bail!("the server answered: {}", String::from_utf8_lossy(buffer));
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!(
                "the server closed the connection: {}",
                String::from_utf8_lossy(buffer)
            );
        }
    }
}
