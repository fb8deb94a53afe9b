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

use crate::engine::Engine;
use crate::rpc::mend_request::Kind;
use crate::{Error, cluster, mend, promotion, rpc};

pub(crate) struct Running {
    pub(crate) engine: Arc<Engine>,
    serving: JoinHandle<()>,
    folder: TempDir,
}

pub(crate) async fn start(wire: &Wire, number: u64, folder: TempDir) -> Running {
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
    pub(crate) async fn stop(self, wire: &Wire, number: u64) -> TempDir {
        wire.cut(number);
        self.serving.abort();
        let _ = self.serving.await;
        self.engine.close().await.unwrap();
        self.folder
    }

    pub(crate) async fn look(&self) {
        cluster::look_around(&self.engine, self.engine.cluster().unwrap()).await;
    }

    /// Asks the others how they are, and takes those in that belong to it.
    pub(crate) async fn settle(&self) {
        self.look().await;
        cluster::settle_members(&self.engine).await;
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        let key = key::encode(&[Part::Text(name.into())]);
        let row = self.engine.store().get("process_node", &key).unwrap();
        row.is_some()
    }
}

pub(crate) fn write(action: Action, number: u64) -> Transaction {
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

pub(crate) fn put(number: u64) -> Transaction {
    write(Action::Put, number)
}

/// A publisher and a subscriber that has caught up.
pub(crate) async fn pair(wire: &Wire) -> (Running, Running) {
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
    publisher.settle().await;
    follow(&subscriber, &publisher).await;
    (publisher, subscriber)
}

pub(crate) async fn follow(subscriber: &Running, publisher: &Running) {
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
    publisher.settle().await;
    follow(&again, &publisher).await;
    assert!(again.has("node1") && again.has("node3"));
    again.stop(&wire, 3).await;
    publisher.stop(&wire, 1).await;
}

/// A row that came past the log.
fn stray(running: &Running, transaction: Transaction) {
    let store = running.engine.store();
    let transactions = vec![transaction];
    let done = store.apply(store.applied(), Some(&store::Command { transactions }));
    done.unwrap().0[0].as_ref().unwrap();
}

fn parameter(name: &str, value: &str) -> Transaction {
    let row = json!({ "name": name, "value": value });
    let operation = Operation {
        action: Action::Put.into(),
        table: "enterprise_parameter".into(),
        key: key::encode(&[Part::Text(name.into())]),
        row: row.to_string().into_bytes(),
        version: 1,
        revision: 0,
    };
    Transaction {
        operations: vec![operation],
    }
}

/// Asks the publisher about `node2`, as an administrator there does.
async fn compare(publisher: &Running) -> rpc::Comparison {
    let other = mend::elsewhere(&publisher.engine, "node2")
        .unwrap()
        .unwrap();
    let request = rpc::CompareRequest {
        rows: true,
        ..Default::default()
    };
    other.compare(request).await.unwrap()
}

async fn order(publisher: &Running, kind: Kind, tables: &[&str]) -> rpc::MendReply {
    let other = mend::elsewhere(&publisher.engine, "node2")
        .unwrap()
        .unwrap();
    let request = rpc::MendRequest {
        kind: kind.into(),
        tables: tables.iter().map(|table| (*table).into()).collect(),
        reason: "a test".into(),
        ..Default::default()
    };
    other.mend(request).await.unwrap()
}

/// Tables that differ, with rows that differ, are missing, are extra.
fn different(compared: &rpc::Comparison) -> Vec<(&str, [u64; 3])> {
    let tables = compared.tables.iter().filter(|table| !table.equal);
    let counts = |table: &rpc::TableComparison| {
        let counts = table.counts.unwrap();
        [counts.differing, counts.missing, counts.extra]
    };
    tables
        .map(|table| (table.table.as_str(), counts(table)))
        .collect()
}

pub(crate) fn expect_equal(subscriber: &Running, publisher: &Running) {
    let (ours, theirs) = (subscriber.engine.store(), publisher.engine.store());
    assert_eq!(ours.digests(), theirs.digests());
    assert_eq!(ours.check().unwrap().problems, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_shown_and_repaired_by_table_and_as_a_whole() {
    let wire = Wire::default();
    let (publisher, subscriber) = pair(&wire).await;
    let some = parameter("a", "1");
    publisher.engine.propose(some).await.unwrap().unwrap();
    follow(&subscriber, &publisher).await;
    let compared = compare(&publisher).await;
    assert!(
        compared.same_place && compared.tables.len() == 2,
        "{compared:?}"
    );
    assert_eq!(different(&compared), []);
    stray(&subscriber, put(9));
    stray(&subscriber, write(Action::Delete, 1));
    stray(&subscriber, parameter("a", "2"));
    publisher.engine.propose(put(3)).await.unwrap().unwrap();
    follow(&subscriber, &publisher).await;
    let compared = compare(&publisher).await;
    assert!(compared.same_place, "{compared:?}");
    let nodes = ("process_node", [0, 1, 1]);
    assert_eq!(
        different(&compared),
        [("enterprise_parameter", [1, 0, 0]), nodes]
    );
    // Only to show it changes nothing.
    assert_eq!(different(&compare(&publisher).await).len(), 2);
    let done = order(&publisher, Kind::Repair, &["enterprise_parameter"]).await;
    assert_eq!(done.tables, ["enterprise_parameter"]);
    assert_eq!(different(&compare(&publisher).await), [nodes]);
    let done = order(&publisher, Kind::Repair, &[]).await;
    assert!(
        done.tables == ["process_node"] && done.text.contains("node2"),
        "{done:?}"
    );
    assert_eq!(different(&compare(&publisher).await), []);
    expect_equal(&subscriber, &publisher);
    // What was known of the difference is known to be gone.
    let cluster = subscriber.engine.cluster().unwrap();
    assert_eq!(cluster.neighbours().mismatched, [""; 0]);
    assert_eq!(order(&publisher, Kind::Repair, &[]).await.tables, [""; 0]);
    // The whole of it is taken over whether or not it differs.
    let done = order(&publisher, Kind::Synchronize, &[]).await;
    assert_eq!(done.tables.len(), 2, "{done:?}");
    expect_equal(&subscriber, &publisher);
    publisher.engine.propose(put(4)).await.unwrap().unwrap();
    follow(&subscriber, &publisher).await;
    expect_equal(&subscriber, &publisher);
    subscriber.stop(&wire, 2).await;
    publisher.stop(&wire, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_publisher_is_what_others_are_compared_with_and_names_are_checked() {
    let wire = Wire::default();
    let (publisher, subscriber) = pair(&wire).await;
    let invalid = |result: Result<rpc::Comparison, Error>| match result {
        Err(Error::Invalid(text)) => text,
        other => panic!("{other:?}"),
    };
    let request = rpc::CompareRequest::default();
    let text = invalid(mend::compare(&publisher.engine, &request).await);
    assert!(text.contains("node1 is the publisher"), "{text}");
    // The same by way of the subscriber.
    let there = mend::elsewhere(&subscriber.engine, "node1")
        .unwrap()
        .unwrap();
    let text = invalid(there.compare(request).await);
    assert!(text.contains("node1 is the publisher"), "{text}");
    let request = rpc::CompareRequest {
        tables: vec!["nonsense".into()],
        ..Default::default()
    };
    let text = invalid(mend::compare(&subscriber.engine, &request).await);
    assert!(text.contains("end_user"), "{text}");
    assert!(mend::elsewhere(&publisher.engine, "nobody").is_err());
    assert!(
        mend::elsewhere(&publisher.engine, "node1")
            .unwrap()
            .is_none()
    );
    subscriber.stop(&wire, 2).await;
    publisher.stop(&wire, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_stopped_gets_older_until_it_is_repaired() {
    let wire = Wire::default();
    let (publisher, subscriber) = pair(&wire).await;
    order(&publisher, Kind::Stop, &[]).await;
    publisher.engine.propose(put(7)).await.unwrap().unwrap();
    publisher.engine.propose(put(8)).await.unwrap().unwrap();
    let compared = compare(&publisher).await;
    assert!(
        !compared.same_place && compared.stopped == "a test",
        "{compared:?}"
    );
    assert_eq!(different(&compared), [("process_node", [0, 2, 0])]);
    assert!(compared.applied < compared.publisher_applied);
    assert!(!subscriber.has("node7"));
    let done = order(&publisher, Kind::Repair, &[]).await;
    assert!(done.text.contains("started again"), "{done:?}");
    // Being late is no difference.
    assert_eq!(done.tables, [""; 0]);
    assert!(subscriber.has("node8"));
    expect_equal(&subscriber, &publisher);
    subscriber.stop(&wire, 2).await;
    publisher.stop(&wire, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_reset_has_another_name_in_the_log_and_everything_again() {
    let wire = Wire::default();
    let (publisher, subscriber) = pair(&wire).await;
    stray(&subscriber, put(9));
    let before = subscriber.engine.node().name();
    order(&publisher, Kind::Reset, &[]).await;
    let reason = subscriber.engine.failed().await;
    assert!(reason.contains("a test"), "{reason}");
    let own = subscriber.stop(&wire, 2).await;
    let subscriber = start(&wire, 2, own).await;
    let error = subscriber.engine.readable().unwrap_err();
    assert!(error.to_string().contains("being copied"), "{error}");
    assert_ne!(subscriber.engine.node().name(), before);
    publisher.settle().await;
    let members = publisher.engine.node().facts().members;
    let members: Vec<u64> = members.iter().map(|member| member.node).collect();
    assert_eq!(members, [1, subscriber.engine.node().name()]);
    follow(&subscriber, &publisher).await;
    publisher.engine.propose(put(3)).await.unwrap().unwrap();
    follow(&subscriber, &publisher).await;
    expect_equal(&subscriber, &publisher);
    let limit = Instant::now() + Duration::from_secs(20);
    while subscriber.engine.readable().is_err() {
        assert!(Instant::now() < limit);
        tokio::task::yield_now().await;
    }
    assert!(!subscriber.has("node9"));
    subscriber.stop(&wire, 2).await;
    publisher.stop(&wire, 1).await;
}

/// Starts a node again whose database must start again.
pub(crate) async fn again(wire: &Wire, number: u64, running: Running) -> Running {
    running.engine.failed().await;
    let folder = running.stop(wire, number).await;
    start(wire, number, folder).await
}

pub(crate) fn role(running: &Running, name: &str) -> String {
    let rows = cluster::rows(&running.engine);
    let mut rows = rows.into_iter().filter(|row| row.name == name);
    rows.next().unwrap().role
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_is_promoted_the_others_follow_and_the_old_publisher_is_refused() {
    let wire = Wire::default();
    let (publisher, two) = pair(&wire).await;
    publisher.engine.propose(put(3)).await.unwrap().unwrap();
    let three = start(&wire, 3, TempDir::new().unwrap()).await;
    publisher.settle().await;
    follow(&two, &publisher).await;
    follow(&three, &publisher).await;
    let said = promotion::promote(&publisher.engine, true, "a test")
        .await
        .unwrap();
    assert!(
        said.refusal.contains("is the publisher already"),
        "{said:?}"
    );
    let said = promotion::promote(&two.engine, true, "a test")
        .await
        .unwrap();
    assert!(said.refusal.contains("node1, answers"), "{said:?}");
    let last = publisher.engine.node().facts().last_log;
    let folder = publisher.stop(&wire, 1).await;
    // Only to show it changes nothing.
    let said = promotion::promote(&two.engine, false, "a test")
        .await
        .unwrap();
    assert_eq!(said.refusal, "");
    let lost = said.publisher.unwrap();
    assert!(
        !lost.answers && lost.heard && lost.name == "node1",
        "{lost:?}"
    );
    assert_eq!((lost.last_log, said.last_log), (last, last));
    assert!(said.others.len() == 1 && said.others[0].answers && said.others[0].name == "node3");
    assert!(two.engine.propose(put(7)).await.is_err());
    let said = promotion::promote(&two.engine, true, "a test")
        .await
        .unwrap();
    assert!(said.text.contains("starts again"), "{said:?}");
    let two = again(&wire, 2, two).await;
    cluster::settle_roles(&two.engine).await;
    assert_eq!(
        (role(&two, "node1"), role(&two, "node2")),
        ("subscriber".into(), "publisher".into())
    );
    // Nobody waits for those who have another log.
    let elsewhere = |running: &Running| {
        let facts = running.engine.node().facts();
        cluster::elsewhere(&running.engine, running.engine.cluster().unwrap(), &facts)
    };
    assert_eq!(elsewhere(&two), [1, 3]);
    // The other subscriber hears of it when it is asked how it is.
    two.look().await;
    let three = again(&wire, 3, three).await;
    two.settle().await;
    follow(&three, &two).await;
    assert_eq!(elsewhere(&two), [1]);
    assert_eq!(role(&three, "node2"), "publisher");
    three.engine.propose(put(7)).await.unwrap().unwrap();
    assert!(two.has("node7") && three.has("node7"));
    // The old publisher comes back, and learns that it is not one.
    let old = start(&wire, 1, folder).await;
    old.look().await;
    let Err(Error::Unavailable(text)) = old.engine.propose(put(8)).await else {
        panic!("it took a change");
    };
    assert!(text.contains("utils dbreplication reset"), "{text}");
    two.settle().await;
    let members = two.engine.node().facts().members;
    assert_eq!(members.len(), 2, "{members:?}");
    assert!(!two.has("node8") && old.has("node3") && !old.has("node7"));
    // The new publisher resets it, by way of its own database.
    let there = mend::elsewhere(&two.engine, "node1").unwrap().unwrap();
    let request = rpc::MendRequest {
        kind: Kind::Reset.into(),
        reason: "a test".into(),
        ..Default::default()
    };
    there.mend(request).await.unwrap();
    let old = again(&wire, 1, old).await;
    two.settle().await;
    two.engine.propose(put(9)).await.unwrap().unwrap();
    follow(&old, &two).await;
    expect_equal(&old, &two);
    assert!(old.engine.propose(put(10)).await.unwrap().is_ok() && two.has("node10"));
    for (number, running) in [(1, old), (2, two), (3, three)] {
        running.stop(&wire, number).await;
    }
}
