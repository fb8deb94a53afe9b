//! The interface over the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use replication::{CommitError, Facts, NodeMember, Voting, number};
use store::key::Part;
use store::{Action, Rejection, Store, key};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::Engine;
use crate::feed::Feed;
use crate::{Access, Error, Kind, Schema, cluster, mend, promotion, rpc, transfer, voters};

/// Rows or changes of about this many bytes go into one message.
pub(crate) const CHUNK: usize = 256 << 10;
/// Largest transaction, in bytes of rows.
const LARGEST_TRANSACTION: usize = 48 << 20;

/// The interface's state.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    access: Access,
    engine: Arc<Engine>,
    stop: CancellationToken,
}

impl Server {
    pub(crate) fn new(engine: Arc<Engine>, stop: CancellationToken) -> Self {
        Self {
            access: Access::Settings,
            engine,
            stop,
        }
    }

    /// The nodes of the cluster with what is known of each.
    fn members(&self, facts: &Facts, own: &rpc::ReportRequest) -> Vec<rpc::Member> {
        let rows = cluster::rows(&self.engine);
        // A node that has a new name in the log has two for a moment.
        let mut members: BTreeMap<u64, &NodeMember> = BTreeMap::new();
        for member in &facts.members {
            members.insert(number(member.node), member);
        }
        let leader = cluster::leader(facts).map(|(name, _)| number(name));
        let members = members.into_iter().map(|(node, member)| {
            let row = rows.iter().find(|row| row.replica.unsigned_abs() == node);
            let known = rpc::Member {
                node,
                name: row.map_or_else(String::new, |row| row.name.clone()),
                address: row.map_or_else(|| member.address.clone(), |row| row.address.clone()),
                voter: member.voter,
                leads: Some(node) == leader,
                ..rpc::Member::default()
            };
            match self.engine.cluster() {
                Some(cluster) if node != number(facts.node) => {
                    cluster.neighbours().member(known, cluster.now())
                }
                _ => rpc::Member {
                    state: own.state,
                    reason: own.reason.clone(),
                    lag_entries: own.lag_entries,
                    lag_seconds: own.lag_seconds,
                    reachable: true,
                    version: env!("CARGO_PKG_VERSION").into(),
                    ..known
                },
            }
        });
        members.collect()
    }

    /// The interface for one kind of callers.
    pub(crate) fn of(&self, access: Access) -> Self {
        Self {
            access,
            ..self.clone()
        }
    }

