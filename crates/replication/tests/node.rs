//! A node on real files: what it commits, keeps and repairs.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::sync::Arc;

use replication::{Alone, Node, Options};
use store::{Action, Operation, Transaction, key};

fn name(text: &str) -> Vec<u8> {
    key::encode(&[key::Part::Text(text.into())])
}

fn put(key: &str, row: &str) -> Transaction {
    let operation = Operation {
        action: Action::Put.into(),
        table: "t".into(),
        key: name(key),
        row: row.into(),
        version: 1,
        revision: 0,
    };
    Transaction {
        operations: vec![operation],
    }
}

fn row(node: &Node, key: &str) -> Option<String> {
    let row = node.replica().store().get("t", &name(key)).unwrap();
    row.map(|row| String::from_utf8(row.content).unwrap())
}

async fn open(folder: &Path) -> Node {
    Node::open(Options::new(1, folder.into()), Alone)
        .await
        .unwrap()
}

async fn fill(node: &Node, from: u32, to: u32) {
    for number in from..to {
        node.commit(put(&format!("k{number}"), &format!("{{\"n\":{number}}}")))
            .await
            .unwrap()
            .unwrap();
    }
}

fn expect(node: &Node, to: u32) {
    for number in 0..to {
        assert_eq!(
            row(node, &format!("k{number}")),
            Some(format!("{{\"n\":{number}}}"))
        );
    }
    assert_eq!(
        node.replica().store().check().unwrap().problems,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path()).await;
    fill(&node, 0, 50).await;
    assert_eq!(node.facts().role, "leader");
    node.close().await.unwrap();
    let node = open(folder.path()).await;
    assert_eq!(node.recovery().findings, []);
    expect(&node, 50);
    node.close().await.unwrap();
}

#[tokio::test]
async fn a_lost_replica_is_rebuilt_from_the_log_alone_or_from_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path()).await;
    fill(&node, 0, 20).await;
    node.close().await.unwrap();
    std::fs::remove_dir_all(folder.path().join("replica-000001")).unwrap();
    let node = open(folder.path()).await;
    expect(&node, 20);
    for part in 1..5 {
        fill(&node, part * 20, part * 20 + 20).await;
        node.snapshot().await.unwrap();
    }
    fill(&node, 100, 110).await;
    assert!(
        node.facts().purged > 0,
        "the log is dropped behind two snapshots: {:?}",
        node.facts()
    );
    let digests = node.replica().store().digests();
    node.close().await.unwrap();
    std::fs::remove_dir_all(folder.path().join("replica-000001")).unwrap();
    let node = open(folder.path()).await;
    expect(&node, 110);
    assert_eq!(node.replica().store().digests().0, digests.0);
    node.close().await.unwrap();
}

#[tokio::test]
async fn a_lost_log_is_begun_anew_from_the_replica() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path()).await;
    fill(&node, 0, 20).await;
    let epoch = node.replica().store().epoch();
    node.close().await.unwrap();
    std::fs::remove_file(folder.path().join("log.redb")).unwrap();
    let node = open(folder.path()).await;
    assert!(node.recovery().loss(), "{:?}", node.recovery());
    assert_ne!(node.replica().store().epoch(), epoch);
    expect(&node, 20);
    fill(&node, 20, 40).await;
    node.close().await.unwrap();
    let node = open(folder.path()).await;
    assert_eq!(node.recovery().findings, []);
    expect(&node, 40);
    node.close().await.unwrap();
}

#[tokio::test]
async fn an_ordered_rebuild_happens_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path()).await;
    fill(&node, 0, 5).await;
    node.order_rebuild("digests differ").unwrap();
    node.close().await.unwrap();
    let node = open(folder.path()).await;
    let text = node.recovery().text();
    assert!(
        text.contains("digests differ") && !node.recovery().loss(),
        "{text}"
    );
    expect(&node, 5);
    node.close().await.unwrap();
    let node = open(folder.path()).await;
    assert_eq!(node.recovery().findings, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_wait_together_share_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(open(folder.path()).await);
    let mut tasks = Vec::new();
    for number in 0..200 {
        let node = node.clone();
        tasks.push(tokio::spawn(async move {
            node.commit(put(&format!("k{number}"), "{}")).await
        }));
    }
    let mut revisions = Vec::new();
    for task in tasks {
        revisions.push(task.await.unwrap().unwrap().unwrap());
    }
    revisions.sort_unstable();
    assert_eq!(
        revisions,
        (1..=200).collect::<Vec<_>>(),
        "each has a revision of its own"
    );
    let counts = node.counts();
    assert_eq!(counts.transactions, 200);
    assert!(counts.commits < 100, "{counts:?}");
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    // As far as it gets before the log has an entry.
    let node = open(folder.path()).await;
    node.close().await.unwrap();
    for file in ["log.redb", "closed"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    std::fs::remove_dir_all(folder.path().join("replica-000001")).unwrap();
    let backend = store::SledBackend::open(&folder.path().join("replica-000001"), 1 << 20).unwrap();
    drop(store::Store::open(Box::new(backend), store::HistoryLimits::default(), "e").unwrap());
    let node = open(folder.path()).await;
    assert_eq!(node.recovery().findings, []);
    fill(&node, 0, 3).await;
    expect(&node, 3);
}
