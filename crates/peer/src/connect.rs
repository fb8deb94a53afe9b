//! Towards another node.

use std::io;
use std::time::Duration;

use certificates::Identity;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Credentials;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent connection is asked whether it lives so often.
const ALIVE: Duration = Duration::from_secs(5);

/// A channel to node `replica` of the own cluster at `address` (`host:port`).
/// It connects at first use, and again whenever the connection was lost. A
/// node with another number at that address is refused.
pub fn channel(credentials: &Credentials, replica: u64, address: &str) -> Channel {
    let wanted = Identity {
        replica,
        cluster: credentials.identity().cluster.clone(),
    };
    let client = credentials.client.clone();
    let address = address.to_owned();
    // The address is never resolved from here: the connector ignores it.
    Endpoint::from_static("http://node.invalid")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let connector = TlsConnector::from(client.clone());
            let (wanted, address) = (wanted.clone(), address.clone());
            async move {
                let name = ServerName::try_from(wanted.host_name()).map_err(io::Error::other)?;
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        }))
}
