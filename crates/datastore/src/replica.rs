//! The rows of one node's owners, kept equal at the other node of its
//! redundancy group. No I/O: both ends are told what happens and say what is
//! to be sent.
//!
//! Each node writes only its own rows and streams them to its peer. What it
//! streams is numbered `(epoch, sequence)`: an epoch is one life of the
//! sending store, a sequence one group of changes in it. A connection begins
//! with [`Message::Hello`], which the receiver answers with what it
//! [`Have`]s; the sender goes on behind that, or sends everything when it
//! cannot. The receiver refuses an older epoch and a gap by ending the
//! connection, and the next one begins with what it has again, so that
//! nothing has to be known of the one before.
//!
//! Epochs come from the clock, which may go back. A sender that learns of an
//! epoch, or of a number in its own, that it never gave goes above it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::mutation::Mutation;
use crate::store::{Change, Refused, Row, Store};

/// Most rows of one page of a whole copy, and bytes after which it is full.
const PAGE: usize = 500;
const PAGE_BYTES: usize = 1 << 20;
/// Most changes, and most bytes of them, that are kept for a peer that was
/// away for a moment; one that missed more gets everything.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 16 << 20;

/// A row on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Who wrote it.
    pub owner: Arc<str>,
    /// The epoch in which its owner did.
    pub epoch: u64,
    /// The key.
    pub key: Arc<str>,
    /// The value; `None` when the row is gone.
    pub value: Option<Bytes>,
    /// Milliseconds until it ends by itself; 0 for never.
    pub ttl: u64,
}

impl Sent {
    fn put(row: Row, now: u64) -> Self {
        Self {
            owner: row.owner,
            epoch: row.epoch,
            key: row.key,
            value: Some(row.value),
            // One that ends now still has a moment: 0 would mean for ever.
            ttl: row.expires.map_or(0, |end| end.saturating_sub(now).max(1)),
        }
    }

    fn change(change: &Change, now: u64) -> Self {
        match change {
            Change::Put(row) => Self::put(row.clone(), now),
            Change::Gone(row) => Self {
                value: None,
                ..Self::put(row.clone(), now)
            },
        }
    }
}

/// What a sender says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first on a connection.
    Hello {
        /// The sender's epoch.
        epoch: u64,
    },
    /// A page of a whole copy, as it was behind that sequence.
    Page {
        /// The sender's epoch.
        epoch: u64,
        /// The last change that the copy has in it.
        sequence: u64,
        /// Number of the page, from 0.
        page: u64,
        /// Whether it is the last one.
        last: bool,
        /// The rows.
        rows: Vec<Sent>,
    },
    /// The changes of a sequence.
    Changes {
        /// The sender's epoch.
        epoch: u64,
        /// Their number.
        sequence: u64,
        /// The changes.
        rows: Vec<Sent>,
    },
}

/// What a receiver has: everything up to that sequence of that epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// The sender's epoch; 0 before the first.
    pub epoch: u64,
    /// The sequence; 0 while a first copy is not complete.
    pub sequence: u64,
}

/// How far a sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no connection.
    Connecting,
    /// Everything is being sent.
    Copying,
    /// Changes are sent as they happen.
    Following,
}

#[derive(Debug)]
enum Link {
    Down,
    /// Hello was sent.
    Greeting,
    /// Everything is to be sent.
    Copy,
    /// Pages that follow, of the copy as it was behind that sequence.
    Pages {
        sequence: u64,
        page: u64,
        rows: std::iter::Peekable<std::vec::IntoIter<Row>>,
    },
    /// The changes behind that sequence are to be sent.
    Follow(u64),
}

#[derive(Debug)]
struct Logged {
    changes: Vec<Change>,
    bytes: usize,
    at: u64,
}

/// The sender: what this node's owners wrote, for the peer.
#[derive(Debug)]
pub struct Feed {
    epoch: u64,
    /// Number of the newest changes.
    sequence: u64,
    /// The newest changes, the last of them with that number.
    log: VecDeque<Logged>,
    kept: usize,
    bytes: usize,
    link: Link,
    /// What the peer has of this epoch.
    have: u64,
    #[cfg(feature = "mutation")]
    mutation: Option<Mutation>,
}