    /// The table of that name, if it is for these callers to read.
    fn readable(&self, table: &str) -> Result<&'static Schema, Error> {
        let schema = transfer::find(table)?;
        self.access.may_read(schema)?;
        Ok(schema)
    }

    /// An error of the store for the client. Damage is found here at the
    /// latest: the service starts again, and rebuilds what is damaged.
    fn failure(&self, error: store::Error) -> Error {
        if error.is_corruption() {
            self.engine.restart(&error.to_string());
        }
        error.into()
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl rpc::database_server::Database for Server {
    async fn get(&self, request: Request<rpc::GetRequest>) -> Reply<rpc::GetReply> {
        let request = request.into_inner();
        let schema = self.readable(&request.table)?;
        let parts = schema.full_key(&request.key).map_err(Error::from)?;
        let row = self
            .engine
            .readable()?
            .get(schema.table, &key::encode(&parts))
            .map_err(|error| self.failure(error))?;
        Ok(Response::new(rpc::GetReply {
            row: row
                .map(|row| to_rpc(schema, self.access, row))
                .transpose()?,
        }))
    }

    type ListStream = ReceiverStream<Result<rpc::ListReply, Status>>;

    async fn list(&self, request: Request<rpc::ListRequest>) -> Reply<Self::ListStream> {
        let request = request.into_inner();
        let schema = self.readable(&request.table)?;
        let prefix = key::encode(&schema.key_prefix(&request.prefix).map_err(Error::from)?);
        let (entries, revision, _) = self
            .engine
            .readable()?
            .list(schema.table, &prefix)
            .map_err(|error| self.failure(error))?;
        let mut replies = Vec::new();
        let mut size = usize::MAX;
        for entry in entries {
            let row = to_rpc(schema, self.access, entry.row)?;
            if size > CHUNK {
                replies.push(Ok(rpc::ListReply {
                    rows: Vec::new(),
                    revision,
                }));
                size = 0;
            }
            size += row.content.len();
            if let Some(Ok(reply)) = replies.last_mut() {
                reply.rows.push(row);
            }
        }
        Ok(Response::new(stream_of(replies)))
    }

    async fn transact(&self, request: Request<rpc::TransactRequest>) -> Reply<rpc::TransactReply> {
        let operations = request.into_inner().operations;
        let transaction = to_transaction(&*self.engine.readable()?, self.access, operations)?;
        let revision = commit(&self.engine, transaction).await?;
        Ok(Response::new(rpc::TransactReply { revision }))
    }

    type WatchStream = ReceiverStream<Result<rpc::WatchReply, Status>>;

    async fn watch(&self, request: Request<rpc::WatchRequest>) -> Reply<Self::WatchStream> {
        let request = request.into_inner();
        let schema = self.readable(&request.table)?;
        let prefix = key::encode(&schema.key_prefix(&request.prefix).map_err(Error::from)?);
        self.engine.readable()?;
        let (sender, replies) = mpsc::channel(4);
        let mut feed = Feed::new(
            self.engine.clone(),
            self.access,
            schema,
            prefix,
            !request.changes,
            sender,
        );
        let server = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                // The server's orderly stop waits for every stream to end.
                () = server.stop.cancelled() => {}
                done = feed.run(request.epoch, request.revision) => if let Err(error) = done {
                    if let Error::Damaged(reason) = &error {
                        server.engine.restart(reason);
                    }
                    feed.end(error).await;
                },
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn status(&self, _: Request<rpc::StatusRequest>) -> Reply<rpc::StatusReply> {
        let store = self.engine.store();
        let facts = self.engine.node().facts();
        let report = self.engine.report();
        let members = self.members(&facts, &report);
        let leads = facts.leader == Some(facts.node);
        let mut reply = rpc::StatusReply {
            heard: leads,
            ..rpc::StatusReply::default()
        };
        if let Some(cluster) = self.engine.cluster().filter(|_| !leads) {
            let neighbours = cluster.neighbours();
            let now = cluster.now();
            let leader = cluster::leader(&facts).map(|(name, _)| number(name));
            let last = leader.and_then(|leader| neighbours.last_log(leader, now));
            reply.heard = last.is_some();
            reply.leader_last = last.map_or(0, |(index, _)| index);
            reply.silent_seconds = last.map_or(now, |(_, ago)| ago).as_secs();
            reply.mismatched.clone_from(&neighbours.mismatched);
            reply.refused.clone_from(&neighbours.refused);
        }
        if let Some(cluster) = self.engine.cluster()
            && facts.voting() == Voting::All
        {
            // Nobody may lead: what counts is when one was heard that did.
            reply.heard = facts.contact.is_some();
            reply.silent_seconds = facts.contact.unwrap_or(cluster.now()).as_secs();
        }
        let cluster = self.engine.cluster();
        let elsewhere = cluster.map(|cluster| cluster::elsewhere(&self.engine, cluster, &facts));
        Ok(Response::new(rpc::StatusReply {
            elsewhere: elsewhere.unwrap_or_default(),
            state: report.state,
            reason: report.reason,
            lag_entries: report.lag_entries,
            lag_seconds: report.lag_seconds,
            members,
            role: facts.role,
            applied: facts.applied,
            last_log: facts.last_log,
            snapshot_index: facts.snapshot,
            snapshot_running: facts.building,
            purged: facts.purged,
            term: facts.term,
            node: number(facts.node),
            fault: facts.fault,
            revision: store.revision(),
            epoch: store.epoch(),
            recovery: self.engine.node().recovery().text(),
            stopped: facts.stopped.unwrap_or_default(),
            superseded: facts
                .superseded
                .map(CommitError::Superseded)
                .or(facts.forgot.then_some(CommitError::Forgot))
                .map(|why| why.to_string())
                .unwrap_or_default(),
            complete: self.engine.node().replica().is_complete(),
            ..reply
        }))
    }

    async fn digests(&self, _: Request<rpc::DigestsRequest>) -> Reply<rpc::DigestsReply> {
        self.access.may_compare()?;
        let (tables, applied, revision) = self.engine.store().digests();
        Ok(Response::new(cluster::digests(applied, revision, &tables)))
    }

    async fn check(&self, _: Request<rpc::CheckRequest>) -> Reply<rpc::CheckReply> {
        self.access.may_maintain()?;
        let store = self.engine.store();
        let report = tokio::task::spawn_blocking(move || store.check())
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| self.failure(error))?;
        Ok(Response::new(rpc::CheckReply {
            rows: report.rows,
            tables: report.tables,
            problems: report.problems,
        }))
    }

    type ExportStream = ReceiverStream<Result<rpc::ExportChunk, Status>>;

    async fn export(&self, request: Request<rpc::ExportRequest>) -> Reply<Self::ExportStream> {
        self.access.may_transfer()?;
        let file = transfer::export(&*self.engine.readable()?, &request.into_inner().tables)?;
        let chunks = file.chunks(CHUNK).map(|data| {
            Ok(rpc::ExportChunk {
                data: data.to_vec(),
            })
        });
        Ok(Response::new(stream_of(chunks.collect())))
    }

    async fn import(
        &self,
        request: Request<Streaming<rpc::ImportChunk>>,
    ) -> Reply<rpc::ImportReply> {
        self.access.may_transfer()?;
        let mut chunks = request.into_inner();
        let mut file = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            file.extend(chunk.data);
            if file.len() > LARGEST_TRANSACTION {
                return Err(Error::Invalid(format!(
                    "the export is larger than {LARGEST_TRANSACTION} bytes; import its tables one by one"
                ))
                .into());
            }
        }
        let plan = transfer::plan(&file)?;
        let revision = commit(&self.engine, plan.transaction).await?;
        Ok(Response::new(rpc::ImportReply {
            revision,
            rows: plan.rows,
            tables: plan.tables,
        }))
    }

    async fn report(&self, request: Request<rpc::ReportRequest>) -> Reply<rpc::ReportReply> {
        self.access.may_maintain()?;
        self.engine.take_report(request.into_inner());
        Ok(Response::new(rpc::ReportReply {}))
    }

    async fn order(&self, request: Request<rpc::OrderRequest>) -> Reply<rpc::OrderReply> {
        use rpc::order_request::Kind;
        self.access.may_maintain()?;
        let request = request.into_inner();
        let unavailable = |error: String| Status::from(Error::Unavailable(error));
        let node = self.engine.node();
        let text = match request.kind() {
            Kind::Rebuild => {
                let reason = if request.reason.is_empty() {
                    "ordered"
                } else {
                    &request.reason
                };
                node.order_rebuild(reason)
                    .map_err(|error| unavailable(error.to_string()))?;
                self.engine
                    .restart(&format!("a rebuild of the replica was ordered: {reason}"));
                "The database starts again and rebuilds its replica from snapshot and log.".into()
            }
            Kind::Snapshot => {
                let index = node
                    .snapshot()
                    .await
                    .map_err(|error| unavailable(error.to_string()))?;
                format!("A snapshot was written up to entry {index}.")
            }
            Kind::Compact => {
                let smaller = node
                    .compact()
                    .await
                    .map_err(|error| unavailable(error.to_string()))?;
                if smaller {
                    "The log's file is smaller now."
                } else {
                    "The log's file was small already."
                }
                .into()
            }
            Kind::Unspecified => {
                return Err(Error::Invalid(
                    "the order is none of rebuild, snapshot, compact".into(),
                )
                .into());
            }
        };
        tracing::info!(reason = request.reason, "An order was carried out: {text}");
        Ok(Response::new(rpc::OrderReply { text }))
    }

    async fn compare(&self, request: Request<rpc::CompareRequest>) -> Reply<rpc::Comparison> {
        self.access.may_compare()?;
        let request = request.into_inner();
        let compared = match mend::elsewhere(&self.engine, &request.node)? {
            Some(other) => other.compare(request).await?,
            None => mend::compare(&self.engine, &request).await?,
        };
        Ok(Response::new(compared))
    }

    async fn mend(&self, request: Request<rpc::MendRequest>) -> Reply<rpc::MendReply> {
        self.access.may_maintain()?;
        let request = request.into_inner();
        let done = match mend::elsewhere(&self.engine, &request.node)? {
            Some(other) => other.mend(request).await?,
            None => mend::mend(&self.engine, &request).await?,
        };
        Ok(Response::new(done))
    }

    async fn promote(&self, request: Request<rpc::PromoteRequest>) -> Reply<rpc::PromoteReply> {
        self.access.may_maintain()?;
        let request = request.into_inner();
        let reply = promotion::promote(&self.engine, request.carry_out, &request.reason).await?;
        Ok(Response::new(reply))
    }

    async fn voters(&self, request: Request<rpc::VotersRequest>) -> Reply<rpc::VotersReply> {
        self.access.may_maintain()?;
        let request = request.into_inner();
        Ok(Response::new(voters::set(&self.engine, request).await?))
    }

    async fn statistics(&self, _: Request<rpc::StatisticsRequest>) -> Reply<rpc::StatisticsReply> {
        self.access.may_maintain()?;
        let store = self.engine.store();
        let digests = store.digests().0;
        let tables = crate::tables::ALL.iter().map(|schema| {
            let counts = self.engine.counts(schema.table);
            let sizes = digests.iter().find(|digest| digest.table == schema.table);
            rpc::TableStatistics {
                table: schema.table.into(),
                rows: sizes.map_or(0, |sizes| sizes.rows),
                bytes: sizes.map_or(0, |sizes| sizes.bytes),
                watchers: counts.watchers.load(Ordering::Relaxed),
                notifications: counts.notifications.load(Ordering::Relaxed),
                changes: counts.changes.load(Ordering::Relaxed),
            }
        });
        let tables: Vec<_> = tables.collect();
        let (log_bytes, snapshot_bytes) = self.engine.node().sizes();
        let counts = self.engine.node().counts();
        Ok(Response::new(rpc::StatisticsReply {
            watchers: tables.iter().map(|table| table.watchers).sum(),
            tables,
            log_bytes,
            snapshot_bytes,
            replica_bytes: store.size(),
            transactions: counts.transactions,
            rejected: counts.rejected,
            commits: counts.commits,
        }))
    }
}

