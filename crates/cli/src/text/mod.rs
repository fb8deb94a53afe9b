//! The texts of the answers. Scripts parse them: they are asserted byte by
//! byte, and changing one is changing an interface.

mod cluster;
mod failover;
mod groups;
mod machine;
mod parameters;
mod replication;
mod services;
mod tables;
mod voters;

pub(crate) use cluster::{cluster, removal, removed};
pub(crate) use failover::{ha_history, ha_status};
pub(crate) use groups::{availability, group, groups, moved, moves, pace, switched};
pub(crate) use machine::{banner, network, status, version};
pub(crate) use parameters::parameters;
pub(crate) use replication::{
    audit, datastores, mending, promotion, repairs, replication_status, runtime_state,
};
pub(crate) use services::{service_line, service_list, stopped_besides};
pub(crate) use tables::{
    alarms, entries, imported, perf_classes, perf_counters, perf_instances, perf_query, user, users,
};
pub(crate) use voters::{voters, voters_change};
