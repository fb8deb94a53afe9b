//! Users against a real database.

use database::Transaction;
use database::tables::{
    BlockItem, EndUser, OfflineMessage, RosterItem, ServiceParameter, Subscription, VCard,
};
use database::testing::TestDatabase;
use operations::users::NewUser;
use operations::{Access, Caller, Level, Operations};

fn admin() -> Caller {
    Caller {
        user: "admin".into(),
        level: Level::Administer,
        face: "test",
        origin: String::new(),
    }
}

fn alice() -> NewUser {
    NewUser {
        user: "alice".into(),
        password: "wonderland".into(),
        name: String::new(),
        mail: String::new(),
    }
}

#[tokio::test]
async fn new_passwords_are_hashed_as_often_as_the_parameter_says() {
    let database = TestDatabase::start().await.unwrap();
    let client = database.client();
    let operations = Operations::live(database.paths().clone(), Access::Administration);
    let iterations = async || {
        let user = client.get::<EndUser>(&["alice"]).await.unwrap().unwrap();
        let (sha1, sha256) = (user.scram_sha1.unwrap(), user.scram_sha256.unwrap());
        assert_eq!(sha1.iterations, sha256.iterations);
        sha1.iterations
    };
    let set = async |value: &str| {
        let row = ServiceParameter {
            service: "authentication-service".into(),
            name: "ScramIterations".into(),
            value: value.into(),
        };
        let rows = Transaction::new().put(&row).unwrap();
        client.transact(rows).await.unwrap();
    };
    operations.add_user(&admin(), alice()).await.unwrap();
    assert_eq!(iterations().await, 4096);
    set("5000").await;
    let new = operations.set_password(&admin(), "alice", "other").await;
    new.unwrap();
    assert_eq!(iterations().await, 5000);
    set("6000").await;
    let file = b"user,password\nalice,third\n";
    let done = operations.import_users(&admin(), file, true).await;
    done.unwrap();
    assert_eq!(iterations().await, 6000);
    // Never fewer than RFC 7677 asks for.
    set("1").await;
    let new = operations.set_password(&admin(), "alice", "fourth").await;
    new.unwrap();
    assert_eq!(iterations().await, 4096);
}

#[tokio::test]
async fn a_deleted_user_leaves_nothing_behind() {
    let database = TestDatabase::start().await.unwrap();
    let client = database.client();
    let operations = Operations::live(database.paths().clone(), Access::Administration);
    let admin = admin();
    operations.add_user(&admin, alice()).await.unwrap();
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
