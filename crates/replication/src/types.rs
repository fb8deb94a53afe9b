//! The types the log is made of, and their bytes.

use openraft::{BasicNode, CommittedLeaderId, EntryPayload, Membership};
use prost::Message;
use store::{Command, Outcome};

use crate::snapshot::SnapshotFile;

/// How each transaction of an entry ended.
pub type Response = Vec<Outcome>;

openraft::declare_raft_types!(
    /// The types of our log.
    pub Config:
        D = Command,
        R = Response,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<Config>,
        SnapshotData = SnapshotFile,
        AsyncRuntime = openraft::TokioRuntime,
);

/// The consensus engine over our types.
pub type Raft = openraft::Raft<Config>;
/// Name of a place in the log.
pub type LogId = openraft::LogId<u64>;
/// One entry of the log.
pub type Entry = openraft::Entry<Config>;
/// A vote.
pub type Vote = openraft::Vote<u64>;
/// The members as of a place in the log.
pub type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
/// What a snapshot holds.
pub type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
/// A failure of storage, which stops the node.
pub(crate) type StorageError = openraft::StorageError<u64>;
/// A failure of storage, with its subject.
pub(crate) type StorageIOError = openraft::StorageIOError<u64>;

/// Why bytes are not what we wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(crate) String);

/// An entry as it is stored.
#[derive(Clone, PartialEq, Message)]
struct EntryRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(message, optional, tag = "4")]
    command: Option<Command>,
    /// JSON, since it is rare and its type is the engine's.
    #[prost(bytes = "vec", tag = "5")]
    membership: Vec<u8>,
}

/// Length of the checksum before each value.
const SUM: usize = 4;

/// Bytes under a checksum over them and `place`, where they are stored.
pub(crate) fn seal(place: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SUM + content.len());
    bytes.extend(checksum(place, content));
    bytes.extend(content);
    bytes
}

/// The bytes that [`seal`] put at `place`.
pub(crate) fn unseal<'a>(place: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Damaged> {
    match bytes.split_first_chunk::<SUM>() {
        Some((sum, content)) if *sum == checksum(place, content) => Ok(content),
        _ => Err(Damaged(format!(
            "the value at {} fails its checksum",
            place.escape_ascii()
        ))),
    }
}

fn checksum(place: &[u8], content: &[u8]) -> [u8; SUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(place);
    hasher.update(content);
    hasher.finalize().to_le_bytes()
}

/// The stored form of an entry.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let id = entry.log_id;
    let mut record = EntryRecord {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: id.index,
        ..EntryRecord::default()
    };
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(command) => record.command = Some(command.clone()),
        EntryPayload::Membership(membership) => record.membership = to_json(membership),
    }
    seal(&id.index.to_be_bytes(), &record.encode_to_vec())
}

/// The entry stored at `index`.
pub(crate) fn decode_entry(index: u64, bytes: &[u8]) -> Result<Entry, Damaged> {
    let unreadable = || Damaged(format!("entry {index} of the log is not readable"));
    let content = unseal(&index.to_be_bytes(), bytes)
        .map_err(|_| Damaged(format!("entry {index} of the log fails its checksum")))?;
    let record = EntryRecord::decode(content).map_err(|_| unreadable())?;
    if record.index != index {
        return Err(unreadable());
    }
    let payload = if let Some(command) = record.command {
        EntryPayload::Normal(command)
    } else if record.membership.is_empty() {
        EntryPayload::Blank
    } else {
        let membership: Membership<u64, BasicNode> =
            serde_json::from_slice(&record.membership).map_err(|_| unreadable())?;
        EntryPayload::Membership(membership)
    };
    Ok(Entry {
        log_id: log_id(record.term, record.node, index),
        payload,
    })
}

/// Name of a place in the log.
pub(crate) fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, node), index)
}

/// JSON of the engine's own types, whose maps have text or number keys only.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// The value of JSON that [`to_json`] made.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Damaged> {
    serde_json::from_slice(bytes).map_err(|error| Damaged(error.to_string()))
}
