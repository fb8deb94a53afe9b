//! Databases of several nodes in one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use peer::testing::Wire;
use replication::{Options, Peers};
use serde_json::json;
use store::key::Part;
use store::{Action, Operation, Transaction, key};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::Error;
use crate::cluster;
use crate::engine::Engine;

struct Running {
    engine: Arc<Engine>,
    serving: JoinHandle<()>,
    folder: TempDir,
}

async fn start(wire: &Wire, number: u64, folder: TempDir) -> Running {
    let mut options = Options::new(number, folder.path().into());
    options.found = number == 1;
    options.address = cluster::address_of(&format!("192.0.2.{number}"));
    options.grace = Duration::from_millis(200);
    let own = wire.clone();
    let peers = Peers::new(move |to, _| own.channel(number, to));
    let engine = Arc::new(Engine::open(options, Some(peers)).await.unwrap());
    let serving = cluster::services(&engine).serve_with_incoming(wire.listen(number));
    Running {
        engine,
        serving: tokio::spawn(async move { serving.await.unwrap() }),
        folder,
    }
}

impl Running {
    async fn stop(self, wire: &Wire, number: u64) -> TempDir {
        wire.cut(number);
        self.serving.abort();
        let _ = self.serving.await;
        self.engine.close().await.unwrap();
        self.folder
    }

    async fn look(&self) {
        cluster::look_around(&self.engine, self.engine.cluster().unwrap()).await;
    }

    fn has(&self, name: &str) -> bool {
        let key = key::encode(&[Part::Text(name.into())]);
        let row = self.engine.store().get("process_node", &key).unwrap();
        row.is_some()
    }
}

fn write(action: Action, number: u64) -> Transaction {
    let name = format!("node{number}");
    let role = if number == 1 {
        "publisher"
    } else {
        "subscriber"
    };
    let row = json!({
        "name": name, "domain": "example.org", "address": format!("192.0.2.{number}"),
        "role": role, "product": "imp", "replica": number,
    });
    let operation = Operation {
        action: action.into(),
        table: "process_node".into(),
        key: key::encode(&[Part::Text(name)]),
        row: row.to_string().into_bytes(),
        version: 1,
        revision: 0,
    };
    Transaction {
        operations: vec![operation],
    }
}

fn put(number: u64) -> Transaction {
    write(Action::Put, number)
}

/// A publisher and a subscriber that has caught up.
async fn pair(wire: &Wire) -> (Running, Running) {
    let publisher = start(wire, 1, TempDir::new().unwrap()).await;
    for number in [1, 2] {
        publisher
            .engine
            .propose(put(number))
            .await
            .unwrap()
            .unwrap();
    }
    let subscriber = start(wire, 2, TempDir::new().unwrap()).await;
    cluster::settle_members(&publisher.engine).await;
    follow(&subscriber, &publisher).await;
    (publisher, subscriber)
}

