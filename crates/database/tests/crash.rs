//! The service under load, killed without warning again and again: no
//! acknowledged write is lost, nothing needs recovery, and a watcher that
//! lives through all of it misses nothing and hears nothing twice.
//!
//! `SIGNALBOX_CRASH_ROUNDS=200` runs more rounds than the ordinary 12.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use database::tables::ServiceParameter;
use database::{Access, Database, Transaction, WatchEvent};
use service::Paths;

const WRITERS: u64 = 8;
const CHILD: &str = "SIGNALBOX_CRASH_CHILD";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(service::run("database", database::serve));
    }
    // What a test runner asks of a test without the standard harness.
    if has("--list") {
        if !has("--ignored") {
            println!("acknowledged_writes_survive_kill: test");
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(rounds());
    ExitCode::SUCCESS
}

/// The service as a process of its own, which does not outlive the test.
struct Service(Child);

impl Service {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(root: &Path) -> Service {
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, "1")
        .env("SIGNALBOX_RUN", root.join("run"))
        .env("SIGNALBOX_STATE", root.join("state"))
        .env("SIGNALBOX_ETC", root.join("etc"))
        .env("SIGNALBOX_LOG", "error")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Service(child)
}

fn row(writer: u64, value: u64) -> ServiceParameter {
    ServiceParameter {
        service: "crash".into(),
        name: writer.to_string(),
        value: value.to_string(),
    }
}

fn parse(row: &ServiceParameter) -> (u64, u64) {
    (row.name.parse().unwrap(), row.value.parse().unwrap())
}

/// What one writer asked for and was told.
#[derive(Clone, Debug, Default)]
struct Told {
    acknowledged: u64,
    asked: u64,
    /// Values whose fate the writer does not know.
    uncertain: BTreeSet<u64>,
}

async fn write(database: Database, writer: u64, mut told: Told) -> Told {
    loop {
        told.asked += 1;
        let change = Transaction::new().put(&row(writer, told.asked)).unwrap();
        if database.transact(change).await.is_err() {
            told.uncertain.insert(told.asked);
            return told;
        }
        told.acknowledged = told.asked;
    }
}

async fn ready(database: &Database, child: &mut Service) -> Duration {
    let since = Instant::now();
    loop {
        match database.status().await {
            Ok(status) => {
                assert_eq!(status.recovery, "", "a kill damages nothing");
                return since.elapsed();
            }
            Err(error) => {
                assert_eq!(
                    child.0.try_wait().unwrap(),
                    None,
                    "the service ended: {error}"
                );
                assert!(since.elapsed() < Duration::from_secs(30), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

async fn rounds() {
    let asked = std::env::var("SIGNALBOX_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds: u64 = asked.unwrap_or(12);
    let root = tempfile::tempdir().unwrap();
    let database = Database::open(&Paths::below(root.path()), Access::Administration);
    let mut told = vec![Told::default(); WRITERS as usize];
    let mut watch = database.watch::<ServiceParameter>(&["crash"]);
    let mut slowest = Duration::ZERO;
    let mut child = start(root.path());
    ready(&database, &mut child).await;
    let first = watch.next().await;
    assert_eq!(first, WatchEvent::Snapshot(Vec::new()));
    let heard = tokio::spawn(async move {
        let mut heard: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        loop {
            match watch.next().await {
                WatchEvent::Snapshot(_) => panic!("the history was there all the time"),
                WatchEvent::Put(row) => {
                    let (writer, value) = parse(&row);
                    if writer == WRITERS {
                        return heard;
                    }
                    heard.entry(writer).or_default().push(value);
                }
                WatchEvent::Delete(key) => panic!("{key:?} was deleted"),
            }
        }
    });
    for round in 0..rounds {
        let tasks: Vec<_> = (0..)
            .zip(std::mem::take(&mut told))
            .map(|(writer, told)| tokio::spawn(write(database.clone(), writer, told)))
            .collect();
        // A different moment of the load each time.
        tokio::time::sleep(Duration::from_millis(15 + round * 37 % 120)).await;
        child.kill();
        for task in tasks {
            told.push(task.await.unwrap());
        }
        child = start(root.path());
        slowest = slowest.max(ready(&database, &mut child).await);
        for row in database.list::<ServiceParameter>(&["crash"]).await.unwrap() {
            let (writer, value) = parse(&row);
            let told = &told[writer as usize];
            assert!(
                (told.acknowledged..=told.asked).contains(&value),
                "round {round}: {value}, {told:?}"
            );
        }
        assert_eq!(
            database.check().await.unwrap().problems,
            Vec::<String>::new()
        );
    }
    let end = Transaction::new().put(&row(WRITERS, 0)).unwrap();
    database.transact(end).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(30), heard)
        .await
        .unwrap()
        .unwrap();
    for (writer, told) in (0..).zip(&told) {
        let mut next = 1;
        for value in &heard[&writer] {
            while next < *value {
                assert!(
                    told.uncertain.contains(&next),
                    "the watcher missed {next} of {writer}"
                );
                next += 1;
            }
            assert_eq!(next, *value, "the watcher heard {value} of {writer} again");
            next += 1;
        }
        assert!(
            next > told.acknowledged,
            "the watcher missed the end of {writer}: {told:?}"
        );
    }
    child.kill();
    let writes: u64 = told.iter().map(|told| told.asked).sum();
    println!("{rounds} kills, {writes} writes, slowest start {slowest:?}");
}
