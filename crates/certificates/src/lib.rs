//! Certificates of a node: its authority, and the certificates each component serves with.
