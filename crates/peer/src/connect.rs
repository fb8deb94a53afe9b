//! Towards another node.

use std::io;
use std::time::Duration;

use certificates::Identity;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Credentials;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent connection is asked whether it lives so often.
const ALIVE: Duration = Duration::from_secs(5);

/// Connects to node `replica` of the own cluster at `address` (`host:port`). A
/// node with another number at that address is refused.
pub async fn connect(
    credentials: &Credentials,
    replica: u64,
    address: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let wanted = Identity {
        replica,
        cluster: credentials.identity().cluster.clone(),
    };
    let name = ServerName::try_from(wanted.host_name()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(credentials.client.clone());
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connector.connect(name, stream).await
    };
    tokio::time::timeout(CONNECT, connecting)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A channel to node `replica` of the own cluster at `address`, as
/// [`connect`] makes connections: at first use, and again whenever the
/// connection was lost.
pub fn channel(credentials: &Credentials, replica: u64, address: &str) -> Channel {
    let credentials = credentials.clone();
    let address = address.to_owned();
    // The address is never resolved from here: the connector ignores it.
    Endpoint::from_static("http://node.invalid")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (credentials, address) = (credentials.clone(), address.clone());
            async move {
                let stream = connect(&credentials, replica, &address).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        }))
}
