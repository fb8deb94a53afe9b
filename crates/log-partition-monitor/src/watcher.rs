//! The decision: how full and which logs go in, what to purge comes out.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use service::Severity;

/// A log that was written to within this time is in use.
const IN_USE: Duration = Duration::from_secs(600);
/// An alarm is over when the partition is so many percent below its mark, so
/// that it does not come and go. Purging aims there too.
const SLACK: u64 = 1;

/// The water marks, in percent of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Above it there is a warning.
    pub low: u64,
    /// Above it the oldest logs are purged until the low mark.
    pub high: u64,
    /// Below so much free space on the data partition there is a warning.
    pub free: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            low: 90,
            high: 95,
            free: 10,
        }
    }
}

impl Marks {
    /// The marks, or what is wrong with them.
    pub fn check(self) -> Result<Self, String> {
        if self.low > SLACK && self.low < self.high && self.high <= 99 && self.free < 100 {
            Ok(self)
        } else {
            Err(format!(
                "the low mark ({} %) must be below the high mark ({} %), and that below 100 %",
                self.low, self.high
            ))
        }
    }
}

/// How full a partition is, in bytes. What only root may use counts as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Size.
    pub total: u64,
    /// Available to services.
    pub free: u64,
}

impl Usage {
    /// Bytes in use.
    pub fn used(self) -> u64 {
        self.total.saturating_sub(self.free)
    }

    /// Percent in use, rounded down.
    pub fn percent(self) -> u64 {
        percent_of(self.used(), self.total)
    }
}

fn percent_of(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(100)
}

/// Who can remove a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A file of our own services.
    Ours,
    /// A finished file of the journal.
    Journal,
    /// A file of the journal that is being written.
    JournalActive,
}

/// One log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where it is.
    pub path: PathBuf,
    /// Its size on disk.
    pub bytes: u64,
    /// When it was last written to.
    pub modified: SystemTime,
    /// Who can remove it.
    pub owner: Owner,
}

/// What to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// Our own files, oldest first.
    pub files: Vec<PathBuf>,
    /// To how many bytes the journal is to shrink.
    pub journal: Option<u64>,
    /// How many bytes this frees.
    pub bytes: u64,
}

/// An alarm that is to be raised now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Its name.
    pub id: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// What happened and what to do.
    pub text: String,
}

/// Names of the alarms. One that a [`Step`] does not raise is cleared.
pub(crate) const ALARMS: [&str; 3] = [LOW, HIGH, SPACE];
const LOW: &str = "LogPartitionLowWaterMarkExceeded";
const HIGH: &str = "LogPartitionHighWaterMarkExceeded";
const SPACE: &str = "LowAvailableDiskSpace";

/// What to do and to tell after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to remove; none when nothing is to be or can be removed.
    pub purge: Option<Purge>,
    /// The alarms as they are to be.
    pub alarms: Vec<Raised>,
    /// The status sentence.
    pub status: String,
}

/// Remembers which marks are exceeded.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    low: bool,
    high: bool,
    space: bool,
}

impl Watcher {
    /// Takes a look. `logs` is asked for only when something is to be purged.
    pub fn step(
        &mut self,
        marks: &Marks,
        partition: Usage,
        data: Usage,
        now: SystemTime,
        logs: impl FnOnce() -> Vec<Log>,
    ) -> Step {
        let used = partition.percent();
        exceeds(&mut self.low, used, marks.low);
        let purging = used >= marks.high;
        exceeds(&mut self.high, used, marks.high);
        exceeds(&mut self.space, data.percent(), 100 - marks.free);
        let mut alarms = Vec::new();
        if self.low {
            let text = format!(
                "Logs fill {used} % of their partition, more than the low water mark of {} %. At \
                 {} % the oldest are purged: save what is still needed.",
                marks.low, marks.high
            );
            alarms.push(raised(LOW, Severity::Warning, text));
        }
        let goal = partition.total / 100 * (marks.low - SLACK);
        let purge = purging.then(|| plan(partition.used().saturating_sub(goal), logs(), now));
        let purge = purge.filter(|purge| purge.bytes > 0);
        if self.high {
            let what = match &purge {
                Some(purge) => format!(
                    "{} MB of the oldest logs are purged",
                    megabytes(purge.bytes)
                ),
                None if purging => "and no log is left that could be purged: something else \
                                    fills it"
                    .into(),
                None => "the oldest logs were purged".into(),
            };
            let text = format!(
                "The log partition is {used} % full, with a high water mark of {} %; {what}.",
                marks.high
            );
            alarms.push(raised(HIGH, Severity::Critical, text));
        }
        if self.space {
            let text = format!(
                "{} MB or {} % of the data partition are free. Services cannot write when it is \
                 full: give the machine a larger disk or remove old files.",
                megabytes(data.free),
                100 - data.percent()
            );
            alarms.push(raised(SPACE, Severity::Error, text));
        }
        Step {
            purge,
            alarms,
            status: format!("The log partition is {used} % full."),
        }
    }
}

fn exceeds(state: &mut bool, used: u64, mark: u64) {
    *state = if *state {
        used + SLACK >= mark
    } else {
        used >= mark
    };
}

fn raised(id: &'static str, severity: Severity, text: String) -> Raised {
    Raised { id, severity, text }
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}

