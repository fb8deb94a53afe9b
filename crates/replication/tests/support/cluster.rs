//! Nodes of a cluster in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use peer::testing::Wire;
use replication::{Expected, LARGEST_MESSAGE, Node, Options, Peers, ReplicationServer, number};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A node that runs, and its side of the wire.
pub struct Running {
    pub node: Node,
    pub serving: JoinHandle<()>,
}

impl Running {
    /// Makes these the learners of the publisher.
    pub async fn teach(&self, nodes: &[&Self]) {
        let expected = expected(nodes);
        self.node.settle_members(&expected).await.unwrap();
    }
}

/// The nodes of a test.
pub struct Cluster {
    pub wire: Wire,
    pub folders: BTreeMap<u64, TempDir>,
    pub grace: Duration,
}

impl Cluster {
    pub fn new() -> Self {
        Self {
            wire: Wire::default(),
            folders: BTreeMap::new(),
            grace: Duration::from_secs(60),
        }
    }

    pub fn folder(&mut self, number: u64) -> &Path {
        let folder = self.folders.entry(number);
        folder
            .or_insert_with(|| tempfile::tempdir().unwrap())
            .path()
    }

    pub async fn start(&mut self, number: u64) -> Running {
        let mut options = Options::new(number, self.folder(number).into());
        options.found = number == 1;
        options.address = address(number);
        options.grace = self.grace;
        let peers = peers(&self.wire, number);
        let node = Node::open(options, peers).await.unwrap();
        let serving = serve(&self.wire, number, &node);
        Running { node, serving }
    }

    pub async fn stop(&self, number: u64, running: Running) {
        self.wire.cut(number);
        running.serving.abort();
        // Its connections and what they hold end with it.
        let _ = running.serving.await;
        running.node.close().await.unwrap();
    }
}

/// The ways of node `from` to the others.
pub fn peers(wire: &Wire, from: u64) -> Peers {
    let wire = wire.clone();
    Peers::new(move |to, _| wire.channel(from, to))
}

/// Lets others reach a node, until it is cut off.
pub fn serve(wire: &Wire, number: u64, node: &Node) -> JoinHandle<()> {
    let service = ReplicationServer::new(node.responder())
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let serving = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(wire.listen(number));
    tokio::spawn(async move { serving.await.unwrap() })
}

pub fn address(number: u64) -> String {
    format!("n{number}")
}

/// The other nodes, all of which answer.
pub fn expected(nodes: &[&Running]) -> Expected {
    let names = nodes.iter().map(|one| one.node.name());
    let others = names.map(|name| (name, address(number(name))));
    let others: BTreeMap<_, _> = others.collect();
    Expected {
        answering: others.keys().copied().collect(),
        others,
        leader_removed: false,
    }
}

pub async fn put(node: &Node, key: &str) -> u64 {
    let done = node.commit(super::put(key, 1, 20)).await;
    done.unwrap().unwrap()
}

pub async fn fill(node: &Node, name: &str, count: u32) {
    for number in 0..count {
        put(node, &format!("{name}-{number}")).await;
    }
}

pub async fn follow(learner: &Node, publisher: &Node) {
    let index = publisher.facts().applied;
    let limit = Some(Duration::from_secs(20));
    learner
        .raft()
        .wait(limit)
        .applied_index_at_least(Some(index), "the learner follows")
        .await
        .unwrap();
}

pub fn expect_equal(learner: &Node, publisher: &Node) {
    let (ours, theirs) = (learner.replica().store(), publisher.replica().store());
    assert_eq!(ours.digests(), theirs.digests());
    assert_eq!(ours.check().unwrap().problems, [""; 0]);
}
