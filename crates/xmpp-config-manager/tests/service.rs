//! The service with a database and a component.

use database::Transaction;
use database::tables::{ProcessNode, ServiceParameter};
use database::testing::TestDatabase;
use service::{Context, Paths};
use xmpp_config_manager::{Report, notices, parameters, serve};

/// Waits until the number of notices is the wanted one.
async fn until(paths: &Paths, wanted: usize) -> Vec<String> {
    loop {
        if let Ok(notices) = notices(paths).await
            && notices.len() == wanted
        {
            return notices.into_iter().map(|notice| notice.text).collect();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_changed_domain_asks_for_a_restart_until_it_was_done() {
    let database = TestDatabase::start().await.unwrap();
    let paths = database.paths().clone();
    std::fs::create_dir_all(paths.etc()).unwrap();
    std::fs::write(
        paths.node_file(),
        "name = \"one\"\ndomain = \"a.example\"\naddress = \"192.0.2.1\"\n\
         role = \"publisher\"\nproduct = \"imp\"\nsize = \"5K\"\ncluster = \"c\"\n",
    )
    .unwrap();
    let context = Context::new("xmpp-config-manager", paths.clone());
    let _service = tokio::spawn(serve(context.clone()));
    let report = Report::start(&paths, "xmpp-router", &[("domain", "a.example")]);
    until(&paths, 0).await;

    let node = |domain: &str| ProcessNode {
        name: "one".into(),
        domain: domain.into(),
        address: "192.0.2.1".into(),
        role: "publisher".into(),
        product: "imp".into(),
        replica: 1,
    };
    let client = database.client();
    let change = Transaction::new().put(&node("b.example")).unwrap();
    client.transact(change).await.unwrap();
    let texts = until(&paths, 1).await;
    assert!(
        texts[0].starts_with("xmpp-router must be restarted"),
        "{texts:?}"
    );
    assert_eq!(context.alarms().raised().len(), 1);

    // A hot parameter shows, and asks for nothing.
    let hot = ServiceParameter {
        service: "xmpp-router".into(),
        name: "RosterItems".into(),
        value: "7".into(),
    };
    client
        .transact(Transaction::new().put(&hot).unwrap())
        .await
        .unwrap();
    loop {
        let all = parameters(&paths).await.unwrap();
        let items = all
            .iter()
            .find(|known| known.name == "RosterItems")
            .unwrap();
        if items.value == "7" {
            assert!(items.is_set && !items.restart);
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(until(&paths, 1).await.len(), 1);

    // The component is restarted with what is set.
    drop(report);
    until(&paths, 0).await;
    let _report = Report::start(&paths, "xmpp-router", &[("domain", "b.example")]);
    loop {
        let all = parameters(&paths).await.unwrap();
        let domain = all
            .iter()
            .find(|known| known.service == "xmpp-router" && known.name == "domain")
            .unwrap();
        if domain.value == "b.example" {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(until(&paths, 0).await.is_empty());
    assert!(context.alarms().raised().is_empty());
}
