//! A disk that keeps only what was synced when its power goes: of the rest,
//! any sectors or none.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use replication::{Disk, Output};

use super::Random;

const SECTOR: usize = 512;

#[derive(Clone)]
enum Pending {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone, Default)]
struct File {
    /// What the disk has for sure.
    synced: Vec<u8>,
    /// What readers see.
    now: Vec<u8>,
    pending: Vec<Pending>,
    /// Whether the folder's entry for it is on disk.
    named: bool,
}

struct Inner {
    files: BTreeMap<String, File>,
    random: Random,
    /// Operations until the power goes.
    left: u64,
    dark: bool,
}

/// The disk. Clones share it.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

fn power() -> io::Error {
    io::Error::other("the power is gone")
}

impl Recorder {
    /// An empty disk whose power goes after `left` operations.
    pub fn new(seed: u64, left: u64) -> Self {
        Self::with(BTreeMap::new(), seed, left)
    }

    fn with(files: BTreeMap<String, File>, seed: u64, left: u64) -> Self {
        let random = Random::new(seed);
        Self(Arc::new(Mutex::new(Inner {
            files,
            random,
            left,
            dark: false,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One operation that changes something. Fails when the power is gone.
    fn step(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        if inner.left == 0 {
            inner.dark = true;
        }
        if inner.dark {
            return Err(power());
        }
        inner.left -= 1;
        Ok(inner)
    }

    /// What is on the disk when the power comes back, as a disk whose power
    /// goes again after `left` operations.
    pub fn after_the_cut(&self, left: u64) -> Self {
        let mut inner = self.inner();
        inner.dark = true;
        let mut files = BTreeMap::new();
        let names: Vec<String> = inner.files.keys().cloned().collect();
        for name in names {
            let file = inner.files[&name].clone();
            if !file.named && inner.random.chance(50) {
                continue;
            }
            // How much of what was not synced reached the disk: none, all, or some.
            let luck = [0, 100, 50, 10, 90][inner.random.below(5) as usize];
            let mut bytes = file.synced;
            for pending in file.pending {
                match pending {
                    Pending::Length(length) => {
                        if inner.random.chance(luck) {
                            bytes.resize(length as usize, 0);
                        }
                    }
                    Pending::Write(offset, data) => {
                        let mut at = 0;
                        while at < data.len() {
                            let place = offset as usize + at;
                            let end = data.len().min(at + SECTOR - place % SECTOR);
                            if inner.random.chance(luck) {
                                let upto = offset as usize + end;
                                if bytes.len() < upto {
                                    bytes.resize(upto, 0);
                                }
                                bytes[place..upto].copy_from_slice(&data[at..end]);
                            }
                            at = end;
                        }
                    }
                }
            }
            let file = File {
                synced: bytes.clone(),
                now: bytes,
                pending: Vec::new(),
                named: true,
            };
            files.insert(name, file);
        }
        let seed = inner.random.next();
        Self::with(files, seed, left)
    }

    fn write(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.step()?;
        let file = inner.files.entry(name.into()).or_default();
        let upto = offset as usize + data.len();
        if file.now.len() < upto {
            file.now.resize(upto, 0);
        }
        file.now[offset as usize..upto].copy_from_slice(data);
        file.pending.push(Pending::Write(offset, data.to_vec()));
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut inner = match self.step() {
            Ok(inner) => inner,
            Err(error) => {
                // The cut may come between the sync and its report.
                let mut inner = self.inner();
                if inner.random.chance(20)
                    && let Some(file) = inner.files.get_mut(name)
                {
                    file.synced = file.now.clone();
                    file.pending.clear();
                }
                return Err(error);
            }
        };
        if let Some(file) = inner.files.get_mut(name) {
            file.synced = file.now.clone();
            file.pending.clear();
        }
        Ok(())
    }
}

struct Writer {
    disk: Recorder,
    name: String,
    at: u64,
}

impl Write for Writer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.disk.write(&self.name, self.at, data)?;
        self.at += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Writer {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync(&self.name)
    }
}

impl Disk for Recorder {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.inner().files.keys().cloned().collect())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let inner = self.inner();
        let file = inner.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.now.len() as u64)
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let inner = self.inner();
        let file = inner.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(file.now.clone())))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let mut inner = self.step()?;
        inner.files.insert(name.into(), File::default());
        drop(inner);
        Ok(Box::new(Writer {
            disk: self.clone(),
            name: name.into(),
            at: 0,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.step()?;
        let mut file = inner.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        file.named = true;
        inner.files.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.step()?;
        inner.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn log(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let mut inner = self.step()?;
        inner.files.entry(name.into()).or_default().named = true;
        drop(inner);
        Ok(Box::new(LogFile {
            disk: self.clone(),
            name: name.into(),
        }))
    }
}

#[derive(Debug)]
struct LogFile {
    disk: Recorder,
    name: String,
}

impl StorageBackend for LogFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.size(&self.name)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.inner();
        let file = inner.files.get(&self.name).ok_or(io::ErrorKind::NotFound)?;
        let from = offset as usize;
        let bytes = file
            .now
            .get(from..from + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.step()?;
        let file = inner.files.entry(self.name.clone()).or_default();
        file.now.resize(length as usize, 0);
        file.pending.push(Pending::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync(&self.name)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(&self.name, offset, data)
    }
}
