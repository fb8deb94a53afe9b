//! Drivers of several nodes in one process and in simulated time, joined by
//! links that a test cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use recovery::{Alarm, Epoch, Node, Parameters, Refusal, Request, Verdict};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::disk::Stored;
use crate::driver::{Driver, End, Hands, Input};
use crate::group::{Group, Known, Place, Seen, Services, View};
use crate::history::Entry;
use crate::serving::Serving;
use crate::status::Status;

const ROUTER: &str = "xmpp-router";
const SECOND: Duration = Duration::from_secs(1);

/// What a node has beside its manager.
#[derive(Default)]
struct Machine {
    inputs: Option<mpsc::Sender<Input>>,
    disk: Option<Stored>,
    disk_full: bool,
    boots: u32,
    services: BTreeMap<String, bool>,
    entries: Vec<Entry>,
    alarms: BTreeMap<&'static str, String>,
    /// Users cannot be served here.
    immovable: bool,
}

/// Nodes and the links between them.
#[derive(Default)]
struct World {
    machines: BTreeMap<String, Machine>,
    /// From whom to whom nothing passes.
    cuts: BTreeSet<(String, String)>,
    known: Known,
}

#[derive(Clone, Default)]
pub(crate) struct Lab(Arc<Mutex<World>>);

/// A running manager.
pub(crate) struct Running {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) serving: watch::Receiver<Serving>,
    task: JoinHandle<io::Result<End>>,
}

struct Fake {
    lab: Lab,
    name: String,
    inputs: mpsc::Sender<Input>,
}

impl Fake {
    fn machine<T>(&self, look: impl FnOnce(&mut Machine) -> T) -> T {
        look(self.lab.world().machines.get_mut(&self.name).unwrap())
    }

    fn later(&self, millis: u64, input: Input) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let _ = inputs.send(input).await;
        });
    }
}

impl Hands for Fake {
    fn persist(&mut self, stored: &Stored) -> io::Result<()> {
        self.machine(|machine| {
            if machine.disk_full {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            machine.disk = Some(stored.clone());
            Ok(())
        })
    }

    fn configure(&mut self, _: &View) {}

    fn send(&mut self, to: &[String], message: Vec<u8>) {
        for to in to {
            if let Some(inputs) = self.lab.reach(&self.name, to) {
                let (from, message) = (self.name.clone(), message.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    let _ = inputs.send(Input::Keepalive { from, message }).await;
                });
            }
        }
    }

    fn verify(&mut self, about: &str, thirds: Vec<String>, round: u64, limit: Duration) {
        // In the lab the host called "gateway" is known.
        let cut_off = self.lab.is_cut(&self.name, "gateway");
        let third = thirds
            .iter()
            .find_map(|third| self.lab.reach(&self.name, third));
        let (inputs, node) = (self.inputs.clone(), about.to_owned());
        tokio::spawn(async move {
            let verdict = match (thirds.is_empty(), third) {
                (true, _) if !cut_off => Verdict::Confirmed,
                (false, Some(third)) => {
                    let (answer, judged) = oneshot::channel();
                    let _ = third.send(Input::Judge { node, answer }).await;
                    match tokio::time::timeout(limit, judged).await {
                        Ok(Ok(true)) => Verdict::Confirmed,
                        Ok(Ok(false)) => Verdict::Denied,
                        _ => Verdict::Isolated,
                    }
                }
                _ => Verdict::Isolated,
            };
            let _ = inputs.send(Input::Verdict { round, verdict }).await;
        });
    }

    fn adopt(&mut self, home: Node, epoch: Epoch, _: Duration) {
        let result = match self.machine(|machine| machine.immovable) {
            true => Err("the database does not serve".into()),
            false => Ok(()),
        };
        self.later(
            20,
            Input::Adopted {
                home,
                epoch,
                result,
            },
        );
    }

    fn give_up(&mut self, _: Node) {}

