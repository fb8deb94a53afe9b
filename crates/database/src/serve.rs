//! The database service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use peer::Credentials;
use replication::{Acknowledgement, Options, Peers};
use service::{Context, Role, Severity};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::LARGEST_MESSAGE;
use crate::cluster;
use crate::engine::Engine;
use crate::register::register;
use crate::rpc::database_server::DatabaseServer;
use crate::server::Server;
use crate::{Access, Database};

/// Memory for cached pages of the replica, in bytes, when the environment
/// variable `SIGNALBOX_DATABASE_CACHE` does not say otherwise.
const CACHE: u64 = 32 << 20;
const LARGEST_CACHE: u64 = 1 << 30;

/// How often the other nodes are asked how they are.
const LOOK: Duration = Duration::from_secs(2);
/// How long connections of other nodes may take to end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Pause before the port for other nodes is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs the database service until it is told to stop.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let folder = context.paths().state(context.id());
    std::fs::create_dir_all(&folder)?;
    let credentials = credentials()?;
    let engine = Arc::new(open(&context, &folder, credentials.as_ref()).await?);
    // Ends the streams of watchers, for which an orderly stop waits.
    let stop = context.stop_token().child_token();
    let server = Server::new(engine.clone(), stop.clone());
    let mut serving = JoinSet::new();
    for access in Access::ALL {
        let listener = service::uds::listen(&access.socket(context.paths()))?;
        let server = DatabaseServer::new(server.of(access))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        let served = tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming_shutdown(
                service::uds::incoming(listener),
                stop.clone().cancelled_owned(),
            );
        serving.spawn(served);
    }
    // The engine is closed once the last request has let go of it.
    drop(server);
    let served = async {
        // One that ends ends the others: the process never lives on half deaf.
        let _guard = stop.clone().drop_guard();
        while let Some(ended) = serving.join_next().await {
            ended??;
            stop.cancel();
        }
        anyhow::Ok(())
    };
    let attending = attend(&context, &engine, &stop);
    let neighbours = async {
        if let Some(credentials) = &credentials {
            tokio::join!(
                answer_others(&context, &engine, credentials, &stop),
                know_others(&engine, &stop)
            );
        }
    };
    let (served, failure, ()) = tokio::join!(served, attending, neighbours);
    served?;
    engine.close().await?;
    match failure? {
        None => Ok(()),
        Some(reason) => Err(anyhow::anyhow!("the database starts again: {reason}")),
    }
}

/// The certificate for connections between nodes; a test has none.
fn credentials() -> anyhow::Result<Option<Credentials>> {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    Ok(Some(Credentials::load(Path::new(&folder))?))
}

/// How the node's files are opened.
fn options(context: &Context, folder: &Path, credentials: Option<&Credentials>) -> Options {
    let number = credentials.map_or(1, |credentials| credentials.identity().replica);
    let mut options = Options::new(number, folder.into());
    let cache = std::env::var("SIGNALBOX_DATABASE_CACHE").ok();
    options.cache = cache
        .and_then(|text| text.parse().ok())
        .unwrap_or(CACHE)
        .min(LARGEST_CACHE);
    // A test has no set-up.
    if let Ok(node) = context.node() {
        options.found = node.role == Role::Publisher;
        options.address = cluster::address_of(&node.address);
    }
    options
}

/// Opens the files; says what it does while that takes long.
async fn open(
    context: &Context,
    folder: &Path,
    credentials: Option<&Credentials>,
) -> anyhow::Result<Engine> {
    let options = options(context, folder, credentials);
    let founder = options.found;
    let peers = credentials.cloned().map(|credentials| {
        Peers::new(move |node, address| peer::channel(&credentials, node, address))
    });
    let opening = async {
        let engine = Engine::open(options, peers).await?;
        if founder {
            engine.import_seed(&folder.join("seed.json")).await?;
        }
        anyhow::Ok(engine)
    };
    tokio::pin!(opening);
    let mut clock = tokio::time::interval(Duration::from_secs(5));
    let engine = loop {
        tokio::select! {
            opened = &mut opening => break opened?,
            _ = clock.tick() => {
                // Checking and rebuilding take as long as there are rows.
                context.status("Opens and checks its files.");
                context.extend_timeout(Duration::from_secs(30));
            }
        }
    };
    let recovery = engine.node().recovery();
    if !recovery.findings.is_empty() {
        let severity = if recovery.loss() {
            Severity::Critical
        } else {
            Severity::Error
        };
        let text = format!("{} The report is in {}.", recovery.text(), folder.display());
        context.alarms().raise("DatabaseRecovered", severity, &text);
    }
    Ok(engine)
}

