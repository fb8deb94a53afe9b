//! What the machine knows that answers are checked against: time zones,
//! feature services, accounts that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::rules::Check;

/// Folder of the unit files, below the root.
const UNITS: &str = "usr/lib/systemd/system";
/// Folder of the time zones, below the root.
const ZONES: &str = "usr/share/zoneinfo";

/// What is on the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    zones: BTreeSet<String>,
    features: BTreeMap<String, String>,
    accounts: BTreeSet<String>,
    processors: usize,
    memory: u64,
}

impl Machine {
    /// Looks below `root`, which is `/` on a node.
    pub fn read(root: &Path) -> Self {
        let mut zones = BTreeSet::new();
        list_zones(&root.join(ZONES), "", &mut zones);
        Self {
            zones,
            features: list_features(&root.join(UNITS)),
            accounts: system_accounts(&root.join("etc/passwd")),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(&root.join("proc/meminfo")),
        }
    }

    /// Processors, and memory in GiB.
    pub fn resources(&self) -> (usize, u64) {
        (self.processors, self.memory)
    }

    /// The time zones, in order.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.zones.iter().map(String::as_str)
    }

    /// The feature services: id and name.
    pub fn features(&self) -> &BTreeMap<String, String> {
        &self.features
    }

    /// Whether a time zone exists.
    pub fn time_zone(&self, name: &str) -> Check {
        if self.zones.contains(name) {
            return Ok(());
        }
        Err("must be a time zone such as Europe/Berlin or Etc/UTC".into())
    }

    /// Whether there is such a feature service.
    pub fn feature(&self, id: &str) -> Check {
        if self.features.contains_key(id) {
            return Ok(());
        }
        let known: Vec<&str> = self.features.keys().map(String::as_str).collect();
        Err(format!(
            "must be a feature service; there are: {}",
            known.join(", ")
        ))
    }

    /// Whether no account of the system has that name.
    pub fn free_account(&self, name: &str) -> Check {
        if self.accounts.contains(name) {
            return Err("must not be an account of the system".into());
        }
        Ok(())
    }
}

/// Zone files below a folder; zones begin with a capital letter, the tables
/// beside them do not.
fn list_zones(folder: &Path, prefix: &str, zones: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            continue;
        }
        let path = entry.path();
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            list_zones(&path, &format!("{name}/"), zones);
        } else {
            zones.insert(name);
        }
    }
}

/// Units whose `[X-Signalbox]` section says `Kind=feature`.
fn list_features(folder: &Path) -> BTreeMap<String, String> {
    let mut features = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".service")) else {
            continue;
        };
        let Ok(text) = std::fs::read_to_string(entry.path()) else {
            continue;
        };
        let Some((_, section)) = text.split_once("[X-Signalbox]") else {
            continue;
        };
        let section = section.split("\n[").next().unwrap_or_default();
        let value = |key: &str| {
            let mut pairs = section.lines().filter_map(|line| line.split_once('='));
            let found = pairs.find(|(name, _)| name.trim() == key);
            found.map(|(_, value)| value.trim())
        };
        if value("Kind") == Some("feature") {
            features.insert(id.into(), value("Name").unwrap_or(id).into());
        }
    }
    features
}

/// Accounts below the first number that people get.
fn system_accounts(passwd: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(passwd).unwrap_or_default();
    let system = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (!(1000..60000).contains(&number)).then(|| name.to_owned())
    };
    text.lines().filter_map(system).collect()
}

/// Memory in GiB. The kernel keeps some for itself before it counts, so this
/// rounds up.
fn memory(table: &Path) -> u64 {
    let text = std::fs::read_to_string(table).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).div_ceil(1024 * 1024)
}
