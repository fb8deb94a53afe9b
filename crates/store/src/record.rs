//! How rows and changes lie in the engine, each under a checksum.

use prost::Message;

use crate::Error;

/// A row as it is stored.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Row {
    /// Revision of the transaction that wrote it.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// Version of the schema that it was written under.
    #[prost(uint32, tag = "2")]
    pub version: u32,
    /// The content.
    #[prost(bytes = "vec", tag = "3")]
    pub content: Vec<u8>,
}

/// One row's change, as watchers are told.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Event {
    /// The table.
    #[prost(string, tag = "1")]
    pub table: String,
    /// The row's key.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    /// The row now; none when it was removed.
    #[prost(message, optional, tag = "3")]
    pub row: Option<Row>,
}

/// What one transaction changed.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Change {
    /// The transaction's revision.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// The rows, in the order of the transaction's operations.
    #[prost(message, repeated, tag = "2")]
    pub events: Vec<Event>,
}

/// Length of the checksum before each value.
const SUM: usize = 4;

/// The bytes under which `message` is stored at `key`.
pub(crate) fn seal(key: &[u8], message: &impl Message) -> Vec<u8> {
    let mut value = vec![0; SUM];
    value.reserve(message.encoded_len());
    message.encode_raw(&mut value);
    let sum = checksum(key, &value[SUM..]);
    value[..SUM].copy_from_slice(&sum);
    value
}

/// Whether `value` is what was written at `key`.
pub(crate) fn verify<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Error> {
    let Some((sum, content)) = value.split_first_chunk::<SUM>() else {
        return Err(damaged(key, "is too short"));
    };
    if *sum != checksum(key, content) {
        return Err(damaged(key, "fails its checksum"));
    }
    Ok(content)
}

/// The message stored at `key`, or an error when it is not what was written
/// there.
pub(crate) fn open<M: Message + Default>(key: &[u8], value: &[u8]) -> Result<M, Error> {
    let content = verify(key, value)?;
    M::decode(content).map_err(|_| damaged(key, "is not readable"))
}

fn checksum(key: &[u8], content: &[u8]) -> [u8; SUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(content);
    hasher.finalize().to_le_bytes()
}

fn damaged(key: &[u8], how: &str) -> Error {
    Error::Corrupt(format!("the value at {} {how}", key.escape_ascii()))
}
