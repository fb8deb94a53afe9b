//! What clients of the database can rely on.

use std::time::Instant;

use database::tables::{EndUser, OfflineMessage, RosterItem, ServiceParameter, Subscription};
use database::testing::TestDatabase;
use database::{Error, Key, Transaction, WatchEvent};

fn user(name: &str) -> EndUser {
    EndUser {
        user: name.into(),
        name: name.to_uppercase(),
        mail: String::new(),
        enabled: true,
        node: String::new(),
        scram_sha1: None,
        scram_sha256: None,
    }
}

fn contact(owner: &str, contact: &str) -> RosterItem {
    RosterItem {
        owner: owner.into(),
        contact: contact.into(),
        name: String::new(),
        subscription: Subscription::Both,
        ask: false,
        approved: false,
        listed: true,
        pending_in: None,
        groups: vec!["Friends".into()],
    }
}

#[tokio::test]
async fn rows_are_written_read_listed_and_removed() -> Result<(), Error> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    assert_eq!(db.get::<EndUser>(&["alice"]).await?, None);
    let rows = Transaction::new()
        .insert(&user("alice"))?
        .put(&contact("alice", "bob@d"))?
        .put(&contact("alice", "ann@d"))?
        .put(&contact("alicex", "bob@d"))?;
    let first = db.transact(rows).await?;
    assert_eq!(db.get::<EndUser>(&["alice"]).await?, Some(user("alice")));
    let contacts = db.list::<RosterItem>(&["alice"]).await?;
    assert_eq!(
        contacts,
        [contact("alice", "ann@d"), contact("alice", "bob@d")]
    );

    let again = db
        .transact(Transaction::new().insert(&user("alice"))?)
        .await;
    assert!(
        matches!(&again, Err(Error::Exists(text)) if text.contains("end_user")),
        "{again:?}"
    );

    let found = db
        .get_versioned::<EndUser>(&["alice"])
        .await?
        .ok_or(Error::Invalid("none".into()))?;
    assert_eq!(found.revision, first);
    let delete = Transaction::new()
        .require_revision::<EndUser>(&["alice"], first)
        .delete::<EndUser>(&["alice"]);
    assert_eq!(db.transact(delete.clone()).await?, first + 1);
    let late = db.transact(delete).await;
    assert!(matches!(&late, Err(Error::Changed(_))), "{late:?}");
    assert_eq!(db.get::<EndUser>(&["alice"]).await?, None);
    Ok(())
}

#[tokio::test]
async fn numbers_in_keys_are_in_order_of_number() -> Result<(), Error> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    let mut rows = Transaction::new();
    for sequence in [10, 9, 100] {
        let (stanza, stamp) = ("<message/>".into(), "2026-01-01T00:00:00Z".into());
        rows = rows.insert(&OfflineMessage {
            owner: "a".into(),
            sequence,
            stanza,
            stamp,
        })?;
    }
    db.transact(rows).await?;
    let order = db.list::<OfflineMessage>(&["a"]).await?;
    assert_eq!(
        order.iter().map(|row| row.sequence).collect::<Vec<_>>(),
        [9, 10, 100]
    );
    assert!(db.get::<OfflineMessage>(&["a", "10"]).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_watch_goes_on_over_a_restart_of_the_database() -> Result<(), Error> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    db.transact(Transaction::new().put(&user("a"))?).await?;
    let mut watch = db.watch::<EndUser>(&[]);
    assert_eq!(watch.next().await, WatchEvent::Snapshot(vec![user("a")]));
    db.transact(Transaction::new().put(&user("b"))?).await?;
    assert_eq!(watch.next().await, WatchEvent::Put(user("b")));
    // Changes that the watcher has not taken yet, and changes made while it is away.
    db.transact(Transaction::new().put(&user("c"))?).await?;
    let test = test.restart().await?;
    let db = test.client();
    db.transact(Transaction::new().delete::<EndUser>(&["a"]))
        .await?;
    assert_eq!(watch.next().await, WatchEvent::Put(user("c")));
    assert_eq!(
        watch.next().await,
        WatchEvent::Delete(Key(vec!["a".into()]))
    );
    Ok(())
}

#[tokio::test]
async fn a_watch_of_changes_is_told_no_rows() -> Result<(), Error> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    db.transact(Transaction::new().put(&user("a"))?).await?;
    let mut watch = db.watch_changes::<EndUser>(&[]);
    assert_eq!(watch.next().await, WatchEvent::Snapshot(vec![]));
    db.transact(Transaction::new().put(&user("b"))?).await?;
    assert_eq!(watch.next().await, WatchEvent::Put(user("b")));
    // It goes on where it was, as every watch does.
    let test = test.restart().await?;
    let delete = Transaction::new().delete::<EndUser>(&["a"]);
    test.client().transact(delete).await?;
    assert_eq!(
        watch.next().await,
        WatchEvent::Delete(Key(vec!["a".into()]))
    );
    Ok(())
}

#[tokio::test]
async fn parameters_are_typed_and_hot() -> Result<(), Error> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    let mut parameters = db.parameters("xmpp-router");
    parameters.changed().await;
    assert_eq!(parameters.get("Limit", 7_u32), 7);
    let set = |value: &str| ServiceParameter {
        service: "xmpp-router".into(),
        name: "Limit".into(),
        value: value.into(),
    };
    db.transact(Transaction::new().put(&set("9"))?).await?;
    parameters.changed().await;
    assert_eq!(parameters.get("Limit", 7_u32), 9);
    db.transact(Transaction::new().put(&set("many"))?).await?;
    parameters.changed().await;
    assert_eq!(
        parameters.get("Limit", 7_u32),
        7,
        "a value of the wrong type is not used"
    );
    Ok(())
}

