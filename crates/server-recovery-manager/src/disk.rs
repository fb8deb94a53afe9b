//! What the manager keeps on the disk: the machine's memory and what the
//! database told last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use recovery::{Memory, Node, Ownership};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::group::{Known, View};

/// The machine's memory with the nodes that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The group's first and second node.
    pub(crate) homes: [Option<String>; 2],
    /// The latest epoch of every home of which this node ever knew.
    pub(crate) epochs: BTreeMap<String, u64>,
    pub(crate) memory: Memory,
}

impl Stored {
    /// The memory to begin with as that node. Of a group of other nodes little
    /// counts: not who served whom, but no epoch may come a second time.
    pub(crate) fn memory_for(&self, view: &View) -> Memory {
        if self.homes == view.homes() {
            return self.memory.clone();
        }
        let ownership = Node::BOTH.map(|place| {
            let mut ownership = Ownership::first(place);
            let known = view.home(place).and_then(|home| self.epochs.get(home));
            while known.is_some_and(|known| *known >= ownership.epoch().number()) {
                ownership = ownership.claimed(place);
            }
            ownership
        });
        Memory {
            incarnation: self.memory.incarnation,
            ownership,
            ..Memory::first(&self.memory.boot)
        }
    }
}

/// What was found of the machine's memory.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// There is none: this manager never ran.
    Nothing,
    /// It is as it was written.
    Sound(Stored),
    /// It cannot be used, and why. It was set aside.
    Damaged(String),
}

/// The manager's folder.
#[derive(Clone, Debug)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// The folder, made when it is missing.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self(folder.into()))
    }

    /// Where the history is.
    pub(crate) fn history(&self) -> PathBuf {
        self.0.join("history.jsonl")
    }

    /// Reads the memory. A damaged one is set aside, so that it can be looked
    /// at, and counts as lost: the machine then waits for its peer's word.
    pub(crate) fn memory(&self) -> io::Result<Found> {
        let path = self.0.join("memory");
        match read(&path)? {
            None => Ok(Found::Nothing),
            Some(Ok(stored)) => Ok(Found::Sound(stored)),
            Some(Err(why)) => {
                std::fs::rename(&path, self.0.join("memory.damaged"))?;
                Ok(Found::Damaged(why))
            }
        }
    }

    /// Writes the memory; it is on the disk when this returns.
    pub(crate) fn keep_memory(&self, stored: &Stored) -> io::Result<()> {
        self.write("memory", stored)
    }

    /// What the database told last, if that can be read.
    pub(crate) fn known(&self) -> Option<Known> {
        read(&self.0.join("known")).ok()??.ok()
    }

    /// Keeps what the database told.
    pub(crate) fn keep_known(&self, known: &Known) -> io::Result<()> {
        self.write("known", known)
    }

    fn write(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(content)?;
        let new = self.0.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        writeln!(file, "{:08x} {text}", crc32fast::hash(text.as_bytes()))?;
        file.sync_all()?;
        std::fs::rename(&new, self.0.join(name))?;
        File::open(&self.0)?.sync_all()
    }
}

/// The content of a file, or what is wrong with it; none when there is no file.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<Result<T, String>>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    let content = text.trim_end_matches('\n').split_once(' ');
    let sound = content.filter(|(sum, text)| {
        u32::from_str_radix(sum, 16).is_ok_and(|sum| sum == crc32fast::hash(text.as_bytes()))
    });
    Ok(Some(match sound {
        None => Err("its checksum does not fit its content".into()),
        Some((_, text)) => serde_json::from_str(text).map_err(|error| error.to_string()),
    }))
}

#[cfg(test)]
mod tests {
    use recovery::Parameters;

    use super::*;
    use crate::group::Group;

    fn stored() -> Stored {
        Stored {
            homes: [Some("a".into()), Some("b".into())],
            epochs: BTreeMap::from([("a".into(), 4), ("b".into(), 2)]),
            memory: Memory {
                incarnation: 7,
                manual: true,
                ..Memory::first("boot")
            },
        }
    }

    fn view(first: &str, second: Option<&str>) -> View {
        let known = Known {
            groups: vec![Group {
                name: "group".into(),
                first: first.into(),
                second: second.map(str::to_owned),
                high_availability: true,
            }],
            ..Known::default()
        };
        View::new("a", &known, &Parameters::default())
    }

    #[test]
    fn memory_comes_back_and_a_damaged_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(&folder.path().join("state")).unwrap();
        assert_eq!(disk.memory().unwrap(), Found::Nothing);
        disk.keep_memory(&stored()).unwrap();
        assert_eq!(disk.memory().unwrap(), Found::Sound(stored()));
        let path = folder.path().join("state/memory");
        let whole = std::fs::read(&path).unwrap();
        for damage in [
            whole[..whole.len() / 2].to_vec(),
            Vec::new(),
            vec![0; whole.len()],
            String::from_utf8(whole.clone())
                .unwrap()
                .replace("\"incarnation\":7", "\"incarnation\":8")
                .into_bytes(),
        ] {
            std::fs::write(&path, damage).unwrap();
            let Found::Damaged(why) = disk.memory().unwrap() else {
                panic!("it was taken");
            };
            assert!(why.contains("checksum"), "{why}");
            assert!(folder.path().join("state/memory.damaged").exists());
            assert_eq!(disk.memory().unwrap(), Found::Nothing);
        }
    }

    #[test]
    fn in_another_group_only_the_epochs_count() {
        let stored = stored();
        assert_eq!(
            stored.memory_for(&view("a", Some("b"))).ownership,
            stored.memory.ownership
        );
        let memory = stored.memory_for(&view("a", Some("c")));
        assert_eq!((memory.incarnation, memory.manual), (7, false));
        assert_eq!(memory.ownership[0].epoch().number(), 5);
        assert_eq!(memory.ownership[1], Ownership::first(Node::Two));
        // In the second place its epochs are even.
        let memory = stored.memory_for(&view("c", Some("a")));
        assert_eq!(memory.ownership[0], Ownership::first(Node::One));
        assert_eq!(memory.ownership[1].epoch().number(), 6);
        assert_eq!(memory.ownership[1].owner(), Some(Node::Two));
    }
}
