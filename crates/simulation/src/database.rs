//! The configuration database: a log that the publisher writes and the others
//! follow, and each node's rows.

use std::collections::BTreeMap;

use router::{Event, OfflineRow, RosterRow, StoreFailure, StoreRequest, UserRows, Write};

use crate::world::NODES;

/// The node that takes changes.
pub(crate) const PUBLISHER: usize = 0;

/// A user's rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    roster: BTreeMap<Box<str>, RosterRow>,
    offline: BTreeMap<i64, OfflineRow>,
}

impl Rows {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Roster(row) => drop(self.roster.insert(row.contact.clone(), row)),
            Write::RemoveRoster(contact) => drop(self.roster.remove(&contact)),
            Write::Offline(row) => drop(self.offline.insert(row.sequence, row)),
            Write::RemoveOffline(sequence) => drop(self.offline.remove(&sequence)),
            Write::Block(_) | Write::Unblock(_) | Write::VCard(_) => {
                panic!("clients here do not ask for it: {write:?}")
            }
        }
    }
}

/// The database of the cluster. What is in its log is on the publisher's disk.
pub(crate) struct Database {
    log: Vec<(Box<str>, Vec<Write>)>,
    applied: [usize; NODES],
    rows: [BTreeMap<Box<str>, Rows>; NODES],
}

impl Database {
    /// Everybody is everybody's contact.
    pub(crate) fn new(domain: &str, users: &[&str]) -> Self {
        let mut all = BTreeMap::new();
        for user in users {
            let contacts = users.iter().filter(|contact| *contact != user);
            let roster = contacts.map(|contact| {
                let contact: Box<str> = format!("{contact}@{domain}").into();
                let row = RosterRow {
                    contact: contact.clone(),
                    subscription: router::Subscription::Both,
                    listed: true,
                    ..RosterRow::default()
                };
                (contact, row)
            });
            let rows = Rows {
                roster: roster.collect(),
                ..Rows::default()
            };
            all.insert((*user).into(), rows);
        }
        Self {
            log: Vec::new(),
            applied: [0; NODES],
            rows: std::array::from_fn(|_| all.clone()),
        }
    }

    /// The publisher takes a change. Gives its number in the log.
    pub(crate) fn commit(&mut self, user: Box<str>, writes: Vec<Write>) -> usize {
        self.log.push((user, writes));
        self.log.len()
    }

    /// Whether a node has not all that the publisher has.
    pub(crate) fn is_behind(&self, node: usize) -> bool {
        !self.has(node, self.log.len())
    }

    /// Whether a node has that change.
    pub(crate) fn has(&self, node: usize, number: usize) -> bool {
        self.applied[node] >= number
    }

    /// A node takes over what it has not: gives what its router hears of it.
    pub(crate) fn follow(&mut self, node: usize) -> Vec<Event> {
        let mut news = Vec::new();
        for (user, writes) in self.log.iter().skip(self.applied[node]) {
            let rows = self.rows[node].entry(user.clone()).or_default();
            for write in writes {
                if let Write::Offline(row) = write {
                    news.push(Event::StoredElsewhere {
                        user: user.clone(),
                        sequence: row.sequence,
                        size: row.stanza.len(),
                    });
                }
                rows.apply(write.clone());
            }
        }
        self.applied[node] = self.log.len();
        news
    }

    /// The answer to a request that only reads.
    pub(crate) fn read(&self, node: usize, request: StoreRequest) -> Event {
        let of = |user: &str| self.rows[node].get(user).cloned().unwrap_or_default();
        match request {
            StoreRequest::Load { user } => {
                let rows = of(&user);
                let offline = rows.offline.values();
                let rows = UserRows {
                    enabled: true,
                    home: None,
                    roster: rows.roster.values().cloned().collect(),
                    blocks: Vec::new(),
                    offline: offline
                        .map(|row| (row.sequence, row.stanza.len()))
                        .collect(),
                };
                Event::Loaded {
                    user,
                    rows: Ok(Some(rows)),
                }
            }
            StoreRequest::Offline { user } => {
                let rows = Ok(of(&user).offline.into_values().collect());
                Event::Offline { user, rows }
            }
            StoreRequest::Roster { user } => {
                let rows = Ok(of(&user).roster.into_values().collect());
                Event::Roster { user, rows }
            }
            StoreRequest::VCard { user } => Event::VCard {
                user,
                xml: Ok(None),
            },
            StoreRequest::Write { user, .. } => Event::Written {
                user,
                result: Err(StoreFailure("only the publisher takes changes".into())),
            },
        }
    }

    /// The messages that are stored for a user.
    pub(crate) fn stored(&self, user: &str) -> impl Iterator<Item = &str> {
        let rows = self.rows[PUBLISHER].get(user).into_iter();
        rows.flat_map(|rows| rows.offline.values().map(|row| &*row.stanza))
    }
}
