//! The service around the database: first rows, recovery, orders, state.

use std::path::Path;
use std::time::Duration;

use database::tables::{EndUser, ProcessNode, RedundancyGroup, ServiceParameter};
use database::testing::TestDatabase;
use database::{Access, Database, Error, Order, Transaction, WatchEvent};
use service::{Context, Paths};
use tempfile::TempDir;

fn state(folder: &Path) -> std::path::PathBuf {
    Paths::below(folder).state("database")
}

fn parameter(name: &str) -> ServiceParameter {
    ServiceParameter {
        service: "s".into(),
        name: name.into(),
        value: "v".into(),
    }
}

/// Runs the service on a prepared folder until it answers or ends.
async fn serve(
    folder: &TempDir,
) -> anyhow::Result<(
    Context,
    Database,
    tokio::task::JoinHandle<anyhow::Result<()>>,
)> {
    let context = Context::new("database", Paths::below(folder.path()));
    let mut task = tokio::spawn(database::serve(context.clone()));
    let database = Database::open(context.paths(), Access::Administration);
    loop {
        tokio::select! {
            ended = &mut task => {
                ended??;
                anyhow::bail!("the service ended");
            }
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        if database.status().await.is_ok() {
            return Ok((context, database, task));
        }
    }
}

#[tokio::test]
async fn the_set_up_s_rows_are_imported_once() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    std::fs::create_dir_all(state(folder.path()))?;
    let seed = state(folder.path()).join("seed.json");
    let row = r#"{"service":"s","name":"n","value":"v"}"#;
    std::fs::write(
        &seed,
        format!(r#"{{"tables":{{"service_parameter":[{row}]}}}}"#),
    )?;
    let (context, db, task) = serve(&folder).await?;
    assert_eq!(db.list::<ServiceParameter>(&[]).await?, [parameter("n")]);
    assert!(!seed.exists());
    db.transact(Transaction::new().delete::<ServiceParameter>(&["s", "n"]))
        .await?;
    context.stop();
    task.await??;
    // As if the power went between the import and the removal of the file.
    std::fs::write(
        &seed,
        format!(r#"{{"tables":{{"service_parameter":[{row}]}}}}"#),
    )?;
    let (context, db, task) = serve(&folder).await?;
    assert_eq!(db.list::<ServiceParameter>(&[]).await?, []);
    assert!(!seed.exists());
    context.stop();
    task.await??;
    Ok(())
}

#[tokio::test]
async fn a_bad_seed_is_refused_by_field_and_nothing_is_imported() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    std::fs::create_dir_all(state(folder.path()))?;
    let seed = state(folder.path()).join("seed.json");
    std::fs::write(
        &seed,
        r#"{"tables":{"service_parameter":[{"service":"s","name":"n","valeu":"v"}]}}"#,
    )?;
    let refused = serve(&folder)
        .await
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    assert!(refused.contains("service_parameter.valeu"), "{refused}");
    assert!(seed.exists());
    Ok(())
}

#[tokio::test]
async fn a_recovery_is_told_by_alarm_report_and_status() -> anyhow::Result<()> {
    let test = TestDatabase::start().await?;
    test.client()
        .transact(Transaction::new().put(&parameter("n"))?)
        .await?;
    let folder = test.stop().await?;
    let files = state(folder.path());
    // Nothing in it is readable any more, which sled takes for a new file.
    let engine = files.join("replica-000001").join("db");
    let length = std::fs::metadata(&engine)?.len();
    std::fs::write(&engine, vec![0; usize::try_from(length)?])?;
    let (context, db, task) = serve(&folder).await?;
    assert_eq!(db.list::<ServiceParameter>(&[]).await?, [parameter("n")]);
    let alarm = context
        .alarms()
        .raised()
        .into_iter()
        .find(|alarm| alarm.id == "DatabaseRecovered");
    assert!(alarm.is_some_and(|alarm| alarm.text.contains("replica-000001")));
    assert!(db.status().await?.recovery.contains("replica-000001"));
    let reports: Vec<_> = std::fs::read_dir(&files)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("recovery-"))
        .collect();
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(files.join(&reports[0]))?)?;
    assert_eq!(
        (reports.len(), &report["findings"][0]["file"]),
        (1, &"replica-000001".into())
    );
    context.stop();
    task.await??;
    Ok(())
}

