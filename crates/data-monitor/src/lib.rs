//! The gate that holds services back until this node's replication is good.
