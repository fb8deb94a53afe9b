//! What the agent hears from the database.

use std::collections::BTreeMap;

use database::tables::{EndUser, ProcessNode, RedundancyGroup};
use database::{Database, Parameters, Watch, WatchEvent};
use futures::FutureExt;
use redundancy::{Group, Groups, MODE, Mode};

use crate::Agent;

/// The tables that the agent follows.
#[derive(Debug)]
pub(crate) struct Watched {
    users: Watch<EndUser>,
    nodes: Watch<ProcessNode>,
    groups: Watch<RedundancyGroup>,
    parameters: Parameters,
    /// Nodes by name, and whether each has joined; none before the first word.
    known_nodes: Option<BTreeMap<String, bool>>,
    known_groups: Option<BTreeMap<String, Group>>,
    users_known: bool,
}

impl Watched {
    pub(crate) fn new(database: &Database) -> Self {
        Self {
            users: database.watch(&[]),
            nodes: database.watch(&[]),
            groups: database.watch(&[]),
            parameters: database.enterprise_parameters(),
            known_nodes: None,
            known_groups: None,
            users_known: false,
        }
    }

    /// Waits until each table was told once. Safe to cancel.
    pub(crate) async fn all(&mut self, agent: &mut Agent) {
        self.parameters.loaded().await;
        self.take_mode(agent);
        while !self.users_known || self.known_nodes.is_none() || self.known_groups.is_none() {
            self.one(agent).await;
        }
    }

    /// Waits for news and takes all that there are. Safe to cancel.
    pub(crate) async fn next(&mut self, agent: &mut Agent) {
        self.one(agent).await;
        while self.one(agent).now_or_never().is_some() {}
    }

    async fn one(&mut self, agent: &mut Agent) {
        tokio::select! {
            event = self.users.next() => {
                self.users_known = true;
                take_user(agent, event);
            }
            event = self.nodes.next() => {
                let pair = |row: ProcessNode| (row.name, row.replica != 0);
                let nodes = self.known_nodes.get_or_insert_default();
                event.apply(nodes, pair);
                agent.set_nodes(nodes.clone());
            }
            event = self.groups.next() => {
                let pair = |row: RedundancyGroup| (row.name.clone(), group(row));
                let groups = self.known_groups.get_or_insert_default();
                event.apply(groups, pair);
                agent.set_groups(Groups::new(groups.values().cloned().collect()));
            }
            () = self.parameters.changed() => self.take_mode(agent),
        }
    }

    fn take_mode(&self, agent: &mut Agent) {
        agent.set_mode(self.parameters.get(MODE, Mode::default()));
    }
}

fn take_user(agent: &mut Agent, event: WatchEvent<EndUser>) {
    match event {
        WatchEvent::Snapshot(users) => {
            agent.forget_all();
            for user in users {
                agent.set_user(&user.user, &user.node);
            }
        }
        WatchEvent::Put(user) => agent.set_user(&user.user, &user.node),
        WatchEvent::Delete(key) => {
            if let Some(user) = key.0.first() {
                agent.forget(user);
            }
        }
    }
}

fn group(row: RedundancyGroup) -> Group {
    Group {
        name: row.name,
        description: row.description,
        first: row.first,
        second: row.second,
        high_availability: row.high_availability,
    }
}
