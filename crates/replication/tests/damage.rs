//! A bit turned, or an end cut off, in any file: the node opens all the same,
//! with every row, from what is sound.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::path::Path;

use replication::{Alone, Node, Options};
use support::{Random, copy, files, put, rounds, seed, value};

const ROWS: u64 = 90;

async fn open(folder: &Path) -> Node {
    let mut options = Options::new(1, folder.into());
    options.cache = 1 << 20;
    Node::open(options, Alone).await.unwrap()
}

async fn sound(folder: &Path) {
    let node = open(folder).await;
    for number in 0..ROWS {
        node.commit(put(&format!("k{number}"), number + 1, 40))
            .await
            .unwrap()
            .unwrap();
        if number % 30 == 29 && number < 80 {
            node.snapshot().await.unwrap();
        }
    }
    node.close().await.unwrap();
}

async fn judge(folder: &Path, what: &str) -> usize {
    let node = open(folder).await;
    let store = node.replica().store();
    for number in 0..ROWS {
        assert_eq!(
            value(&store, &format!("k{number}")),
            number + 1,
            "{what}: row {number}"
        );
    }
    assert_eq!(
        store.check().unwrap().problems,
        Vec::<String>::new(),
        "{what}"
    );
    drop(store);
    // It works on, and is sound at the next start.
    node.commit(put("more", 7, 0)).await.unwrap().unwrap();
    let findings = node.recovery().findings.len();
    let text = node.recovery().text();
    node.close().await.unwrap();
    let again = open(folder).await;
    assert_eq!(again.recovery().findings, [], "{what}, after: {text}");
    assert_eq!(value(&again.replica().store(), "more"), 7, "{what}");
    again.close().await.unwrap();
    findings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_any_one_file_loses_nothing() {
    let mut random = Random::new(seed());
    let root = tempfile::tempdir().unwrap();
    let original = root.path().join("original");
    fs::create_dir(&original).unwrap();
    sound(&original).await;
    let names: Vec<_> = files(&original)
        .into_iter()
        .map(|path| path.strip_prefix(&original).unwrap().to_owned())
        .collect();
    assert!(
        names.len() >= 5,
        "log, two snapshots, the replica's files: {names:?}"
    );
    let (mut found, mut tried) = (0, 0);
    for round in 0..rounds(60).min(100).max(names.len() as u64) {
        let name = &names[round as usize % names.len()];
        let folder = root.path().join(round.to_string());
        copy(&original, &folder);
        let path = folder.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let length = bytes.len() as u64;
        let what = if random.chance(25) || length == 0 {
            let to = random.below(length.max(1));
            bytes.truncate(to as usize);
            format!("{} cut to {to} of {length}", name.display())
        } else {
            // Half of them near the front, where the engines keep what matters most.
            let at = if random.chance(50) {
                random.below(length.min(4096))
            } else {
                random.below(length)
            };
            let bit = random.below(8);
            bytes[at as usize] ^= 1 << bit;
            format!("{} bit {bit} of byte {at} of {length}", name.display())
        };
        fs::write(&path, bytes).unwrap();
        println!("{what}");
        found += usize::from(judge(&folder, &what).await > 0);
        tried += 1;
        fs::remove_dir_all(&folder).unwrap();
    }
    println!("{tried} damages, {found} of them in bytes that were in use");
    assert!(found > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_another_number_are_set_aside_and_told() {
    let root = tempfile::tempdir().unwrap();
    sound(root.path()).await;
    let reset = Options::new(7, root.path().into());
    let node = Node::open(reset, Alone).await.unwrap();
    assert!(
        node.replica().store().applied().index < 10,
        "it begins anew"
    );
    let text = node.recovery().text();
    assert!(text.contains("of node 1, and this is node 7"), "{text}");
    assert!(node.recovery().findings[0].loss, "{text}");
    node.close().await.unwrap();
    let aside = fs::read_dir(root.path()).unwrap();
    let aside = aside.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".damaged-")
    });
    assert!(aside.count() >= 3, "log, replica, snapshots");
    let again = Options::new(7, root.path().into());
    let node = Node::open(again, Alone).await.unwrap();
    assert_eq!(node.recovery().findings, []);
    node.close().await.unwrap();
}
