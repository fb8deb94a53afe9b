//! People and their homes.

use operations::fakes::user_at;

use crate::node::{node, shown, two_nodes};

#[tokio::test]
async fn users_come_and_go() {
    let node = node();
    assert_eq!(
        node.run("users add Alice --password secret --name \"Alice A\"")
            .await,
        shown("alice@example.org was added.\n")
    );
    let (status, text) = node.run("users add alice --password other").await;
    assert_eq!(status, 1);
    assert!(text.contains("users passwd alice"), "{text}");
    node.answer("one");
    node.answer("two");
    assert_eq!(node.run("users passwd alice").await.0, 1);
    node.answer("longer");
    node.answer("longer");
    assert_eq!(
        node.run("users passwd alice").await,
        shown("Password: Again: alice@example.org has a new password.\n")
    );
    assert_eq!(
        node.run("users list").await,
        shown(
            "USER   ENABLED  NODE          NAME     MAIL\n\
             alice  yes      not assigned  Alice A\n1 user\n"
        )
    );
    assert_eq!(
        node.run("users delete alice").await,
        shown("alice@example.org was removed.\n")
    );
    assert_eq!(node.run("users show alice").await.0, 1);
}

#[tokio::test]
async fn an_import_is_all_or_nothing_and_in_batches() {
    let node = node();
    let import = |text: String| {
        *node.screen.input.lock().unwrap() = text.into_bytes();
        node.run("users import /dev/stdin")
    };
    let rows: String = (0..1201).map(|n| format!("u{n},p\n")).collect();
    let (status, text) = import(format!("user,password\n{rows}b ad,p\n")).await;
    assert_eq!(status, 1);
    assert!(
        text.contains("1 of 1202 rows") && text.contains("\nline 1203: "),
        "{text}"
    );
    assert!(node.fakes.world().users.is_empty());
    assert_eq!(
        import(format!("user,password\n{rows}")).await,
        shown("1201 users were imported.\n")
    );
    assert_eq!(node.fakes.world().batches, [500, 500, 201]);
    let (status, text) = import("user,password\nnew,p\nu7,p\n".into()).await;
    assert_eq!(status, 1);
    assert!(
        text.contains("line 3: there is a user u7 already"),
        "{text}"
    );
    assert!(!node.fakes.world().users.contains_key("new"));
    let folder = node.folder.path().display().to_string();
    let (status, text) = node.run(&format!("users import {folder}")).await;
    assert_eq!(status, 1);
    assert!(text.contains("is not a file"), "{text}");
}

#[tokio::test]
async fn users_get_homes_and_move() {
    let node = two_nodes();
    for number in 0..10 {
        let user = user_at(&format!("u{number}"), "node1");
        node.fakes.world().users.insert(user.user.clone(), user);
    }
    let preview = "NODE   USERS NOW  USERS THEN\n\
                   node1  10         5\n\
                   node2  0          5\n\
                   5 users would move.\n";
    assert_eq!(node.run("users rebalance --preview").await, shown(preview));
    node.answer("n");
    let (status, text) = node.run("users rebalance --batch 2 --pause 0").await;
    assert_eq!(status, 1);
    assert!(text.starts_with(preview), "{text}");
    assert!(
        text.contains("2 at a time with a pause of 0 s: about 0 s"),
        "{text}"
    );
    node.answer("y");
    let (status, text) = node.run("users rebalance --batch 2 --pause 0").await;
    assert_eq!(status, 0);
    assert!(
        text.ends_with("2 of 5 users have moved.\n4 of 5 users have moved.\n5 users have moved.\n"),
        "{text}"
    );
    assert_eq!(
        node.run("users rebalance").await,
        shown("Nobody has to move.\n")
    );
    assert_eq!(
        node.run("users assign node2 u9 u8 u0").await,
        shown("1 user has moved.\n")
    );
    assert_eq!(
        node.run("users unassign u0").await,
        shown("1 user has moved.\n")
    );
    assert!(node.run("users show u0").await.1.contains("not assigned"));
    let (status, text) = node.run("users move node2 --yes --pause 0").await;
    assert_eq!((status, text.as_str()), (0, "5 users have moved.\n"));
    assert_eq!(node.run("users move node1 node9").await.0, 1);
    assert_eq!(node.run("users rebalance --batch 0 --yes").await.0, 1);
    assert_eq!(node.run("users rebalance --pause soon").await.0, 1);
    assert_eq!(
        node.run("set user-assignment mode none").await,
        shown("user-assignment mode is none\n")
    );
    assert_eq!(
        node.run("show user-assignment mode").await,
        shown("user-assignment mode is none\n")
    );
}
