//! What the machine knows that answers are checked against: time zones,
//! feature services, accounts that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use catalogue::{Catalogue, Kind};

use crate::rules::Check;

/// Folder of the unit files, below the root.
const UNITS: &str = "usr/lib/systemd/system";
/// Folder of the time zones, below the root.
const ZONES: &str = "usr/share/zoneinfo";

/// A service that can be activated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Plain name.
    pub name: String,
    /// Features that must be activated with it.
    pub needs: Vec<String>,
}

/// What is on the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    zones: BTreeSet<String>,
    features: BTreeMap<String, Feature>,
    /// Why the catalogue could not be read.
    mistakes: Option<String>,
    accounts: BTreeSet<String>,
    processors: usize,
    memory: u64,
}

impl Machine {
    /// Looks below `root`, which is `/` on a node.
    pub fn read(root: &Path) -> Self {
        let mut zones = BTreeSet::new();
        list_zones(&root.join(ZONES), "", &mut zones);
        let (features, mistakes) = match Catalogue::read(&root.join(UNITS)) {
            Ok(catalogue) => (list_features(&catalogue), None),
            Err(problems) => (BTreeMap::new(), Some(problems.to_string())),
        };
        Self {
            zones,
            features,
            mistakes,
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

    /// The feature services by id.
    pub fn features(&self) -> &BTreeMap<String, Feature> {
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
        if let Some(mistakes) = &self.mistakes {
            return Err(format!(
                "cannot be checked, the units are not valid: {mistakes}"
            ));
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

/// The feature services that the first node of this product may run.
fn list_features(catalogue: &Catalogue) -> BTreeMap<String, Feature> {
    let is_feature =
        |service: &&catalogue::Service| service.kind == Kind::Feature && service.fits("imp", true);
    let all: BTreeSet<&str> = catalogue
        .services()
        .filter(is_feature)
        .map(|service| service.id.as_str())
        .collect();
    let feature = |service: &catalogue::Service| {
        let needs = service.activation_needs.iter();
        let needs = needs.filter(|id| all.contains(id.as_str()));
        let feature = Feature {
            name: service.name.clone(),
            needs: needs.cloned().collect(),
        };
        (service.id.clone(), feature)
    };
    catalogue
        .services()
        .filter(is_feature)
        .map(feature)
        .collect()
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
