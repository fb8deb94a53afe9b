//! Listening: TLS on 8443, and redirects to it from 80 and 443.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use operations::{Access, Operations};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use service::{Context, Severity};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::app::App;
use crate::routes::{Peer, router};
use crate::throttle::source;

/// The port of the pages and APIs.
pub(crate) const PORT: u16 = 8443;
/// Ports that lead there: plain HTTP, and HTTPS.
const PLAIN: u16 = 80;
const SECURE: u16 = 443;
/// How long a client may take for TLS, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long requests may go on after the stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// Connections at once, and from one address, as [`source`] counts them.
const MOST: usize = 2048;
const MOST_OF_ONE: usize = 128;

/// The service `web`.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY")
        .context("$CREDENTIALS_DIRECTORY is not set; the unit gives it by LoadCredential=")?;
    let tls = tls(Path::new(&credentials))?;
    let operations = Operations::live(context.paths().clone(), Access::Pages);
    let app = App::new(operations, context.perf())?;
    let application = router(app.clone());
    let redirect = Router::new().fallback(redirect);

    let main = listen(PORT).await?;
    let connections = Connections::new(context.stop_token().clone(), app);
    let mut loops = tokio::task::JoinSet::new();
    loops.spawn(
        connections
            .clone()
            .accept(main, Some(tls.clone()), application),
    );
    for (port, tls) in [(PLAIN, None), (SECURE, Some(tls))] {
        // The pages are there without the redirects, so these may fail.
        match listen(port).await {
            Ok(listener) => {
                loops.spawn(connections.clone().accept(listener, tls, redirect.clone()));
            }
            Err(error) => context.alarms().raise(
                &format!("WebRedirect{port}"),
                Severity::Warning,
                &format!("Port {port} does not lead to port {PORT}: {error:#}."),
            ),
        }
    }
    context.ready("Serves the pages on port 8443.");
    let beat = context.heartbeat("web");
    let mut clock = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            _ = clock.tick() => beat.tick(),
            () = context.stopping() => break,
            Some(ended) = loops.join_next() => ended?,
        }
    }
    connections.tasks.close();
    let _ = tokio::time::timeout(FAREWELL, connections.tasks.wait()).await;
    Ok(())
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    // Both families with one socket; a node without IPv6 has only the other.
    let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4([0; 4].into())];
    let addresses = any.map(|address| SocketAddr::new(address, port));
    TcpListener::bind(addresses.as_slice())
        .await
        .with_context(|| format!("port {port} cannot be listened on"))
}

/// Reads certificate and key from the unit's credentials.
fn tls(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let certificate = folder.join("tls.crt");
    let read = |what: &Path| format!("{} is not usable; it is made at set-up", what.display());
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| read(&certificate))?;
    let key = folder.join("tls.key");
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| read(&key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not fit together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Sends a request to the same path on port 8443. The name is the client's
/// own word, so only what can be a name or an address is repeated.
async fn redirect(request: Request) -> Response {
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri().host());
    let Some(host) = named.and_then(host_of) else {
        return (StatusCode::BAD_REQUEST, "Which host is meant?\n").into_response();
    };
    let path = request.uri().path();
    let path = if crate::path::is_canonical(path) {
        path
    } else {
        "/"
    };
    Redirect::permanent(&format!("https://{host}:{PORT}{path}")).into_response()
}

/// The host of a `Host` header without its port.
fn host_of(text: &str) -> Option<&str> {
    if text.starts_with('[') {
        let end = text.find(']')?;
        text[1..end].parse::<Ipv6Addr>().ok()?;
        return Some(&text[..=end]);
    }
    let host = text.split(':').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.len() <= 253 && host.chars().all(plain)).then_some(host)
}

/// The connections that are open, within their bounds.
#[derive(Clone)]
struct Connections {
    stop: CancellationToken,
    tasks: TaskTracker,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    app: App,
}

/// A place among the connections; free again when dropped.
struct Place {
    of: Connections,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.of.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
        drop(open);
        self.of.app.counters().busy.add(-1);
    }
}

impl Connections {
    fn new(stop: CancellationToken, app: App) -> Self {
        Self {
            stop,
            tasks: TaskTracker::new(),
            open: Arc::default(),
            app,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, address: IpAddr) -> Option<Place> {
        let address = source(address);
        let mut open = self.lock();
        let of_one = open.get(&address).copied().unwrap_or(0);
        if self.tasks.len() >= MOST || of_one >= MOST_OF_ONE {
            return None;
        }
        open.insert(address, of_one + 1);
        drop(open);
        self.app.counters().busy.add(1);
        Some(Place {
            of: self.clone(),
            address,
        })
    }

    async fn accept(self, listener: TcpListener, tls: Option<TlsAcceptor>, router: Router) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: some are closed soon.
                    tracing::warn!(%error, "A connection could not be accepted.");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let address = address.ip().to_canonical();
            let Some(place) = self.place(address) else {
                continue;
            };
            let (tls, router, stop) = (tls.clone(), router.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                connection(stream, address, tls, router, stop).await;
                drop(place);
            });
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: IpAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(stream, address, router, stop).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                requests(stream, address, router, stop).await;
            }
        }
    }
}

async fn requests<S>(stream: S, address: IpAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: axum::http::Request<_>| {
        request.extensions_mut().insert(Peer(address));
        request
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(PATIENCE);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    // A client that breaks off is no news.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_addresses_are_repeated() {
        assert_eq!(host_of("node1.example.org:80"), Some("node1.example.org"));
        assert_eq!(host_of("192.0.2.1"), Some("192.0.2.1"));
        assert_eq!(host_of("[2001:db8::1]:80"), Some("[2001:db8::1]"));
        for text in [
            "",
            ":80",
            "a/b",
            "a b",
            "evil\u{e9}.org",
            "[x]",
            "[::1",
            "user@host",
        ] {
            assert_eq!(host_of(text), None, "{text:?}");
        }
    }
}
