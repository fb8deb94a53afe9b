//! Where answers come from when nobody is at the console.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::answers::Answers;
use crate::system::{Place, System};

/// Label of the disk that an answer file is given on.
pub(crate) const LABEL: &str = "SIGNALBOX";
/// Name of the answer file on that disk.
pub(crate) const FILE: &str = "answers.toml";
/// Where a disk is mounted while it is read.
const MOUNT: &str = "run/signalbox/setup/disk";

/// Answers, and where they were found.
#[derive(Debug)]
pub(crate) struct Found {
    /// In words, for the log and the console.
    pub(crate) place: String,
    /// The answers; or what is wrong with them.
    pub(crate) answers: Result<Answers, String>,
}

/// Looks in each place in turn; the first that has answers counts, even when
/// they cannot be read, so that a mistake is told and not passed over.
pub(crate) fn find(place: &Place, system: &mut dyn System) -> anyhow::Result<Option<Found>> {
    let path = place.answers_file();
    if path.exists() {
        return Ok(Some(read(&path, path.display().to_string())?));
    }
    // Disks are named when the kernel's messages about them are worked off.
    let _ = system.run("udevadm", &["settle", "--timeout=10"], "");
    let device = place.path("dev/disk/by-label").join(LABEL);
    if !device.exists() {
        return Ok(None);
    }
    let words = format!("{FILE} on the disk labelled {LABEL}");
    with_disk(&device, place, system, |folder| {
        let path = folder.join(FILE);
        if path.exists() {
            read(&path, words).map(Some)
        } else {
            Ok(None)
        }
    })
}

fn read(path: &Path, place: String) -> anyhow::Result<Found> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Found {
        place,
        answers: Answers::parse(&text),
    })
}

/// Mounts a disk read-only for as long as `work` takes.
fn with_disk<T>(
    device: &Path,
    place: &Place,
    system: &mut dyn System,
    work: impl FnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let folder: PathBuf = place.path(MOUNT);
    crate::file::folder_of(&folder, 0o700)?;
    let (device, target) = (device.to_string_lossy(), folder.to_string_lossy());
    let options = "ro,nosuid,nodev,noexec";
    system.run("mount", &["-o", options, &device, &target], "")?;
    let result = work(&folder);
    system.run("umount", &[&target], "")?;
    result
}
