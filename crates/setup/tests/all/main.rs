//! Tests of set-up in temporary roots.

#![allow(clippy::unwrap_used)]

mod answers;
mod apply;
mod change;
mod common;
mod wizard;
