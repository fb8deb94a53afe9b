//! Who is signed in: browser sessions and API tokens.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::token::{Fingerprint, fingerprint};

/// A session ends after so long without a request of the person.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// And after so long in any case.
const LIFE: Duration = Duration::from_secs(12 * 3600);
/// How often the account behind a session is looked at again.
const RECHECK: Duration = Duration::from_secs(60);
/// Most sessions at once, and of one user; the oldest goes first.
const MOST: usize = 1000;
const MOST_OF_ONE: usize = 20;

/// Through what a session is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A browser, with a cookie.
    Browser,
    /// A program, with a bearer token.
    Program,
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) user: String,
    /// The stored hash of the password that it was made with; the session
    /// ends when that changes.
    pub(crate) hash: String,
    usage: Use,
    begun: Instant,
    used: Instant,
    checked: Instant,
}

/// The sessions. Lost at a restart of the service, on purpose.
#[derive(Debug, Default)]
pub(crate) struct Sessions(HashMap<Fingerprint, Session>);

impl Sessions {
    /// Begins a session under that token.
    pub(crate) fn begin(&mut self, token: &str, user: &str, hash: &str, usage: Use, now: Instant) {
        self.sweep(now);
        let of_user = self.0.values().filter(|one| one.user == user).count();
        if of_user >= MOST_OF_ONE {
            self.drop_oldest(Some(user));
        } else if self.0.len() >= MOST {
            self.drop_oldest(None);
        }
        let session = Session {
            user: user.into(),
            hash: hash.into(),
            usage,
            begun: now,
            used: now,
            checked: now,
        };
        self.0.insert(fingerprint(token), session);
    }

    /// The session of a token. `attended` says that a person or program asks,
    /// not a page that refreshes itself: only then does the idle time begin
    /// anew.
    pub(crate) fn find(
        &mut self,
        token: &str,
        usage: Use,
        attended: bool,
        now: Instant,
    ) -> Option<Session> {
        self.sweep(now);
        let session = self.0.get_mut(&fingerprint(token))?;
        if session.usage != usage {
            return None;
        }
        if attended {
            session.used = now;
        }
        Some(session.clone())
    }

    /// Whether the account behind a session is to be looked at again; if so,
    /// not again for a while.
    pub(crate) fn due(&mut self, token: &str, now: Instant) -> bool {
        match self.0.get_mut(&fingerprint(token)) {
            Some(session) if now.duration_since(session.checked) >= RECHECK => {
                session.checked = now;
                true
            }
            _ => false,
        }
    }

    /// Ends a session.
    pub(crate) fn end(&mut self, token: &str) {
        self.0.remove(&fingerprint(token));
    }

    /// Number of sessions.
    pub(crate) fn len(&mut self, now: Instant) -> usize {
        self.sweep(now);
        self.0.len()
    }

    fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, session| {
            now.duration_since(session.used) < IDLE && now.duration_since(session.begun) < LIFE
        });
    }

    fn drop_oldest(&mut self, user: Option<&str>) {
        let oldest = self
            .0
            .iter()
            .filter(|(_, session)| user.is_none_or(|user| session.user == user))
            .min_by_key(|(_, session)| session.used)
            .map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.0.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_idle_and_a_refreshing_page_does_not_keep_it() {
        let begin = Instant::now();
        let mut sessions = Sessions::default();
        sessions.begin("t", "ada", "h", Use::Browser, begin);
        let mut find = |attended, seconds| {
            let now = begin + Duration::from_secs(seconds);
            sessions.find("t", Use::Browser, attended, now).is_some()
        };
        assert!(find(true, 1000));
        assert!(find(false, 2000));
        assert!(!find(false, 2801));
    }

    #[test]
    fn a_session_ends_in_any_case() {
        let begin = Instant::now();
        let mut sessions = Sessions::default();
        sessions.begin("t", "ada", "h", Use::Browser, begin);
        for minutes in (0..720).step_by(20) {
            let now = begin + Duration::from_secs(minutes * 60);
            assert!(sessions.find("t", Use::Browser, true, now).is_some());
        }
        assert!(
            sessions
                .find("t", Use::Browser, true, begin + LIFE)
                .is_none()
        );
    }

    #[test]
    fn a_cookie_is_no_bearer_token() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        sessions.begin("t", "ada", "h", Use::Browser, now);
        assert!(sessions.find("t", Use::Program, true, now).is_none());
        assert!(sessions.find("u", Use::Browser, true, now).is_none());
        sessions.end("t");
        assert!(sessions.find("t", Use::Browser, true, now).is_none());
    }

    #[test]
    fn one_user_cannot_push_the_others_out() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        sessions.begin("bob", "bob", "h", Use::Browser, now);
        for number in 0..2 * MOST {
            sessions.begin(&format!("ada{number}"), "ada", "h", Use::Program, now);
        }
        assert_eq!(sessions.len(now), MOST_OF_ONE + 1);
        assert!(sessions.find("bob", Use::Browser, true, now).is_some());
    }
}
