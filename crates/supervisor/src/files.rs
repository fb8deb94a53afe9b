//! The supervisor's files: links of activated services, choices about
//! automatic restart, and the marks by which systemd leaves a service down.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

use service::Paths;

/// A link for each feature service that starts with the node. The generator
/// `signalbox-features` hands them to systemd, if they are of the catalogue.
const LINKS: &str = "/etc/signalbox/features";

#[derive(Clone, Debug)]
pub(crate) struct Files {
    links: PathBuf,
    /// One empty file for each service that does not come back by itself.
    choices: PathBuf,
    /// `held/ID`: while it is there, `ExecCondition=` of the unit fails.
    marks: PathBuf,
    /// Changed network settings on their way to the unit that applies them.
    network: PathBuf,
}

impl Files {
    pub(crate) fn new(id: &str, paths: &Paths) -> Self {
        let state = paths.state(id);
        Self {
            links: LINKS.into(),
            choices: state.join("auto-restart-disabled"),
            marks: paths.runtime(id).join("held"),
            network: state.join("network-change.toml"),
        }
    }

    #[cfg(test)]
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            links: root.join("links"),
            choices: root.join("choices"),
            marks: root.join("marks"),
            network: root.join("network-change.toml"),
        }
    }

    /// Ids of the activated services.
    pub(crate) fn activated(&self) -> Result<BTreeSet<String>> {
        let names = names(&self.links)?.into_iter();
        Ok(names
            .filter_map(|name| name.strip_suffix(".service").map(str::to_owned))
            .collect())
    }

    pub(crate) fn link(&self, id: &str) -> Result<()> {
        let unit = format!("{id}.service");
        let target = Path::new(catalogue::UNIT_FOLDER).join(&unit);
        make(&self.links)?;
        match std::os::unix::fs::symlink(target, self.links.join(unit)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            // One that is there may not have reached the disk.
            _ => sync(&self.links),
        }
    }

    pub(crate) fn unlink(&self, id: &str) -> Result<()> {
        remove(&self.links.join(format!("{id}.service")))?;
        if self.links.exists() {
            sync(&self.links)?;
        }
        Ok(())
    }

    /// Ids of the services that do not come back by themselves.
    pub(crate) fn stays_down(&self) -> Result<BTreeSet<String>> {
        names(&self.choices)
    }

    /// Chooses whether a service comes back by itself.
    pub(crate) fn choose(&self, id: &str, comes_back: bool) -> Result<()> {
        make(&self.choices)?;
        let choice = self.choices.join(id);
        if comes_back {
            remove(&choice)?;
        } else {
            File::create(choice)?.sync_all()?;
        }
        // Before the mark, which does not outlive a power cut, may go.
        sync(&self.choices)?;
        if comes_back {
            remove(&self.marks.join(id))?;
        }
        Ok(())
    }

    pub(crate) fn mark(&self, id: &str) -> Result<()> {
        fs::create_dir_all(&self.marks)?;
        File::create(self.marks.join(id)).map(drop)
    }

    pub(crate) fn release(&self, id: &str) -> Result<()> {
        remove(&self.marks.join(id))
    }

    pub(crate) fn marked(&self) -> Result<BTreeSet<String>> {
        names(&self.marks)
    }

    /// Leaves changed network settings for the unit that applies them.
    pub(crate) fn network_change(&self, text: &str) -> Result<()> {
        let new = self.network.with_extension("new");
        fs::write(&new, text)?;
        File::open(&new)?.sync_all()?;
        fs::rename(&new, &self.network)?;
        self.network.parent().map_or(Ok(()), sync)
    }
}

/// Names in a folder; none when there is no folder.
fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        found.extend(entry?.file_name().into_string().ok());
    }
    Ok(found)
}

/// Makes a folder, and has it survive a power cut.
fn make(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    folder.parent().map_or(Ok(()), sync)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What an administrator chose must survive a power cut.
pub(crate) fn sync(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_choices_and_marks_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::below(folder.path());
        assert!(files.activated().unwrap().is_empty());
        files.link("a").unwrap();
        files.link("a").unwrap();
        assert_eq!(files.activated().unwrap().len(), 1);
        let target = fs::read_link(folder.path().join("links/a.service")).unwrap();
        assert_eq!(target, Path::new("/usr/lib/systemd/system/a.service"));
        files.unlink("a").unwrap();
        files.unlink("a").unwrap();
        assert!(files.activated().unwrap().is_empty());

        files.choose("a", false).unwrap();
        files.mark("a").unwrap();
        assert!(files.stays_down().unwrap().contains("a"));
        assert!(files.marked().unwrap().contains("a"));
        files.choose("a", true).unwrap();
        assert!(files.stays_down().unwrap().is_empty());
        assert!(files.marked().unwrap().is_empty());
    }
}