/// Commits a transaction and answers its revision.
async fn commit(engine: &Engine, transaction: store::Transaction) -> Result<u64, Error> {
    match engine.propose(transaction).await? {
        Ok(revision) => Ok(revision),
        Err(rejection) => Err(rejected(&rejection)),
    }
}

fn rejected(rejection: &Rejection) -> Error {
    let name = |key: &[u8]| names(&key::decode(key).unwrap_or_default());
    match rejection {
        Rejection::Exists { table, key } => {
            Error::Exists(format!("{table} has a row {} already", name(key)))
        }
        Rejection::Changed {
            table,
            key,
            required,
            found: 0,
        } => Error::Changed(format!(
            "the row {} of {table} was removed since revision {required}; read again",
            name(key)
        )),
        Rejection::Changed {
            table, key, found, ..
        } => Error::Changed(format!(
            "the row {} of {table} was changed meanwhile, at revision {found}; read again",
            name(key)
        )),
        Rejection::Missing { table, key } => missing(table, &name(key)),
        Rejection::Unknown { action } => Error::Invalid(format!(
            "the transaction has a step of kind {action}, which this version does not know"
        )),
    }
}

/// Checks a client's transaction and brings it into the log's form.
fn to_transaction(
    store: &Store,
    access: Access,
    operations: Vec<rpc::Operation>,
) -> Result<store::Transaction, Error> {
    let mut transaction = store::Transaction::default();
    for operation in operations {
        add_steps(store, access, operation, &mut transaction.operations)?;
    }
    let steps = transaction.operations.iter();
    let size: usize = steps.map(|step| step.key.len() + step.row.len()).sum();
    if size > LARGEST_TRANSACTION {
        return Err(Error::Invalid(format!(
            "the transaction has {size} bytes of rows; at most {LARGEST_TRANSACTION} are allowed"
        )));
    }
    Ok(transaction)
}

