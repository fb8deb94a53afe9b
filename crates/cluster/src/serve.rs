//! The cluster manager as a service.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use certificates::Authority;
use database::{Access, Database};
use service::Context;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::rpc::cluster_server::ClusterServer;
use crate::tls::{self, Visit, Visitor};
use crate::{Manager, Materials, Secret};

/// The port that nodes join at.
pub const PORT: u16 = 8500;
/// The interface that nodes reach each other by.
const INTERFACE: &str = "eth0";
/// Connections at a time; few nodes join, and one at a time.
const VISITS: usize = 16;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection may last.
const VISIT: Duration = Duration::from_secs(60);
/// Largest request.
const LARGEST: usize = 64 << 10;

/// Runs the cluster manager until it is told to stop.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
        .context("CREDENTIALS_DIRECTORY is not set; the unit's LoadCredential= lines set it")?;
    let folder = Path::new(&folder);
    let materials = materials(folder, &context)?;
    let config = tls::server(&read(folder, "cluster.crt")?, &read(folder, "cluster.key")?)?;
    let database = Database::open(context.paths(), Access::Cluster);
    let listener = peer::listen(PORT)
        .await
        .with_context(|| format!("port {PORT} cannot be listened on"))?;
    let heartbeat = context.heartbeat("cluster-manager");
    let serving = welcome(
        Manager::new(materials, database),
        listener,
        TlsAcceptor::from(config),
        context.stop_token().clone(),
    );
    tokio::pin!(serving);
    context.ready("Waits for nodes that join.");
    let mut clock = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            served = &mut serving => return served,
            _ = clock.tick() => heartbeat.tick(),
        }
    }
}

/// Serves those who want to join, until `stop`.
pub(crate) async fn welcome(
    manager: Manager,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let service = ClusterServer::new(manager).max_decoding_message_size(LARGEST);
    tonic::transport::Server::builder()
        .max_connection_age(VISIT)
        .add_service(service)
        .serve_with_incoming_shutdown(accept(listener, acceptor), stop.cancelled_owned())
        .await?;
    Ok(())
}

pub(crate) fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
) -> ReceiverStream<std::io::Result<Visit>> {
    peer::incoming(listener, VISITS, move |stream, from, place| {
        let greeted = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
        async move {
            let stream = greeted.await.ok()?.ok()?;
            let visitor = Visitor {
                from: from.ip(),
                connection: tls::connection(stream.get_ref().1).ok()?,
            };
            Some(Visit::holding(stream, visitor, place))
        }
    })
}

fn read(folder: &Path, name: &str) -> anyhow::Result<String> {
    let path = folder.join(name);
    std::fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read; it is made at set-up", path.display()))
}

fn materials(folder: &Path, context: &Context) -> anyhow::Result<Materials> {
    let secret: Secret =
        toml::from_str(&read(folder, "secret.toml")?).context("secret.toml is not valid")?;
    let mtu = std::fs::read_to_string(format!("/sys/class/net/{INTERFACE}/mtu")).ok();
    Ok(Materials {
        node: context.node()?,
        secret,
        authority: Authority::load(&read(folder, "ca.crt")?, &read(folder, "ca.key")?)?,
        subject: toml::from_str(&read(folder, "subject.toml")?)
            .context("subject.toml is not valid")?,
        mtu: mtu.and_then(|text| text.trim().parse().ok()),
    })
}
