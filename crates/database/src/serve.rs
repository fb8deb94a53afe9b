//! The database service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use service::{Context, Role, Severity};
use tokio_util::sync::CancellationToken;

use crate::client::LARGEST_MESSAGE;
use crate::engine::Engine;
use crate::rpc::database_server::DatabaseServer;
use crate::server::Server;
use crate::tables::ProcessNode;
use crate::{Database, Table, Transaction};

/// Memory for cached pages of the replica, in bytes, when the environment
/// variable `SIGNALBOX_DATABASE_CACHE` does not say otherwise.
const CACHE: u64 = 32 << 20;
const LARGEST_CACHE: u64 = 1 << 30;

/// Runs the database service until it is told to stop.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let folder = context.paths().state(context.id());
    std::fs::create_dir_all(&folder)?;
    let engine = Arc::new(open(&context, &folder).await?);
    let socket = context.paths().database_socket();
    let listener = service::uds::listen(&socket)?;
    // Ends the streams of watchers, for which an orderly stop waits.
    let stop = context.stop_token().child_token();
    let server = Server::new(engine.clone(), stop.clone());
    let serving = tonic::transport::Server::builder()
        .add_service(
            DatabaseServer::new(server)
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE),
        )
        .serve_with_incoming_shutdown(
            service::uds::incoming(listener),
            stop.clone().cancelled_owned(),
        );
    let attending = attend(&context, &engine, &stop, &socket);
    let (served, failure) = tokio::join!(serving, attending);
    served?;
    engine.close().await?;
    match failure? {
        None => Ok(()),
        Some(reason) => Err(anyhow::anyhow!("the database starts again: {reason}")),
    }
}

/// Opens the files; says what it does while that takes long.
async fn open(context: &Context, folder: &Path) -> anyhow::Result<Engine> {
    let cache = std::env::var("SIGNALBOX_DATABASE_CACHE").ok();
    let cache = cache
        .and_then(|text| text.parse().ok())
        .unwrap_or(CACHE)
        .min(LARGEST_CACHE);
    let opening = async {
        let engine = Engine::open(folder, cache).await?;
        engine.import_seed(&folder.join("seed.json")).await?;
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

/// The chores beside serving. Ends with the service; with a reason when it
/// must start again.
async fn attend(
    context: &Context,
    engine: &Arc<Engine>,
    stop: &CancellationToken,
    socket: &Path,
) -> anyhow::Result<Option<String>> {
    // Whatever ends this ends the serving, too.
    let _guard = stop.clone().drop_guard();
    let heartbeat = context.heartbeat("database");
    let database = Database::connect(socket);
    let mut registered = context.node().ok();
    register(context, &database).await?;
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
                    register(context, &database).await?;
                    registered = node;
                }
            }
        }
    }
}

/// Keeps this node's own row among the cluster's nodes up to date.
async fn register(context: &Context, database: &Database) -> anyhow::Result<()> {
    // A test has no set-up.
    let Ok(node) = context.node() else {
        return Ok(());
    };
    let role = match node.role {
        Role::Publisher => "publisher",
        Role::Subscriber => "subscriber",
    };
    let row = ProcessNode {
        name: node.name,
        domain: node.domain,
        address: node.address,
        role: role.into(),
        product: node.product,
        replica: 1,
    };
    if database.get::<ProcessNode>(&[&row.name]).await?.as_ref() != Some(&row) {
        let mut change = Transaction::new();
        for old in database.list::<ProcessNode>(&[]).await? {
            if old.replica == row.replica && old.name != row.name {
                change = change.delete::<ProcessNode>(&[&old.name]);
            }
        }
        database.transact(change.put(&row)?).await?;
        tracing::info!(
            table = ProcessNode::SCHEMA.table,
            "This node's own row was written."
        );
    }
    Ok(())
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
