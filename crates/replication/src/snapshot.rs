//! Snapshots: the whole replica in one file under a digest.
//!
//! A file is the magic, then frames of `length of key u32 | length of value
//! u32 | key | value`, closed by a frame of two zero lengths and the SHA-256
//! of everything before. The first frame's value is the position in the log.
//! The file gets its name only when it is complete and on disk.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use ring::digest::{Context, SHA256};
use store::{Position, Store};

use crate::disk::{Disk, Output};
use crate::types::{Damaged, LogId, SnapshotMeta, StoredMembership, from_json};

const MAGIC: &[u8; 8] = b"SBSNAP1\n";
const PREFIX: &str = "snapshot-";
/// Longest key or value that is believed.
const LONGEST: usize = 64 << 20;

/// A snapshot's file.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    disk: Arc<dyn Disk>,
    name: String,
}

impl SnapshotFile {
    /// The file's name in the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Opens the file's bytes, to send them.
    pub fn bytes(&self) -> io::Result<Box<dyn Read + Send>> {
        self.disk.read(&self.name)
    }

    /// Makes the file anew, to receive its bytes.
    pub fn receive(&self) -> io::Result<Box<dyn Output>> {
        self.disk.create(&self.name)
    }

    /// Removes a file that was not received to its end.
    pub fn discard(&self) {
        // What stays is removed when the node is opened.
        let _ = self.disk.remove(&self.name);
    }
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{0}")]
    Damaged(#[from] Damaged),
    #[error("{0}")]
    Store(#[from] store::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A snapshot that is complete.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) meta: SnapshotMeta,
}

impl Known {
    pub(crate) fn index(&self) -> u64 {
        self.meta.last_log_id.map_or(0, |id| id.index)
    }
}

/// The snapshots of a node, the newest two of which are kept.
#[derive(Clone, Debug)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    /// Oldest first.
    known: Arc<Mutex<Vec<Known>>>,
}

impl Snapshots {
    /// Reads and verifies the snapshots in a folder. Damaged ones come back as
    /// name and reason; unfinished ones are removed.
    pub(crate) fn open(disk: Arc<dyn Disk>) -> io::Result<(Self, Vec<(String, String)>)> {
        let mut known = Vec::new();
        let mut damaged = Vec::new();
        for name in disk.list()? {
            if name.starts_with("incoming-") || name.starts_with("new-") {
                disk.remove(&name)?;
            }
            if !name.starts_with(PREFIX) || name.contains(".damaged") {
                continue;
            }
            match verify(disk.as_ref(), &name) {
                Ok(meta) => known.push(Known { name, meta }),
                Err(SnapshotError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Err(error);
                }
                Err(error) => damaged.push((name, error.to_string())),
            }
        }
        known.sort_by_key(Known::index);
        Ok((
            Self {
                disk,
                known: Arc::new(Mutex::new(known)),
            },
            damaged,
        ))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Known> {
        self.known().clone()
    }

    /// The newest.
    pub(crate) fn newest(&self) -> Option<Known> {
        self.known().last().cloned()
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        let names = self.all();
        names
            .iter()
            .filter_map(|known| self.disk.size(&known.name).ok())
            .sum()
    }

    /// The file of a snapshot.
    pub(crate) fn file(&self, name: &str) -> SnapshotFile {
        SnapshotFile {
            disk: self.disk.clone(),
            name: name.into(),
        }
    }

    /// A file to receive a snapshot in.
    pub(crate) fn incoming(&self) -> SnapshotFile {
        self.file(&format!("incoming-{}", uuid::Uuid::new_v4().simple()))
    }

    /// Writes the store as it is to a snapshot.
    pub(crate) fn write(&self, store: &Store) -> Result<Known, SnapshotError> {
        let temporary = format!("new-{}", uuid::Uuid::new_v4().simple());
        let written = write_file(self.disk.as_ref(), &temporary, store);
        if written.is_err() {
            // The first error is the one to tell.
            let _ = self.disk.remove(&temporary);
        }
        self.keep(&temporary, written?)
    }

    /// Takes a verified file over as the newest snapshot.
    pub(crate) fn keep(&self, from: &str, meta: SnapshotMeta) -> Result<Known, SnapshotError> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let name = format!("{PREFIX}{index:020}");
        self.disk.rename(from, &name)?;
        let new = Known { name, meta };
        let mut all = self.known();
        all.retain(|old| old.name != new.name);
        all.push(new.clone());
        all.sort_by_key(Known::index);
        while all.len() > 2 {
            let old = all.remove(0);
            self.disk.remove(&old.name)?;
        }
        Ok(new)
    }