fn add_steps(
    store: &Store,
    access: Access,
    operation: rpc::Operation,
    steps: &mut Vec<store::Operation>,
) -> Result<(), Error> {
    use rpc::operation::Action as Asked;
    let schema = transfer::find(&operation.table)?;
    let asked = operation.action();
    match asked {
        Asked::Require | Asked::RequireRow => access.may_read(schema)?,
        Asked::SetColumn => access.may_set(schema, &operation.column)?,
        _ => access.may_write(schema)?,
    }
    let step = |action: Action, key: &[Part]| store::Operation {
        action: action.into(),
        table: schema.table.into(),
        key: key::encode(key),
        version: schema.version,
        ..Default::default()
    };
    match asked {
        Asked::Put | Asked::Insert => {
            let row = operation.row.unwrap_or_default();
            let value = serde_json::from_slice(&row.content).map_err(|error| {
                Error::Invalid(format!(
                    "a row of table {} is no JSON: {error}",
                    schema.table
                ))
            })?;
            let encoded = schema.encode(value, row.version)?;
            let put = asked == Asked::Put;
            let action = if put { Action::Put } else { Action::Insert };
            steps.push(store::Operation {
                row: encoded.content,
                ..step(action, &encoded.key)
            });
        }
        Asked::Delete => steps.push(step(Action::Delete, &schema.full_key(&operation.key)?)),
        Asked::DeletePrefix => {
            let prefix = schema.key_prefix(&operation.key)?;
            steps.push(step(Action::DeletePrefix, &prefix));
        }
        Asked::Require => steps.push(store::Operation {
            revision: operation.revision,
            ..step(Action::Require, &schema.full_key(&operation.key)?)
        }),
        Asked::RequireRow => {
            steps.push(step(Action::RequireRow, &schema.full_key(&operation.key)?));
        }
        Asked::SetColumn => {
            let key = schema.full_key(&operation.key)?;
            let found = store.get(schema.table, &key::encode(&key))?;
            let found = found.ok_or_else(|| missing(schema.table, &names(&key)))?;
            // What is put is what was read here, but for the column: only
            // while the row is still that one.
            steps.push(store::Operation {
                revision: found.revision,
                ..step(Action::Require, &key)
            });
            steps.push(store::Operation {
                row: with_column(schema, &found, &names(&key), &operation)?,
                ..step(Action::Put, &key)
            });
        }
        Asked::Unspecified => {
            return Err(Error::Invalid(format!(
                "a step on table {} is of a kind that this version does not know",
                schema.table
            )));
        }
    }
    Ok(())
}