/// Chooses the oldest logs whose removal frees `need` bytes.
fn plan(need: u64, mut logs: Vec<Log>, now: SystemTime) -> Purge {
    logs.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    let mut journal: u64 = logs
        .iter()
        .filter(|log| log.owner != Owner::Ours)
        .map(|log| log.bytes)
        .sum();
    let mut purge = Purge::default();
    for log in logs {
        if purge.bytes >= need {
            break;
        }
        // A time in the future is a clock that was set back, not a log in use.
        let in_use = now
            .duration_since(log.modified)
            .is_ok_and(|age| age < IN_USE);
        match log.owner {
            Owner::JournalActive => continue,
            Owner::Ours if in_use => continue,
            Owner::Ours => purge.files.push(log.path),
            Owner::Journal => {
                journal -= log.bytes;
                purge.journal = Some(journal);
            }
        }
        purge.bytes += log.bytes;
    }
    purge
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    /// A partition with files on it, which shrinks as it is told to.
    struct Disk {
        total: u64,
        other: u64,
        logs: Vec<Log>,
    }

    impl Disk {
        fn new(other: u64) -> Self {
            Self {
                total: 1000 * MB,
                other: other * MB,
                logs: Vec::new(),
            }
        }

        fn log(mut self, name: &str, megabytes: u64, age: u64, owner: Owner) -> Self {
            self.logs.push(Log {
                path: name.into(),
                bytes: megabytes * MB,
                modified: now() - Duration::from_secs(age),
                owner,
            });
            self
        }

        fn usage(&self) -> Usage {
            let logs: u64 = self.logs.iter().map(|log| log.bytes).sum();
            Usage {
                total: self.total,
                free: self.total - self.other - logs,
            }
        }

        fn look(&mut self, watcher: &mut Watcher) -> Step {
            let logs = self.logs.clone();
            let step = watcher.step(&Marks::default(), self.usage(), self.usage(), now(), || {
                logs
            });
            if let Some(purge) = &step.purge {
                self.logs.retain(|log| !purge.files.contains(&log.path));
                self.shrink_journal(purge.journal.unwrap_or(u64::MAX));
            }
            step
        }

        /// As `journalctl --vacuum-size=` does.
        fn shrink_journal(&mut self, keep: u64) {
            let mut finished: Vec<_> = (0..self.logs.len())
                .filter(|&i| self.logs[i].owner == Owner::Journal)
                .collect();
            finished.sort_by_key(|&i| self.logs[i].modified);
            let journal = |log: &&Log| log.owner != Owner::Ours;
            let mut size: u64 = self.logs.iter().filter(journal).map(|log| log.bytes).sum();
            for i in finished {
                if size > keep {
                    size -= self.logs[i].bytes;
                    self.logs[i].bytes = 0;
                }
            }
            self.logs.retain(|log| log.bytes > 0);
        }

        fn names(&self) -> Vec<&str> {
            let paths = self.logs.iter().map(|log| log.path.to_str().unwrap());
            paths.collect()
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)
    }

    fn ids(step: &Step) -> Vec<&str> {
        step.alarms.iter().map(|alarm| alarm.id).collect()
    }

    #[test]
    fn below_the_marks_nothing_happens() {
        let mut disk = Disk::new(800).log("a", 99, 9000, Owner::Ours);
        let step = disk.look(&mut Watcher::default());
        assert_eq!((ids(&step), &step.purge), (vec![], &None));
        assert_eq!(step.status, "The log partition is 89 % full.");
    }

    #[test]
    fn above_the_low_mark_it_warns_until_well_below() {
        let mut watcher = Watcher::default();
        let mut disk = Disk::new(910);
        let step = disk.look(&mut watcher);
        assert_eq!((ids(&step), &step.purge), (vec![LOW, SPACE], &None));
        disk.other = 895 * MB;
        assert_eq!(ids(&disk.look(&mut watcher)), [LOW, SPACE]);
        disk.other = 885 * MB;
        assert_eq!(ids(&disk.look(&mut watcher)), [""; 0]);
    }

    #[test]
    fn above_the_high_mark_the_oldest_go_first_until_the_low_mark() {
        let mut watcher = Watcher::default();
        let mut disk = Disk::new(500)
            .log("young", 100, 1000, Owner::Ours)
            .log("old", 30, 90_000, Owner::Ours)
            .log("older", 20, 100_000, Owner::Ours)
            .log("journal-old", 20, 95_000, Owner::Journal)
            .log("journal-young", 200, 2000, Owner::Journal)
            .log("journal-now", 90, 0, Owner::JournalActive);
        assert_eq!(disk.usage().percent(), 96);
        let step = disk.look(&mut watcher);
        assert_eq!(ids(&step), [LOW, HIGH, SPACE]);
        let purge = step.purge.unwrap();
        assert_eq!(purge.files, [PathBuf::from("older"), PathBuf::from("old")]);
        assert_eq!(purge.journal, Some(290 * MB));
        assert_eq!(disk.names(), ["young", "journal-young", "journal-now"]);
        assert_eq!(disk.usage().percent(), 89);
        // Both alarms are over, and nothing more is purged.
        let step = disk.look(&mut watcher);
        assert_eq!(step.purge, None);
        assert_eq!(ids(&step), [LOW, SPACE]);
        disk.other -= 5 * MB;
        assert_eq!(ids(&disk.look(&mut watcher)), [""; 0]);
    }

    #[test]
    fn logs_in_use_stay_and_a_disk_filled_by_others_is_told() {
        let mut watcher = Watcher::default();
        let mut disk = Disk::new(900).log("now", 40, 10, Owner::Ours).log(
            "journal-now",
            30,
            0,
            Owner::JournalActive,
        );
        let step = disk.look(&mut watcher);
        assert_eq!(step.purge, None);
        assert!(step.alarms[1].text.contains("something else fills it"));
        assert_eq!(disk.logs.len(), 2);
    }

    #[test]
    fn marks_in_the_wrong_order_are_refused() {
        let marks = Marks {
            low: 95,
            high: 90,
            free: 10,
        };
        assert!(marks.check().unwrap_err().contains("low mark (95 %)"));
        assert!(Marks::default().check().is_ok());
    }
}
