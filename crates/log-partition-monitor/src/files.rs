//! Looking at the partition and its logs, and removing ours.

use std::fs;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::watcher::{Log, Owner, Usage};

/// How full the partition of a path is.
pub(crate) fn usage(path: &Path) -> Result<Usage> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let unit = stat.fragment_size();
    Ok(Usage {
        total: stat.blocks() * unit,
        free: stat.blocks_available() * unit,
    })
}

/// Every log file below the folder of our logs and that of the journal.
pub(crate) fn logs(ours: &Path, journal: &Path) -> Vec<Log> {
    let mut found = Vec::new();
    walk(ours, &mut found, |_| Some(Owner::Ours));
    walk(journal, &mut found, |name| {
        let extension = Path::new(name).extension()?;
        // A finished file has its span of entries in its name, a damaged one
        // that was set aside ends in a tilde.
        if extension == "journal~" || name.contains('@') {
            Some(Owner::Journal)
        } else if extension == "journal" {
            Some(Owner::JournalActive)
        } else {
            None
        }
    });
    found
}

fn walk(folder: &Path, found: &mut Vec<Log>, owner: impl Fn(&str) -> Option<Owner> + Copy) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(folder = %folder.display(), %error, "A folder of logs cannot be read.");
            }
            return;
        }
    };
    for entry in entries.flatten() {
        // Links are not followed: what they point to is not a log of ours.
        let Ok(metadata) = entry.path().symlink_metadata() else {
            continue;
        };
        if metadata.is_dir() {
            walk(&entry.path(), found, owner);
        } else if metadata.is_file()
            && let Some(owner) = owner(&entry.file_name().to_string_lossy())
            && let Ok(modified) = metadata.modified()
        {
            found.push(Log {
                path: entry.path(),
                bytes: metadata.blocks() * 512,
                modified,
                owner,
            });
        }
    }
}

/// Removes log files; answers how many were removed.
pub(crate) fn remove(files: &[PathBuf]) -> usize {
    let mut removed = 0;
    for file in files {
        match fs::remove_file(file) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "A log could not be purged.");
            }
        }
    }
    removed
}

/// Leaves the request to shrink the journal for the unit that watches it. That
/// is root without any privilege: it reads what everybody may read.
pub(crate) fn ask_for_journal(request: &Path, keep: u64) -> Result<()> {
    let new = request.with_extension("new");
    fs::write(&new, format!("{keep}\n"))?;
    // Whatever the process's mask took away.
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_found_with_their_owners_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("signalbox");
        let journal = folder.path().join("journal/0123");
        fs::create_dir_all(ours.join("cdr")).unwrap();
        fs::create_dir_all(&journal).unwrap();
        for name in ["a.log", "cdr/b.csv"] {
            fs::write(ours.join(name), [0; 9000]).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", ours.join("link")).unwrap();
        for name in [
            "system.journal",
            "system@01-02-03.journal",
            "system@04.journal~",
            "fss",
        ] {
            fs::write(journal.join(name), "x").unwrap();
        }
        let mut found: Vec<_> = logs(&ours, &folder.path().join("journal"))
            .into_iter()
            .map(|log| (log.path, log.owner))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            found,
            [
                (journal.join("system.journal"), Owner::JournalActive),
                (journal.join("system@01-02-03.journal"), Owner::Journal),
                (journal.join("system@04.journal~"), Owner::Journal),
                (ours.join("a.log"), Owner::Ours),
                (ours.join("cdr/b.csv"), Owner::Ours),
            ]
        );
        assert_eq!(remove(&[ours.join("a.log"), ours.join("none")]), 1);
        assert!(logs(&ours.join("missing"), &ours.join("missing")).is_empty());
    }

    #[test]
    fn the_request_is_whole_and_everybody_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let request = folder.path().join("journal-keep");
        // As the unit has it.
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        ask_for_journal(&request, 12).unwrap();
        nix::sys::stat::umask(before);
        let mode = request.metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_to_string(request).unwrap(), "12\n");
        assert!(usage(folder.path()).unwrap().total > 0);
    }
}
