//! Services and the machine: what they show, and what asks first.

use crate::node::{node, shown};

#[tokio::test]
async fn service_list() {
    assert_eq!(
        node().run("utils service list").await,
        shown(
            "Requesting service status, please wait...\n\
             A Cisco DB[STARTED]\n\
             Cisco SIP Proxy[STOPPED]  Service Not Activated\n\
             Cisco XCP Router[STARTED]\n\
             Primary Node =true\n"
        )
    );
}

#[tokio::test]
async fn services_are_stopped_started_and_restarted_by_any_of_their_names() {
    let node = node();
    assert_eq!(
        node.run("utils service stop Cisco XCP Router").await,
        shown("Service Manager is running\nCisco XCP Router[STOPPED]  Commanded Out of Service\n")
    );
    assert_eq!(
        node.run("utils service start \"cisco xcp router\"").await,
        shown("Service Manager is running\nCisco XCP Router[STARTED]\n")
    );
    assert_eq!(
        node.run("utils service restart xmpp-router").await,
        shown("Service Manager is running\nCisco XCP Router[STARTED]\n")
    );
    assert!(node.asked("restart xmpp-router"));
    let (status, text) = node.run("utils service start Cisco Router").await;
    assert_eq!(status, 1);
    assert!(
        text.ends_with("\nExecuted command unsuccessfully\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_network_service_is_not_activated_and_dependencies_are_offered() {
    let node = node();
    let (status, text) = node.run("utils service activate A Cisco DB").await;
    assert_eq!(status, 1);
    assert!(text.contains("A Cisco DB is a network service"), "{text}");
    node.fakes.world().missing = vec!["xmpp-router".into()];
    node.answer("n");
    let (status, text) = node.run("utils service activate Cisco SIP Proxy").await;
    assert_eq!(status, 1);
    assert!(
        text.starts_with(
            "Service Manager is running\n\
             Cisco SIP Proxy needs these to be activated too: Cisco XCP Router.\n\
             Continue (y/n)?"
        ),
        "{text}"
    );
    assert!(!node.asked("activated sip-proxy"));
    node.answer("y");
    assert_eq!(
        node.run("utils service activate Cisco SIP Proxy").await.0,
        0
    );
    assert!(node.asked("activated sip-proxy"));
}

#[tokio::test]
async fn what_hurts_warns_and_asks() {
    for (line, command) in [
        ("utils system restart", "reboot"),
        ("utils system shutdown", "power off"),
        (
            "set network ip eth0 192.0.2.7 255.255.255.0 192.0.2.254",
            "network",
        ),
        ("set network hostname beta", "network"),
        ("set network mtu 1400", "network"),
    ] {
        let node = node();
        // No answer, and each answer that is not a clear yes.
        for answer in [None, Some(""), Some("n"), Some("maybe")] {
            if let Some(answer) = answer {
                node.answer(answer);
            }
            let (status, text) = node.run(line).await;
            assert_eq!(status, 1, "{line}");
            assert!(text.contains("\nContinue (y/n)?"), "{text}");
            assert!(node.fakes.world().commands.is_empty(), "{line}");
        }
        node.answer("y");
        assert_eq!(node.run(line).await.0, 0, "{line}");
        let commands = node.fakes.world().commands.clone();
        assert!(commands[0].starts_with(command), "{commands:?}");
    }
}