    fn start(&mut self, ids: Vec<String>) {
        self.lab.turn(&self.name, &ids, true);
    }

    fn stop(&mut self, ids: Vec<String>) {
        self.lab.turn(&self.name, &ids, false);
    }

    fn raise(&mut self, alarm: &Alarm) {
        let (id, text) = (alarm.id, alarm.text.clone());
        self.machine(|machine| machine.alarms.insert(id, text));
    }

    fn clear(&mut self, id: &'static str) {
        self.machine(|machine| machine.alarms.remove(id));
    }

    fn record(&mut self, entry: Entry) {
        self.machine(|machine| machine.entries.push(entry));
    }

    fn alive(&mut self) {}
}

impl Lab {
    /// So many nodes, the first two a group with high availability on and the
    /// fast profile, the others alone.
    pub(crate) fn new(count: u64) -> Self {
        let lab = Self::default();
        let mut world = lab.world();
        for number in 1..=count {
            let name = format!("node{number}");
            let replica = number;
            let address = "127.0.0.1".into();
            world
                .known
                .nodes
                .insert(name.clone(), Place { address, replica });
            if number > 2 {
                world.known.groups.push(Group {
                    name: format!("of {name}"),
                    first: name.clone(),
                    second: None,
                    high_availability: false,
                });
            }
            let services = [recovery::DATABASE, ROUTER].map(|id| (id.to_owned(), true));
            let machine = Machine {
                services: services.into(),
                ..Machine::default()
            };
            world.machines.insert(name, machine);
        }
        world.known.groups.push(Group {
            name: "group".into(),
            first: "node1".into(),
            second: Some("node2".into()),
            high_availability: true,
        });
        let profile = ("Keep Alive Profile".to_owned(), "fast".to_owned());
        world.known.parameters.extend([profile]);
        drop(world);
        lab
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.world().cuts.contains(&(from.into(), to.into()))
    }

    /// The way to a node, if there is one.
    fn reach(&self, from: &str, to: &str) -> Option<mpsc::Sender<Input>> {
        let cut = self.is_cut(from, to);
        let inputs = self.world().machines.get(to)?.inputs.clone()?;
        (!cut).then_some(inputs)
    }

    fn cut(&self, from: &str, to: &str) {
        self.world().cuts.insert((from.into(), to.into()));
    }

    fn services(&self, name: &str) -> Services {
        let world = self.world();
        let seen = |running: &bool| Seen {
            critical: true,
            activated: true,
            running: *running,
        };
        let all = world.machines[name].services.iter();
        Services(
            all.map(|(id, running)| (id.clone(), seen(running)))
                .collect(),
        )
    }

    /// Services run or do not from now on, and the manager sees it.
    fn turn(&self, name: &str, ids: &[String], running: bool) {
        {
            let mut world = self.world();
            let machine = world.machines.get_mut(name).unwrap();
            for id in ids {
                machine.services.insert(id.clone(), running);
            }
        }
        let services = self.services(name);
        let inputs = self.world().machines[name].inputs.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if let Some(inputs) = inputs {
                let _ = inputs.send(Input::Services(services)).await;
            }
        });
    }

    pub(crate) fn view(&self, name: &str) -> View {
        View::new(name, &self.world().known, &Parameters::default())
    }

    /// Switches a node on: its memory is what is on its disk.
    pub(crate) fn power_on(&self, name: &str) -> Running {
        self.world().machines.get_mut(name).unwrap().boots += 1;
        self.start(name)
    }

    /// Starts a node's manager.
    fn start(&self, name: &str) -> Running {
        let (inputs, mut taken) = mpsc::channel(64);
        let fake = Fake {
            lab: self.clone(),
            name: name.into(),
            inputs: inputs.clone(),
        };
        let (stored, boot) = {
            let mut world = self.world();
            let machine = world.machines.get_mut(name).unwrap();
            machine.inputs = Some(inputs.clone());
            machine.alarms.clear();
            let boot = format!("{name}, boot {}", machine.boots);
            (machine.disk.clone(), boot)
        };
        let (sender, serving) = watch::channel(Serving::default());
        let (view, services) = (self.view(name), self.services(name));
        let driver = Driver::start(fake, &boot, view, services, stored, sender);
        let task = tokio::spawn(async move { driver?.run(&mut taken).await });
        Running {
            inputs,
            serving,
            task,
        }
    }

    /// The manager, or the whole node, is gone from one moment to the next.
    fn kill(&self, name: &str, running: &Running) {
        running.task.abort();
        self.world().machines.get_mut(name).unwrap().inputs = None;
    }

    /// The database tells everybody something new.
    async fn change(&self, nodes: &[&Running], change: impl FnOnce(&mut Known)) {
        change(&mut self.world().known);
        for node in nodes {
            let known = self.world().known.clone();
            node.inputs.send(Input::Known(known)).await.unwrap();
        }
    }

    fn alarm(&self, name: &str, id: &str) -> bool {
        self.world().machines[name].alarms.contains_key(id)
    }

    fn seen(&self, name: &str) -> Vec<String> {
        let world = self.world();
        let entries = world.machines[name].entries.iter();
        entries.map(|entry| entry.seen.clone()).collect()
    }
}

