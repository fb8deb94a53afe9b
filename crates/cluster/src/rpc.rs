//! The generated interface.

#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("signalbox.cluster");
