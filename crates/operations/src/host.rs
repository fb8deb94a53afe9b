//! The machine under the node: what `show status` and `show version` tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Zoned;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};

/// Version of this build.
pub const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Between the two readings from which the share of each kind of work comes.
const CPU_SAMPLE: Duration = Duration::from_millis(250);

/// Where the machine's files are; a test points it at a folder of its own.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

/// Share of processor time by kind of work, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Nothing to do.
    pub idle: f64,
    /// Kernel.
    pub system: f64,
    /// Programs.
    pub user: f64,
    /// Waiting for disks.
    pub iowait: f64,
    /// Interrupts.
    pub irq: f64,
    /// Soft interrupts.
    pub soft: f64,
}

/// Memory, in kilobytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// Not used for anything.
    pub free: u64,
    /// Used by programs.
    pub used: u64,
    /// Page cache.
    pub cached: u64,
    /// Shared between programs.
    pub shared: u64,
    /// Block buffers.
    pub buffers: u64,
}

/// A disk area, in kilobytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `active`, `inactive` or `logging`.
    pub area: String,
    /// Size.
    pub total: u64,
    /// Free for use.
    pub free: u64,
    /// Used.
    pub used: u64,
    /// Used part, in percent, rounded up.
    pub percent: u64,
}

/// What `show status` tells.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Host name.
    pub host: String,
    /// Time on the node, with its zone.
    pub date: Zoned,
    /// Name of the time zone.
    pub time_zone: String,
    /// Locale.
    pub locale: String,
    /// Version of the appliance.
    pub product_version: String,
    /// Version of the operating system.
    pub os_version: String,
    /// Seconds since boot.
    pub uptime: u64,
    /// People signed in.
    pub sessions: usize,
    /// Load of the last 1, 5 and 15 minutes.
    pub load: [String; 3],
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Disk areas.
    pub disks: Vec<Disk>,
}

/// What `show version` tells.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// Version of the running slot, or none where the other slot is empty.
    pub version: Option<String>,
    /// Options installed on top of it.
    pub options: Vec<String>,
}

/// The virtual machine, for the banner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Processors.
    pub processors: usize,
    /// What they call themselves.
    pub model: String,
    /// Disks with their size in bytes.
    pub disks: Vec<(String, u64)>,
    /// Memory in kilobytes.
    pub memory: u64,
}

impl Host {
    /// A machine whose files are below `root`.
    pub fn below(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// A path on this machine.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text, empty when it cannot be read: the kernel's files come
    /// and go with its configuration, and a missing figure is shown as zero.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// The host name.
    pub fn name(&self) -> String {
        self.read("/proc/sys/kernel/hostname").trim().to_owned()
    }

    /// Name of the time zone, by the link that `/etc/localtime` is.
    pub fn zone_name(&self) -> String {
        fs::read_link(self.path("/etc/localtime"))
            .ok()
            .and_then(|target| {
                let target = target.to_string_lossy().into_owned();
                target
                    .split_once("zoneinfo/")
                    .map(|(_, name)| name.to_owned())
            })
            .unwrap_or_else(|| "UTC".into())
    }

    fn locale(&self) -> String {
        let text = self.read("/etc/default/locale") + &self.read("/etc/locale.conf");
        text.lines()
            .find_map(|line| line.strip_prefix("LANG="))
            .map_or_else(|| "C.UTF-8".into(), |value| value.trim_matches('"').into())
    }

    fn os_version(&self) -> String {
        let release = self.read("/etc/os-release");
        let field = |name: &str| {
            release
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
        };
        let point = self.read("/etc/debian_version").trim().to_owned();
        match (field("NAME"), field("VERSION_ID")) {
            (Some(name), Some(_)) if point.starts_with(char::is_numeric) => {
                format!("{name} {point}")
            }
            (Some(name), Some(version)) => format!("{name} {version}"),
            (name, _) => name.unwrap_or_else(|| "unknown".into()),
        }
    }

    fn sessions(&self) -> usize {
        fs::read_dir(self.path("/run/systemd/sessions")).map_or(0, |entries| {
            entries
                .flatten()
                .filter(|entry| !entry.file_name().to_string_lossy().ends_with(".ref"))
                .count()
        })
    }

    fn cpu_times(&self) -> Vec<u64> {
        cpu_times(&self.read("/proc/stat"))
    }

    fn memory(&self) -> Memory {
        memory(&self.read("/proc/meminfo"))
    }

    /// The disk areas: the running root, the other slot, and the data
    /// partition that holds logs.
    fn disks(&self) -> Vec<Disk> {
        vec![
            self.mounted("active", "/"),
            self.inactive(),
            self.mounted("logging", "/var/log"),
        ]
    }

    fn mounted(&self, area: &str, path: &str) -> Disk {
        let Ok(figures) = nix::sys::statvfs::statvfs(&self.path(path)) else {
            return disk(area, 0, 0, 0);
        };
        let block = figures.fragment_size();
        let kilobytes = |blocks: u64| blocks.saturating_mul(block) / 1024;
        let total = kilobytes(figures.blocks());
        let free = kilobytes(figures.blocks_available());
        let used = kilobytes(figures.blocks().saturating_sub(figures.blocks_free()));
        disk(area, total, free, used)
    }

    /// The slot that is not running, by its partition's label. Where there is
    /// only one root, all figures are zero.
    fn inactive(&self) -> Disk {
        let command_line = self.read("/proc/cmdline");
        let other = if command_line.contains("rauc.slot=B") {
            "root-a"
        } else {
            "root-b"
        };
        let size = fs::read_link(self.path(&format!("/dev/disk/by-partlabel/{other}")))
            .ok()
            .and_then(|target| {
                let device = target.file_name()?.to_str()?.to_owned();
                let sectors = self.read(&format!("/sys/class/block/{device}/size"));
                sectors.trim().parse::<u64>().ok()
            })
            .map_or(0, |sectors| sectors / 2);
        disk("inactive", size, size, 0)
    }

    /// Version of a slot: the running one by this program, the other by the
    /// note that an upgrade leaves.
    fn version(&self, active: bool) -> Version {
        let version = if active {
            Some(PRODUCT_VERSION.to_owned())
        } else {
            let note = self.read("/var/lib/signalbox/upgrade/inactive-version");
            Some(note.trim().to_owned()).filter(|note| !note.is_empty())
        };
        Version {
            version,
            options: Vec::new(),
        }
    }

    /// The virtual machine.
    pub fn machine(&self) -> Machine {
        let info = self.read("/proc/cpuinfo");
        let processors = info
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        let model = info
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(':'))
            .map_or("", |(_, model)| model.trim());
        let mut disks: Vec<_> = fs::read_dir(self.path("/sys/block"))
            .map(|entries| {
                entries
                    .flatten()
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .filter(|name| {
                        ["sd", "vd", "nvme", "xvd"]
                            .iter()
                            .any(|kind| name.starts_with(kind))
                    })
                    .collect()
            })
            .unwrap_or_default();
        disks.sort();
        let disks = disks
            .into_iter()
            .filter_map(|name: String| {
                let sectors = self.read(&format!("/sys/block/{name}/size"));
                let bytes = sectors.trim().parse::<u64>().ok()?.saturating_mul(512);
                (bytes > 0).then_some((name, bytes))
            })
            .collect();
        Machine {
            processors,
            model: model.into(),
            disks,
            memory: self.memory().total,
        }
    }
}

