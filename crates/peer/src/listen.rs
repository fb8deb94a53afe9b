//! From other nodes.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certificates::Certificate;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::{Connection, Credentials};

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
pub type Link = Connection<TlsStream<TcpStream>, Remote>;

/// Listens on a port of every address of the node.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    // Both families with one socket; a node without IPv6 has only the other.
    let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4([0; 4].into())];
    let addresses = any.map(|address| SocketAddr::new(address, port));
    TcpListener::bind(addresses.as_slice()).await
}

/// The connections of a listener that `greet` lets in, as `tonic`'s
/// `serve_with_incoming` takes them. At most `places` are greeted at a time;
/// each has its place until it is handed on, or for as long as `greet` keeps
/// it. Needs a tokio runtime; ends when the stream is dropped.
pub fn incoming<L, F>(
    listener: TcpListener,
    places: usize,
    greet: impl Fn(TcpStream, SocketAddr, Arc<OwnedSemaphorePermit>) -> F + Send + 'static,
) -> ReceiverStream<io::Result<L>>
where
    L: Send + 'static,
    F: Future<Output = Option<L>> + Send + 'static,
{
    let (sender, links) = mpsc::channel(places);
    let places = Arc::new(Semaphore::new(places));
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
            let place = Arc::new(place);
            let greeted = greet(stream, from, place.clone());
            let sender = sender.clone();
            tokio::spawn(async move {
                if let Some(link) = greeted.await {
                    // The server's end also ends this.
                    let _ = sender.send(Ok(link)).await;
                }
                drop(place);
            });
        }
    });
    ReceiverStream::new(links)
}

/// The connections of a listener whose other ends are nodes of the cluster
/// (see [`incoming`]). Others are refused in the handshake.
pub fn accept(
    listener: TcpListener,
    credentials: &Credentials,
) -> ReceiverStream<io::Result<Link>> {
    let acceptor = TlsAcceptor::from(credentials.server.clone());
    let cluster = credentials.identity().cluster.clone();
    incoming(listener, HANDSHAKES, move |stream, from, _| {
        let (acceptor, cluster) = (acceptor.clone(), cluster.clone());
        async move {
            let link = tokio::time::timeout(HANDSHAKE, greet(&acceptor, stream, &cluster));
            match link.await {
                Ok(Ok(link)) => return Some(link),
                Ok(Err(error)) => {
                    tracing::info!(%from, %error, "A connection that is no node's was refused.");
                }
                Err(_) => tracing::info!(%from, "A connection said nothing and was closed."),
            }
            None
        }
    })
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
    Ok(Link::new(stream, remote))
}
