//! Settings of services.

use operations::Level;
use operations::fakes::service;
use operations::ports::ServiceKind;

use crate::node::{node, shown};

#[tokio::test]
async fn parameters_are_shown_checked_and_taken_back() {
    let node = node();
    let (status, text) = node.run("show parameters cisco xcp router").await;
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("Cisco XCP Router (xmpp-router)\n  ResourceConflict = replace\n"));
    assert!(
        text.contains(
            "  RosterItems = 1000\n      Most contacts of a user. It is a whole number from 1 to \
             10000.\n"
        ),
        "{text}"
    );
    assert!(!text.contains("domain"), "{text}");
    assert_eq!(
        node.run("set parameter xmpp-router rosteritems 5").await,
        shown("RosterItems is 5. It applies at once.\n")
    );
    assert!(node.asked("set xmpp-router RosterItems 5"));
    let (_, text) = node.run("show parameters xmpp-router").await;
    assert!(
        text.contains("  RosterItems = 5  (default 1000)\n"),
        "{text}"
    );
    assert_eq!(
        node.run("unset parameter xmpp-router RosterItems").await,
        shown("RosterItems is 1000. It applies at once.\n")
    );
    for (line, said) in [
        (
            "xmpp-router RosterItems many",
            "RosterItems is \"many\"; it must be a whole number",
        ),
        ("xmpp-router RosterItems 0", "Nothing was changed"),
        (
            "xmpp-router domain b.example",
            "has no parameter \"domain\"",
        ),
        (
            "xmpp-router Roster 5",
            "\"show parameters xmpp-router\" shows those it has",
        ),
        ("nobody Roster 5", "No service is called \"nobody\""),
        (
            "xmpp-router RosterItems 5 --node node1",
            "is the same on every node",
        ),
    ] {
        let (status, text) = node.run(&format!("set parameter {line}")).await;
        assert_eq!(status, 1, "{line}");
        assert!(text.contains(said), "{text}");
    }
    assert!(node.fakes.world().parameters.is_empty());
    let mut monitor = node;
    let of = |id, compat| service(id, compat, ServiceKind::Network);
    monitor.fakes.world().services = vec![
        of(
            "log-partition-monitor",
            "Cisco Log Partition Monitoring Tool",
        ),
        of("web", "Cisco Tomcat"),
    ];
    let (status, text) = monitor
        .run("set parameter log-partition-monitor \"Low Water Mark\" 96")
        .await;
    assert_eq!(status, 1);
    assert!(text.contains("must be below the high mark"), "{text}");
    let (_, text) = monitor.run("show parameters web").await;
    assert!(text.contains("Cisco Tomcat has no parameters"), "{text}");
    monitor.level = Level::Operate;
    let line = "set parameter log-partition-monitor \"Low Water Mark\" 80";
    let (status, text) = monitor.run(line).await;
    assert_eq!(status, 1);
    assert!(text.contains("privilege level 4"), "{text}");
}
