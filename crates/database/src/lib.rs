//! The node's configuration database: typed tables, transactions and a change feed.
