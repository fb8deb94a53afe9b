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
    match from_disk(place, system)? {
        Some(found) => Ok(Some(found)),
        None => from_disc(place, system),
    }
}

/// Name of the file with OVF properties, on a disc that the hypervisor puts
/// into the drive.
const ENVIRONMENT: &str = "ovf-env.xml";
/// How many drives to look into.
const DRIVES: usize = 4;

fn from_disc(place: &Place, system: &mut dyn System) -> anyhow::Result<Option<Found>> {
    for number in 0..DRIVES {
        let device = place.path(&format!("dev/sr{number}"));
        if !device.exists() {
            continue;
        }
        // An empty drive cannot be mounted; that is no mistake.
        let text = with_disk(&device, "ro", place, system, |folder| {
            let path = folder.join(ENVIRONMENT);
            Ok(std::fs::read_to_string(path).ok())
        });
        if let Some(answers) = text
            .ok()
            .flatten()
            .and_then(|text| crate::ovf::answers(&text))
        {
            return Ok(Some(Found {
                place: format!("the OVF properties ({ENVIRONMENT})"),
                answers,
            }));
        }
    }
    Ok(None)
}

/// The disk for answers, if there is one.
fn disk(place: &Place, system: &mut dyn System) -> Option<PathBuf> {
    // Disks are named when the kernel's messages about them are worked off.
    let _ = system.run("udevadm", &["settle", "--timeout=10"], "");
    let device = place.path("dev/disk/by-label").join(LABEL);
    device.exists().then_some(device)
}

fn from_disk(place: &Place, system: &mut dyn System) -> anyhow::Result<Option<Found>> {
    let Some(device) = disk(place, system) else {
        return Ok(None);
    };
    let words = format!("{FILE} on the disk labelled {LABEL}");
    with_disk(&device, "ro", place, system, |folder| {
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

/// Mounts a disk for as long as `work` takes.
fn with_disk<T>(
    device: &Path,
    mode: &str,
    place: &Place,
    system: &mut dyn System,
    work: impl FnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let folder: PathBuf = place.path(MOUNT);
    crate::file::folder_of(&folder, 0o700)?;
    let (device, target) = (device.to_string_lossy(), folder.to_string_lossy());
    let options = format!("{mode},nosuid,nodev,noexec");
    system.run("mount", &["-o", &options, &device, &target], "")?;
    let result = work(&folder);
    system.run("umount", &[&target], "")?;
    result
}

/// What went wrong with the unattended set-up of this boot, for the wizard.
const FAILURE: &str = "run/signalbox/setup-failed";

/// Leaves word of a failed unattended set-up for the wizard.
pub(crate) fn fail(place: &Place, text: &str) -> anyhow::Result<()> {
    crate::file::write(&place.path(FAILURE), 0o600, text)
}

/// The word that a failed unattended set-up left.
pub(crate) fn failure(place: &Place) -> Option<String> {
    std::fs::read_to_string(place.path(FAILURE)).ok()
}

/// Answers from the disk, for the wizard; or why there are none.
pub(crate) fn import(place: &Place, system: &mut dyn System) -> Result<Answers, String> {
    match from_disk(place, system) {
        Ok(Some(found)) => found
            .answers
            .map_err(|why| format!("{FILE} cannot be read: {why}")),
        Ok(None) => Err(format!(
            "There is no disk labelled {LABEL} with a file {FILE}."
        )),
        Err(error) => Err(format!("{error:#}.")),
    }
}

/// Writes answers to the disk; says where they are.
pub(crate) fn save(
    answers: &Answers,
    place: &Place,
    system: &mut dyn System,
) -> Result<String, String> {
    let mut write = || -> anyhow::Result<bool> {
        let Some(device) = disk(place, system) else {
            return Ok(false);
        };
        let text = answers.to_toml()?;
        with_disk(&device, "rw", place, system, |folder| {
            crate::file::write(&folder.join(FILE), 0o600, &text)
        })?;
        Ok(true)
    };
    match write() {
        Ok(true) => Ok(format!(
            "{FILE}, with the passwords, on the disk labelled {LABEL}"
        )),
        Ok(false) => Err(format!("There is no disk labelled {LABEL}.")),
        Err(error) => Err(format!("{error:#}.")),
    }
}