/// Figures of a [`Feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedFigures {
    /// How far it is.
    pub state: State,
    /// Its epoch.
    pub epoch: u64,
    /// Groups of changes that the peer does not have.
    pub lag: u64,
    /// Milliseconds since the oldest of these that is still known, happened.
    pub lag_ms: u64,
}

impl Feed {
    /// A sender whose store begins, empty, in an epoch that is above 0.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch: epoch.max(1),
            sequence: 0,
            log: VecDeque::new(),
            kept: 0,
            bytes: 0,
            link: Link::Down,
            have: 0,
            #[cfg(feature = "mutation")]
            mutation: None,
        }
    }

    /// Breaks a rule from now on: for tests that must notice.
    #[cfg(feature = "mutation")]
    pub fn break_rule(&mut self, rule: Mutation) {
        self.mutation = Some(rule);
    }

    fn broken(&self, rule: Mutation) -> bool {
        #[cfg(feature = "mutation")]
        return self.mutation == Some(rule);
        #[cfg(not(feature = "mutation"))]
        rule.never()
    }

    /// Rows of this node's owners changed.
    pub fn push(&mut self, mut changes: Vec<Change>, now: u64) {
        if self.broken(Mutation::RemovalsNotSent) {
            changes.retain(|change| matches!(change, Change::Put(_)));
        }
        if changes.is_empty() {
            return;
        }
        self.sequence += 1;
        let size = |change: &Change| change.row().key.len() + change.row().value.len() + 64;
        let bytes = changes.iter().map(size).sum();
        self.kept += changes.len();
        self.bytes += bytes;
        self.log.push_back(Logged {
            changes,
            bytes,
            at: now,
        });
        while (self.kept > KEPT || self.bytes > KEPT_BYTES)
            && let Some(old) = self.log.pop_front()
        {
            self.kept -= old.changes.len();
            self.bytes -= old.bytes;
        }
    }

    /// A connection was made; this is to be said first.
    pub fn connected(&mut self) -> Message {
        self.link = Link::Greeting;
        Message::Hello { epoch: self.epoch }
    }

    /// The connection ended.
    pub fn disconnected(&mut self) {
        self.link = Link::Down;
    }

    /// The peer said what it has.
    pub fn have(&mut self, have: Have) {
        let ahead = have.epoch == self.epoch && have.sequence > self.sequence;
        if have.epoch > self.epoch || ahead {
            self.epoch = have.epoch + 1;
            self.log = VecDeque::new();
            (self.kept, self.bytes, self.have) = (0, 0, 0);
            self.link = Link::Copy;
            return;
        }
        let same = have.epoch == self.epoch;
        if same {
            self.have = have.sequence;
        }
        if matches!(self.link, Link::Greeting) {
            self.link = if same && have.sequence > 0 && self.keeps(have.sequence) {
                Link::Follow(have.sequence)
            } else if self.broken(Mutation::CopyLeftOut) {
                Link::Follow(self.sequence)
            } else {
                self.have = 0;
                Link::Copy
            };
        }
    }

    /// Whether everything behind a sequence is kept.
    fn keeps(&self, sequence: u64) -> bool {
        self.sequence - sequence <= self.log.len() as u64
    }

    /// The next message, when there is one. `wanted` says whose rows are sent:
    /// the owners whose changes are pushed.
    pub fn next(
        &mut self,
        store: &Store,
        wanted: impl Fn(&str) -> bool,
        now: u64,
    ) -> Option<Message> {
        if let Link::Follow(sent) = self.link
            && !self.keeps(sent)
        {
            self.link = Link::Copy;
        }
        if matches!(self.link, Link::Copy) {
            self.link = Link::Pages {
                sequence: self.sequence,
                page: 0,
                rows: store.own_rows(wanted).into_iter().peekable(),
            };
        }
        match &mut self.link {
            Link::Down | Link::Greeting | Link::Copy => None,
            Link::Pages {
                sequence,
                page,
                rows,
            } => {
                let (mut taken, mut bytes) = (Vec::new(), 0);
                while taken.len() < PAGE
                    && bytes < PAGE_BYTES
                    && let Some(row) = rows.next()
                {
                    bytes += row.key.len() + row.value.len();
                    taken.push(Sent::put(row, now));
                }
                let last = rows.peek().is_none();
                let message = Message::Page {
                    epoch: self.epoch,
                    sequence: *sequence,
                    page: *page,
                    last,
                    rows: taken,
                };
                *page += 1;
                if last {
                    self.link = Link::Follow(*sequence);
                }
                Some(message)
            }
            Link::Follow(sent) => {
                let missing = self.sequence - *sent;
                // It is among those that are kept.
                let at = self.log.len() - usize::try_from(missing).ok()?;
                let logged = self.log.get(at)?;
                *sent += 1;
                Some(Message::Changes {
                    epoch: self.epoch,
                    sequence: *sent,
                    rows: logged
                        .changes
                        .iter()
                        .map(|change| Sent::change(change, now))
                        .collect(),
                })
            }
        }
    }

    /// Figures.
    pub fn figures(&self, now: u64) -> FeedFigures {
        let lag = self.sequence - self.have.min(self.sequence);
        let missing = usize::try_from(lag).unwrap_or(usize::MAX);
        let oldest = self.log.get(self.log.len().saturating_sub(missing));
        let since = oldest.filter(|_| lag > 0).map(|logged| logged.at);
        FeedFigures {
            state: match self.link {
                Link::Down | Link::Greeting => State::Connecting,
                Link::Copy | Link::Pages { .. } => State::Copying,
                Link::Follow(_) => State::Following,
            },
            epoch: self.epoch,
            lag,
            lag_ms: since.map_or(0, |at| now.saturating_sub(at)),
        }
    }
}

