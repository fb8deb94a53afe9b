//! What routers ask the database for: reads are local, the publisher writes,
//! and each node follows it.

use router::{Event, StoreFailure, StoreRequest, Write};

use crate::database::PUBLISHER;
use crate::world::{Due, NAMES, NODES, World};

/// How long a request is tried again.
pub(crate) const PATIENCE: u64 = 20_000;
/// After how long a router gives out what it could not have stored: what others
/// stored before comes later.
const AWAY: u64 = 1000;

impl World {
    pub(crate) fn request(&mut self, node: usize, life: u64, request: StoreRequest, until: u64) {
        if !self.nodes[node].powered {
            return;
        }
        let StoreRequest::Write { user, .. } = &request else {
            let answer = self.database.read(node, request);
            return self.router_event(node, life, answer);
        };
        self.lagged |= self.now + PATIENCE >= until + AWAY;
        if self.reach(node, PUBLISHER) {
            let way = if node == PUBLISHER { 0 } else { self.way() };
            let pause = way + self.disk(PUBLISHER, 2, 8);
            let boot = self.nodes[PUBLISHER].boot;
            self.after(pause, Due::Commit(boot, node, life, request, until));
        } else if self.nodes[node].router.life != life {
            // Nobody waits for it any more.
        } else if self.now >= until {
            let user = user.clone();
            self.fail(node, life, user);
        } else {
            self.after(300, Due::Request(node, life, request, until));
        }
    }

    fn fail(&mut self, node: usize, life: u64, user: Box<str>) {
        self.note(&user, || format!("not written for {}", NAMES[node]));
        let result = Err(StoreFailure("the publisher does not answer".into()));
        self.router_event(node, life, Event::Written { user, result });
    }

    /// The publisher has it on the disk, if it lives.
    pub(crate) fn commit(
        &mut self,
        boot: u64,
        (node, life): (usize, u64),
        request: StoreRequest,
        until: u64,
    ) {
        if self.nodes[PUBLISHER].powered && self.nodes[PUBLISHER].boot == boot {
            let StoreRequest::Write { user, writes } = request else {
                return;
            };
            self.note_stored(&user, &writes);
            let number = self.database.commit(user.clone(), writes);
            for other in 0..NODES {
                let pause = if other == PUBLISHER {
                    0
                } else {
                    self.way() + 3
                };
                self.after(pause, Due::Follow(other));
            }
            self.after(1, Due::Arrival(node, life, user, number, until));
        } else {
            self.after(300, Due::Request(node, life, request, until));
        }
    }

    fn note_stored(&mut self, user: &str, writes: &[Write]) {
        let rows = writes.iter().filter(|it| matches!(it, Write::Offline(_)));
        let (stored, removed) = (rows.clone().count(), writes.len() - rows.count());
        self.note(user, || format!("written: {writes:?}"));
        if stored > 0 {
            self.say(format!(
                "database: {stored} for {user} stored, {removed} removed"
            ));
        }
    }

    /// The node that asked waits until it has the change itself.
    pub(crate) fn arrival(
        &mut self,
        node: usize,
        life: u64,
        user: Box<str>,
        number: usize,
        until: u64,
    ) {
        if self.nodes[node].router.life != life {
            return;
        }
        self.lagged |= self.now + PATIENCE >= until + AWAY;
        if self.database.has(node, number) && self.network.passes(PUBLISHER, node) {
            let result = Ok(());
            self.router_event(node, life, Event::Written { user, result });
        } else if self.now >= until {
            self.fail(node, life, user);
        } else {
            self.after(10, Due::Arrival(node, life, user, number, until));
        }
    }

    /// A node takes over what the publisher has.
    pub(crate) fn follow(&mut self, node: usize) {
        if !self.reach(PUBLISHER, node) {
            return;
        }
        let life = self.nodes[node].router.life;
        for news in self.database.follow(node) {
            // The feed keeps its order.
            self.after(5, Due::Router(node, life, Box::new(news)));
        }
    }
}
