//! The generated interfaces.

#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("signalbox.recovery");
