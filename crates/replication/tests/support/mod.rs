//! What the tests of crashes and damage share.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses its own part"
)]

pub mod cluster;
pub mod recorder;
pub mod voting;

use std::fs;
use std::path::{Path, PathBuf};

use store::{Action, Operation, Transaction, key};

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How many rounds to run: `ordinary`, unless the environment asks for more.
pub fn rounds(ordinary: u64) -> u64 {
    let asked = std::env::var("SIGNALBOX_CRASH_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(ordinary)
}

/// The seed of this run, printed so that a failure can be had again.
pub fn seed() -> u64 {
    let asked = std::env::var("SIGNALBOX_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = asked.unwrap_or_else(|| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        now.as_nanos() as u64
    });
    println!("SIGNALBOX_SEED={seed}");
    seed
}

pub fn name(text: &str) -> Vec<u8> {
    key::encode(&[key::Part::Text(text.into())])
}

/// Sets row `key` to `value`, with some weight.
pub fn put(key: &str, value: u64, weight: usize) -> Transaction {
    let operation = Operation {
        action: Action::Put.into(),
        table: "t".into(),
        key: name(key),
        row: format!("{value} {}", "x".repeat(weight)).into_bytes(),
        version: 1,
        revision: 0,
    };
    Transaction {
        operations: vec![operation],
    }
}

/// The value that [`put`] gave a row; 0 when there is none.
pub fn value(store: &store::Store, key: &str) -> u64 {
    let row = store.get("t", &name(key)).unwrap();
    row.map_or(0, |row| {
        let text = String::from_utf8(row.content).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    })
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), target) {
            // A running store may take a file away under our hands.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