/// Serves the other nodes of the cluster. This node's own services do not
/// depend on it.
async fn answer_others(
    context: &Context,
    engine: &Arc<Engine>,
    credentials: &Credentials,
    stop: &CancellationToken,
) {
    const ALARM: &str = "DatabasePort";
    while !stop.is_cancelled() {
        let served = async {
            let listener = peer::listen(cluster::PORT).await?;
            context.alarms().clear(ALARM);
            cluster::services(engine)
                .serve_with_incoming_shutdown(
                    peer::accept(listener, credentials),
                    stop.clone().cancelled_owned(),
                )
                .await?;
            anyhow::Ok(())
        };
        // A node that hangs with a request of ours must not hold the stop up.
        let farewell = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
            Ok(())
        };
        let ended = tokio::select! {
            ended = served => ended,
            ended = farewell => ended,
        };
        if let Err(error) = ended {
            let text = format!(
                "Other nodes cannot reach this one: port {} cannot be listened on ({error:#}).",
                cluster::PORT
            );
            context.alarms().raise(ALARM, Severity::Error, &text);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Asks the other nodes how they are, and keeps the members those of the
/// table of nodes.
async fn know_others(engine: &Arc<Engine>, stop: &CancellationToken) {
    let mut clock = tokio::time::interval(LOOK);
    let mut revisions = engine.revisions();
    let mut metrics = engine.node().raft().metrics();
    let (mut leads, mut members) = Default::default();
    loop {
        let round = tokio::select! {
            () = stop.cancelled() => return,
            _ = clock.tick() => true,
            Ok(()) = revisions.changed() => false,
            // Whoever hears of its first members asks them at once. Every sign
            // of life comes by here, too, and means nothing more.
            Ok(()) = metrics.changed() => {
                let facts = engine.node().facts();
                let lead = (facts.leader, facts.voting());
                let now: Vec<u64> = facts.members.iter().map(|member| member.node).collect();
                let news = now != members;
                if !news && lead == leads {
                    continue;
                }
                (leads, members) = (lead, now);
                news
            }
        };
        let work = async {
            cluster::settle_roles(engine).await;
            cluster::settle_members(engine).await;
            if let Some(others) = engine.cluster().filter(|_| round) {
                cluster::look_around(engine, others).await;
                // Some of them may have said what the log calls them.
                cluster::settle_members(engine).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = work => {}
        }
    }
}

/// The chores beside serving. Ends with the service; with a reason when it
/// must start again.
async fn attend(
    context: &Context,
    engine: &Arc<Engine>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<String>> {
    // Whatever ends this ends the serving, too.
    let _guard = stop.clone().drop_guard();
    let heartbeat = context.heartbeat("database");
    let database = Database::open(context.paths(), Access::Administration);
    let mut registered = context.node().ok();
    register(context, engine, &database, &heartbeat).await?;
    let mut acknowledged = Acknowledgement::default();
    context.ready("Serves.");
    let mut clock = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            reason = engine.failed() => {
                context.alarms().raise("DatabaseFailure", Severity::Critical, &reason);
                return Ok(Some(reason));
            }
            _ = clock.tick() => {
                heartbeat.tick();
                count(context, engine);
                // `set network` gives a running node another name or address.
                let node = context.node().ok();
                if node != registered {
                    register(context, engine, &database, &heartbeat).await?;
                    registered = node;
                }
                let now = engine.node().acknowledgement();
                if std::mem::replace(&mut acknowledged, now) != now {
                    tell(context, now);
                }
            }
        }
    }
}

fn tell(context: &Context, acknowledgement: Acknowledgement) {
    const ALARM: &str = "DatabaseNotReplicated";
    if acknowledgement == Acknowledgement::Degraded {
        let text = "No subscriber keeps up: changes are on this node's disk alone. \
                    \"utils dbreplication runtimestate\" shows which node is away.";
        context.alarms().raise(ALARM, Severity::Error, text);
    } else {
        context.alarms().clear(ALARM);
    }
}

fn count(context: &Context, engine: &Engine) {
    let set = |class: &str, instance: &str, name: &str, value: u64| {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        context.perf().counter(class, instance, name).set(value);
    };
    let counts = engine.node().counts();
    let (log, snapshots) = engine.node().sizes();
    let facts = engine.node().facts();
    set(
        "DB Local_DSN",
        "DSN",
        "CcmDbSpace_Used",
        engine.store().size() >> 10,
    );
    set("Database", "", "Transactions", counts.transactions);
    set("Database", "", "TransactionsRejected", counts.rejected);
    set("Database", "", "LogWrites", counts.commits);
    set("Database", "", "LogBytes", log);
    set("Database", "", "SnapshotBytes", snapshots);
    set("Database", "", "LogApplied", facts.applied);
    set("Database", "", "LogLast", facts.last_log);
}
