//! A node: its power, its services, its disk.

use std::collections::BTreeSet;

use recovery::DATABASE;

use crate::manager::Manager;
use crate::routing::RouterProcess;
use crate::stores::{STORES, StoreProcess};
use crate::world::{Due, ManagerDue, NAMES, PAIR, World};

/// The router's service.
pub(crate) const ROUTER: &str = "xmpp-router";

/// The critical services.
pub(crate) fn critical() -> BTreeSet<String> {
    [DATABASE, ROUTER].map(str::to_owned).into()
}

pub(crate) struct Node {
    pub(crate) powered: bool,
    booting: bool,
    /// Number of this boot.
    pub(crate) boot: u64,
    /// It stands still until then.
    pub(crate) stalled_until: u64,
    /// Its disk is slow until then.
    pub(crate) slow_until: u64,
    /// Whether the router is to run, and whether it cannot.
    pub(crate) wanted: bool,
    pub(crate) broken: bool,
    pub(crate) manager: Manager,
    pub(crate) router: RouterProcess,
    pub(crate) stores: [Option<StoreProcess>; STORES.len()],
}

impl Node {
    pub(crate) fn new() -> Self {
        Self {
            powered: false,
            booting: false,
            boot: 0,
            stalled_until: 0,
            slow_until: 0,
            wanted: true,
            broken: false,
            manager: Manager::new(),
            router: RouterProcess::new(),
            stores: std::array::from_fn(|_| None),
        }
    }
}

impl World {
    /// The node is switched on, and there after so many ms.
    pub(crate) fn power_on(&mut self, node: usize, ms: u64) {
        let it = &mut self.nodes[node];
        if !it.powered && !std::mem::replace(&mut it.booting, true) {
            self.after(ms, Due::Boot(node));
        }
    }

    pub(crate) fn boot(&mut self, node: usize) {
        let boot = self.life();
        let it = &mut self.nodes[node];
        (it.powered, it.booting, it.boot) = (true, false, boot);
        (it.stalled_until, it.slow_until) = (0, 0);
        it.wanted = true;
        self.say(format!("{}: booted", NAMES[node]));
        for store in 0..STORES.len() {
            let pause = self.random.between(50, 150);
            self.after(pause, Due::StoreStart(node, store, boot));
        }
        let pause = self.random.between(300, 2000);
        self.after(pause, Due::RouterStart(node, boot));
        if node < PAIR {
            let pause = self.random.between(50, 500);
            self.after(pause, Due::ManagerStart(node));
        } else {
            self.begin_to_listen();
        }
    }

    /// The node is switched off: nobody is told.
    pub(crate) fn power_off(&mut self, node: usize) {
        if !self.nodes[node].powered {
            return;
        }
        self.say(format!("{}: power lost", NAMES[node]));
        self.end_streams(node);
        self.close_component(node, false);
        let it = &mut self.nodes[node];
        it.powered = false;
        it.router.end();
        it.stores = std::array::from_fn(|_| None);
        it.manager.end();
    }

    /// The node shuts down in good order, which takes its time.
    pub(crate) fn shut_down(&mut self, node: usize) {
        if !self.awake(node) {
            return;
        }
        self.say(format!("{}: shuts down", NAMES[node]));
        self.leave(node);
        self.stop_router(node);
        let boot = self.nodes[node].boot;
        self.after(3000, Due::PowerOff(node, boot));
    }

    pub(crate) fn off(&mut self, node: usize, boot: u64) {
        if self.nodes[node].boot == boot {
            self.power_off(node);
        }
    }

    /// Everything on the node stands still for so many ms.
    pub(crate) fn stall(&mut self, node: usize, ms: u64) {
        if self.awake(node) {
            self.say(format!("{}: stands still for {ms} ms", NAMES[node]));
            self.nodes[node].stalled_until = self.now + ms;
            self.after(ms, Due::Wake);
        }
    }

    /// The node's disk is slow for so many ms.
    pub(crate) fn slow_disk(&mut self, node: usize, ms: u64) {
        self.say(format!("{}: slow disk for {ms} ms", NAMES[node]));
        self.nodes[node].slow_until = self.now + ms;
    }

    pub(crate) fn is_slow(&self, node: usize) -> bool {
        self.nodes[node].slow_until > self.now
    }

    /// Has the router run, or not.
    pub(crate) fn want_router(&mut self, node: usize, wanted: bool) {
        self.nodes[node].wanted = wanted;
        let boot = self.nodes[node].boot;
        if wanted {
            let pause = self.random.between(100, 600);
            self.after(pause, Due::RouterStart(node, boot));
        } else {
            self.stop_router(node);
        }
    }

    /// How a manager sees the services of its node.
    pub(crate) fn services(&self, node: usize) -> [(&'static str, bool); 2] {
        let it = &self.nodes[node];
        [(DATABASE, it.powered), (ROUTER, it.router.is_running())]
    }

    /// Looks at the services once in a while.
    pub(crate) fn observe_later(&mut self, node: usize, life: u64) {
        self.after(1000, Due::Manager(node, life, ManagerDue::Observe));
    }
}
