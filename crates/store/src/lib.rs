//! The node's embedded store.
