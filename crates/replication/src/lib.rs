//! The Raft log that keeps every node's store equal.