fn disk(area: &str, total: u64, free: u64, used: u64) -> Disk {
    let of = used.saturating_add(free);
    Disk {
        area: area.into(),
        total,
        free,
        used,
        percent: if of == 0 {
            0
        } else {
            used.saturating_mul(100).div_ceil(of)
        },
    }
}

fn cpu_times(stat: &str) -> Vec<u64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("cpu "))
        .map(|line| {
            line.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect()
        })
        .unwrap_or_default()
}

/// Shares between two readings of the `cpu` line: user nice system idle
/// iowait irq softirq steal.
#[allow(clippy::cast_precision_loss)] // Ticks of a quarter of a second.
fn cpu_shares(before: &[u64], after: &[u64]) -> Cpu {
    let ticks = |index: usize| {
        let of = |times: &[u64]| times.get(index).copied().unwrap_or(0);
        of(after).saturating_sub(of(before))
    };
    let total: u64 = (0..8).map(ticks).sum();
    if total == 0 {
        return Cpu {
            idle: 100.0,
            ..Cpu::default()
        };
    }
    let share = |amount: u64| (amount as f64 * 10_000.0 / total as f64).round() / 100.0;
    Cpu {
        idle: share(ticks(3)),
        system: share(ticks(2)),
        user: share(ticks(0) + ticks(1)),
        iowait: share(ticks(4)),
        irq: share(ticks(5)),
        soft: share(ticks(6)),
    }
}

fn memory(info: &str) -> Memory {
    let field = |name: &str| -> u64 {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|value| value.trim().trim_end_matches(" kB").trim().parse().ok())
            .unwrap_or(0)
    };
    let (total, free) = (field("MemTotal"), field("MemFree"));
    Memory {
        total,
        free,
        used: total.saturating_sub(free),
        cached: field("Cached"),
        shared: field("Shmem"),
        buffers: field("Buffers"),
    }
}

impl Operations {
    /// The state of the machine.
    pub async fn status(&self, caller: &Caller) -> Result<Status> {
        let work = async {
            let host = self.host();
            let before = host.cpu_times();
            tokio::time::sleep(CPU_SAMPLE).await;
            let cpu = cpu_shares(&before, &host.cpu_times());
            let zone = host.zone_name();
            let uptime = host.read("/proc/uptime");
            let uptime = uptime
                .split('.')
                .next()
                .and_then(|seconds| seconds.parse().ok())
                .unwrap_or(0);
            let load = host.read("/proc/loadavg");
            let mut load = load.split_whitespace().map(str::to_owned);
            let mut next = || load.next().unwrap_or_else(|| "0.00".into());
            Ok(Status {
                host: host.name(),
                date: Zoned::now()
                    .with_time_zone(TimeZone::get(&zone).unwrap_or(TimeZone::system())),
                time_zone: zone,
                locale: host.locale(),
                product_version: PRODUCT_VERSION.into(),
                os_version: host.os_version(),
                uptime,
                sessions: host.sessions(),
                load: [next(), next(), next()],
                cpu,
                memory: host.memory(),
                disks: host.disks(),
            })
        };
        caller.does(&actions::STATUS, "", work).await
    }

