//! Keeps the log partition between its water marks.
