//! The service: watches the tables, hears the components, raises notices.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use database::tables::{ProcessNode, ServiceParameter};
use database::{Access, Database, WatchEvent};
use service::{Alarms, Context, Severity, uds};
use tonic::{Request, Response, Status, Streaming};

use crate::declared::{DECLARED, declared};
use crate::proto;
use crate::proto::configuration_server::{Configuration, ConfigurationServer};
use crate::state::{Notice, State};

/// Prefix of the alarms that say what must be restarted.
const ALARM: &str = "RestartNeeded-";

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or_default()
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    alarms: Alarms,
    raised: Mutex<BTreeSet<String>>,
    notices: service::Counter,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises an alarm for each notice and clears those that are over.
    fn tell(&self) -> Vec<Notice> {
        let notices = self.state().notices(now());
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let current: BTreeSet<String> = notices
            .iter()
            .map(|notice| format!("{ALARM}{}", notice.service))
            .collect();
        for over in raised.difference(&current) {
            self.alarms.clear(over);
        }
        for notice in &notices {
            let id = format!("{ALARM}{}", notice.service);
            self.alarms.raise(&id, Severity::Warning, &notice.text());
        }
        self.notices
            .set(i64::try_from(notices.len()).unwrap_or(i64::MAX));
        *raised = current;
        notices
    }

    /// What the node is.
    fn identity(&self, name: &str, domain: &str) {
        let mut state = self.state();
        for known in DECLARED.iter().filter(|known| known.is_identity()) {
            let value = if known.definition.name == "node" {
                name
            } else {
                domain
            };
            state.set(known.service, known.definition.name, Some(value));
        }
    }

    fn parameter_changed(&self, row: &ServiceParameter, value: Option<&str>) {
        let changed = self.state().set(&row.service, &row.name, value);
        if !changed {
            return;
        }
        let service = &row.service;
        let name = &row.name;
        match declared(service, name) {
            Some(known) if known.applies_by_restart() => {
                tracing::info!(
                    service,
                    name,
                    "A parameter changed; it applies after a restart."
                );
            }
            Some(_) => tracing::info!(service, name, "A parameter changed; it applies at once."),
            None => tracing::debug!(service, name, "A parameter of another service changed."),
        }
    }
}

struct Server(Arc<Shared>);

#[tonic::async_trait]
impl Configuration for Server {
    async fn report(
        &self,
        request: Request<Streaming<proto::Running>>,
    ) -> Result<Response<proto::ReportReply>, Status> {
        let mut stream = request.into_inner();
        let mut component = None;
        let result = loop {
            match stream.message().await {
                Ok(Some(running)) => {
                    let values = running.values.into_iter().collect();
                    self.0.state().started(&running.component, values);
                    component = Some(running.component);
                    self.0.tell();
                }
                Ok(None) => break Ok(()),
                // The component died, or was killed.
                Err(status) => break Err(status),
            }
        };
        if let Some(component) = component {
            self.0.state().ended(&component);
            self.0.tell();
        }
        result.map(|()| Response::new(proto::ReportReply {}))
    }

    async fn parameters(
        &self,
        _: Request<proto::ParametersRequest>,
    ) -> Result<Response<proto::ParametersReply>, Status> {
        let state = self.0.state();
        let parameters = DECLARED.iter().map(|known| {
            let value = state.value(known);
            proto::Parameter {
                service: known.service.into(),
                name: known.definition.name.into(),
                meaning: known.definition.help.into(),
                value: value.into(),
                default: known.definition.default.into(),
                is_set: state.is_set(known),
                restart: known.applies_by_restart(),
                running: state
                    .running(known)
                    .filter(|running| *running != value)
                    .unwrap_or_default()
                    .into(),
            }
        });
        Ok(Response::new(proto::ParametersReply {
            parameters: parameters.collect(),
        }))
    }

    async fn notices(
        &self,
        _: Request<proto::NoticesRequest>,
    ) -> Result<Response<proto::NoticesReply>, Status> {
        let notices = self.0.tell().into_iter().map(|notice| proto::Notice {
            text: notice.text(),
            since: notice.since,
            service: notice.service,
            parameters: notice.parameters,
        });
        Ok(Response::new(proto::NoticesReply {
            notices: notices.collect(),
        }))
    }
}

/// The node's row in the table of nodes counts for every component.
fn topology(shared: &Shared, name: &str, row: &ProcessNode) {
    if row.name != name {
        tracing::info!(
            node = row.name,
            "A node of the cluster was added or changed."
        );
        return;
    }
    shared.identity(&row.name, &row.domain);
}

/// Runs the service until it is stopped.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let heartbeat = ctx.heartbeat("configuration");
    let node = ctx.node()?;
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        alarms: ctx.alarms().clone(),
        raised: Mutex::default(),
        notices: ctx
            .perf()
            .counter("Cisco XCP Config Manager", "", "RestartNotices"),
    });
    shared.identity(&node.name, &node.domain);
    let database = Database::open(ctx.paths(), Access::Settings);
    let mut parameters = database.watch::<ServiceParameter>(&[]);
    let mut nodes = database.watch::<ProcessNode>(&[]);
    let path = ctx.paths().configuration_socket();
    let listener =
        uds::listen(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
    let server = tonic::transport::Server::builder()
        .add_service(ConfigurationServer::new(Server(shared.clone())))
        .serve_with_incoming(uds::incoming(listener));
    tokio::pin!(server);
    ctx.status("Waits for the database.");
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut ready = false;
    loop {
        tokio::select! {
            ended = &mut server => return Ok(ended?),
            () = ctx.stopping() => return Ok(()),
            _ = second.tick() => heartbeat.tick(),
            event = parameters.next() => {
                match event {
                    WatchEvent::Snapshot(rows) => {
                        let rows = rows.into_iter().map(|row| (row.service, row.name, row.value));
                        shared.state().replace(rows);
                        if !ready {
                            ready = true;
                            ctx.ready("Watches the configuration of the XMPP services.");
                        }
                    }
                    WatchEvent::Put(row) => shared.parameter_changed(&row, Some(&row.value)),
                    WatchEvent::Delete(key) => {
                        if let [service, name] = key.0.as_slice() {
                            let row = ServiceParameter {
                                service: service.clone(),
                                name: name.clone(),
                                value: String::new(),
                            };
                            shared.parameter_changed(&row, None);
                        }
                    }
                }
                shared.tell();
            }
            event = nodes.next() => {
                // Not the name at the start: `set network hostname` may have changed it.
                let node = ctx.node()?;
                match event {
                    WatchEvent::Snapshot(rows) => {
                        for row in &rows {
                            topology(&shared, &node.name, row);
                        }
                    }
                    WatchEvent::Put(row) => topology(&shared, &node.name, &row),
                    WatchEvent::Delete(key) => {
                        tracing::info!(node = ?key.0, "A node of the cluster was removed.");
                    }
                }
                shared.tell();
            }
        }
    }
}
