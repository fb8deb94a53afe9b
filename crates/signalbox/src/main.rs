//! The one binary of the appliance: `signalbox serve ID` runs a service.

use std::process::ExitCode;

/// Runs the service `id`, or says which ones there are.
fn serve(id: &str) -> ExitCode {
    match id {
        other => {
            eprintln!("signalbox: no service is called {other:?}.");
            ExitCode::from(64)
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("serve"), Some(id)) => serve(&id),
        (Some("version"), None) => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: signalbox serve ID | version");
            ExitCode::from(64)
        }
    }
}
