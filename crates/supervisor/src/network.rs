//! Changing the node's network settings. The supervisor may not write them:
//! it leaves the change in a file and runs set-up's unit, which may.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::client::NetworkChange;
use crate::files::Files;
use crate::rules::Refusal;
use crate::systemd::Systemd;
use crate::world::Activity;

/// Applies what [`Files::network_change`] left, as root.
const UNIT: &str = "signalbox-network-change.service";

/// Has changes applied, one at a time. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applier(Arc<Mutex<()>>);

impl Applier {
    /// Has the change applied and waits for the outcome. A change that does
    /// not work out is a [`Refusal`] with the reason.
    pub(crate) async fn apply(
        &self,
        change: NetworkChange,
        files: Files,
        systemd: Systemd,
    ) -> anyhow::Result<()> {
        let _turn = self.0.try_lock().map_err(|_| busy())?;
        run(&change, &files, &systemd).await
    }
}

async fn run(change: &NetworkChange, files: &Files, systemd: &Systemd) -> anyhow::Result<()> {
    let unit = systemd.path(UNIT).await?;
    // Started by a supervisor that has been restarted since.
    if systemd.unit(&unit).await?.active == Activity::Activating {
        return Err(busy().into());
    }
    files.network_change(&toml::to_string(change)?)?;
    let result = systemd.start_and_wait(UNIT).await?;
    if result == "done" {
        return Ok(());
    }
    let reason = systemd.unit(&unit).await?.text;
    Err(Refusal::Refused(if reason.is_empty() {
        format!("{UNIT} ended with the result \"{result}\"; its journal tells more")
    } else {
        reason
    })
    .into())
}

fn busy() -> Refusal {
    Refusal::Refused(
        "another change of the network settings is being applied; try again when it has ended"
            .into(),
    )
}
