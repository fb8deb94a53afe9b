//! What is known of the peer, and the question whether it is gone.

use std::time::Duration;

use crate::event::Verdict;
use crate::message::Keepalive;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    message: Option<Keepalive>,
    /// When it was heard last, or when this manager began to listen.
    heard_at: Duration,
    /// Its highest incarnation of which this node knows.
    incarnation: u64,
    /// It has another boot than before it fell silent.
    rebooted: bool,
    round: u64,
    asked: Option<Duration>,
    verdict: Option<(Verdict, Duration)>,
}

impl Peer {
    pub(crate) fn new(incarnation: u64, now: Duration) -> Self {
        Self {
            message: None,
            heard_at: now,
            incarnation,
            rebooted: false,
            round: 0,
            asked: None,
            verdict: None,
        }
    }

    /// Takes a message; false when a later one came before.
    pub(crate) fn hear(&mut self, message: Keepalive, now: Duration) -> bool {
        let before = self.message.as_ref();
        let number = |message: &Keepalive| (message.incarnation, message.sequence);
        // Sequences begin at 1, so anything of a known incarnation is later.
        let latest = before.map_or((self.incarnation, 0), number);
        if number(&message) <= latest {
            return false;
        }
        self.rebooted |= before.is_some_and(|before| before.boot != message.boot);
        self.incarnation = self.incarnation.max(message.incarnation);
        self.message = Some(message);
        self.heard_at = now;
        self.asked = None;
        self.verdict = None;
        true
    }

    pub(crate) fn last(&self) -> Option<&Keepalive> {
        self.message.as_ref()
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn rebooted(&self) -> bool {
        self.rebooted
    }

    pub(crate) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard_at)
    }

    /// Asks anew, once in an interval, while the peer is silent.
    pub(crate) fn question(&mut self, now: Duration, interval: Duration) -> Option<u64> {
        if self.asked.is_none() {
            self.rebooted = false;
        }
        let due = self
            .asked
            .is_none_or(|asked| now.saturating_sub(asked) >= interval);
        due.then(|| {
            self.asked = Some(now);
            self.round += 1;
            self.round
        })
    }

    /// Takes the answer to a question. Only the last question counts, and only
    /// while the peer has stayed silent: `lenient` is for tests.
    pub(crate) fn answer(&mut self, round: u64, verdict: Verdict, now: Duration, lenient: bool) {
        let current = round == self.round && self.asked.is_some();
        if current || lenient {
            self.verdict = Some((verdict, now));
        }
    }

    /// The last answer, if it is not older than an interval.
    pub(crate) fn verdict(&self, now: Duration, interval: Duration) -> Option<Verdict> {
        let (verdict, at) = self.verdict?;
        (now.saturating_sub(at) <= interval).then_some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Node, Ownership, Reason, Standing, State, VERSION};

    const SECOND: Duration = Duration::from_secs(1);

    fn message(incarnation: u64, sequence: u64) -> Keepalive {
        Keepalive {
            version: VERSION,
            group: "group".into(),
            node: Node::Two,
            boot: format!("boot of {incarnation}"),
            incarnation,
            sequence,
            heard: None,
            silent: 0,
            standing: Standing::new(State::Normal, Reason::Normal),
            ownership: Node::BOTH.map(Ownership::first),
            services: [].into(),
            sick: false,
            replication: 2,
            held: false,
            recovery: 0,
            leaving: false,
        }
    }

    #[test]
    fn a_message_counts_once_and_in_order() {
        let mut peer = Peer::new(3, Duration::ZERO);
        for (incarnation, sequence, counts) in [
            (2, 9, false),
            (3, 5, true),
            (3, 5, false),
            (3, 4, false),
            (3, 6, true),
            (4, 1, true),
            (3, 7, false),
            (4, 2, true),
        ] {
            let heard = peer.hear(message(incarnation, sequence), SECOND);
            assert_eq!(heard, counts, "{incarnation} {sequence}");
        }
        assert!(peer.rebooted());
    }

    #[test]
    fn only_the_answer_to_the_last_question_counts_and_not_for_long() {
        let mut peer = Peer::new(0, Duration::ZERO);
        let first = peer.question(SECOND, SECOND).unwrap();
        assert_eq!(peer.question(SECOND, SECOND), None);
        let second = peer.question(2 * SECOND, SECOND).unwrap();
        peer.answer(first, Verdict::Confirmed, 2 * SECOND, false);
        assert_eq!(peer.verdict(2 * SECOND, SECOND), None);
        peer.answer(second, Verdict::Confirmed, 2 * SECOND, false);
        assert_eq!(peer.verdict(3 * SECOND, SECOND), Some(Verdict::Confirmed));
        assert_eq!(peer.verdict(4 * SECOND, SECOND), None);
        assert!(peer.hear(message(1, 1), 4 * SECOND));
        peer.answer(second, Verdict::Confirmed, 4 * SECOND, false);
        assert_eq!(peer.verdict(4 * SECOND, SECOND), None);
    }
}
