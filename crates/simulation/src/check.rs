//! What must hold of a cluster to which nothing happens any more.

use std::collections::BTreeSet;

use crate::client::{Client, USERS, number_of};
use crate::stores::STORES;
use crate::world::{DOMAIN, NAMES, PAIR, World};

impl World {
    /// What is not well now.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut wrong = self.owners_complain();
        wrong.extend(self.clients_complain());
        wrong.extend(self.messages_complain());
        wrong.extend(self.stores_complain());
        wrong.extend(self.sessions_complain());
        wrong
    }

    /// Each home is served by its own node, and by no other.
    fn owners_complain(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (node, it) in self.nodes.iter().enumerate() {
            let told = it.router.told.clone().unwrap_or_default();
            let homes: Vec<&str> = told.keys().map(String::as_str).collect();
            if homes != [NAMES[node]] {
                wrong.push(format!("{} serves {homes:?}", NAMES[node]));
            }
        }
        wrong
    }

    /// Everybody is signed in at home and sees everybody.
    fn clients_complain(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for client in self.clients.iter().filter(|client| !client.gone) {
            let name = client.name;
            if client.signed_in() != Some(client.home) {
                wrong.push(format!("{name} is at {:?}", client.signed_in()));
            }
            if client.dual && client.waits_at() != Some(1 - client.home) {
                wrong.push(format!("{name} waits at {:?}", client.waits_at()));
            }
            let others = self.present().filter(|other| other.name != name);
            let others: BTreeSet<&str> = others.map(|other| other.name).collect();
            if client.seen != others {
                wrong.push(format!("{name} sees {:?}", client.seen));
            }
            if !client.is_settled() {
                wrong.push(format!("not all that {name} sent is acknowledged"));
            }
        }
        wrong
    }

    /// Who did not leave for good.
    fn present(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(|client| !client.gone)
    }

    /// Every message that did not come back has come, in order, or is stored
    /// for who left.
    fn messages_complain(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for ((from, to), sent) in &self.sent {
            let refused = &self.clients[*from].refused;
            let mut seen = BTreeSet::new();
            let came = self.got.get(&(*from, *to)).into_iter().flatten().copied();
            let waits = self.database.stored(USERS[*to]);
            let waits = waits.filter_map(number_of);
            // Who is there must have got it.
            let waits = waits.filter(|it| self.clients[*to].gone && sent.contains(it));
            let got = came.chain(waits).filter(|it| !refused.contains(it));
            let got: Vec<u64> = got.filter(|number| seen.insert(*number)).collect();
            let sent = sent.iter().filter(|number| !refused.contains(number));
            // What somebody who left wrote last may have got nowhere.
            let left = |number: &&u64| !self.clients[*from].gone || got.contains(number);
            let sent: Vec<u64> = sent.filter(left).copied().collect();
            let moved = |who: &usize| self.clients[*who].moved;
            let (mut got, mut sent) = (got, sent);
            if !self.mild && (self.lagged || moved(from) || moved(to)) {
                got.sort_unstable();
                sent.sort_unstable();
            }
            if got != sent {
                let (from, to) = (USERS[*from], USERS[*to]);
                let missing: Vec<&u64> = sent.iter().filter(|it| !got.contains(it)).collect();
                wrong.push(format!(
                    "{from} wrote {sent:?} to {to}, who got {got:?}; missing: {missing:?}"
                ));
            }
        }
        wrong
    }

    /// Copies are as what they are copies of.
    fn stores_complain(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (node, at) in NAMES.into_iter().enumerate().take(PAIR) {
            for (store, name) in STORES.iter().enumerate() {
                let own = self.nodes[node].stores[store].as_ref().map(|it| it.own());
                let other = self.nodes[1 - node].stores[store].as_ref();
                let copies = other.map(|it| it.copies());
                if own.is_none() || own != copies {
                    wrong.push(format!("{name} of {}: {own:?}, copied as {copies:?}", at));
                }
                let keys = own.into_iter().flatten().map(|(_, _, key, _)| key);
                let keys: BTreeSet<String> = keys.collect();
                let here = self.present().filter(|it| it.home == node);
                let jid = |name: &str| match *name == *datastore::ROUTE {
                    true => String::new(),
                    false => "/a".into(),
                };
                let expected = here.map(|it| format!("{}@{DOMAIN}{}", it.name, jid(name)));
                let expected: BTreeSet<String> = expected.collect();
                if keys != expected {
                    wrong.push(format!("{name} of {} has {keys:?}", at));
                }
            }
        }
        wrong
    }

    /// Counters are as seed 004's table 3 has them, and no phantom is left.
    fn sessions_complain(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (node, it) in self.nodes.iter().enumerate() {
            let Some(stats) = it.router.core().map(router::Router::stats) else {
                wrong.push(format!("{} has no router", NAMES[node]));
                continue;
            };
            let here = self.present().filter(|client| client.home == node);
            let waiting = self
                .clients
                .iter()
                .filter(|client| node < PAIR && client.dual && client.home == 1 - node);
            let expected = (here.count(), waiting.count());
            let found = (stats.sessions_connected, stats.inactive);
            if found != expected || stats.sessions != expected.0 || stats.phantoms > 0 {
                wrong.push(format!("{} counts {stats:?}", NAMES[node]));
            }
        }
        wrong
    }
}
