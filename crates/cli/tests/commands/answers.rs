//! What answers say of what was not asked for: other services, questions without
//! an answer, things that cannot be.

use crate::node::{node, shown};

#[tokio::test]
async fn services_that_stop_with_another_are_named() {
    let node = node();
    let with = vec!["database".to_owned()];
    node.fakes
        .world()
        .stops_with
        .insert("xmpp-router".into(), with);
    assert_eq!(
        node.run("utils service stop xmpp-router").await,
        shown(
            "Service Manager is running\n\
             Cisco XCP Router[STOPPED]  Commanded Out of Service\n\
             Also stopped: A Cisco DB\n"
        )
    );
    assert_eq!(
        node.run("utils service start xmpp-router").await,
        shown(
            "Service Manager is running\nCisco XCP Router[STARTED]\n\
             Still stopped: A Cisco DB; start them with 'utils service start A Cisco DB'\n"
        )
    );
    let (_, text) = node.run("utils service start xmpp-router --json").await;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["result"]["id"], "xmpp-router");
    assert_eq!(value["result"]["still_stopped"][0], "A Cisco DB");
    assert_eq!(value["result"]["also_stopped"], serde_json::json!([]));
    // What stops by itself, or was down before, is not told.
    let (_, text) = node.run("utils service stop xmpp-router").await;
    assert!(!text.contains("Also stopped"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_asked_or_announced() {
    let node = node();
    let (status, text) = node.run("set timezone Mars/Phobos").await;
    assert_eq!(status, 1);
    assert!(text.starts_with("\"Mars/Phobos\" is not"), "{text}");
    for line in ["failover", "fallback"] {
        let (status, text) = node.run(&format!("utils ha {line} node9")).await;
        assert_eq!(status, 1);
        assert!(!text.contains("Initiate"), "{text}");
    }
}

#[tokio::test]
async fn a_question_that_nobody_answers_ends_its_line() {
    let node = node();
    let (_, text) = node.run("utils system shutdown").await;
    assert!(text.contains("Continue (y/n)?\nNothing was"), "{text}");
    let (_, text) = node.run("users add bob").await;
    assert!(text.starts_with("Password: \nNo password"), "{text}");
}

#[tokio::test]
async fn help_tells_how_to_go_on_and_how_to_leave() {
    let node = node();
    let (status, text) = node.run("help").await;
    assert_eq!((status, &text), (0, &node.run("?").await.1));
    for word in ["    users ", "    exit ", "    help "] {
        assert!(text.contains(word), "{text}");
    }
    let (_, text) = node.run("users delete ?").await;
    assert!(text.contains("--json") && text.contains("--yes"), "{text}");
    let (_, text) = node.run("users ?").await;
    assert!(!text.contains("exit"), "{text}");
}