/// A stored row with another value in one column, if it has the one that is
/// to be changed.
fn with_column(
    schema: &Schema,
    found: &store::Row,
    name: &str,
    operation: &rpc::Operation,
) -> Result<Vec<u8>, Error> {
    let rpc::Operation {
        column, from, to, ..
    } = operation;
    let known = schema.column(column).map(|column| column.kind);
    if !matches!(known, Some(Kind::Text(_))) || schema.key.contains(&column.as_str()) {
        return Err(Error::Invalid(format!(
            "{}.{column} is no column of text that can be changed by itself",
            schema.table
        )));
    }
    let mut row = schema.decode(&found.content, found.version)?;
    if row[column] != **from {
        return Err(Error::Changed(format!(
            "{column} of the row {name} of {} is {}, not {from:?}; read again",
            schema.table, row[column]
        )));
    }
    row[column] = to.as_str().into();
    Ok(schema.encode(row, schema.version)?.content)
}

fn names(key: &[Part]) -> String {
    let parts: Vec<_> = key.iter().map(ToString::to_string).collect();
    parts.join(", ")
}

fn missing(table: &str, name: &str) -> Error {
    Error::Changed(format!(
        "there is no row {name} in {table}, or not any more; read again"
    ))
}

/// A stored row as the interface gives it to these callers.
pub(crate) fn to_rpc(schema: &Schema, access: Access, row: store::Row) -> Result<rpc::Row, Error> {
    let (content, version) = if access.tells_secrets() || !schema.has_secrets() {
        (row.content, row.version)
    } else {
        let content = schema.without_secrets(&row.content, row.version)?;
        (content, schema.version)
    };
    Ok(rpc::Row {
        content,
        version,
        revision: row.revision,
    })
}

fn stream_of<T>(items: Vec<Result<T, Status>>) -> ReceiverStream<Result<T, Status>>
where
    T: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(items.len().max(1));
    for item in items {
        // There is room for each, and the receiver is in our hands.
        let _ = sender.try_send(item);
    }
    ReceiverStream::new(receiver)
}
