//! High availability as scripts know it.

use operations::Level;
use server_recovery_manager::{Entry, NodeStatus, Status};

use crate::node::node;

fn standing(name: &str, state: &str, reason: &str) -> NodeStatus {
    NodeStatus {
        name: name.into(),
        state: state.into(),
        reason: reason.into(),
        heard: true,
        serves: vec![name.into()],
        down: Vec::new(),
    }
}

fn group(name: &str, nodes: [NodeStatus; 2]) -> Status {
    Status {
        group: name.into(),
        high_availability: true,
        held: false,
        nodes: nodes.into(),
        cause: String::new(),
        advice: Vec::new(),
    }
}

#[tokio::test]
async fn the_state_of_a_group_is_said_as_scripts_know_it() {
    let node = node();
    let off = "High Availability Not Enabled";
    node.fakes.world().high_availability = vec![group(
        "DefaultCluster",
        [
            standing("alpha", "Normal", "Normal"),
            standing("beta", "Unknown", off),
        ],
    )];
    let expected = "Subcluster Name: DefaultCluster\n\
                    Node 1 Name : alpha State: Normal\n\
                    Node 2 Name : beta State: Unknown Reason: High Availability Not Enabled\n";
    assert_eq!(node.run("utils ha status").await, (0, expected.to_owned()));
    let (status, json) = node.run("utils ha status DefaultCluster --json").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status, 0);
    assert_eq!(json["result"]["nodes"][1]["reason"], off);
    let (status, text) = node.run("utils ha status Nothing").await;
    assert_eq!(status, 1);
    assert!(text.contains("no such group"), "{text}");
}

#[tokio::test]
async fn failover_fallback_and_recovery_are_asked_for() {
    let mut node = node();
    let normal = |name| standing(name, "Normal", "Normal");
    node.fakes.world().high_availability =
        vec![group("DefaultCluster", [normal("alpha"), normal("beta")])];
    assert_eq!(
        node.run("utils ha failover beta").await.1,
        "Initiate Manual Failover for Node > beta\n\
         Request SUCCESSFUL.\n\
         Subcluster Name: DefaultCluster\n\
         Node 1 Name : alpha State: Normal\n\
         Node 2 Name : beta State: Failing Over Reason: On Admin Request\n"
    );
    let (_, text) = node.run("utils ha fallback beta").await;
    let first = "Initiate Manual Fallback for Node > beta\nRequest SUCCESSFUL.\n";
    assert!(
        text.starts_with(first) && text.contains("Taking Back"),
        "{text}"
    );
    let (status, text) = node.run("utils ha recover DefaultCluster").await;
    assert_eq!(status, 0);
    assert!(
        text.starts_with("Stopping services... Stopped\nStarting services... Started\nSubcluster"),
        "{text}"
    );
    assert!(node.asked("ha Recover DefaultCluster by admin"));
    node.level = Level::Look;
    assert_eq!(node.run("utils ha status").await.0, 0);
    for line in ["failover beta", "fallback beta", "recover DefaultCluster"] {
        let (status, text) = node.run(&format!("utils ha {line}")).await;
        assert!(status == 1 && text.contains("level 1"), "{text}");
    }
}

#[tokio::test]
async fn the_history_explains_what_happened() {
    let node = node();
    assert_eq!(
        node.run("utils ha history").await.1,
        "Nothing has happened yet.\n"
    );
    node.fakes.world().history = vec![Entry {
        at: jiff::Timestamp::UNIX_EPOCH,
        node: "beta".into(),
        from: "Normal (Normal)".into(),
        to: "Taking Over (Peer Down)".into(),
        peer: None,
        seen: "node 1 has been silent for 3 s.".into(),
        decided: "Taking Over (Peer Down).".into(),
        advice: vec!["Look.".into()],
    }];
    let (_, text) = node.run("utils ha history beta").await;
    assert!(
        text.ends_with(
            " beta: Normal (Normal) -> Taking Over (Peer Down); peer not heard\n    \
             Seen: node 1 has been silent for 3 s.\n    \
             Decided: Taking Over (Peer Down).\n    \
             To do: Look.\n"
        ),
        "{text}"
    );
}
