//! Power cuts: the disk keeps what was synced and any part of the rest. No
//! acknowledged write is lost, and the node always opens.
//!
//! The log and the snapshots lie on the recorder, which knows what was
//! synced. The replica is not trusted to survive: at each cut its folder is
//! kept as it is under a running engine, torn, put back to an older state, or
//! lost.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use replication::{Alone, Node, OpenError, Options};
use support::recorder::Recorder;
use support::{Random, copy, files, put, rounds, seed, value};

const KEYS: u64 = 6;

fn options(folder: &Path, disk: &Recorder) -> Options {
    let mut options = Options::new(1, folder.into());
    options.disk = Arc::new(disk.clone());
    options.cache = 1 << 20;
    // Snapshots and dropped logs are part of what is cut.
    options.snapshot_entries = 25;
    options
}

/// What was answered, and what was asked, per key.
#[derive(Clone, Debug, Default)]
struct Told {
    acknowledged: u64,
    asked: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost() {
    let mut random = Random::new(seed());
    let root = tempfile::tempdir().unwrap();
    let mut disk = Recorder::new(random.next(), 1_000_000);
    let mut folder = root.path().join("0");
    fs::create_dir(&folder).unwrap();
    let mut stale = root.path().join("stale");
    let mut told = vec![Told::default(); KEYS as usize];
    let (mut cuts_at_start, mut asked) = (0, 0);
    for round in 1..=rounds(40) {
        let opened = Node::open(options(&folder, &disk), Alone).await;
        match opened {
            Ok(node) => {
                assert!(
                    !node.recovery().loss(),
                    "round {round}: {:?}",
                    node.recovery()
                );
                let store = node.replica().store();
                assert_eq!(
                    store.check().unwrap().problems,
                    Vec::<String>::new(),
                    "round {round}"
                );
                for (key, told) in told.iter_mut().enumerate() {
                    let found = value(&store, &key.to_string());
                    assert!(
                        (told.acknowledged..=told.asked).contains(&found),
                        "round {round}: key {key} is {found}, {told:?}"
                    );
                    // What a reader saw stays.
                    *told = Told {
                        acknowledged: found,
                        asked: found,
                    };
                }
                drop(store);
                if random.chance(30) {
                    let _ = fs::remove_dir_all(&stale);
                    stale = root.path().join(format!("stale-{round}"));
                    copy(&folder, &stale);
                }
                let before = told.iter().map(|told| told.asked).sum::<u64>();
                let node = Arc::new(node);
                let weight = random.below(3) as usize * 700;
                let tasks = told.into_iter().enumerate().map(|(key, mut told)| {
                    let node = node.clone();
                    tokio::spawn(async move {
                        for _ in 0..200 {
                            told.asked += 1;
                            let change = put(&key.to_string(), told.asked, weight);
                            match node.commit(change).await {
                                Ok(outcome) => {
                                    outcome.unwrap();
                                    told.acknowledged = told.asked;
                                }
                                Err(_) => break,
                            }
                        }
                        told
                    })
                });
                let tasks: Vec<_> = tasks.collect();
                told = Vec::new();
                for task in tasks {
                    told.push(task.await.unwrap());
                }
                asked += told.iter().map(|told| told.asked).sum::<u64>() - before;
                // The replica as the cut finds it: under a running engine.
                let next = root.path().join(round.to_string());
                copy(&folder, &next);
                let _ = Arc::try_unwrap(node).unwrap().close().await;
                spoil(&next, &stale, &mut random);
                let _ = fs::remove_dir_all(&folder);
                folder = next;
            }
            // The power went while the node was being opened.
            Err(OpenError::Hopeless(text, _)) => panic!("round {round}: {text}"),
            Err(_) => {
                cuts_at_start += 1;
                let next = root.path().join(round.to_string());
                copy(&folder, &next);
                spoil(&next, &stale, &mut random);
                folder = next;
            }
        }
        // Mostly under load, sometimes while the node starts.
        let left = if random.chance(20) {
            random.below(60)
        } else {
            random.below(1500)
        };
        disk = disk.after_the_cut(left);
    }
    println!("{asked} writes asked, {cuts_at_start} cuts while the node started");
    assert!(asked > 0);
}

/// What a cut may do to files that nobody synced.
fn spoil(folder: &Path, stale: &Path, random: &mut Random) {
    let replicas: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.is_dir()
                && path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("replica-")
        })
        .filter(|path| !path.to_string_lossy().contains("damaged"))
        .collect();
    for replica in replicas {
        match random.below(6) {
            // Kept as it was found.
            0 | 1 => {}
            2 => fs::remove_dir_all(&replica).unwrap(),
            3 => {
                let older = stale.join(replica.file_name().unwrap());
                if older.exists() {
                    fs::remove_dir_all(&replica).unwrap();
                    copy(&older, &replica);
                }
            }
            4 => {
                let files = files(&replica);
                if let Some(file) = files.get(random.below(files.len() as u64) as usize) {
                    let length = fs::metadata(file).unwrap().len();
                    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
                    file.set_len(random.below(length + 1)).unwrap();
                }
            }
            _ => {
                // Sectors that were never written.
                for file in files(&replica) {
                    let mut bytes = fs::read(&file).unwrap();
                    let sectors = (bytes.len() / 512) as u64;
                    for _ in 0..1 + sectors / 20 {
                        let at = random.below(sectors.max(1)) as usize * 512;
                        let end = bytes.len().min(at + 512);
                        if at < end {
                            bytes[at..end].fill(0);
                        }
                    }
                    fs::write(&file, bytes).unwrap();
                }
            }
        }
    }
}
