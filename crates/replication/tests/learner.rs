//! A publisher with learners, in one process: the shape of a cluster to come.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::error::{
    Fatal, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, Snapshot};
use replication::{CommitError, Config, Node, Options, Raft, Vote};
use store::{Action, Operation, Transaction, key};

/// Nodes reach each other by their handles.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<BTreeMap<u64, Raft>>>);

struct Line {
    wire: Wire,
    target: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("nobody is there")]
struct Nobody;

impl Line {
    fn peer(&self) -> Result<Raft, Unreachable> {
        self.wire
            .0
            .lock()
            .unwrap()
            .get(&self.target)
            .cloned()
            .ok_or_else(|| Unreachable::new(&Nobody))
    }
}

impl RaftNetworkFactory<Config> for Wire {
    type Network = Line;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Line {
        Line {
            wire: self.clone(),
            target,
        }
    }
}

impl RaftNetwork<Config> for Line {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Config>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let answer = self.peer()?.append_entries(rpc).await;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let answer = self.peer()?.vote(rpc).await;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Config>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Config, Fatal<u64>>> {
        let peer = self.peer()?;
        let incoming = peer.begin_receiving_snapshot().await.unwrap();
        let mut bytes = Vec::new();
        snapshot
            .snapshot
            .bytes()
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        let mut file = incoming.receive().unwrap();
        file.write_all(&bytes).unwrap();
        file.sync().unwrap();
        let received = Snapshot {
            meta: snapshot.meta,
            snapshot: incoming,
        };
        let answer = peer.install_full_snapshot(vote, received).await;
        answer.map_err(|error| StreamingError::RemoteError(RemoteError::new(self.target, error)))
    }
}

fn put(key: &str) -> Transaction {
    let operation = Operation {
        action: Action::Put.into(),
        table: "t".into(),
        key: key::encode(&[key::Part::Text(key.into())]),
        row: format!("\"{key}\"").into_bytes(),
        version: 1,
        revision: 0,
    };
    Transaction {
        operations: vec![operation],
    }
}

async fn start(wire: &Wire, id: u64, folder: &std::path::Path) -> Node {
    let mut options = Options::new(id, folder.into());
    options.found = id == 1;
    let node = Node::open(options, wire.clone()).await.unwrap();
    wire.0.lock().unwrap().insert(id, node.raft().clone());
    node
}

async fn wait_for(node: &Node, index: u64) {
    let limit = Some(Duration::from_secs(20));
    node.raft()
        .wait(limit)
        .applied_index_at_least(Some(index), "the learner follows")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_learner_gets_a_snapshot_and_then_the_log_and_is_equal() {
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let wire = Wire::default();
    let publisher = start(&wire, 1, folders[0].path()).await;
    // The log's beginning is dropped, so that a newcomer needs a snapshot.
    for round in 0..3 {
        for number in 0..20 {
            publisher
                .commit(put(&format!("{round}-{number}")))
                .await
                .unwrap()
                .unwrap();
        }
        publisher.snapshot().await.unwrap();
    }
    assert!(publisher.facts().purged > 0 || publisher.facts().snapshot > 0);
    let learner = start(&wire, 2, folders[1].path()).await;
    publisher
        .raft()
        .add_learner(2, BasicNode::new("n2"), true)
        .await
        .unwrap();
    publisher.commit(put("late")).await.unwrap().unwrap();
    let applied = publisher.facts().applied;
    wait_for(&learner, applied).await;
    assert_eq!(
        learner.replica().store().digests(),
        publisher.replica().store().digests()
    );
    assert_eq!(learner.facts().role, "learner");
    let members = publisher.facts().members;
    assert_eq!(
        members
            .iter()
            .map(|m| (m.node, m.voter))
            .collect::<Vec<_>>(),
        [(1, true), (2, false)]
    );
    let refused = learner.commit(put("no")).await;
    assert!(
        matches!(&refused, Err(CommitError::Elsewhere(node)) if node == "1"),
        "{refused:?}"
    );

    // It was away for a while and follows again.
    wire.0.lock().unwrap().remove(&2);
    learner.close().await.unwrap();
    for number in 0..30 {
        publisher
            .commit(put(&format!("away-{number}")))
            .await
            .unwrap()
            .unwrap();
    }
    let learner = start(&wire, 2, folders[1].path()).await;
    assert_eq!(learner.recovery().findings, []);
    wait_for(&learner, publisher.facts().applied).await;
    assert_eq!(
        learner.replica().store().digests(),
        publisher.replica().store().digests()
    );
    assert_eq!(
        learner.replica().store().check().unwrap().problems,
        Vec::<String>::new()
    );
    learner.close().await.unwrap();
    publisher.close().await.unwrap();
}
