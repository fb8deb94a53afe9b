//! Crash loops, alarms and recovery, in simulated time.

use super::*;
use crate::fixture::{between_attempts, catalogue, edit, running, served, stopped};

struct Node {
    catalogue: Catalogue,
    world: World,
    health: Health,
    now: Duration,
    raised: BTreeMap<&'static str, String>,
}

impl Node {
    fn new() -> Self {
        let catalogue = catalogue();
        let world = running(&catalogue);
        let mut node = Self {
            catalogue,
            world,
            health: Health::default(),
            now: Duration::from_secs(100),
            raised: BTreeMap::new(),
        };
        node.after(0);
        node
    }

    fn after(&mut self, seconds: u64) -> Vec<Call> {
        self.now += Duration::from_secs(seconds);
        let (calls, alarms) = self.health.step(&self.catalogue, &self.world, self.now);
        self.raised = alarms
            .into_iter()
            .filter_map(|alarm| Some((alarm.id, alarm.text?)))
            .collect();
        calls
    }

    /// The service dies and is back at once, for the n-th time.
    fn dies(&mut self, id: &str, restarts: u32) {
        between_attempts(&mut self.world, id, restarts);
        self.after(1);
        self.serves(id);
        self.after(1);
    }

    fn serves(&mut self, id: &str) {
        edit(&mut self.world, id, |unit| {
            unit.active = Activity::Active;
            unit.sub = "running".into();
        });
    }
}

#[test]
fn one_death_is_counted_and_no_alarm() {
    let mut node = Node::new();
    node.dies("web", 1);
    assert_eq!(node.health.restarts("web"), 1);
    assert_eq!(node.raised, BTreeMap::new());
}

#[test]
fn a_service_that_is_well_again_gets_short_pauses_again() {
    let mut node = Node::new();
    node.dies("web", 1);
    assert_eq!(node.after(44), []);
    let reset = Call::ResetFailed("web.service".into());
    assert_eq!(node.after(1), [reset]);
    edit(&mut node.world, "web", |unit| unit.restarts = 0);
    assert_eq!(node.after(60), []);
    node.dies("web", 1);
    assert_eq!(node.health.restarts("web"), 2);
}

#[test]
fn a_crash_loop_is_an_alarm_until_the_service_is_well() {
    let mut node = Node::new();
    for restarts in 1..=4 {
        node.dies("web", restarts);
    }
    assert_eq!(node.raised, BTreeMap::new());
    node.dies("web", 5);
    assert!(node.raised["ServiceCrashLoop"].contains("Cisco Tomcat"));
    node.after(44);
    assert!(node.raised.contains_key("ServiceCrashLoop"));
    node.after(1);
    assert_eq!(node.raised, BTreeMap::new());
}

#[test]
fn a_companion_that_loops_is_told_and_left_alone() {
    let mut node = Node::new();
    let (id, _) = COMPANIONS[0];
    node.world.units.insert(format!("{id}.service"), served());
    for restarts in 1..=4 {
        node.dies(id, restarts);
    }
    assert_eq!(node.raised, BTreeMap::new());
    between_attempts(&mut node.world, id, 5);
    node.after(1);
    let text = &node.raised["ServiceCrashLoop"];
    assert!(text.contains(&format!("{id} (carries out")), "{text}");
    assert!(text.contains("killed by SIGKILL"), "{text}");
    node.serves(id);
    node.after(0);
    // systemd would not let the supervisor turn it.
    assert_eq!(node.after(45), []);
    assert_eq!(node.raised, BTreeMap::new());
}

#[test]
fn deaths_far_apart_are_no_loop() {
    let mut node = Node::new();
    for restarts in 1..=5 {
        node.after(50);
        node.dies("web", restarts);
    }
    // It was well in between, and still this goes on.
    assert!(node.raised.contains_key("ServiceCrashLoop"));
    let mut node = Node::new();
    for _ in 1..=9 {
        node.dies("web", 1);
        node.after(100);
        edit(&mut node.world, "web", |unit| unit.restarts = 0);
        node.after(1);
    }
    assert_eq!(node.raised, BTreeMap::new());
    assert_eq!(node.health.restarts("web"), 9);
}

#[test]
fn a_critical_service_that_stays_down_is_critical_after_the_grace() {
    let mut node = Node::new();
    edit(&mut node.world, "xmpp-router", |unit| {
        unit.active = Activity::Failed;
        unit.result = "exit-code".into();
        unit.code = 1;
        unit.status = 1;
    });
    node.after(0);
    node.after(29);
    assert_eq!(node.raised, BTreeMap::new());
    node.after(1);
    let text = &node.raised["CriticalServiceDown"];
    assert!(
        text.contains("Cisco XCP Router (xmpp-router): ended with status 1"),
        "{text}"
    );
    node.serves("xmpp-router");
    node.after(1);
    assert_eq!(node.raised, BTreeMap::new());
}

#[test]
fn what_was_stopped_or_only_waits_is_no_alarm() {
    let mut node = Node::new();
    stopped(&mut node.world, "web", 5);
    stopped(&mut node.world, "xmpp-connection-manager", 5);
    node.world.activated.remove("xmpp-connection-manager");
    crate::fixture::queued(&mut node.world, "xmpp-router", false);
    node.after(0);
    node.after(1000);
    assert_eq!(node.raised, BTreeMap::new());
}

#[test]
fn a_start_that_was_given_up_is_made_good_when_the_gate_serves() {
    let mut node = Node::new();
    stopped(&mut node.world, "xmpp-router", 0);
    node.world.given_up.insert("xmpp-router".into());
    edit(&mut node.world, "data-monitor", |unit| {
        unit.active = Activity::Failed;
    });
    assert_eq!(node.after(1), []);
    node.serves("data-monitor");
    assert_eq!(node.after(1), [Call::Start("xmpp-router.service".into())]);
}
