//! The way to other nodes: none yet, since the only voter is this node.

use std::future::Future;

use openraft::BasicNode;
use openraft::Snapshot;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};

use crate::epoch::Epochs;
use crate::types::{Config, Vote};

/// The ways to other nodes, which say in which epoch of the log they speak.
pub trait Network: RaftNetworkFactory<Config> {
    /// Takes the epoch of this node, which may change.
    fn speak_in(&self, epochs: Epochs);
}

impl Network for Alone {
    fn speak_in(&self, _: Epochs) {}
}

/// The network of a node that is a cluster of its own: nobody is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

#[derive(Debug, thiserror::Error)]
#[error("this node is a cluster of its own and knows no way to others")]
struct NoWay;

impl RaftNetworkFactory<Config> for Alone {
    type Network = Self;

    async fn new_client(&mut self, _: u64, _: &BasicNode) -> Self {
        *self
    }
}

impl RaftNetwork<Config> for Alone {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Config>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        Err(RPCError::Unreachable(Unreachable::new(&NoWay)))
    }

    async fn vote(
        &mut self,
        _: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        Err(RPCError::Unreachable(Unreachable::new(&NoWay)))
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: Snapshot<Config>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Config, Fatal<u64>>> {
        Err(StreamingError::Unreachable(Unreachable::new(&NoWay)))
    }
}
