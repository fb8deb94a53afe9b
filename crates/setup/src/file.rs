//! Writing files so that a power cut leaves the old or the new one, whole.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;

/// Replaces a file. When this returns, the new content is on the disk.
pub(crate) fn write(path: &Path, mode: u32, content: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    folder_of(folder, 0o755)?;
    replace(path, mode, content).with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, mode: u32, content: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    remove(&temporary)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    // Whatever the process's mask took away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// Replaces a symbolic link.
pub(crate) fn link(path: &Path, target: &str) -> anyhow::Result<()> {
    let make = || -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        remove(&temporary)?;
        std::os::unix::fs::symlink(target, &temporary)?;
        std::fs::rename(&temporary, path)?;
        sync_folder(path)
    };
    folder_of(path.parent().unwrap_or(Path::new("/")), 0o755)?;
    make().with_context(|| format!("cannot write the link {}", path.display()))
}

/// Makes a folder, and those above it, when it is missing.
pub(crate) fn folder_of(path: &Path, mode: u32) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Removes a file; none is as good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename or removal in the folder of `path` lasting.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
