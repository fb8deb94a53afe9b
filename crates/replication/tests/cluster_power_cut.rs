//! Power cuts of any node of a cluster in the middle of writes: no
//! acknowledged write is lost, and every node is in step again by itself.
//!
//! Log and snapshots of each node lie on a recorder, which knows what was
//! synced; its replica is kept as the cut finds it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peer::testing::Wire;
use replication::{Node, Options};
use support::cluster::{Running, address, expect_equal, follow, peers, put, serve};
use support::recorder::Recorder;
use support::{Random, copy, put as set, rounds, seed, value};

const PUBLISHER: usize = 0;
const NODES: usize = 3;
const KEYS: usize = 4;
/// Writes to each key in a round that nothing ends.
const WRITES: u64 = 60;

/// A node's disk, what lies beside it, and the node while it runs.
struct Machine {
    number: u64,
    disk: Recorder,
    folder: PathBuf,
    running: Option<Running>,
}

impl Machine {
    async fn start(&mut self, wire: &Wire) {
        let mut options = Options::new(self.number, self.folder.clone());
        options.found = self.number == 1;
        options.address = address(self.number);
        options.disk = Arc::new(self.disk.clone());
        options.cache = 1 << 20;
        options.grace = Duration::from_millis(50);
        // Snapshots and dropped logs are part of what is cut.
        options.snapshot_entries = 25;
        let node = Node::open(options, peers(wire, self.number)).await.unwrap();
        assert!(!node.recovery().loss(), "{:?}", node.recovery());
        let serving = serve(wire, self.number, &node);
        self.running = Some(Running { node, serving });
    }

    fn node(&self) -> &Node {
        &self.running.as_ref().unwrap().node
    }

    /// The power goes: nothing that the node does from here on has an effect.
    async fn cut(&mut self, wire: &Wire, folder: PathBuf) {
        self.disk = self.disk.after_the_cut(u64::MAX);
        wire.cut(self.number);
        copy(&self.folder, &folder);
        self.folder = folder;
        let Running { node, serving } = self.running.take().unwrap();
        serving.abort();
        // Its connections and what they hold end with it.
        let _ = serving.await;
        let _ = node.close().await;
    }
}

/// What was answered, and what was asked, of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    acknowledged: u64,
    asked: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_whoever_loses_power() {
    let mut random = Random::new(seed());
    let root = tempfile::tempdir().unwrap();
    let wire = Wire::default();
    let mut machines: Vec<Machine> = (1..=NODES as u64)
        .map(|number| Machine {
            number,
            disk: Recorder::new(random.next(), u64::MAX),
            folder: root.path().join(format!("{number}-0")),
            running: None,
        })
        .collect();
    for machine in &mut machines {
        std::fs::create_dir(&machine.folder).unwrap();
        machine.start(&wire).await;
    }
    let learners: Vec<&Running> = machines[1..]
        .iter()
        .filter_map(|machine| machine.running.as_ref())
        .collect();
    let publisher = machines[PUBLISHER].running.as_ref().unwrap();
    publisher.teach(&learners).await;
    let mut told = [Told::default(); KEYS];
    let mut cut_short = 0;
    // Each round waits for nodes that find each other again.
    for round in 1..=rounds(12).min(100) {
        let victim = random.below(NODES as u64) as usize;
        let moment = random.below(KEYS as u64 * WRITES);
        let done = Arc::new(AtomicU64::new(0));
        let publisher = Arc::new(machines[PUBLISHER].running.take().unwrap());
        let writers = told.into_iter().enumerate().map(|(key, mut told)| {
            let (publisher, done) = (publisher.clone(), done.clone());
            tokio::spawn(async move {
                for _ in 0..WRITES {
                    told.asked += 1;
                    let change = set(&key.to_string(), told.asked, 200);
                    match publisher.node.commit(change).await {
                        Ok(outcome) => {
                            outcome.unwrap();
                            told.acknowledged = told.asked;
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => return (told, false),
                    }
                }
                (told, true)
            })
        });
        let writers: Vec<_> = writers.collect();
        while done.load(Ordering::Relaxed) < moment && writers.iter().any(|it| !it.is_finished()) {
            tokio::task::yield_now().await;
        }
        let next = root
            .path()
            .join(format!("{}-{round}", machines[victim].number));
        if victim == PUBLISHER {
            // The writers still hold it; its disk is dark at once.
            machines[PUBLISHER].disk = machines[PUBLISHER].disk.after_the_cut(u64::MAX);
        } else {
            machines[victim].cut(&wire, next.clone()).await;
        }
        let mut complete = true;
        for (key, writer) in writers.into_iter().enumerate() {
            let (now, whole) = writer.await.unwrap();
            told[key] = now;
            complete &= whole;
        }
        assert!(
            complete || victim == PUBLISHER,
            "round {round}: nobody else's loss stops writes"
        );
        cut_short += u32::from(!complete);
        let publisher = Arc::try_unwrap(publisher).ok().unwrap();
        machines[PUBLISHER].running = Some(publisher);
        if victim == PUBLISHER {
            machines[PUBLISHER].cut(&wire, next).await;
        }
        machines[victim].start(&wire).await;
        let leader = machines[PUBLISHER].node();
        put(leader, &format!("round-{round}")).await;
        let store = leader.replica().store();
        for (key, told) in told.iter_mut().enumerate() {
            let found = value(&store, &key.to_string());
            assert!(
                (told.acknowledged..=told.asked).contains(&found),
                "round {round}: key {key} is {found}, {told:?}; node {} was cut",
                victim + 1,
            );
            *told = Told {
                acknowledged: found,
                asked: found,
            };
        }
        drop(store);
        for learner in &machines[1..] {
            follow(learner.node(), leader).await;
            expect_equal(learner.node(), leader);
        }
    }
    println!("{cut_short} rounds in which writes were cut short");
}
