//! The one list of commands.
//!
//! Each file declares the commands of one subject, with the handlers beside
//! them. [`TREE`] joins them; parsing, completion, help and `--json` need
//! nothing else.

mod cluster;
mod failover;
mod files;
mod groups;
mod homes;
mod parameters;
mod platform;
mod replication;
mod services;
mod show;
mod tech;
mod users;

use std::sync::LazyLock;

use crate::command::Command;
use crate::parse::Tree;

const GROUPS: &[(&str, &str)] = &[
    ("alarms", "What needs attention now"),
    ("file", "Logs"),
    ("file list", "List logs"),
    ("file tail", "The end of a log"),
    ("file view", "A whole log"),
    ("groups", "Nodes that stand in for each other"),
    ("replication-sync", "The gate that services wait at"),
    ("set", "Change settings"),
    ("set cli", "This session"),
    ("set network", "Network settings"),
    ("set network cluster", "The nodes of the cluster"),
    (
        "set network cluster subscriber",
        "Nodes that join the cluster",
    ),
    ("set replication-sync", "The gate that services wait at"),
    (
        "set user-assignment",
        "How users who have no home node get one",
    ),
    ("show", "Look at the node"),
    ("show perf", "Counters"),
    ("show perf list", "Which counters there are"),
    ("show perf query", "Values of counters"),
    ("show replication-sync", "The gate that services wait at"),
    ("show timezone", "Time zones"),
    (
        "show user-assignment",
        "How users who have no home node get one",
    ),
    ("unset", "Take settings back"),
    ("unset network", "Network settings"),
    ("unset network cluster", "The nodes of the cluster"),
    ("users", "The people who use the node"),
    ("utils", "Operate the node"),
    ("utils dbreplication", "Replication of the configuration"),
    (
        "utils dbreplication voters",
        "Who votes: the publisher alone, or every node",
    ),
    ("utils ha", "Failover inside redundancy groups"),
    ("utils imdb_replication", "Real-time stores"),
    ("utils service", "Services"),
    (
        "utils service auto-restart",
        "Whether a service comes back by itself",
    ),
    ("utils system", "The machine"),
];

static COMMANDS: LazyLock<Vec<Command>> = LazyLock::new(|| {
    [
        cluster::COMMANDS,
        failover::COMMANDS,
        files::COMMANDS,
        groups::COMMANDS,
        homes::COMMANDS,
        parameters::COMMANDS,
        platform::COMMANDS,
        replication::COMMANDS,
        services::COMMANDS,
        show::COMMANDS,
        tech::COMMANDS,
        users::COMMANDS,
    ]
    .concat()
});

/// Every command.
pub static TREE: LazyLock<Tree> = LazyLock::new(|| Tree {
    commands: &COMMANDS,
    groups: GROUPS,
});
