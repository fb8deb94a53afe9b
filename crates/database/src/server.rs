//! The database service: the interface over the engine.

use std::sync::{Arc, Mutex, PoisonError};

use service::Context;
use store::{Action, Rejection, key};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::client::LARGEST_MESSAGE;
use crate::engine::Engine;
use crate::rpc::{self, database_server::DatabaseServer};
use crate::{Error, Schema, transfer};

/// Rows or changes of about this many bytes go into one message.
const CHUNK: usize = 256 << 10;
/// Largest transaction, in bytes of rows.
const LARGEST_TRANSACTION: usize = 48 << 20;

/// Runs the database service until it is told to stop.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let folder = context.paths().state(context.id());
    std::fs::create_dir_all(&folder)?;
    let engine = Arc::new(Engine::open(&folder, 32 << 20)?);
    let listener = service::uds::listen(&context.paths().database_socket())?;
    let stop = context.stop_token().clone();
    let server = Server {
        engine: engine.clone(),
        stop: stop.clone(),
        report: Arc::default(),
    };
    context.ready("The database serves.");
    tonic::transport::Server::builder()
        .add_service(
            DatabaseServer::new(server)
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE),
        )
        .serve_with_incoming_shutdown(service::uds::incoming(listener), stop.cancelled_owned())
        .await?;
    engine.store().flush()?;
    Ok(())
}