    /// The name of a received file in our own folder; one of another folder is
    /// copied.
    pub(crate) fn adopt(&self, file: &SnapshotFile) -> io::Result<String> {
        if Arc::ptr_eq(&self.disk, &file.disk) {
            return Ok(file.name.clone());
        }
        let incoming = self.incoming();
        let mut out = incoming.receive()?;
        io::copy(&mut file.bytes()?, &mut out)?;
        out.sync()?;
        Ok(incoming.name)
    }

    /// Forgets a snapshot that was set aside.
    pub(crate) fn forget(&self, name: &str) {
        self.known().retain(|known| known.name != name);
    }
}

/// What a snapshot of that position is called by the engine.
fn meta_of(position: &Position) -> Result<SnapshotMeta, Damaged> {
    let (last_log_id, last_membership) = read_position(position)?;
    let snapshot_id = last_log_id.map_or_else(String::new, |id| id.to_string());
    Ok(SnapshotMeta {
        last_log_id,
        last_membership,
        snapshot_id,
    })
}

/// The log's own names in a position.
pub(crate) fn read_position(
    position: &Position,
) -> Result<(Option<LogId>, StoredMembership), Damaged> {
    if position.log_id.is_empty() {
        return Ok((None, StoredMembership::default()));
    }
    let membership = if position.membership.is_empty() {
        StoredMembership::default()
    } else {
        from_json(&position.membership)?
    };
    Ok((Some(from_json(&position.log_id)?), membership))
}

struct Hashed<T> {
    inner: T,
    hash: Context,
}

impl<W: Write> Hashed<W> {
    fn write_frame(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::other("a row is too long for a snapshot");
        let mut head = [0; 8];
        head[..4].copy_from_slice(&u32::try_from(key.len()).map_err(too_long)?.to_le_bytes());
        head[4..].copy_from_slice(&u32::try_from(value.len()).map_err(too_long)?.to_le_bytes());
        for bytes in [&head[..], key, value] {
            self.hash.update(bytes);
            self.inner.write_all(bytes)?;
        }
        Ok(())
    }
}

impl<R: Read> Hashed<R> {
    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a length is impossible",
            ));
        }
        let mut bytes = vec![0; length];
        self.inner.read_exact(&mut bytes)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    /// The next frame, or none at the closing one.
    fn read_frame(&mut self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let head = self.take(8)?;
        let length = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            // Fits: at most 32 bits.
            u32::from_le_bytes(bytes) as usize
        };
        let (key, value) = (length(0), length(4));
        if (key, value) == (0, 0) {
            return Ok(None);
        }
        Ok(Some((self.take(key)?, self.take(value)?)))
    }
}

fn write_file(disk: &dyn Disk, name: &str, store: &Store) -> Result<SnapshotMeta, SnapshotError> {
    let mut out = Hashed {
        inner: BufWriter::new(disk.create(name)?),
        hash: Context::new(&SHA256),
    };
    out.hash.update(MAGIC);
    out.inner.write_all(MAGIC)?;
    let position =
        store.dump(|key, value| out.write_frame(key, value).map_err(SnapshotError::from))?;
    out.write_frame(b"p", &position.encode_to_vec())?;
    out.write_frame(&[], &[])?;
    let digest = out.hash.finish();
    out.inner.write_all(digest.as_ref())?;
    let mut file = out
        .inner
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync()?;
    Ok(meta_of(&position)?)
}

/// Reads a snapshot to its end and hands out its rows. The rows count only
/// when this returns without an error.
pub(crate) fn read_file(
    disk: &dyn Disk,
    name: &str,
    mut take: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), SnapshotError>,
) -> Result<SnapshotMeta, SnapshotError> {
    let damaged = |what: &str| Damaged(format!("the snapshot {name} {what}"));
    let mut file = Hashed {
        inner: BufReader::new(disk.read(name)?),
        hash: Context::new(&SHA256),
    };
    if file.take(MAGIC.len())? != MAGIC {
        return Err(damaged("does not begin as one").into());
    }
    let mut position = None;
    while let Some((key, value)) = file.read_frame()? {
        if key == b"p" {
            position = Some(value);
        } else {
            take(key, value)?;
        }
    }
    let expected = file.hash.clone().finish();
    let mut digest = [0; 32];
    file.inner.read_exact(&mut digest)?;
    if digest != expected.as_ref() {
        return Err(damaged("fails its digest").into());
    }
    if file.inner.read(&mut [0])? != 0 {
        return Err(damaged("goes on behind its end").into());
    }
    let position = position.ok_or_else(|| damaged("has no position"))?;
    let position =
        Position::decode(position.as_slice()).map_err(|_| damaged("has no readable position"))?;
    Ok(meta_of(&position)?)
}

pub(crate) fn verify(disk: &dyn Disk, name: &str) -> Result<SnapshotMeta, SnapshotError> {
    read_file(disk, name, |_, _| Ok(()))
}
