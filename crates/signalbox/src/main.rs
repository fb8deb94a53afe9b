//! The one binary of the appliance: `signalbox serve ID` runs a service,
//! `signalbox cli` the administrator's command line, `signalbox setup` the
//! first boot, `signalbox leave` the farewell at a shutdown.
//!
//! What a service is lives in its own crate; this file only says which crate
//! answers to which id, and on what kind of runtime.

use std::process::ExitCode;

use tokio::runtime::Builder;

/// How many threads a service gets.
enum Threads {
    /// One: services that wait more than they work, and cores that own their
    /// state.
    One,
    /// One for each processor: services that spend time on cryptography.
    PerProcessor,
}

/// Runs a service function to its end on a runtime of its own.
fn run<F>(id: &str, threads: &Threads, serve: impl FnOnce(service::Context) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::PerProcessor => Builder::new_multi_thread(),
    };
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(service::run(id, serve)),
        Err(error) => {
            eprintln!("signalbox: the runtime of {id} did not start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the service `id`, or says that there is none of that name.
fn serve(id: &str) -> ExitCode {
    match id {
        "administration" => run(id, &Threads::One, cli::serve),
        "authentication-service" => run(id, &Threads::PerProcessor, authentication::serve),
        "cluster-manager" => run(id, &Threads::One, cluster::serve),
        "database" => run(id, &Threads::One, database::serve),
        "database-layer-monitor" => run(id, &Threads::One, database::layer_monitor::serve),
        "database-replicator" => run(id, &Threads::One, database::replicator::serve),
        "data-monitor" => run(id, &Threads::One, data_monitor::serve),
        "login-datastore"
        | "presence-datastore"
        | "route-datastore"
        | "sip-registration-datastore" => run(id, &Threads::One, datastore::serve),
        "log-partition-monitor" => run(id, &Threads::One, log_partition_monitor::serve),
        "server-recovery-manager" => run(id, &Threads::One, server_recovery_manager::serve),
        "sync-agent" => run(id, &Threads::One, sync_agent::serve),
        "supervisor" => run(id, &Threads::One, supervisor::serve),
        "xmpp-config-manager" => run(id, &Threads::One, xmpp_config_manager::serve),
        "xmpp-connection-manager" => run(id, &Threads::One, xmpp_connection_manager::serve),
        "web" => run(id, &Threads::PerProcessor, web::serve),
        "xmpp-router" => run(id, &Threads::One, route),
        other => {
            eprintln!(
                "signalbox: no service is called {other:?}; the units in \
                 /usr/lib/systemd/system name those there are."
            );
            ExitCode::from(64)
        }
    }
}

/// The router, for those whom the recovery manager says that the node serves.
async fn route(context: service::Context) -> anyhow::Result<()> {
    let homes = server_recovery_manager::homes(context.paths());
    router::serve_homes(context, homes).await
}

/// Tells the recovery manager that the node goes down.
fn leave() -> ExitCode {
    let paths = service::Paths::from_environment();
    let runtime = Builder::new_current_thread().enable_all().build();
    let left = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let leave = async { server_recovery_manager::Client::open(&paths).leave().await };
            runtime.block_on(leave).map_err(|status| status.to_string())
        });
    match left {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("signalbox: the recovery manager was not told: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Administrators have the link `signalbox-cli` as their login shell; `login`
/// puts a hyphen before the name.
fn is_login_shell(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or_default();
    name.trim_start_matches('-') == "signalbox-cli"
}

fn main() -> ExitCode {
    // The last words of a panic must reach the journal, and the unit must
    // restart: a service with one dead task is worse than none.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    if is_login_shell(&program) {
        return cli::main(&arguments);
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", id] => serve(id),
        ["cli", ..] => cli::main(&arguments[1..]),
        ["setup", rest @ ..] => setup::run(rest),
        ["leave"] => leave(),
        ["version"] => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: signalbox serve ID | cli [COMMAND…] | setup … | leave | version");
            ExitCode::from(64)
        }
    }
}
