//! What callers of each socket may, and what they are not told.

use database::tables::{ApplicationUser, BlockItem, EndUser, ScramKeys, ServiceParameter};
use database::testing::TestDatabase;
use database::{Access, Database, Error, Order, Report, Transaction, WatchEvent};

fn user() -> EndUser {
    let keys = || ScramKeys {
        salt: "c2FsdA==".into(),
        iterations: 4096,
        stored_key: "a2V5".into(),
        server_key: "a2V5".into(),
    };
    EndUser {
        user: "alice".into(),
        name: "Alice".into(),
        mail: String::new(),
        enabled: true,
        node: String::new(),
        scram_sha1: Some(keys()),
        scram_sha256: Some(keys()),
    }
}

fn account() -> ApplicationUser {
    ApplicationUser {
        user: "admin".into(),
        password: "$argon2id$…".into(),
        enabled: true,
        roles: Vec::new(),
    }
}

fn parameter() -> ServiceParameter {
    ServiceParameter {
        service: "s".into(),
        name: "n".into(),
        value: "v".into(),
    }
}

async fn prepared() -> Result<TestDatabase, Error> {
    let database = TestDatabase::start().await?;
    let rows = Transaction::new()
        .put(&user())?
        .put(&account())?
        .put(&parameter())?;
    database.client().transact(rows).await?;
    Ok(database)
}

fn refused<T: std::fmt::Debug>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Forbidden(_)))
}

#[tokio::test]
async fn everybody_reads_settings_and_status_and_few_read_users() -> anyhow::Result<()> {
    let node = prepared().await?;
    for access in Access::ALL {
        let database = Database::open(node.paths(), access);
        assert_eq!(database.list::<ServiceParameter>(&[]).await?.len(), 1);
        assert_eq!(database.status().await?.state, 2);
        let found = database.get::<EndUser>(&["alice"]).await;
        match access {
            Access::Keys | Access::Administration => assert_eq!(found?, Some(user())),
            Access::Conversation | Access::Assignment => {
                let hidden = EndUser {
                    scram_sha1: None,
                    scram_sha256: None,
                    ..user()
                };
                assert_eq!(found?, Some(hidden.clone()));
                assert_eq!(
                    database.list::<EndUser>(&[]).await?,
                    std::slice::from_ref(&hidden)
                );
                let mut watch = database.watch::<EndUser>(&[]);
                assert_eq!(watch.next().await, WatchEvent::Snapshot(vec![hidden]));
            }
            _ => assert!(refused(&found), "{access:?}: {found:?}"),
        }
        let found = database.get::<ApplicationUser>(&["admin"]).await;
        match access {
            Access::Pages | Access::Administration => assert_eq!(found?, Some(account())),
            _ => assert!(refused(&found), "{access:?}: {found:?}"),
        }
    }
    node.stop().await?;
    Ok(())
}

#[tokio::test]
async fn only_those_write_whose_rows_they_are() -> anyhow::Result<()> {
    let node = prepared().await?;
    let item = BlockItem {
        owner: "alice".into(),
        jid: "bob@example.org".into(),
    };
    for access in Access::ALL {
        let database = Database::open(node.paths(), access);
        let users = database.transact(Transaction::new().put(&user())?).await;
        let settings = database
            .transact(Transaction::new().put(&parameter())?)
            .await;
        let rosters = database.transact(Transaction::new().put(&item)?).await;
        let all = access == Access::Administration;
        assert_eq!(users.is_ok(), all, "{access:?}: {users:?}");
        assert_eq!(settings.is_ok(), all, "{access:?}: {settings:?}");
        let may = all || access == Access::Conversation;
        assert_eq!(rosters.is_ok(), may, "{access:?}: {rosters:?}");
        // Whether a user is there may be demanded by those who may ask it.
        let there = Transaction::new().require::<EndUser>(&["alice"]);
        let there = database.transact(there).await;
        let assigns = access == Access::Assignment;
        let asks = may || assigns || access == Access::Keys;
        assert_eq!(there.is_ok(), asks, "{access:?}: {there:?}");
        let removed = Transaction::new().delete_all::<BlockItem>(&["alice"]);
        let removed = database.transact(removed).await;
        assert_eq!(removed.is_ok(), may, "{access:?}: {removed:?}");
        let moved = Transaction::new().set_column::<EndUser>(&["alice"], "node", "", "");
        let moved = database.transact(moved).await;
        assert_eq!(moved.is_ok(), all || assigns, "{access:?}: {moved:?}");
        let named = Transaction::new().set_column::<EndUser>(&["alice"], "name", "Alice", "Alice");
        let named = database.transact(named).await;
        assert_eq!(named.is_ok(), all, "{access:?}: {named:?}");
        // One step that is refused refuses all.
        let mixed = Transaction::new().delete::<BlockItem>(&["alice", "bob@example.org"]);
        let mixed = database.transact(mixed.put(&user())?).await;
        assert_eq!(mixed.is_ok(), all, "{access:?}: {mixed:?}");
    }
    node.stop().await?;
    Ok(())
}

#[tokio::test]
async fn upkeep_and_export_are_for_few() -> anyhow::Result<()> {
    let node = prepared().await?;
    for access in Access::ALL {
        let database = Database::open(node.paths(), access);
        let all = access == Access::Administration;
        let upkeep = all || access == Access::Maintenance;
        assert_eq!(database.check().await.is_ok(), upkeep, "{access:?}");
        assert_eq!(database.statistics().await.is_ok(), upkeep, "{access:?}");
        let order = database.order(Order::Snapshot, "test").await;
        assert_eq!(refused(&order), !upkeep, "{access:?}: {order:?}");
        let report = database.report(Report::default()).await;
        assert_eq!(report.is_ok(), upkeep, "{access:?}");
        let digests = database.digests().await;
        let compare = upkeep || access == Access::Pages;
        assert_eq!(digests.is_ok(), compare, "{access:?}: {digests:?}");
        let file = database.export(&[]).await;
        assert_eq!(file.is_ok(), all, "{access:?}");
        if let Ok(file) = file {
            database.import(&file).await?;
        } else {
            assert!(refused(&database.import(b"{}").await), "{access:?}");
        }
    }
    node.stop().await?;
    Ok(())
}
