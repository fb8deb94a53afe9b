//! Changing the node's network settings. The supervisor may not write them:
//! it leaves the change in a file and runs set-up's unit, which may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use catalogue::Catalogue;
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
    /// not work out is a [`Refusal`] with the reason. Services for which it
    /// made new certificates restart; they are told, and not waited for: the
    /// one who asks may be served by one of them.
    pub(crate) async fn apply(
        &self,
        change: NetworkChange,
        catalogue: Catalogue,
        files: Files,
        systemd: Systemd,
    ) -> anyhow::Result<Vec<String>> {
        let _turn = self.0.try_lock().map_err(|_| busy())?;
        let before = credentials(&catalogue);
        run(&change, &files, &systemd).await?;
        let stale = stale(before, &credentials(&catalogue));
        for unit in &stale {
            systemd.try_restart(unit).await?;
        }
        Ok(stale)
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

/// When the files of each unit's credentials were written; of units that have
/// any.
type Credentials = BTreeMap<String, Vec<Option<SystemTime>>>;

fn credentials(catalogue: &Catalogue) -> Credentials {
    let written = |path| {
        std::fs::metadata(path)
            .and_then(|file| file.modified())
            .ok()
    };
    catalogue
        .services()
        .filter(|service| !service.credentials.is_empty())
        .map(|service| {
            let times = service.credentials.iter().map(written).collect();
            (service.unit(), times)
        })
        .collect()
}

/// Units that run with older credentials than there are.
fn stale(before: Credentials, after: &Credentials) -> Vec<String> {
    before
        .into_iter()
        .filter(|(unit, times)| after.get(unit) != Some(times))
        .map(|(unit, _)| unit)
        .collect()
}

fn busy() -> Refusal {
    Refusal::Refused(
        "another change of the network settings is being applied; try again when it has ended"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_whose_credentials_were_written_since_are_stale() {
        let time = |seconds| Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        let of = |unit: &str, times: &[Option<SystemTime>]| (unit.to_owned(), times.to_vec());
        let before = Credentials::from([
            of("same", &[time(1), time(2)]),
            of("written", &[time(1), time(2)]),
            of("made", &[None]),
        ]);
        let after = Credentials::from([
            of("same", &[time(1), time(2)]),
            of("written", &[time(1), time(3)]),
            of("made", &[time(3)]),
        ]);
        assert_eq!(stale(before, &after), ["made", "written"]);
    }
}
