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
        this.authenticate(target, user).await?;
        this.send(&header).await?;
        this.expect(b"</stream:features>")
            .await
            .context("features after SASL")?;
        this.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{RESOURCE}</resource></bind></iq>"
        ))
        .await?;
        this.expect(b"</iq>").await.context("bind")?;
        Ok(this)
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