#[derive(Clone, Debug)]
struct Server {
    engine: Arc<Engine>,
    stop: CancellationToken,
    report: Arc<Mutex<rpc::ReportRequest>>,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl rpc::database_server::Database for Server {
    async fn get(&self, request: Request<rpc::GetRequest>) -> Reply<rpc::GetReply> {
        let request = request.into_inner();
        let schema = transfer::find(&request.table)?;
        let parts = schema.full_key(&request.key).map_err(Error::from)?;
        let row = self
            .engine
            .store()
            .get(schema.table, &key::encode(&parts))
            .map_err(Error::from)?;
        Ok(Response::new(rpc::GetReply {
            row: row.map(to_rpc),
        }))
    }

    type ListStream = ReceiverStream<Result<rpc::ListReply, Status>>;

    async fn list(&self, request: Request<rpc::ListRequest>) -> Reply<Self::ListStream> {
        let request = request.into_inner();
        let schema = transfer::find(&request.table)?;
        let prefix = key::encode(&schema.key_prefix(&request.prefix).map_err(Error::from)?);
        let (entries, revision, _) = self
            .engine
            .store()
            .list(schema.table, &prefix)
            .map_err(Error::from)?;
        let mut replies = Vec::new();
        let mut size = usize::MAX;
        for entry in entries {
            let row = to_rpc(entry.row);
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
        let transaction = to_transaction(request.into_inner().operations)?;
        let revision = commit(&self.engine, transaction).await?;
        Ok(Response::new(rpc::TransactReply { revision }))
    }

    type WatchStream = ReceiverStream<Result<rpc::WatchReply, Status>>;

    async fn watch(&self, request: Request<rpc::WatchRequest>) -> Reply<Self::WatchStream> {
        let request = request.into_inner();
        let schema = transfer::find(&request.table)?;
        let prefix = key::encode(&schema.key_prefix(&request.prefix).map_err(Error::from)?);
        let (sender, replies) = mpsc::channel(4);
        let feed = Feed {
            engine: self.engine.clone(),
            schema,
            prefix,
            sender,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                // The server's orderly stop waits for every stream to end.
                () = stop.cancelled() => {}
                done = feed.run(request.epoch, request.revision) => if let Err(error) = done {
                    let _ = feed.sender.send(Err(error.into())).await;
                },
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn status(&self, _: Request<rpc::StatusRequest>) -> Reply<rpc::StatusReply> {
        let store = self.engine.store();
        let report = self
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let applied = store.applied().index;
        Ok(Response::new(rpc::StatusReply {
            state: report.state,
            reason: report.reason,
            lag_entries: report.lag_entries,
            lag_seconds: report.lag_seconds,
            members: report.members,
            role: "leader".into(),
            applied,
            last_log: applied,
            revision: store.revision(),
            epoch: store.epoch(),
            node: 1,
            ..Default::default()
        }))
    }

    async fn digests(&self, _: Request<rpc::DigestsRequest>) -> Reply<rpc::DigestsReply> {
        let (tables, applied, revision) = self.engine.store().digests();
        let tables = tables.into_iter().map(|table| rpc::TableDigest {
            version: crate::tables::schema(&table.table).map_or(0, |schema| schema.version),
            table: table.table,
            digest: table.digest.to_string(),
            rows: table.rows,
            bytes: table.bytes,
        });
        Ok(Response::new(rpc::DigestsReply {
            applied,
            revision,
            tables: tables.collect(),
        }))
    }

    async fn check(&self, _: Request<rpc::CheckRequest>) -> Reply<rpc::CheckReply> {
        let store = self.engine.store();
        let report = tokio::task::spawn_blocking(move || store.check())
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(Error::from)?;
        Ok(Response::new(rpc::CheckReply {
            rows: report.rows,
            tables: report.tables,
            problems: report.problems,
        }))
    }

    type ExportStream = ReceiverStream<Result<rpc::ExportChunk, Status>>;

    async fn export(&self, request: Request<rpc::ExportRequest>) -> Reply<Self::ExportStream> {
        let file = transfer::export(&self.engine.store(), &request.into_inner().tables)?;
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
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = request.into_inner();
        Ok(Response::new(rpc::ReportReply {}))
    }

    async fn order(&self, _: Request<rpc::OrderRequest>) -> Reply<rpc::OrderReply> {
        Err(Status::unimplemented(
            "orders are not taken by this version",
        ))
    }

    async fn statistics(&self, _: Request<rpc::StatisticsRequest>) -> Reply<rpc::StatisticsReply> {
        let store = self.engine.store();
        let tables = store
            .digests()
            .0
            .into_iter()
            .map(|table| rpc::TableStatistics {
                table: table.table,
                rows: table.rows,
                bytes: table.bytes,
                ..Default::default()
            });
        Ok(Response::new(rpc::StatisticsReply {
            tables: tables.collect(),
            replica_bytes: store.size(),
            ..Default::default()
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
    let name = |key: &[u8]| {
        let parts = key::decode(key).unwrap_or_default();
        let parts: Vec<_> = parts.iter().map(ToString::to_string).collect();
        parts.join(", ")
    };
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
        Rejection::Unknown { action } => Error::Invalid(format!(
            "the transaction has a step of kind {action}, which this version does not know"
        )),
    }
}

/// Checks a client's transaction and brings it into the log's form.
fn to_transaction(operations: Vec<rpc::Operation>) -> Result<store::Transaction, Error> {
    use rpc::operation::Action as Asked;
    let mut transaction = store::Transaction::default();
    let mut size = 0;
    for operation in operations {
        let schema = transfer::find(&operation.table)?;
        let asked = operation.action();
        let mut step = store::Operation {
            table: schema.table.into(),
            version: schema.version,
            revision: operation.revision,
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
                step.key = key::encode(&encoded.key);
                step.row = encoded.content;
                let put = asked == Asked::Put;
                step.action = if put { Action::Put } else { Action::Insert }.into();
            }
            Asked::Delete | Asked::Require => {
                step.key = key::encode(&schema.full_key(&operation.key)?);
                let delete = asked == Asked::Delete;
                step.action = if delete {
                    Action::Delete
                } else {
                    Action::Require
                }
                .into();
            }
            Asked::Unspecified => {
                return Err(Error::Invalid(format!(
                    "a step on table {} is none of put, insert, delete, require",
                    schema.table
                )));
            }
        }
        size += step.key.len() + step.row.len();
        transaction.operations.push(step);
    }
    if size > LARGEST_TRANSACTION {
        return Err(Error::Invalid(format!(
            "the transaction has {size} bytes of rows; at most {LARGEST_TRANSACTION} are allowed"
        )));
    }
    Ok(transaction)
}

fn to_rpc(row: store::Row) -> rpc::Row {
    rpc::Row {
        content: row.content,
        version: row.version,
        revision: row.revision,
    }
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

/// One watch on the server's side.
struct Feed {
    engine: Arc<Engine>,
    schema: &'static Schema,
    prefix: Vec<u8>,
    sender: mpsc::Sender<Result<rpc::WatchReply, Status>>,
}

impl Feed {
    async fn run(&self, mut epoch: String, mut revision: u64) -> Result<(), Error> {
        let mut revisions = self.engine.revisions();
        loop {
            revisions.mark_unchanged();
            let store = self.engine.store();
            match store.history(&epoch, revision, 256)? {
                None => (epoch, revision) = self.snapshot(&store).await?,
                Some(changes) if changes.is_empty() => {
                    tokio::select! {
                        () = self.sender.closed() => return Ok(()),
                        changed = revisions.changed() => if changed.is_err() {
                            return Ok(());
                        },
                    }
                }
                Some(changes) => {
                    for change in changes {
                        let told = change.events.into_iter().filter(|event| {
                            event.table == self.schema.table && event.key.starts_with(&self.prefix)
                        });
                        let told = told.map(|event| (event.key, event.row)).collect();
                        revision = change.revision;
                        self.tell(&epoch, revision, false, told).await?;
                    }
                }
            }
            if self.sender.is_closed() {
                return Ok(());
            }
        }
    }

    async fn snapshot(&self, store: &store::Store) -> Result<(String, u64), Error> {
        let (entries, revision, epoch) = store.list(self.schema.table, &self.prefix)?;
        let rows = entries
            .into_iter()
            .map(|entry| (entry.key, Some(entry.row)))
            .collect();
        self.tell(&epoch, revision, true, rows).await?;
        Ok((epoch, revision))
    }

    async fn tell(
        &self,
        epoch: &str,
        revision: u64,
        snapshot: bool,
        rows: Vec<(Vec<u8>, Option<store::Row>)>,
    ) -> Result<(), Error> {
        if rows.is_empty() && !snapshot {
            return Ok(());
        }
        let mut reply = rpc::WatchReply {
            epoch: epoch.into(),
            revision,
            snapshot,
            ..Default::default()
        };
        let mut size = 0;
        for (at, row) in rows {
            size += at.len() + row.as_ref().map_or(0, |row| row.content.len());
            let parts = key::decode(&at).unwrap_or_default();
            let key = parts.iter().map(ToString::to_string).collect();
            reply.changes.push(rpc::WatchChange {
                key,
                row: row.map(to_rpc),
            });
            if size > CHUNK {
                let next = rpc::WatchReply {
                    changes: Vec::new(),
                    ..reply.clone()
                };
                self.send(std::mem::replace(&mut reply, next)).await;
                size = 0;
            }
        }
        reply.complete = true;
        self.send(reply).await;
        Ok(())
    }

    /// A watcher that went away ends the feed at its next turn.
    async fn send(&self, reply: rpc::WatchReply) {
        let _ = self.sender.send(Ok(reply)).await;
    }
}
