//! The driver's hands on a real node.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use database::Database;
use recovery::{Alarm, Epoch, Node, Severity, Verdict};
use service::{Alarms, Watchdog};
use supervisor::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::disk::{Disk, Stored};
use crate::driver::{Hands, Input};
use crate::group::View;
use crate::history::{Entry, History};
use crate::known_hosts::{known_hosts, reached};
use crate::links::Links;

/// Pause between two tries to get ready, or to reach the supervisor.
const PAUSE: Duration = Duration::from_secs(1);
/// A database that does not answer for so long does not answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How often the supervisor is tried.
const TRIES: u32 = 10;

pub(crate) struct Live {
    pub(crate) disk: Disk,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) links: Links,
    pub(crate) database: Database,
    pub(crate) supervisor: Client,
    pub(crate) alarms: Alarms,
    pub(crate) watchdog: Watchdog,
    /// Who wants to know the view.
    pub(crate) views: watch::Sender<Option<View>>,
    /// The driver, which hears how things ended.
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) adopting: [Option<AbortHandle>; 2],
    /// The last order to the supervisor.
    pub(crate) ordered: Option<AbortHandle>,
}

impl Live {
    fn tell(&self, what: impl Future<Output = Input> + Send + 'static) -> AbortHandle {
        let inputs = self.inputs.clone();
        let task = tokio::spawn(async move {
            let input = what.await;
            // Without a driver nobody wants to know.
            let _ = inputs.send(input).await;
        });
        task.abort_handle()
    }

    /// Has the supervisor stop or start services. It restarts by itself, so
    /// that a call may come at a bad moment.
    fn order(&mut self, ids: Vec<String>, verb: &'static str) {
        if let Some(before) = self.ordered.take() {
            before.abort();
        }
        let supervisor = self.supervisor.clone();
        let order = tokio::spawn(async move {
            for _ in 0..TRIES {
                let done = match verb {
                    "start" => supervisor.resume(&ids).await,
                    _ => supervisor.suspend(&ids).await,
                };
                match done {
                    Ok(also) => {
                        tracing::info!(verb, services = ?also, "The supervisor was told.");
                        return;
                    }
                    Err(status) => {
                        tracing::warn!(verb, ?ids, %status, "The supervisor did not do it.");
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        self.ordered = Some(order.abort_handle());
    }
}

/// Waits until rosters and offline messages of the users can be read here: they
/// are in this node's replica of the database.
async fn ready(database: Database, limit: Duration) -> Result<(), String> {
    let mut why = "it does not answer".to_owned();
    let tries = async {
        loop {
            match tokio::time::timeout(ANSWER, database.status()).await {
                Ok(Ok(status)) if status.fault.is_empty() => return,
                Ok(Ok(status)) => why = status.fault,
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let ended = tokio::time::timeout(limit, tries).await;
    ended.map_err(|_| format!("the database of this node does not serve ({why})"))
}

impl Hands for Live {
    fn persist(&mut self, stored: &Stored) -> io::Result<()> {
        let kept = self.disk.keep_memory(stored);
        // A disk can be slow. The loop runs all the same.
        self.watchdog.feed();
        kept
    }

    fn configure(&mut self, view: &View) {
        self.links.configure(view);
        self.watchdog.limit(view.parameters.watchdog);
        self.views.send_replace(Some(view.clone()));
    }

    fn send(&mut self, to: &[String], message: Vec<u8>) {
        self.links.send(to, &message);
    }

    fn verify(&mut self, about: &str, thirds: Vec<String>, round: u64, limit: Duration) {
        let third = (!thirds.is_empty()).then(|| self.links.ask(about, &thirds));
        let _ = self.tell(async move {
            let verdict = match third {
                Some(asked) => {
                    let answer = tokio::time::timeout(limit, asked).await;
                    answer.unwrap_or(Verdict::Isolated)
                }
                None if reached(known_hosts(), limit).await => Verdict::Confirmed,
                None => Verdict::Isolated,
            };
            Input::Verdict { round, verdict }
        });
    }

    fn adopt(&mut self, home: Node, epoch: Epoch, limit: Duration) {
        self.give_up(home);
        let database = self.database.clone();
        self.adopting[home.index()] = Some(self.tell(async move {
            let result = ready(database, limit).await;
            Input::Adopted {
                home,
                epoch,
                result,
            }
        }));
    }

    fn give_up(&mut self, home: Node) {
        if let Some(task) = self.adopting[home.index()].take() {
            task.abort();
        }
    }

    fn start(&mut self, ids: Vec<String>) {
        self.order(ids, "start");
    }

    fn stop(&mut self, ids: Vec<String>) {
        self.order(ids, "stop");
    }

    fn raise(&mut self, alarm: &Alarm) {
        let severity = match alarm.severity {
            Severity::Warning => service::Severity::Warning,
            Severity::Error => service::Severity::Error,
            Severity::Critical => service::Severity::Critical,
        };
        self.alarms.raise(alarm.id, severity, &alarm.text);
    }

    fn clear(&mut self, id: &'static str) {
        self.alarms.clear(id);
    }

    fn record(&mut self, entry: Entry) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = history.push(entry) {
            // It is in the log as well.
            tracing::warn!(%error, "An entry of the event history was not written.");
        }
    }

    fn alive(&mut self) {
        self.watchdog.feed();
    }
}