impl Running {
    async fn status(&self) -> Status {
        let (answer, status) = oneshot::channel();
        self.inputs.send(Input::Status(answer)).await.unwrap();
        status.await.unwrap()
    }

    async fn request(&self, request: Request) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        let input = Input::Request {
            request,
            caller: "a test".into(),
            answer,
        };
        self.inputs.send(input).await.unwrap();
        answered.await.unwrap()
    }

    fn served(&self) -> BTreeMap<String, u64> {
        self.serving.borrow().served()
    }

    fn serves(&self) -> Vec<String> {
        self.served().into_keys().collect()
    }
}

/// State and reason of the first and the second node, as one of them sees it.
async fn states(node: &Running) -> [String; 2] {
    let status = node.status().await;
    let words = |place: usize| {
        let node = &status.nodes[place];
        format!("{} ({})", node.state, node.reason)
    };
    [words(0), words(1)]
}

/// Waits until a node sees these states, for at most so many seconds.
async fn until(node: &Running, first: &str, second: &str, seconds: u32) {
    let end = tokio::time::Instant::now() + seconds * SECOND;
    loop {
        let seen = states(node).await;
        if seen == [first, second] {
            return;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "after {seconds} s it is {seen:?}, not {first}, {second}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const NORMAL: &str = "Normal (Normal)";

/// A pair that runs and is in order, and what else there is.
async fn pair(count: u64) -> (Lab, Vec<Running>) {
    let lab = Lab::new(count);
    let nodes: Vec<Running> = (1..=count)
        .map(|number| lab.power_on(&format!("node{number}")))
        .collect();
    until(&nodes[0], NORMAL, NORMAL, 10).await;
    until(&nodes[1], NORMAL, NORMAL, 10).await;
    (lab, nodes)
}

#[tokio::test(start_paused = true)]
async fn two_nodes_become_normal_and_serve_their_own_users() {
    let (_lab, nodes) = pair(2).await;
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(nodes[0].served(), BTreeMap::from([("node1".into(), 1)]));
    assert_eq!(nodes[1].served(), BTreeMap::from([("node2".into(), 2)]));
    let status = nodes[0].status().await;
    assert_eq!((status.group.as_str(), status.held), ("group", false));
    assert!(
        status
            .nodes
            .iter()
            .all(|node| node.heard && node.down.is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn a_failover_by_hand_and_the_way_back() {
    let (lab, nodes) = pair(2).await;
    nodes[0].request(Request::Failover).await.unwrap();
    let admin = "On Admin Request";
    let (idle, backup) = (
        format!("Idle ({admin})"),
        format!("Running in Backup Mode ({admin})"),
    );
    until(&nodes[0], &idle, &backup, 5).await;
    until(&nodes[1], &idle, &backup, 5).await;
    assert_eq!(nodes[0].serves(), [""; 0]);
    assert_eq!(
        nodes[1].served(),
        BTreeMap::from([("node1".into(), 2), ("node2".into(), 2)])
    );
    assert_eq!(nodes[0].serving.borrow().get("node1").unwrap().epoch, 2);
    assert!(!lab.world().machines["node1"].services[ROUTER]);
    assert!(lab.world().machines["node1"].services[recovery::DATABASE]);
    assert!(lab.alarm("node2", "SRMFailover"));
    let refused = nodes[0].request(Request::Failover).await.unwrap_err();
    assert!(refused.to_string().contains("Idle"), "{refused}");

    nodes[0].request(Request::Fallback).await.unwrap();
    until(&nodes[0], NORMAL, NORMAL, 10).await;
    until(&nodes[1], NORMAL, NORMAL, 10).await;
    assert_eq!(nodes[0].served(), BTreeMap::from([("node1".into(), 3)]));
    assert_eq!(nodes[1].served(), BTreeMap::from([("node2".into(), 2)]));
    assert!(lab.world().machines["node1"].services[ROUTER]);
    assert!(!lab.alarm("node2", "SRMFailover"));
    let told = lab.seen("node1").join(" ");
    assert!(told.contains("An administrator asked for it."), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_taken_over_when_a_third_one_agrees() {
    let (lab, nodes) = pair(3).await;
    lab.kill("node1", &nodes[0]);
    let begin = tokio::time::Instant::now();
    let backup = "Running in Backup Mode (Peer Down)";
    until(&nodes[1], "Unknown (Not Heard)", backup, 10).await;
    let took = begin.elapsed();
    assert!(took >= 2 * SECOND && took < 6 * SECOND, "{took:?}");
    assert_eq!(nodes[1].serves(), ["node1", "node2"]);
    // It comes back, hears who serves its users, and leaves them there.
    let back = lab.power_on("node1");
    let failed_over = "Failed Over (Initialization)";
    until(
        &back,
        failed_over,
        "Running in Backup Mode (Peer Reboot)",
        20,
    )
    .await;
    assert_eq!(back.serves(), [""; 0]);
    assert_eq!(nodes[1].serves(), ["node1", "node2"]);
    back.request(Request::Fallback).await.unwrap();
    until(&back, NORMAL, NORMAL, 20).await;
    assert_eq!(
        (back.serves(), nodes[1].serves()),
        (vec!["node1".into()], vec!["node2".into()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_itself_takes_nobody_over() {
    let (lab, nodes) = pair(2).await;
    for other in ["node1", "gateway"] {
        lab.cut("node2", other);
        lab.cut(other, "node2");
    }
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(nodes[1].serves(), ["node2"]);
    assert!(lab.alarm("node2", "SRMPeerSilent"));
    // The other one is not cut off, and takes over.
    assert_eq!(nodes[0].serves(), ["node1", "node2"]);
    assert!(nodes[0].served()["node2"] > nodes[1].served()["node2"]);
    // Heard again, the higher epoch counts.
    lab.world()
        .cuts
        .retain(|(from, to)| [from, to].contains(&&"gateway".into()));
    let backup = "Running in Backup Mode (Peer Down)";
    until(&nodes[1], backup, "Failed Over (Peer Down)", 10).await;
    assert_eq!(nodes[1].serves(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_lost_one_way_move_nobody() {
    let (lab, nodes) = pair(3).await;
    lab.cut("node1", "node2");
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(nodes[0].serves(), ["node1"]);
    assert_eq!(nodes[1].serves(), ["node2"]);
    assert!(lab.alarm("node2", "SRMPeerSilent"));
    assert!(lab.alarm("node1", "SRMPeerDoesNotHear"));
    lab.world().cuts.clear();
    until(&nodes[1], NORMAL, NORMAL, 5).await;
    tokio::time::sleep(2 * SECOND).await;
    assert!(!lab.alarm("node2", "SRMPeerSilent"));
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_started_anew_disturbs_nobody() {
    let (lab, nodes) = pair(3).await;
    lab.kill("node1", &nodes[0]);
    tokio::time::sleep(SECOND).await;
    let again = lab.start("node1");
    until(&again, NORMAL, NORMAL, 10).await;
    assert_eq!(again.served(), BTreeMap::from([("node1".into(), 1)]));
    assert_eq!(nodes[1].served(), BTreeMap::from([("node2".into(), 2)]));
    assert!(!lab.alarm("node2", "SRMFailover"));
}

#[tokio::test(start_paused = true)]
async fn a_node_with_an_old_memory_serves_nobody_before_it_has_listened() {
    let (lab, nodes) = pair(3).await;
    let old = lab.world().machines["node1"].disk.clone();
    nodes[0].request(Request::Failover).await.unwrap();
    let backup = "Running in Backup Mode (On Admin Request)";
    until(&nodes[1], "Idle (On Admin Request)", backup, 10).await;
    // The first node is put back to a copy of its disk from before.
    lab.kill("node1", &nodes[0]);
    lab.world().machines.get_mut("node1").unwrap().disk = old;
    let mut back = lab.power_on("node1");
    let mut served = false;
    for _ in 0..200 {
        let _ = tokio::time::timeout(SECOND / 10, back.serving.changed()).await;
        served |= !back.serves().is_empty();
    }
    assert!(!served, "it served users that its peer serves");
    assert_eq!(nodes[1].serves(), ["node1", "node2"]);
    // So does one that lost its disk.
    lab.kill("node1", &back);
    lab.world().machines.get_mut("node1").unwrap().disk = None;
    let back = lab.power_on("node1");
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(back.serves(), [""; 0]);
    let known = back.serving.borrow().get("node1").unwrap();
    assert_eq!(known.epoch, nodes[1].served()["node1"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_down_moves_its_users() {
    let (lab, nodes) = pair(2).await;
    lab.turn("node1", &[ROUTER.into()], false);
    let down = "Critical Services Down";
    tokio::time::sleep(80 * SECOND).await;
    assert_eq!(nodes[0].status().await.nodes[0].down, [ROUTER]);
    assert_eq!(nodes[1].serves(), ["node2"]);
    let backup = format!("Running in Backup Mode ({down})");
    let sick = format!("Failed Over with Critical Services Not Running ({down})");
    until(&nodes[1], &sick, &backup, 20).await;
    assert_eq!(nodes[1].serves(), ["node1", "node2"]);
    lab.turn("node1", &[ROUTER.into()], true);
    until(&nodes[1], &format!("Failed Over ({down})"), &backup, 10).await;
    let status = nodes[1].status().await;
    assert!(status.advice[0].contains("utils ha fallback"), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn users_that_cannot_be_served_are_failed_mode_and_recovery_leads_out() {
    let (lab, mut nodes) = pair(2).await;
    lab.world().machines.get_mut("node2").unwrap().immovable = true;
    nodes[0].request(Request::Failover).await.unwrap();
    let failed = "Running in Failed Mode (Cisco Server Recovery Manager Take Over Users Failed)";
    until(&nodes[0], failed, failed, 10).await;
    assert!(lab.alarm("node1", "SRMFailed"));
    lab.world().machines.get_mut("node2").unwrap().immovable = false;
    nodes[1].request(Request::Recover).await.unwrap();
    // Both managers end, and systemd starts them anew.
    for (number, node) in nodes.iter_mut().enumerate() {
        let ended = tokio::time::timeout(10 * SECOND, &mut node.task).await;
        assert_eq!(ended.unwrap().unwrap().unwrap(), End::Restart);
        *node = lab.start(&format!("node{}", number + 1));
    }
    let backup = "Running in Backup Mode (Initialization)";
    until(&nodes[0], "Failed Over (Initialization)", backup, 200).await;
    assert_eq!(nodes[1].serves(), ["node1", "node2"]);
    nodes[0].request(Request::Fallback).await.unwrap();
    until(&nodes[0], NORMAL, NORMAL, 10).await;
}

#[tokio::test(start_paused = true)]
async fn without_high_availability_each_serves_its_own() {
    let lab = Lab::new(2);
    lab.world().known.groups[0].high_availability = false;
    let nodes = [lab.power_on("node1"), lab.power_on("node2")];
    let off = "Unknown (High Availability Not Enabled)";
    until(&nodes[0], NORMAL, off, 5).await;
    until(&nodes[1], off, NORMAL, 5).await;
    lab.kill("node1", &nodes[0]);
    tokio::time::sleep(200 * SECOND).await;
    assert_eq!(nodes[1].serves(), ["node2"]);
    assert!(!lab.alarm("node2", "SRMPeerSilent"));
    let refused = nodes[1].request(Request::Failover).await.unwrap_err();
    assert!(refused.to_string().contains("high availability is off"));
    // Switched on while both run.
    let back = lab.power_on("node1");
    tokio::time::sleep(5 * SECOND).await;
    let on = |known: &mut Known| known.groups[0].high_availability = true;
    lab.change(&[&back, &nodes[1]], on).await;
    until(&back, NORMAL, NORMAL, 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_group_begins_anew_and_no_epoch_comes_twice() {
    let (lab, nodes) = pair(3).await;
    nodes[1].request(Request::Failover).await.unwrap();
    let backup = "Running in Backup Mode (On Admin Request)";
    until(&nodes[0], backup, "Idle (On Admin Request)", 10).await;
    let before = nodes[0].served();
    assert_eq!(before["node2"], 3);
    // The pair is parted, and the second node goes to the third.
    let part = |known: &mut Known| {
        known.groups = vec![
            Group {
                name: "first".into(),
                first: "node1".into(),
                second: None,
                high_availability: false,
            },
            Group {
                name: "last".into(),
                first: "node3".into(),
                second: Some("node2".into()),
                high_availability: true,
            },
        ];
    };
    lab.change(&[&nodes[0], &nodes[1], &nodes[2]], part).await;
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(nodes[0].serves(), ["node1"]);
    assert_eq!(nodes[1].serves(), ["node2"]);
    assert_eq!(nodes[2].serves(), ["node3"]);
    assert!(nodes[1].served()["node2"] > before["node2"]);
    until(&nodes[2], NORMAL, NORMAL, 10).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_not_acted_on() {
    let (lab, mut nodes) = pair(2).await;
    lab.world().machines.get_mut("node2").unwrap().disk_full = true;
    nodes[0].request(Request::Failover).await.unwrap();
    let ended = tokio::time::timeout(10 * SECOND, &mut nodes[1].task).await;
    let error = ended.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(nodes[1].serves(), ["node2"]);
}

#[tokio::test(start_paused = true)]
async fn parameters_change_while_it_runs() {
    let (lab, nodes) = pair(3).await;
    let slow = |known: &mut Known| {
        known.parameters = BTreeMap::from([
            ("Keep Alive (Heartbeat) Interval".into(), "5".into()),
            ("Keep Alive (Heartbeat) Timeout".into(), "30".into()),
        ]);
    };
    lab.change(&[&nodes[0], &nodes[1], &nodes[2]], slow).await;
    tokio::time::sleep(10 * SECOND).await;
    lab.kill("node1", &nodes[0]);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(nodes[1].serves(), ["node2"]);
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(nodes[1].serves(), ["node1", "node2"]);
    let wrong = |known: &mut Known| {
        let name = "Keep Alive (Heartbeat) Timeout".to_owned();
        known.parameters.insert(name, "1".into());
    };
    lab.change(&[&nodes[1]], wrong).await;
    nodes[1].status().await;
    assert!(lab.alarm("node2", "SRMParameterInvalid"));
}
