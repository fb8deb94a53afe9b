//! The recovery manager as a service.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use database::{Access, Database};
use peer::Credentials;
use recovery::Parameters;
use service::{Context, Severity, uds};
use supervisor::Client;
use tokio::sync::{mpsc, watch};

use crate::admin::Own;
use crate::disk::{Disk, Found};
use crate::door::{self, Members};
use crate::driver::{Driver, End, Input};
use crate::group::{Known, Services, View};
use crate::history::History;
use crate::links::Links;
use crate::live::Live;
use crate::serving::Serving;
use crate::{local, observe};

/// Inputs that wait for the driver. A node that tells more has to wait.
const WAITING: usize = 64;
/// How long database and supervisor may take to be asked at the start before
/// what is known of them must do.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries to ask the supervisor at the start.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the recovery manager until it is told to stop, or until the machine
/// wants to be started anew.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let node = ctx.node()?;
    let disk = Disk::open(&ctx.paths().state(ctx.id()))?;
    let history = History::open(&disk.history()).context("the event history cannot be read")?;
    let history = Arc::new(Mutex::new(history));
    let credentials = Credentials::load(&credentials_folder(&ctx))?;
    let database = Database::open(ctx.paths(), Access::Settings);
    let supervisor = Client::connect(&ctx.paths().supervisor_socket());
    let mut tables = observe::Tables::watch(&database, ctx.id(), &node.name);

    let boot = boot(&ctx.paths().runtime(ctx.id()))?;
    let known = begin_with(&disk, &mut tables).await?;
    let services = first_services(&supervisor).await;
    let stored = stored(&ctx, &disk)?;

    let (inputs, mut taken) = mpsc::channel(WAITING);
    let views = watch::Sender::new(None);
    let serving = watch::Sender::new(Serving::default());
    let own = Own {
        inputs: inputs.clone(),
        history: history.clone(),
    };
    let live = Live {
        disk: disk.clone(),
        history,
        links: Links::new(credentials.clone()),
        database: database.clone(),
        supervisor: supervisor.clone(),
        alarms: ctx.alarms().clone(),
        watchdog: ctx.watchdog(),
        views: views.clone(),
        inputs: inputs.clone(),
        adopting: [None, None],
        ordered: None,
    };
    let socket = uds::listen(&ctx.paths().recovery_socket())
        .context("cannot listen on the recovery manager's socket")?;
    let homes =
        uds::listen(&ctx.paths().homes_socket()).context("cannot listen on the router's socket")?;
    let view = View::new(&node.name, &known, &Parameters::default());
    let mut driver = Driver::start(live, &boot, view, services, stored, serving.clone())
        .context("what must outlive a power cut cannot be written")?;

    let stop = ctx.stop_token().clone();
    let members = Members(views.subscribe());
    let door = |port: fn(&View) -> u16| {
        let (views, credentials) = (views.subscribe(), credentials.clone());
        let (alarms, stop) = (ctx.alarms().clone(), stop.clone());
        move |router| door::listen(views, port, credentials, router, alarms, stop)
    };
    tokio::spawn(door(|view| view.parameters.service_port)({
        let (inputs, members) = (inputs.clone(), members.clone());
        Box::new(move || door::keepalives(inputs.clone(), members.clone())) as NewRouter
    }));
    tokio::spawn(door(|view| view.parameters.admin_port)({
        let (own, members) = (own.clone(), members.clone());
        Box::new(move || door::administration(own.clone(), members.clone())) as NewRouter
    }));
    tokio::spawn(local::serve(
        socket,
        own,
        views.subscribe(),
        credentials,
        stop.clone(),
    ));
    tokio::spawn(local::serve_router(
        homes,
        serving.subscribe(),
        stop.clone(),
    ));
    tokio::spawn(observe::follow_services(supervisor, inputs.clone()));
    tokio::spawn(observe::follow_replication(database, inputs.clone()));
    tokio::spawn(follow_tables(tables, disk, inputs));

    ctx.ready("Watches over the redundancy group.");
    tokio::select! {
        () = ctx.stopping() => Ok(()),
        ended = driver.run(&mut taken) => match ended {
            Ok(End::Restart) => {
                tracing::info!("The recovery manager starts anew.");
                Ok(())
            }
            Ok(End::Stopped) => Ok(()),
            Err(error) => Err(error).context(
                "what must outlive a power cut cannot be written; free some space, or repair the \
                 disk",
            ),
        },
    }
}

type NewRouter = Box<dyn Fn() -> tonic::transport::server::Router + Send + Sync>;

/// The folder of the certificates, which systemd gives.
fn credentials_folder(ctx: &Context) -> PathBuf {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY");
    given.map_or_else(|| ctx.paths().etc().join("credentials"), PathBuf::from)
}

/// The identity of the node's boot: a file in the runtime folder, which
/// outlives the service and not the boot.
fn boot(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("boot");
    if let Ok(boot) = std::fs::read_to_string(&path)
        && !boot.is_empty()
    {
        return Ok(boot);
    }
    let boot = uuid::Uuid::new_v4().to_string();
    std::fs::write(&path, &boot)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(boot)
}

/// What the database says, or when that does not answer what it said last. A
/// manager that never ran waits for it.
async fn begin_with(disk: &Disk, tables: &mut observe::Tables) -> anyhow::Result<Known> {
    let told = match disk.known() {
        None => Some(tables.next().await),
        Some(last) => match tokio::time::timeout(PATIENCE, tables.next()).await {
            Ok(known) => Some(known),
            Err(_) => {
                tracing::warn!("The database does not answer; what it said last must do.");
                return Ok(last);
            }
        },
    };
    let known = told.unwrap_or_default();
    disk.keep_known(&known)?;
    Ok(known)
}

/// The services, when the supervisor tells them soon. Otherwise nothing is
/// known to run until it does.
async fn first_services(supervisor: &Client) -> Services {
    let asked = async {
        loop {
            match observe::services(supervisor).await {
                Some(services) => return services,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, asked).await;
    told.unwrap_or_else(|_| Services::unknown())
}

/// The machine's memory. A damaged one is an alarm.
fn stored(ctx: &Context, disk: &Disk) -> anyhow::Result<Option<crate::disk::Stored>> {
    match disk.memory().context("the memory cannot be read")? {
        Found::Nothing => Ok(None),
        Found::Sound(stored) => Ok(Some(stored)),
        Found::Damaged(why) => {
            let text = format!(
                "What this node knew of who serves whose users was damaged ({why}) and is not \
                 used. It waits for its peer's word; until then its users may be without service. \
                 If the peer is down for good, they are served after the keepalive timeout."
            );
            let alarms = ctx.alarms();
            alarms.raise("SRMMemoryDamaged", Severity::Error, &text);
            Ok(None)
        }
    }
}

/// Hands on what the database tells, and keeps it for a start without it.
async fn follow_tables(mut tables: observe::Tables, disk: Disk, inputs: mpsc::Sender<Input>) {
    loop {
        let known = tables.next().await;
        if let Err(error) = disk.keep_known(&known) {
            tracing::warn!(%error, "What the database told was not kept.");
        }
        if inputs.send(Input::Known(known)).await.is_err() {
            return;
        }
    }
}