/// Why a connection from the peer is ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A newer one was made, or everything is wanted again.
    #[error("this connection is over; make another")]
    Over,
    /// A newer incarnation of the peer has sent.
    #[error("epoch {epoch} is over: epoch {newest} has begun")]
    OldEpoch {
        /// Epoch of the message.
        epoch: u64,
        /// Newest epoch seen.
        newest: u64,
    },
    /// Something is missing.
    #[error("number {number} came where {expected} was due")]
    Gap {
        /// Number of the changes, or of the page.
        number: u64,
        /// The number that was due.
        expected: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copying {
    epoch: u64,
    sequence: u64,
    page: u64,
}

/// The receiver: copies of the peer's rows.
#[derive(Debug, Default)]
pub struct Replica {
    /// Newest epoch seen, in which `sequence` counts.
    have: Have,
    copying: Option<Copying>,
    /// Number of the newest connection, and whether it is there.
    link: u64,
    connected: bool,
    /// Whether everything came once in this epoch.
    complete: bool,
    /// Copies that the store did not take, in all.
    refused: u64,
    heard: Option<u64>,
    #[cfg(feature = "mutation")]
    mutation: Option<Mutation>,
}

/// Figures of a [`Replica`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaFigures {
    /// What it has.
    pub have: Have,
    /// Whether the peer is connected.
    pub connected: bool,
    /// Whether everything came once and nothing is missing since.
    pub complete: bool,
    /// Milliseconds since the peer was last heard; `None` before.
    pub silent: Option<u64>,
    /// Rows that the store did not take, in all.
    pub refused: u64,
}

impl Replica {
    /// Breaks a rule from now on: for tests that must notice.
    #[cfg(feature = "mutation")]
    pub fn break_rule(&mut self, rule: Mutation) {
        self.mutation = Some(rule);
    }

    fn broken(&self, rule: Mutation) -> bool {
        #[cfg(feature = "mutation")]
        return self.mutation == Some(rule);
        #[cfg(not(feature = "mutation"))]
        rule.never()
    }

    /// A connection from the peer was made: the ones before are over. Gives its
    /// number.
    pub fn accept(&mut self) -> u64 {
        self.link += 1;
        self.copying = None;
        self.connected = true;
        self.link
    }

    /// A connection ended.
    pub fn ended(&mut self, link: u64) {
        if link == self.link {
            self.connected = false;
            self.copying = None;
        }
    }

