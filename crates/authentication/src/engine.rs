//! What decides: reads users, runs the mechanisms, counts failures.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use database::tables::EndUser;
use database::{Database, Parameters, WatchEvent};
use ring::rand::{SecureRandom, SystemRandom};
use service::{Counter, Perf};
use tokio::sync::Semaphore;
use xmpp::Jid;
use xmpp::sasl::{ClientFirst, Failure, Hash, Mechanism, Plain, Server, prepare_password};

use crate::accounts::{Account, ITERATIONS, iterations};
use crate::client::{Begin, Outcome};
use crate::decoys::Decoys;
use crate::exchanges::{Exchanges, Stage, Subject};
use crate::throttle::{Moment, Rules, Throttle};

/// PLAIN exchanges that may wait for a processor.
const PLAIN_QUEUE: usize = 64;

/// Names of our parameters.
mod parameter {
    pub(super) const ALLOW_PLAIN: &str = "AllowPlain";
    pub(super) const PAIR: &str = "FailuresPerUserAndAddress";
    pub(super) const ADDRESS: &str = "FailuresPerAddress";
    pub(super) const USER: &str = "FailuresPerUser";
    pub(super) const LONGEST: &str = "LongestRefusalSeconds";
}

struct Counters {
    succeeded: Counter,
    failed: Counter,
    refused: Counter,
    open: Counter,
}

impl Counters {
    fn new(perf: &Perf) -> Self {
        let counter = |name| perf.counter("Cisco XCP Authentication Service", "", name);
        Self {
            succeeded: counter("AuthSucceeded"),
            failed: counter("AuthFailed"),
            refused: counter("AuthRefusedUnchecked"),
            open: counter("AuthOpenExchanges"),
        }
    }
}

struct State {
    exchanges: Exchanges,
    throttle: Throttle,
}

/// The service without its socket.
pub(crate) struct Engine {
    database: Database,
    parameters: Parameters,
    domain: String,
    decoys: Decoys,
    counters: Counters,
    random: SystemRandom,
    /// PLAIN takes a processor for milliseconds: never all of them, and never
    /// an endless queue.
    working: Semaphore,
    waiting: Semaphore,
    origin: Instant,
    state: Mutex<State>,
}

/// A failure, and whether somebody guessed wrong.
struct Refusal {
    failure: Failure,
    delay: Duration,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            delay: Duration::ZERO,
        }
    }
}

