//! The agent with a real database.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use database::tables::{EndUser, EnterpriseParameter, ProcessNode, RedundancyGroup, ScramKeys};
use database::testing::TestDatabase;
use database::{Database, Transaction, WatchEvent};
use service::Context;
use sync_agent::Progress;

fn write_node(database: &TestDatabase, role: &str) {
    std::fs::create_dir_all(database.paths().etc()).unwrap();
    let text = format!(
        "name = \"n1\"\ndomain = \"ex\"\naddress = \"192.0.2.1\"\nrole = \"{role}\"\n\
         product = \"imp\"\nsize = \"5K\"\ncluster = \"c\"\n"
    );
    std::fs::write(database.paths().node_file(), text).unwrap();
}

fn node(number: i64) -> ProcessNode {
    ProcessNode {
        name: format!("n{number}"),
        domain: "ex".into(),
        address: format!("192.0.2.{number}"),
        role: if number == 1 {
            "publisher"
        } else {
            "subscriber"
        }
        .into(),
        product: "imp".into(),
        replica: number,
    }
}

fn user(number: usize) -> EndUser {
    let keys = || ScramKeys {
        salt: "c2FsdA==".into(),
        iterations: 4096,
        stored_key: "a2V5".into(),
        server_key: "a2V5".into(),
    };
    EndUser {
        user: format!("u{number:05}"),
        name: String::new(),
        mail: String::new(),
        enabled: true,
        node: String::new(),
        scram_sha1: Some(keys()),
        scram_sha256: None,
    }
}

/// Adds users as an import does, then waits until `done` holds of the homes.
async fn homes(
    client: &Database,
    done: impl Fn(&BTreeMap<String, usize>) -> bool,
) -> BTreeMap<String, usize> {
    let mut users = client.watch::<EndUser>(&[]);
    let mut homes = BTreeMap::new();
    loop {
        match users.next().await {
            WatchEvent::Snapshot(rows) => {
                homes = rows.into_iter().map(|row| (row.user, row.node)).collect();
            }
            WatchEvent::Put(row) => {
                homes.insert(row.user, row.node);
            }
            WatchEvent::Delete(key) => {
                homes.remove(&key.0[0]);
            }
        }
        let mut counts = BTreeMap::new();
        for home in homes.values() {
            *counts.entry(home.clone()).or_default() += 1;
        }
        if done(&counts) {
            return counts;
        }
    }
}

#[tokio::test]
async fn an_import_is_assigned_as_it_appears_and_keys_stay_as_they_are() {
    let database = TestDatabase::start().await.unwrap();
    let client = database.client();
    write_node(&database, "publisher");
    let rows = Transaction::new()
        .put(&node(1))
        .and_then(|rows| rows.put(&node(2)))
        .and_then(|rows| {
            rows.put(&RedundancyGroup {
                name: "g".into(),
                description: String::new(),
                first: "n1".into(),
                second: Some("n2".into()),
                high_availability: false,
            })
        })
        .unwrap();
    client.transact(rows).await.unwrap();
    let context = Context::new("sync-agent", database.paths().clone());
    let task = tokio::spawn(service_of(context.clone()));
    for batch in (0..2000).collect::<Vec<_>>().chunks(500) {
        let rows = batch.iter().try_fold(Transaction::new(), |rows, number| {
            rows.insert(&user(*number))
        });
        client.transact(rows.unwrap()).await.unwrap();
    }
    let all = |counts: &BTreeMap<String, usize>| {
        !counts.contains_key("") && counts.values().sum::<usize>() == 2000
    };
    let counts = homes(&client, all).await;
    assert_eq!(
        counts,
        BTreeMap::from([("n1".into(), 1000), ("n2".into(), 1000)])
    );
    let found = client.get::<EndUser>(&["u00042"]).await.unwrap().unwrap();
    assert_eq!(found.scram_sha1, user(42).scram_sha1);

    let mode = EnterpriseParameter {
        name: redundancy::MODE.into(),
        value: "active-standby".into(),
    };
    let rows = Transaction::new().put(&mode).unwrap();
    client.transact(rows).await.unwrap();
    // Until the agent has heard of it, users may go to either.
    for number in 3000.. {
        let rows = Transaction::new().insert(&user(number)).unwrap();
        client.transact(rows).await.unwrap();
        let all = |counts: &BTreeMap<String, usize>| !counts.contains_key("");
        let counts = homes(&client, all).await;
        if counts["n1"] > counts["n2"] + 1 {
            break;
        }
    }
    context.stop();
    task.await.unwrap().unwrap();
}

async fn service_of(context: Context) -> anyhow::Result<()> {
    sync_agent::serve(context).await
}

#[tokio::test]
async fn the_gate_is_told_whether_the_agent_has_finished() {
    let database = TestDatabase::start().await.unwrap();
    write_node(&database, "subscriber");
    let paths = database.paths().clone();
    let Progress::Running(why) = sync_agent::progress(&paths).await else {
        panic!("nobody runs");
    };
    assert_eq!(why, "sync-agent does not run");
}
