//! Exchanges that wait for the client's next message.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use xmpp::sasl::{ChannelBinding, Mechanism, Server};

use crate::throttle::Moment;

/// What an exchange is about, from beginning to end.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) mechanism: Mechanism,
    pub(crate) bindings: Vec<ChannelBinding>,
    pub(crate) peer: IpAddr,
}

/// Where an exchange stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The mechanism was chosen without an initial response.
    Chosen,
    /// SCRAM's challenge was sent.
    Challenged {
        server: Box<Server>,
        /// The name as prepared, for counting.
        name: String,
        /// The user's bare JID, when there is such a user.
        user: Option<String>,
        enabled: bool,
    },
}

#[derive(Debug)]
struct Open {
    subject: Subject,
    stage: Stage,
    since: Moment,
}

/// A client must answer within this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most exchanges at one time; beyond, the oldest is forgotten.
const MOST: usize = 20_000;

/// The open exchanges, by number.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    open: BTreeMap<u64, Open>,
    last: u64,
}

impl Exchanges {
    /// Keeps an exchange; gives its number.
    pub(crate) fn keep(&mut self, subject: Subject, stage: Stage, now: Moment) -> u64 {
        while let Some(oldest) = self.open.first_entry() {
            if oldest.get().since + PATIENCE >= now && self.open.len() < MOST {
                break;
            }
            self.open.pop_first();
        }
        self.last += 1;
        let open = Open {
            subject,
            stage,
            since: now,
        };
        self.open.insert(self.last, open);
        self.last
    }

    /// Takes an exchange out: each answer is for once.
    pub(crate) fn take(&mut self, number: u64, now: Moment) -> Option<(Subject, Stage)> {
        let open = self.open.remove(&number)?;
        (open.since + PATIENCE >= now).then_some((open.subject, open.stage))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            mechanism: Mechanism::Plain,
            bindings: Vec::new(),
            peer: IpAddr::from([192, 0, 2, 1]),
        }
    }

    #[test]
    fn an_exchange_is_taken_once_and_in_time() {
        let mut exchanges = Exchanges::default();
        let start = Duration::from_secs(5);
        let one = exchanges.keep(subject(), Stage::Chosen, start);
        let two = exchanges.keep(subject(), Stage::Chosen, start);
        assert_ne!(one, two);
        assert!(exchanges.take(one, start).is_some());
        assert!(exchanges.take(one, start).is_none());
        assert!(exchanges.take(two, start + PATIENCE * 2).is_none());
    }

    #[test]
    fn old_ones_and_too_many_are_forgotten() {
        let mut exchanges = Exchanges::default();
        let first = exchanges.keep(subject(), Stage::Chosen, Duration::ZERO);
        for _ in 0..MOST {
            exchanges.keep(subject(), Stage::Chosen, Duration::ZERO);
        }
        assert_eq!(exchanges.len(), MOST);
        assert!(exchanges.take(first, Duration::ZERO).is_none());
        exchanges.keep(subject(), Stage::Chosen, PATIENCE * 3);
        assert_eq!(exchanges.len(), 1);
    }
}