async fn follow(subscriber: &Running, publisher: &Running) {
    let index = publisher.engine.node().facts().applied;
    let wait = subscriber
        .engine
        .node()
        .raft()
        .wait(Some(Duration::from_secs(20)));
    wait.applied_index_at_least(Some(index), "the subscriber follows")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_on_a_subscriber_is_made_by_the_publisher_and_read_at_once() {
    let wire = Wire::default();
    let (publisher, subscriber) = pair(&wire).await;
    let done = subscriber.engine.propose(put(7)).await.unwrap();
    assert_eq!(done, Ok(publisher.engine.store().revision()));
    assert!(subscriber.has("node7") && publisher.has("node7"));
    // Why the publisher did not make a change comes back, too.
    let refused = subscriber.engine.propose(write(Action::Insert, 7)).await;
    assert!(matches!(refused, Ok(Err(store::Rejection::Exists { .. }))));
    subscriber.stop(&wire, 2).await;
    publisher.stop(&wire, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_publisher_a_subscriber_reads_and_says_why_it_takes_no_change() {
    let wire = Wire::default();
    let (publisher, subscriber) = pair(&wire).await;
    subscriber.look().await;
    let folder = publisher.stop(&wire, 1).await;
    let begin = Instant::now();
    let refused = subscriber.engine.propose(put(7)).await;
    let Err(Error::Unavailable(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        text.contains("node1") && text.contains("cannot be reached"),
        "{text}"
    );
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(subscriber.has("node1"));
    // A subscriber that starts without its publisher reads what it has.
    let own = subscriber.stop(&wire, 2).await;
    let subscriber = start(&wire, 2, own).await;
    assert!(subscriber.has("node1") && !subscriber.has("node7"));
    let publisher = start(&wire, 1, folder).await;
    subscriber.engine.propose(put(7)).await.unwrap().unwrap();
    assert!(subscriber.has("node7"));
    subscriber.stop(&wire, 2).await;
    publisher.stop(&wire, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_tell_each_other_how_they_are_and_compare_their_tables() {
    let wire = Wire::default();
    let (publisher, subscriber) = pair(&wire).await;
    let report = crate::rpc::ReportRequest {
        state: 2,
        reason: "Setup Completed".into(),
        ..Default::default()
    };
    publisher.engine.take_report(report.clone());
    subscriber.engine.take_report(report);
    subscriber.look().await;
    let member = |running: &Running, node: u64| {
        let cluster = running.engine.cluster().unwrap();
        let member = crate::rpc::Member {
            node,
            ..Default::default()
        };
        cluster.neighbours().member(member, cluster.now())
    };
    let seen = member(&subscriber, 1);
    assert!(
        seen.reachable && seen.state == 2 && seen.ping_micros > 0,
        "{seen:?}"
    );
    // Who asks tells about itself in the same breath.
    assert_eq!(member(&publisher, 2).state, 2);
    let neighbours = || subscriber.engine.cluster().unwrap().neighbours().clone();
    assert_eq!(neighbours().mismatched, [""; 0]);
    // A row that came past the log.
    let store = subscriber.engine.store();
    let command = store::Command {
        transactions: vec![put(9)],
    };
    store.apply(store.applied(), Some(&command)).unwrap().0[0]
        .as_ref()
        .unwrap();
    publisher.engine.propose(put(3)).await.unwrap().unwrap();
    follow(&subscriber, &publisher).await;
    subscriber.look().await;
    assert_eq!(neighbours().mismatched, ["process_node"]);
    drop(store);
    subscriber.stop(&wire, 2).await;
    publisher.stop(&wire, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_is_refused() {
    let wire = Wire::default();
    let (publisher, subscriber) = pair(&wire).await;
    let gone = publisher.engine.propose(write(Action::Delete, 2)).await;
    gone.unwrap().unwrap();
    cluster::settle_members(&publisher.engine).await;
    let refused = subscriber.engine.propose(put(7)).await;
    let Err(Error::Unavailable(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("not a member"), "{text}");
    subscriber.look().await;
    let cluster = subscriber.engine.cluster().unwrap();
    assert!(cluster.neighbours().refused.contains("was removed"));
    // Nor does it get in by starting again.
    let own = subscriber.stop(&wire, 2).await;
    let subscriber = start(&wire, 2, own).await;
    assert!(subscriber.engine.propose(put(7)).await.is_err());
    assert!(!publisher.has("node7"));
    // Set up again it has another number, and begins empty.
    let own = subscriber.stop(&wire, 2).await;
    publisher.engine.propose(put(3)).await.unwrap().unwrap();
    let again = start(&wire, 3, own).await;
    assert!(!again.has("node1"));
    cluster::settle_members(&publisher.engine).await;
    follow(&again, &publisher).await;
    assert!(again.has("node1") && again.has("node3"));
    again.stop(&wire, 3).await;
    publisher.stop(&wire, 1).await;
}