    /// The version of the running slot, or of the other one.
    pub async fn version(&self, caller: &Caller, active: bool) -> Result<Version> {
        let work = async { Ok(self.host().version(active)) };
        caller.does(&actions::VERSION, "", work).await
    }

    /// Every time zone that can be set.
    pub async fn timezones(&self, caller: &Caller) -> Result<Vec<String>> {
        let work = async { Ok(timezones()) };
        caller.does(&actions::TIMEZONE_LIST, "", work).await
    }

    /// Sets the time zone.
    pub async fn set_timezone(&self, caller: &Caller, zone: &str) -> Result<()> {
        let work = async {
            check_timezone(zone)?;
            self.supervision().set_timezone(zone).await
        };
        caller.does(&actions::TIMEZONE_SET, zone, work).await
    }

    /// Restarts the machine.
    pub async fn system_restart(&self, caller: &Caller) -> Result<()> {
        caller
            .does(&actions::SYSTEM_RESTART, "", self.supervision().reboot())
            .await
    }

    /// Shuts the machine down.
    pub async fn system_shutdown(&self, caller: &Caller) -> Result<()> {
        caller
            .does(
                &actions::SYSTEM_SHUTDOWN,
                "",
                self.supervision().power_off(),
            )
            .await
    }
}

/// Zone names of the form `Region/City`, and UTC.
/// Refuses what is no time zone.
pub fn check_timezone(zone: &str) -> Result<()> {
    if timezones().iter().any(|known| known == zone) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{zone:?} is not a time zone. \"show timezone list\" shows the names, such as \
         Europe/Berlin"
    )))
}

fn timezones() -> Vec<String> {
    let mut names: Vec<_> = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .filter(|name| {
            name == "UTC"
                || (name.contains('/')
                    && !["Etc/", "SystemV/", "posix/", "right/"]
                        .iter()
                        .any(|prefix| name.starts_with(prefix)))
        })
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_from_the_difference_of_two_readings() {
        let before = cpu_times("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1\n");
        let after = cpu_times("cpu  110 10 130 930 10 5 5 0 0 0\n");
        let cpu = cpu_shares(&before, &after);
        assert_eq!(
            cpu,
            Cpu {
                idle: 65.0,
                system: 15.0,
                user: 10.0,
                iowait: 5.0,
                irq: 2.5,
                soft: 2.5
            }
        );
    }

    #[test]
    fn a_clock_that_did_not_move_is_idle() {
        let times = cpu_times("cpu  1 2 3 4 5 6 7 8\n");
        assert_eq!(cpu_shares(&times, &times).idle, 100.0);
        assert_eq!(cpu_shares(&[], &[]).idle, 100.0);
    }

    #[test]
    fn memory_is_read_by_name() {
        let info = "MemTotal:        3925432 kB\nMemFree:          129220 kB\n\
                    Buffers:          119724 kB\nCached:          1294100 kB\n\
                    Shmem:               12 kB\n";
        assert_eq!(
            memory(info),
            Memory {
                total: 3_925_432,
                free: 129_220,
                used: 3_796_212,
                cached: 1_294_100,
                shared: 12,
                buffers: 119_724
            }
        );
    }

    #[test]
    fn a_disk_share_is_rounded_up_and_an_absent_disk_is_zero() {
        assert_eq!(disk("active", 1000, 899, 101).percent, 11);
        assert_eq!(disk("inactive", 0, 0, 0).percent, 0);
    }

    #[test]
    fn the_machine_is_read_from_the_kernels_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: Fast One\nprocessor\t: 1\nmodel name\t: Fast One\n",
        );
        write("proc/meminfo", "MemTotal: 4194304 kB\n");
        write("sys/block/vda/size", "167772160\n");
        write("sys/block/loop0/size", "8\n");
        write(
            "etc/os-release",
            "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\n",
        );
        write("etc/debian_version", "13.2\n");
        std::os::unix::fs::symlink(
            "/usr/share/zoneinfo/Europe/Berlin",
            folder.path().join("etc/localtime"),
        )
        .unwrap();
        let host = Host::below(folder.path());
        let machine = host.machine();
        assert_eq!(
            (machine.processors, machine.model.as_str()),
            (2, "Fast One")
        );
        assert_eq!(machine.disks, [("vda".to_owned(), 85_899_345_920)]);
        assert_eq!(host.os_version(), "Debian GNU/Linux 13.2");
        assert_eq!(host.zone_name(), "Europe/Berlin");
    }
}