#[tokio::test]
async fn an_export_is_imported_whole_or_not_at_all() -> Result<(), Error> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    db.transact(
        Transaction::new()
            .put(&user("a"))?
            .put(&contact("a", "b@d"))?,
    )
    .await?;
    let file = db.export(&[]).await?;
    let digests = db.digests().await?.tables;
    db.transact(
        Transaction::new()
            .delete::<EndUser>(&["a"])
            .put(&user("z"))?,
    )
    .await?;

    let mut flipped = file.clone();
    flipped[60] ^= 1;
    let refused = db.import(&flipped).await;
    assert!(matches!(&refused, Err(Error::Invalid(_))), "{refused:?}");
    assert!(db.get::<EndUser>(&["z"]).await?.is_some());

    let done = db.import(&file).await?;
    assert_eq!(done.rows, 2);
    assert_eq!(db.list::<EndUser>(&[]).await?, [user("a")]);
    let again = db.digests().await?.tables;
    let relevant = |tables: &[database::TableStatistics]| {
        tables
            .iter()
            .filter(|t| t.rows > 0)
            .map(|t| t.digest.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(relevant(&again), relevant(&digests));
    assert_eq!(db.check().await?.problems, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_local_and_writes_share_the_disk() -> Result<(), Error> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    db.transact(
        Transaction::new()
            .put(&user("a"))?
            .put(&contact("a", "b@d"))?,
    )
    .await?;
    let measure = |name: &'static str, count: u32, since: Instant| {
        let each = since.elapsed() / count;
        println!("{name}: {each:?} each");
        each
    };
    let since = Instant::now();
    for _ in 0..2000 {
        db.get::<EndUser>(&["a"]).await?;
    }
    let get = measure("get", 2000, since);
    let since = Instant::now();
    for _ in 0..1000 {
        db.list::<RosterItem>(&["a"]).await?;
    }
    measure("list of one", 1000, since);
    let since = Instant::now();
    for number in 0..100 {
        db.transact(Transaction::new().put(&user(&format!("u{number}")))?)
            .await?;
    }
    measure("transaction alone", 100, since);
    let since = Instant::now();
    let tasks: Vec<_> = (0..2000)
        .map(|number| {
            let db = db.clone();
            tokio::spawn(async move {
                db.transact(Transaction::new().put(&user(&format!("v{number}")))?)
                    .await
            })
        })
        .collect();
    for task in tasks {
        task.await
            .map_err(|error| Error::Invalid(error.to_string()))??;
    }
    measure("transaction of 2000 at once", 2000, since);
    let figures = db.statistics().await?;
    assert!(
        figures.transactions >= 2101 && figures.commits < 1500,
        "{figures:?}"
    );
    // Far from the aim of 150 µs, so that a busy machine does not fail it.
    assert!(get < std::time::Duration::from_millis(10), "{get:?}");
    Ok(())
}

#[tokio::test]
async fn what_belongs_to_a_user_is_written_only_while_the_user_is_there() -> anyhow::Result<()> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    let write = async || {
        let rows = Transaction::new().require::<EndUser>(&["alice"]);
        db.transact(rows.put(&contact("alice", "bob@d"))?).await
    };
    let refused = write().await;
    assert!(
        matches!(&refused, Err(Error::Changed(text)) if text.contains("no row alice in end_user")),
        "{refused:?}"
    );
    db.transact(Transaction::new().put(&user("alice"))?).await?;
    write().await?;
    let rows = Transaction::new().put(&contact("alicex", "bob@d"))?;
    db.transact(rows).await?;
    // All that is there when it is carried out, not when it was asked for.
    let gone = Transaction::new()
        .put(&contact("alice", "ann@d"))?
        .delete::<EndUser>(&["alice"])
        .delete_all::<RosterItem>(&["alice"]);
    db.transact(gone).await?;
    assert!(write().await.is_err());
    assert_eq!(
        db.list::<RosterItem>(&[]).await?,
        [contact("alicex", "bob@d")]
    );
    test.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_column_is_changed_by_itself_from_what_it_was() -> anyhow::Result<()> {
    let test = TestDatabase::start().await?;
    let db = test.client();
    db.transact(Transaction::new().put(&user("alice"))?).await?;
    let set = |name: &str, column: &str, from: &str, to: &str| {
        let change = Transaction::new().set_column::<EndUser>(&[name], column, from, to);
        let db = db.clone();
        async move { db.transact(change).await }
    };
    set("alice", "node", "", "alpha").await?;
    let moved = EndUser {
        node: "alpha".into(),
        ..user("alice")
    };
    assert_eq!(db.get::<EndUser>(&["alice"]).await?, Some(moved));
    for (name, from, words) in [("alice", "", "is \"alpha\""), ("bob", "", "no row bob")] {
        let refused = set(name, "node", from, "beta").await;
        assert!(
            matches!(&refused, Err(Error::Changed(text)) if text.contains(words)),
            "{refused:?}"
        );
    }
    let long = "x".repeat(64);
    for (column, to) in [
        ("enabled", "x"),
        ("user", "x"),
        ("bogus", "x"),
        ("node", &long),
    ] {
        let refused = set("alice", column, "alpha", to).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    test.stop().await?;
    Ok(())
}