    /// The number of the newest connection.
    pub fn link(&self) -> u64 {
        self.link
    }

    /// A message came on a connection. Gives the answer and what changed.
    pub fn receive(
        &mut self,
        link: u64,
        message: Message,
        store: &mut Store,
        now: u64,
    ) -> Result<(Have, Vec<Change>), Broken> {
        if link != self.link {
            return Err(Broken::Over);
        }
        self.heard = Some(now);
        let mut changes = Vec::new();
        match message {
            Message::Hello { .. } => {}
            Message::Page {
                epoch,
                sequence,
                page,
                last,
                rows,
            } => {
                self.check(epoch)?;
                let this = Copying {
                    epoch,
                    sequence,
                    page,
                };
                if page == 0 {
                    store.begin_copy();
                } else if self.copying != Some(this) {
                    let expected = self.copying.map_or(0, |copying| copying.page);
                    let number = page;
                    return Err(Broken::Gap { number, expected });
                }
                self.copying = Some(Copying {
                    page: page + 1,
                    ..this
                });
                if epoch > self.have.epoch {
                    // Nothing older counts any more, and this is not complete.
                    self.have = Have { epoch, sequence: 0 };
                    self.complete = false;
                }
                self.apply(rows, store, now, &mut changes);
                if last {
                    self.copying = None;
                    self.have = Have { epoch, sequence };
                    self.complete = true;
                    if !self.broken(Mutation::OldCopiesStay) {
                        changes.extend(store.end_copy());
                    }
                }
            }
            Message::Changes {
                epoch,
                sequence,
                rows,
            } => {
                self.check(epoch)?;
                let expected = self.have.sequence + 1;
                if epoch > self.have.epoch || self.copying.is_some() || sequence > expected {
                    let number = sequence;
                    return Err(Broken::Gap { number, expected });
                }
                if sequence == expected {
                    self.apply(rows, store, now, &mut changes);
                    self.have.sequence = sequence;
                }
            }
        }
        Ok((self.have, changes))
    }

    fn check(&self, epoch: u64) -> Result<(), Broken> {
        let newest = self.have.epoch;
        match epoch < newest {
            true => Err(Broken::OldEpoch { epoch, newest }),
            false => Ok(()),
        }
    }

    fn apply(&mut self, rows: Vec<Sent>, store: &mut Store, now: u64, changes: &mut Vec<Change>) {
        for row in rows {
            let Some(value) = row.value else {
                changes.extend(store.remove_copy(&row.owner, &row.key));
                continue;
            };
            let expires = (row.ttl > 0).then(|| now.saturating_add(row.ttl));
            let copied = store.copy((&row.owner, row.epoch), &row.key, value, expires);
            match copied {
                Ok(change) => changes.push(change),
                Err(error) => self.not_taken(&row.owner, &error),
            }
        }
    }

    fn not_taken(&mut self, owner: &str, error: &Refused) {
        self.refused += 1;
        tracing::warn!(owner, %error, "A row of the peer was not taken.");
    }

    /// This node takes over what the peer's owners had: their rows are taken
    /// out. A peer that is there sends everything again.
    pub fn adopt(&mut self, store: &mut Store) -> (Vec<Row>, Vec<Change>) {
        self.start_over();
        self.have.sequence = 0;
        store.take_copies()
    }

    /// The node has another peer, or none.
    pub fn forget(&mut self, store: &mut Store) -> Vec<Change> {
        self.start_over();
        (self.have, self.heard) = (Have::default(), None);
        store.take_copies().1
    }

    /// Connections that there are, are over.
    fn start_over(&mut self) {
        self.link += 1;
        self.copying = None;
        (self.connected, self.complete) = (false, false);
    }

    /// Whether a copy is being received.
    pub fn is_copying(&self) -> bool {
        self.copying.is_some()
    }

    /// Figures.
    pub fn figures(&self, now: u64) -> ReplicaFigures {
        ReplicaFigures {
            have: self.have,
            connected: self.connected,
            complete: self.complete,
            silent: self.heard.map(|heard| now.saturating_sub(heard)),
            refused: self.refused,
        }
    }
}
