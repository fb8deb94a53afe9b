use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn service(id: &str, state: State, activated: bool, reason: &str) -> View {
    View {
        id: id.into(),
        compat: format!("Old {id}"),
        name: format!("The {id}"),
        kind: "network".into(),
        group: String::new(),
        state,
        activated,
        reason: reason.into(),
        started_at: None,
        up_seconds: None,
        restarts: 0,
        critical: false,
        auto_restart: true,
    }
}

fn snapshot(services: Result<Vec<View>, String>) -> Snapshot {
    Snapshot {
        node: Some(Node {
            name: "node1".into(),
            domain: "example.org".into(),
            address: "192.0.2.11".into(),
            role: Role::Publisher,
            product: "imp".into(),
            size: "5K".into(),
            cluster: "c".into(),
        }),
        addresses: vec!["192.0.2.11".into()],
        services,
        alarms: Vec::new(),
        time: "2026-11-21 06:00".into(),
    }
}

fn screen(snapshot: &Snapshot) -> String {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(snapshot, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..80).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let lines: Vec<String> = (0..24).map(|y| line(y).trim_end().to_owned()).collect();
    lines.join("\n")
}

#[test]
fn it_shows_what_waits_and_why() {
    let mut snapshot = snapshot(Ok(vec![
        service("database", State::Started, true, ""),
        service(
            "router",
            State::Starting,
            true,
            "waits for data-monitor: replication state 1",
        ),
        service(
            "web",
            State::NotRunning,
            true,
            "its process ended with status 1",
        ),
        service("sip", State::Stopped, false, "Service Not Activated"),
        service("gate", State::Stopped, true, "Commanded Out of Service"),
    ]));
    snapshot.alarms = vec![("web".into(), Severity::Critical, "It is down.".into())];
    insta::assert_snapshot!(screen(&snapshot));
}

#[test]
fn a_node_without_an_answer_from_its_supervisor_says_so() {
    let shown = screen(&snapshot(Err("the supervisor does not answer yet".into())));
    assert!(
        shown.contains("Services  not known: the supervisor"),
        "{shown}"
    );
    assert!(
        shown.contains("Press Enter for the command line"),
        "{shown}"
    );
}

#[test]
fn more_than_fits_is_counted() {
    let many = |n| {
        service(
            &format!("s{n}"),
            State::NotRunning,
            true,
            &format!("it failed {n} times"),
        )
    };
    let shown = screen(&snapshot(Ok((0..40).map(many).collect())));
    assert!(shown.contains("more lines"), "{shown}");
    assert!(
        shown.lines().last().unwrap().contains("Press Enter"),
        "{shown}"
    );
}