#[tokio::test]
async fn an_ordered_rebuild_restarts_the_service_and_watchers_go_on() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (_context, db, task) = serve(&folder).await?;
    db.transact(Transaction::new().put(&parameter("a"))?)
        .await?;
    let mut watch = db.watch::<ServiceParameter>(&[]);
    assert_eq!(
        watch.next().await,
        WatchEvent::Snapshot(vec![parameter("a")])
    );
    let text = db.order(Order::Snapshot, "test").await?;
    assert!(text.contains("snapshot"), "{text}");
    db.order(Order::Compact, "test").await?;
    db.order(Order::Rebuild, "a drill").await?;
    let ended = task
        .await?
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    assert!(ended.contains("a drill"), "{ended}");
    let (context, db, task) = serve(&folder).await?;
    assert!(db.status().await?.recovery.contains("a drill"));
    db.transact(Transaction::new().put(&parameter("b"))?)
        .await?;
    assert_eq!(watch.next().await, WatchEvent::Put(parameter("b")));
    context.stop();
    task.await??;
    Ok(())
}

#[tokio::test]
async fn the_replicator_s_judgement_is_the_status() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (context, db, task) = serve(&folder).await?;
    assert_eq!(db.status().await?.state, 0, "nobody has judged yet");
    let replicator = Context::new("database-replicator", context.paths().clone());
    let judging = tokio::spawn(database::replicator::serve(replicator.clone()));
    while db.status().await?.state != 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = db.status().await?;
    assert_eq!(
        (
            status.role.as_str(),
            status.lag_entries,
            status.members.len()
        ),
        ("leader", 0, 1)
    );
    let counters = replicator.perf().samples();
    let state = counters
        .iter()
        .find(|sample| sample.name == "Replicate_State")
        .map(|sample| sample.value);
    assert_eq!(state, Some(2));
    replicator.stop();
    judging.await??;
    context.stop();
    task.await??;
    Ok(())
}

#[tokio::test]
async fn a_key_of_the_wrong_shape_is_refused_by_name() -> Result<(), Error> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    let short = db.get::<ServiceParameter>(&["s"]).await;
    assert!(
        matches!(&short, Err(Error::Invalid(text)) if text.contains("service, name")),
        "{short:?}"
    );
    let long = db.list::<EndUser>(&["a", "b"]).await;
    assert!(
        matches!(&long, Err(Error::Invalid(text)) if text.contains("end_user")),
        "{long:?}"
    );
    Ok(())
}

fn name_node(folder: &TempDir, name: &str) -> anyhow::Result<()> {
    let etc = folder.path().join("etc");
    std::fs::create_dir_all(&etc)?;
    let text = format!(
        "name = {name:?}\ndomain = \"ex\"\naddress = \"192.0.2.1\"\nrole = \"publisher\"\n\
         product = \"imp\"\nsize = \"5K\"\ncluster = \"c\"\n"
    );
    Ok(std::fs::write(etc.join("node.toml"), text)?)
}

#[tokio::test]
async fn the_first_node_has_a_group_and_takes_its_users_along_when_it_is_renamed()
-> anyhow::Result<()> {
    let folder = TempDir::new()?;
    name_node(&folder, "alpha")?;
    let (context, db, task) = serve(&folder).await?;
    let group = |first: &str, second: Option<&str>| RedundancyGroup {
        name: "DefaultCluster".into(),
        description: String::new(),
        first: first.into(),
        second: second.map(Into::into),
        high_availability: false,
    };
    // The service answers a moment before its own rows are there.
    let mut groups = db.watch::<RedundancyGroup>(&[]);
    let found = loop {
        match groups.next().await {
            WatchEvent::Snapshot(rows) if rows.is_empty() => {}
            WatchEvent::Snapshot(rows) => break rows,
            WatchEvent::Put(row) => break vec![row],
            WatchEvent::Delete(_) => unreachable!("nobody removes it"),
        }
    };
    assert_eq!(found, [group("alpha", None)]);
    let user = |name: &str, node: &str| EndUser {
        user: name.into(),
        name: String::new(),
        mail: String::new(),
        enabled: true,
        node: node.into(),
        scram_sha1: None,
        scram_sha256: None,
    };
    let rows = Transaction::new()
        .put(&group("beta", Some("alpha")))?
        .put(&user("a", "alpha"))?
        .put(&user("b", "beta"))?
        .put(&user("c", ""))?;
    db.transact(rows).await?;
    context.stop();
    task.await??;

    name_node(&folder, "gamma")?;
    let (context, db, task) = serve(&folder).await?;
    let mut nodes = db.watch::<ProcessNode>(&[]);
    loop {
        match nodes.next().await {
            WatchEvent::Snapshot(rows) if rows[0].name == "gamma" => break,
            WatchEvent::Put(row) if row.name == "gamma" => break,
            _ => {}
        }
    }
    assert_eq!(
        db.list::<RedundancyGroup>(&[]).await?,
        [group("beta", Some("gamma"))]
    );
    assert_eq!(
        db.list::<EndUser>(&[]).await?,
        [user("a", "gamma"), user("b", "beta"), user("c", "")]
    );
    context.stop();
    task.await??;
    Ok(())
}
