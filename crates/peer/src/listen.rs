//! From other nodes.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use certificates::Certificate;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::Credentials;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at a time. A cluster has six nodes.
const HANDSHAKES: usize = 32;
/// Pause after the system refused a connection, as when it has no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// The node at the other end of a connection, as its certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its number in the replication log.
    pub replica: u64,
}

/// A connection from another node.
#[derive(Debug)]
pub struct Link {
    stream: TlsStream<TcpStream>,
    remote: Remote,
}

impl Connected for Link {
    type ConnectInfo = Remote;

    fn connect_info(&self) -> Remote {
        self.remote
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Listens on a port of every address of the node.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    // Both families with one socket; a node without IPv6 has only the other.
    let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4([0; 4].into())];
    let addresses = any.map(|address| SocketAddr::new(address, port));
    TcpListener::bind(addresses.as_slice()).await
}

/// The connections of a listener whose other ends are nodes of the cluster, as
/// `tonic`'s `serve_with_incoming` takes them. Others are refused in the
/// handshake. Needs a tokio runtime; ends when the stream is dropped.
pub fn accept(
    listener: TcpListener,
    credentials: &Credentials,
) -> ReceiverStream<io::Result<Link>> {
    let (sender, links) = mpsc::channel(HANDSHAKES);
    let acceptor = TlsAcceptor::from(credentials.server.clone());
    let cluster = credentials.identity().cluster.clone();
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    tokio::spawn(async move {
        // The semaphore is never closed.
        while let Ok(place) = places.clone().acquire_owned().await {
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "A connection from another node was not accepted.");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (acceptor, sender, cluster) = (acceptor.clone(), sender.clone(), cluster.clone());
            tokio::spawn(async move {
                let link = tokio::time::timeout(HANDSHAKE, greet(&acceptor, stream, &cluster));
                match link.await {
                    // The server's end also ends this.
                    Ok(Ok(link)) => drop(sender.send(Ok(link)).await),
                    Ok(Err(error)) => {
                        tracing::info!(%from, %error, "A connection that is no node's was refused.");
                    }
                    Err(_) => tracing::info!(%from, "A connection said nothing and was closed."),
                }
                drop(place);
            });
        }
    });
    ReceiverStream::new(links)
}

async fn greet(acceptor: &TlsAcceptor, stream: TcpStream, cluster: &str) -> io::Result<Link> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let identity = shown
        .and_then(<[_]>::first)
        .and_then(|leaf| Certificate::from_der(leaf).ok()?.identity())
        .filter(|identity| identity.cluster == cluster)
        .ok_or_else(|| io::Error::other("its certificate is for no node of this cluster"))?;
    let remote = Remote {
        replica: identity.replica,
    };
    Ok(Link { stream, remote })
}
