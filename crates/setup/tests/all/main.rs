//! Tests of set-up in temporary roots.

mod answers;
mod common;
