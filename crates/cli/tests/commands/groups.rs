//! Replication and redundancy groups.

use crate::node::{node, shown, two_nodes};

#[tokio::test]
async fn replication_of_a_single_node() {
    let node = node();
    assert_eq!(
        node.run("utils dbreplication runtimestate").await,
        shown(
            "Runtime state cannot be performed on a cluster with a single active node; aborting \
             operation\n"
        )
    );
    node.answer("y");
    let (status, text) = node.run("set replication-sync monitor disable").await;
    assert_eq!(status, 0, "{text}");
    assert!(node.asked("set data-monitor Replication Sync Monitor false"));
    assert_eq!(
        node.run("show replication-sync monitor").await,
        shown("replication-sync monitor is disabled\n")
    );
    assert_eq!(
        node.run("set cli pagination off").await,
        shown("Automatic pagination is turned off\n")
    );
}

#[tokio::test]
async fn groups_come_and_go() {
    let node = two_nodes();
    assert_eq!(
        node.run("groups list").await,
        shown(
            "GROUP           HA   NODE   JOINED  USERS\n\
             DefaultCluster  off  node1  yes     0\n\
             node2           off  node2  yes     0\n\
             2 groups\n"
        )
    );
    assert_eq!(
        node.run("groups add pair node1 node2 --description \"Both of them\"")
            .await,
        shown(
            "Group             : pair\nDescription       : Both of them\n\
             High availability : off\nNode 1            : node1 (0 users)\n\
             Node 2            : node2 (0 users)\n"
        )
    );
    let (status, text) = node.run("groups delete Pair").await;
    assert_eq!(status, 1);
    assert!(text.contains("those there are: pair"), "{text}");
    let (status, text) = node.run("groups change pair --single --name one").await;
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("Group             : one\n"), "{text}");
    let (_, text) = node.run("groups list").await;
    assert!(text.contains("\nnode2  off"), "{text}");
    assert_eq!(node.run("groups change one --second node2").await.0, 0);
    let (status, text) = node.run("groups delete one").await;
    assert_eq!(status, 0);
    assert!(text.starts_with("Group one was deleted.\nGROUP"), "{text}");
}

#[tokio::test]
async fn high_availability_is_shown_before_it_is_asked_for() {
    let node = two_nodes();
    node.run("groups add pair node1 node2").await;
    let on = || {
        let groups = node.fakes.world().groups.clone();
        groups.get("pair").unwrap().high_availability
    };
    let preview = "node1: critical services run; replication setup 2\n\
                   node2: critical services not known, it does not answer; replication setup 2\n\
                   node2 does not say whether its critical services run. Where they do not, the \
                   node fails over at once. See \"utils service list\" there.\n";
    assert_eq!(
        node.run("utils ha enable pair --preview").await,
        shown(preview)
    );
    node.answer("n");
    let (status, text) = node.run("utils ha enable pair").await;
    assert_eq!(status, 1);
    assert!(
        text.starts_with(&format!("{preview}Continue (y/n)?")),
        "{text}"
    );
    assert!(!on());
    // A script says so beforehand, or is told that it did not.
    let (status, text) = node.run("utils ha enable pair --json").await;
    assert!(status == 1 && text.contains("declined"), "{text}");
    assert!(!on());
    assert_eq!(
        node.run("utils ha enable pair --yes").await,
        shown("High availability of group pair is on.\n")
    );
    assert!(on());
    assert_eq!(
        node.run("utils ha enable pair").await,
        shown("High availability of group pair is on already.\n")
    );
    let (status, text) = node.run("groups delete pair").await;
    assert!(
        status == 1 && text.contains("utils ha disable pair"),
        "{text}"
    );
    node.answer("y");
    let (status, text) = node.run("utils ha disable pair").await;
    assert!(status == 0 && text.contains("nobody else's"), "{text}");
    assert!(!on());
}
