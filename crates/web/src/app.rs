//! The state behind every request, and sign-in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use operations::{Caller, Level, Operations};
use service::{Counter, Perf};
use tokio::sync::Semaphore;

use crate::session::{Session, Sessions, Use};
use crate::throttle::Throttle;
use crate::token::{Fingerprint, Forms, random};

/// Passwords that are checked at once; each takes some 20 MB and a processor.
const HASHING: usize = 2;
/// How long a request waits for its turn at that.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a password that was right is right without the work.
const REMEMBER: Duration = Duration::from_secs(300);
/// Most remembered passwords.
const REMEMBERED: usize = 1000;

/// What every handler gets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    operations: Operations,
    sessions: Mutex<Sessions>,
    throttle: Mutex<Throttle>,
    forms: Forms,
    right: Mutex<HashMap<Fingerprint, (String, Instant)>>,
    hashing: Semaphore,
    counters: Counters,
}

/// The counters of the web front, by their usual names.
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) errors: Counter,
    pub(crate) busy: Counter,
    pub(crate) sessions: Counter,
}

/// Why somebody was not signed in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotSignedIn {
    /// Name or password is wrong; which one is not told.
    Wrong,
    /// Too many failures from this address; so long to wait.
    Wait(Duration),
    /// Too many sign-ins at once.
    Busy,
    /// The database is away.
    Unavailable(String),
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    pub(crate) fn new(operations: Operations, perf: &Perf) -> anyhow::Result<Self> {
        let connector = |name| perf.counter("Cisco Tomcat Connector", "https-8443", name);
        let counters = Counters {
            requests: connector("Requests"),
            errors: connector("Errors"),
            busy: connector("ThreadsBusy"),
            sessions: perf.counter("Cisco Tomcat Web Application", "status", "SessionsActive"),
        };
        Ok(Self(Arc::new(Inner {
            operations,
            sessions: Mutex::default(),
            throttle: Mutex::default(),
            forms: Forms::new()?,
            right: Mutex::default(),
            hashing: Semaphore::new(HASHING),
            counters,
        })))
    }

    pub(crate) fn operations(&self) -> &Operations {
        &self.0.operations
    }

    pub(crate) fn forms(&self) -> &Forms {
        &self.0.forms
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The administrator behind a request.
    pub(crate) fn caller(user: &str, address: IpAddr) -> Caller {
        Caller {
            user: user.into(),
            level: Level::Look,
            face: "web",
            origin: address.to_string(),
        }
    }

    /// Checks name and password; gives the stored hash.
    pub(crate) async fn check(
        &self,
        user: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<String, NotSignedIn> {
        let wait = held(&self.0.throttle).wait(address, Instant::now());
        if !wait.is_zero() {
            return Err(NotSignedIn::Wait(wait));
        }
        let turn = tokio::time::timeout(PATIENCE, self.0.hashing.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(NotSignedIn::Busy);
        };
        let checked = self.0.operations.check_password(user, password).await;
        match checked {
            Ok(Some(hash)) => {
                held(&self.0.throttle).succeeded(address);
                Ok(hash)
            }
            Ok(None) => {
                held(&self.0.throttle).failed(address, Instant::now());
                // Not whether there is such a user: the name may be anything
                // that a stranger typed, so it is shortened and cleaned.
                let user: String = user.chars().filter(|c| !c.is_control()).take(64).collect();
                tracing::warn!(target: "audit", user, origin = %address, face = "web", "A sign-in failed.");
                Err(NotSignedIn::Wrong)
            }
            Err(error) => Err(NotSignedIn::Unavailable(error.message)),
        }
    }

    /// Signs somebody in and gives the new session's token.
    pub(crate) async fn sign_in(
        &self,
        user: &str,
        password: &str,
        address: IpAddr,
        usage: Use,
    ) -> Result<String, NotSignedIn> {
        let hash = self.check(user, password, address).await?;
        let token = random().map_err(|error| NotSignedIn::Unavailable(error.to_string()))?;
        let now = Instant::now();
        let mut sessions = held(&self.0.sessions);
        sessions.begin(&token, user, &hash, usage, now);
        self.count_sessions(&mut sessions, now);
        tracing::info!(target: "audit", user, origin = %address, face = "web", "Signed in.");
        Ok(token)
    }

    /// The session of a token, if it still stands.
    pub(crate) async fn session(&self, token: &str, usage: Use, attended: bool) -> Option<Session> {
        let now = Instant::now();
        let session = held(&self.0.sessions).find(token, usage, attended, now)?;
        let due = held(&self.0.sessions).due(token, now);
        // A database that is away ends nobody's session.
        if due
            && let Ok(stored) = self.0.operations.application_user_hash(&session.user).await
            && stored.as_deref() != Some(&session.hash)
        {
            self.sign_out(token);
            return None;
        }
        Some(session)
    }

    /// Ends a session.
    pub(crate) fn sign_out(&self, token: &str) {
        let mut sessions = held(&self.0.sessions);
        sessions.end(token);
        self.count_sessions(&mut sessions, Instant::now());
    }

    fn count_sessions(&self, sessions: &mut Sessions, now: Instant) {
        let number = i64::try_from(sessions.len(now)).unwrap_or(i64::MAX);
        self.0.counters.sessions.set(number);
    }

    /// Checks name and password of a program that sends them each time. Right
    /// ones are remembered for some minutes by a keyed fingerprint, as long
    /// as the stored hash stays the same.
    pub(crate) async fn basic(
        &self,
        user: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<(), NotSignedIn> {
        let seal = self.0.forms.seal(&format!("{user}\0{password}"));
        let now = Instant::now();
        let known = {
            let mut right = held(&self.0.right);
            right.retain(|_, (_, until)| *until > now);
            right.get(&seal).map(|(hash, _)| hash.clone())
        };
        if let Some(hash) = known {
            let stored = self.0.operations.application_user_hash(user).await;
            match stored {
                Ok(Some(stored)) if stored == hash => return Ok(()),
                Err(error) => return Err(NotSignedIn::Unavailable(error.message)),
                Ok(_) => {
                    held(&self.0.right).remove(&seal);
                }
            }
        }
        let hash = self.check(user, password, address).await?;
        let mut right = held(&self.0.right);
        if right.len() < REMEMBERED {
            right.insert(seal, (hash, now + REMEMBER));
        }
        Ok(())
    }
}
