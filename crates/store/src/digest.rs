//! Digests of tables that follow each change without reading the table again.

use std::fmt;

use ring::digest::{SHA256, digest};

/// Digest of a set of rows: the sum of the rows' SHA-256 in four 64-bit
/// lanes, so that a row is added and taken away in any order. It tells
/// replicas apart that differ by accident; it is no signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u64; 4]);

impl Digest {
    /// The digest of one row.
    pub(crate) fn of_row(key: &[u8], row: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(8 + key.len() + row.len());
        bytes.extend((key.len() as u64).to_le_bytes());
        bytes.extend(key);
        bytes.extend(row);
        let hash = digest(&SHA256, &bytes);
        let mut lanes = [0; 4];
        for (lane, chunk) in lanes.iter_mut().zip(hash.as_ref().as_chunks::<8>().0) {
            *lane = u64::from_le_bytes(*chunk);
        }
        Self(lanes)
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_add(other);
        }
    }

    pub(crate) fn subtract(&mut self, other: Self) {
        for (lane, other) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_sub(other);
        }
    }

    /// The digest as bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = lane.to_le_bytes();
        }
        bytes
    }

    /// The digest of bytes that [`Digest::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut lanes = [0; 4];
        for (lane, chunk) in lanes.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *lane = u64::from_le_bytes(*chunk);
        }
        Self(lanes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.to_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
