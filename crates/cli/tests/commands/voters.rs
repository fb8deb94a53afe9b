//! Who votes.

use operations::fakes::replication_node;

use crate::node::node;

#[tokio::test]
async fn who_votes_is_shown_asked_for_and_changed() {
    let node = node();
    node.fakes.world().replication = ["node1", "node2", "node3"]
        .map(|name| replication_node(name, 2))
        .to_vec();
    let (status, text) = node.run("utils dbreplication voters status").await;
    assert!(status == 0 && text.contains("votes alone"), "{text}");
    let (status, text) = node
        .run("utils dbreplication voters enable --preview")
        .await;
    assert!(
        status == 0 && text.contains("of three nodes one may be lost"),
        "{text}"
    );
    node.answer("n");
    assert_ne!(node.run("utils dbreplication voters enable").await.0, 0);
    assert!(!node.asked("voters true true for by admin from test"));
    node.answer("y");
    let (status, text) = node.run("utils dbreplication voters enable").await;
    assert!(status == 0 && text.ends_with("Done.\n"), "{text}");
    assert!(node.asked("voters true true for by admin from test"));
    let (_, text) = node.run("utils dbreplication voters status").await;
    assert!(text.contains("One voter more may be lost."), "{text}");
    let (_, text) = node.run("utils dbreplication voters status --json").await;
    assert!(text.contains("\"enabled\":true"), "{text}");
    node.fakes.world().voters_refusal = "it has two nodes".into();
    let (status, text) = node.run("utils dbreplication voters disable").await;
    assert!(status == 1 && text.contains("has two nodes"), "{text}");
}