impl Engine {
    pub(crate) fn new(
        database: Database,
        parameters: Parameters,
        domain: &str,
        secret: &[u8],
        perf: &Perf,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            database,
            parameters,
            domain: domain.into(),
            decoys: Decoys::new(secret),
            counters: Counters::new(perf),
            random: SystemRandom::new(),
            working: Semaphore::new(processors.div_ceil(2)),
            waiting: Semaphore::new(PLAIN_QUEUE),
            origin: Instant::now(),
            state: Mutex::new(State {
                exchanges: Exchanges::default(),
                throttle: Throttle::new(),
            }),
        }
    }

    /// Learns of a change to users.
    pub(crate) fn follow(&self, event: WatchEvent<EndUser>) {
        self.decoys.follow(event);
    }

    /// Begins an exchange.
    pub(crate) async fn begin(&self, begin: Begin) -> Outcome {
        let Some(mechanism) = Mechanism::from_name(&begin.mechanism) else {
            return refuse(Failure::InvalidMechanism);
        };
        if mechanism == Mechanism::Plain && !self.parameters.get(parameter::ALLOW_PLAIN, true) {
            return refuse(Failure::InvalidMechanism);
        }
        if begin.domain != self.domain {
            return refuse(Failure::NotAuthorized);
        }
        let subject = Subject {
            mechanism,
            bindings: begin.bindings,
            peer: begin.peer,
        };
        match begin.initial {
            Some(initial) => self.first(subject, &initial).await,
            None => self.keep(subject, Stage::Chosen, Vec::new()),
        }
    }

    /// Goes on with an exchange.
    pub(crate) async fn answer(&self, exchange: u64, response: &[u8]) -> Outcome {
        let now = self.now();
        let taken = {
            let mut state = self.state();
            let taken = state.exchanges.take(exchange, now);
            self.count_open(&state);
            taken
        };
        match taken {
            None => refuse(Failure::TemporaryAuthFailure),
            Some((subject, Stage::Chosen)) => self.first(subject, response).await,
            Some((
                subject,
                Stage::Challenged {
                    server,
                    name,
                    user,
                    enabled,
                },
            )) => {
                // Asked again: many exchanges may have been begun at once.
                if let Err(refusal) = self.check(subject.peer, &name) {
                    return refused(refusal);
                }
                match server.finish(response) {
                    Ok(data) => self.proven(&subject, &name, user, enabled, Some(data.into())),
                    Err(Failure::NotAuthorized) => self.wrong(&subject, &name),
                    Err(failure) => refuse(failure),
                }
            }
        }
    }

    /// Forgets an exchange.
    pub(crate) fn abort(&self, exchange: u64) {
        let now = self.now();
        let mut state = self.state();
        state.exchanges.take(exchange, now);
        self.count_open(&state);
    }

    /// The client's first message.
    async fn first(&self, subject: Subject, message: &[u8]) -> Outcome {
        let outcome = match subject.mechanism {
            Mechanism::Plain => self.plain(&subject, message).await,
            Mechanism::Scram { hash, plus } => self.scram(&subject, hash, plus, message).await,
        };
        match outcome {
            Ok(First::Challenge { stage, data }) => self.keep(subject, stage, data.into()),
            Ok(First::Over(outcome)) => outcome,
            Err(refusal) => refused(refusal),
        }
    }

    async fn scram(
        &self,
        subject: &Subject,
        hash: Hash,
        plus: bool,
        message: &[u8],
    ) -> Result<First, Refusal> {
        let first = ClientFirst::parse(message)?;
        let (name, jid) = self.identify(&first.user, first.authzid.as_deref())?;
        self.check(subject.peer, &name)?;
        let row = self.row(jid.as_ref()).await?;
        let account = self.account(&name, hash, row.as_ref());
        let nonce = self.nonce()?;
        let begun = Server::begin(&first, account.keys, &nonce, plus, &subject.bindings);
        let (server, data) = match begun {
            Ok(begun) => begun,
            // The client was told of no channel binding: somebody sits in
            // between, or it is broken. No password was guessed.
            Err(failure) => return Err(failure.into()),
        };
        Ok(First::Challenge {
            stage: Stage::Challenged {
                server: Box::new(server),
                user: jid.filter(|_| account.real).map(|jid| jid.to_string()),
                name,
                enabled: account.enabled,
            },
            data,
        })
    }

    async fn plain(&self, subject: &Subject, message: &[u8]) -> Result<First, Refusal> {
        let plain = Plain::parse(message)?;
        let (name, jid) = self.identify(plain.user, plain.authzid)?;
        self.check(subject.peer, &name)?;
        let row = self.row(jid.as_ref()).await?;
        // Either kind of keys will do.
        let hash = match &row {
            Some(row) if row.scram_sha256.is_none() && row.scram_sha1.is_some() => Hash::Sha1,
            _ => Hash::Sha256,
        };
        let Account {
            keys,
            real,
            enabled,
        } = self.account(&name, hash, row.as_ref());
        let password = prepare_password(plain.password)
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default();
        let _queued = self
            .waiting
            .try_acquire()
            .map_err(|_| Failure::TemporaryAuthFailure)?;
        let _working = self
            .working
            .acquire()
            .await
            .map_err(|_| Failure::TemporaryAuthFailure)?;
        // Others may have guessed while this one waited.
        self.check(subject.peer, &name)?;
        let proven = tokio::task::spawn_blocking(move || {
            // No user has an empty password; the work is done all the same.
            keys.verify(&password) && !password.is_empty()
        })
        .await
        .map_err(|_| Failure::TemporaryAuthFailure)?;
        Ok(First::Over(if proven {
            let user = jid.filter(|_| real).map(|jid| jid.to_string());
            self.proven(subject, &name, user, enabled, None)
        } else {
            self.wrong(subject, &name)
        }))
    }

    /// The name to count failures for, and the address of the user it means.
    /// A name that cannot be anybody's has no address.
    fn identify(
        &self,
        user: &str,
        authzid: Option<&str>,
    ) -> Result<(String, Option<Jid>), Failure> {
        if user.len() > 1023 {
            return Err(Failure::MalformedRequest);
        }
        let jid = Jid::from_parts(Some(user), &self.domain, None).ok();
        if let Some(authzid) = authzid {
            // Nobody acts for somebody else here.
            let wanted = Jid::new(authzid).ok();
            if wanted.is_none() || wanted != jid {
                return Err(Failure::InvalidAuthzid);
            }
        }
        let name = jid.as_ref().and_then(Jid::node).unwrap_or(user).to_owned();
        Ok((name, jid))
    }

    async fn row(&self, jid: Option<&Jid>) -> Result<Option<EndUser>, Failure> {
        // A name that is nobody's is asked for as well, for the same time.
        let name = jid.and_then(Jid::node).unwrap_or("nobody at all");
        match self.database.get::<EndUser>(&[name]).await {
            Ok(row) => Ok(row.filter(|_| jid.is_some())),
            Err(error) => {
                tracing::error!(%error, "A sign-in had to be refused because the database did not answer.");
                Err(Failure::TemporaryAuthFailure)
            }
        }
    }

    fn account(&self, name: &str, hash: Hash, row: Option<&EndUser>) -> Account {
        let parameter: String = self.parameters.get(ITERATIONS, String::new());
        let iterations = iterations(Some(&parameter));
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        Account::new(hash, row, self.decoys.keys(name, hash, iterations))
    }

    fn nonce(&self) -> Result<String, Failure> {
        let mut bytes = [0; 18];
        self.random
            .fill(&mut bytes)
            .map_err(|_| Failure::TemporaryAuthFailure)?;
        Ok(STANDARD_NO_PAD.encode(bytes))
    }

    /// The client has proven that it knows the password.
    fn proven(
        &self,
        subject: &Subject,
        name: &str,
        user: Option<String>,
        enabled: bool,
        data: Option<Vec<u8>>,
    ) -> Outcome {
        let Some(user) = user else {
            return self.wrong(subject, name);
        };
        if !enabled {
            self.counters.failed.increment();
            tracing::warn!(peer = %subject.peer, user, "A disabled user was refused.");
            return refuse(Failure::AccountDisabled);
        }
        let (now, rules) = (self.now(), self.rules());
        self.state()
            .throttle
            .succeeded(subject.peer, name, now, &rules);
        self.counters.succeeded.increment();
        Outcome::Success { user, data }
    }

    /// The password was wrong, or there is no such user.
    fn wrong(&self, subject: &Subject, name: &str) -> Outcome {
        let (now, rules) = (self.now(), self.rules());
        let delay = self
            .state()
            .throttle
            .failed(subject.peer, name, now, &rules);
        self.counters.failed.increment();
        tracing::warn!(
            peer = %subject.peer,
            name = ?name,
            mechanism = subject.mechanism.name(),
            "A sign-in failed."
        );
        Outcome::Failure {
            failure: Failure::NotAuthorized,
            delay,
        }
    }

    /// Refuses without a look at the password when there were too many
    /// failures.
    fn check(&self, peer: IpAddr, name: &str) -> Result<(), Refusal> {
        let now = self.now();
        self.state()
            .throttle
            .check(peer, name, now)
            .map_err(|wait| {
                self.counters.refused.increment();
                // The same words whether there is such a user or not.
                tracing::warn!(
                    target: "audit",
                    peer = %peer,
                    name = ?name,
                    seconds = wait.as_secs_f32().ceil(),
                    "A sign-in was refused unchecked: there were too many failures."
                );
                Refusal {
                    failure: Failure::TemporaryAuthFailure,
                    delay: wait.min(Duration::from_secs(1)),
                }
            })
    }

    fn keep(&self, subject: Subject, stage: Stage, data: Vec<u8>) -> Outcome {
        let now = self.now();
        let mut state = self.state();
        let exchange = state.exchanges.keep(subject, stage, now);
        self.count_open(&state);
        Outcome::Challenge { exchange, data }
    }

    fn count_open(&self, state: &State) {
        let open = i64::try_from(state.exchanges.len()).unwrap_or(i64::MAX);
        self.counters.open.set(open);
    }

    fn rules(&self) -> Rules {
        let defaults = Rules::default();
        let get = |name, default: u32| self.parameters.get(name, default).max(1);
        let longest = self
            .parameters
            .get(parameter::LONGEST, defaults.longest.as_secs());
        Rules {
            pair: get(parameter::PAIR, defaults.pair),
            address: get(parameter::ADDRESS, defaults.address),
            user: get(parameter::USER, defaults.user),
            longest: Duration::from_secs(longest.min(3600)),
            ..defaults
        }
    }

    fn now(&self) -> Moment {
        // Moved off zero, which tables take for "never".
        self.origin.elapsed() + Duration::from_secs(3600)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the first message came to.
enum First {
    Challenge { stage: Stage, data: String },
    Over(Outcome),
}

fn refuse(failure: Failure) -> Outcome {
    refused(failure.into())
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Failure {
        failure: refusal.failure,
        delay: refusal.delay,
    }
}
