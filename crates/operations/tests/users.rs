//! Users against a real database.

use database::Transaction;
use database::tables::{BlockItem, OfflineMessage, RosterItem, Subscription, VCard};
use database::testing::TestDatabase;
use operations::users::NewUser;
use operations::{Access, Caller, Level, Operations};

#[tokio::test]
async fn a_deleted_user_leaves_nothing_behind() {
    let database = TestDatabase::start().await.unwrap();
    let client = database.client();
    let operations = Operations::live(database.paths().clone(), Access::Administration);
    let admin = Caller {
        user: "admin".into(),
        level: Level::Administer,
        face: "test",
        origin: String::new(),
    };
    let new = NewUser {
        user: "alice".into(),
        password: "wonderland".into(),
        name: String::new(),
        mail: String::new(),
    };
    operations.add_user(&admin, new).await.unwrap();
    let owner = || "alice".to_owned();
    let rows = Transaction::new()
        .put(&RosterItem {
            owner: owner(),
            contact: "bob@example.org".into(),
            name: String::new(),
            subscription: Subscription::Both,
            ask: false,
            approved: false,
            pending_in: None,
            listed: true,
            groups: Vec::new(),
        })
        .and_then(|rows| {
            rows.put(&BlockItem {
                owner: owner(),
                jid: "eve@example.org".into(),
            })
        })
        .and_then(|rows| {
            rows.put(&VCard {
                owner: owner(),
                xml: "<vCard/>".into(),
            })
        })
        .and_then(|rows| {
            rows.put(&OfflineMessage {
                owner: owner(),
                sequence: 1,
                stanza: "<message/>".into(),
                stamp: "2026-01-01T00:00:00Z".into(),
            })
        })
        .unwrap();
    client.transact(rows).await.unwrap();

    operations
        .delete_users(&admin, &["alice".into()])
        .await
        .unwrap();

    assert_eq!(client.list::<RosterItem>(&["alice"]).await.unwrap(), []);
    assert_eq!(client.list::<BlockItem>(&["alice"]).await.unwrap(), []);
    assert_eq!(client.list::<VCard>(&["alice"]).await.unwrap(), []);
    assert_eq!(client.list::<OfflineMessage>(&["alice"]).await.unwrap(), []);
}
