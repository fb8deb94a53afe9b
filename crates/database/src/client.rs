//! The client of the node's database.

use std::path::Path;

use service::Paths;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::rpc::{self, database_client::DatabaseClient};
use crate::table::from_row;
use crate::{
    Access, CheckReport, Comparison, Digests, Error, Imported, Mended, Mending, Order, Parameters,
    Promotion, Report, Revision, Statistics, Status, Table, Transaction, VotersChange, Watch,
};

/// Largest message either way.
pub(crate) const LARGEST_MESSAGE: usize = 64 << 20;

/// A client of the node's database. Cheap to clone; connects at first use, and
/// again whenever the database was restarted.
#[derive(Clone, Debug)]
pub struct Database {
    client: DatabaseClient<Channel>,
}

/// A row with the revision of the transaction that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The row.
    pub row: T,
    /// Its revision, for [`Transaction::require_revision`].
    pub revision: Revision,
}

impl Database {
    /// A client of this node's database, with what that kind of callers may.
    /// Does not wait for it.
    pub fn open(paths: &Paths, access: Access) -> Self {
        Self::connect(&access.socket(paths))
    }

    /// A client of the database at that socket. Does not wait for it.
    pub fn connect(socket: &Path) -> Self {
        let client = DatabaseClient::new(service::uds::connect(socket))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        Self { client }
    }

    pub(crate) fn client(&self) -> DatabaseClient<Channel> {
        self.client.clone()
    }

    /// The row with that key.
    pub async fn get<T: Table>(&self, key: &[&str]) -> Result<Option<T>, Error> {
        Ok(self.get_versioned(key).await?.map(|found| found.row))
    }

    /// The row with that key and its revision.
    pub async fn get_versioned<T: Table>(
        &self,
        key: &[&str],
    ) -> Result<Option<Versioned<T>>, Error> {
        let request = rpc::GetRequest {
            table: T::SCHEMA.table.into(),
            key: owned(key),
        };
        let row = self.client().get(request).await?.into_inner().row;
        row.map(|row| {
            Ok(Versioned {
                row: from_row(&row)?,
                revision: row.revision,
            })
        })
        .transpose()
    }

    /// All rows whose key begins with these columns, in key order, of one
    /// moment. No columns: the whole table.
    pub async fn list<T: Table>(&self, prefix: &[&str]) -> Result<Vec<T>, Error> {
        let request = rpc::ListRequest {
            table: T::SCHEMA.table.into(),
            prefix: owned(prefix),
        };
        let mut replies = self.client().list(request).await?.into_inner();
        let mut rows = Vec::new();
        while let Some(reply) = replies.message().await? {
            for row in &reply.rows {
                rows.push(from_row(row)?);
            }
        }
        Ok(rows)
    }

    /// Carries a transaction out. When this returns a revision, the change is
    /// durable and reads of this node see it.
    pub async fn transact(&self, transaction: Transaction) -> Result<Revision, Error> {
        let request = rpc::TransactRequest {
            operations: transaction.operations,
        };
        Ok(self.client().transact(request).await?.into_inner().revision)
    }

    /// The rows whose key begins with these columns, and from then on each
    /// change to them.
    pub fn watch<T: Table>(&self, prefix: &[&str]) -> Watch<T> {
        Watch::new(self.clone(), owned(prefix), false)
    }

    /// Each change to the rows whose key begins with these columns. A
    /// [`crate::WatchEvent::Snapshot`] is empty and says that changes may have
    /// been missed: at the beginning, and when the server no longer has them.
    pub fn watch_changes<T: Table>(&self, prefix: &[&str]) -> Watch<T> {
        Watch::new(self.clone(), owned(prefix), true)
    }

    /// The settings of a service, kept up to date.
    pub fn parameters(&self, service: &str) -> Parameters {
        Parameters::of_service(self, service)
    }

    /// The settings of the whole cluster, kept up to date.
    pub fn enterprise_parameters(&self) -> Parameters {
        Parameters::of_enterprise(self)
    }

    /// State of replication, position in the log, members.
    pub async fn status(&self) -> Result<Status, Error> {
        let reply = self.client().status(rpc::StatusRequest {}).await?;
        Ok(Status::from(reply.into_inner()))
    }

    /// Digest and size of each table, with the log position they are of.
    pub async fn digests(&self) -> Result<Digests, Error> {
        let reply = self.client().digests(rpc::DigestsRequest {}).await?;
        Ok(Digests::from(reply.into_inner()))
    }

    /// Has the database read everything and compare it with its checksums and
    /// digests.
    pub async fn check(&self) -> Result<CheckReport, Error> {
        let reply = self.client().check(rpc::CheckRequest {}).await?;
        Ok(CheckReport::from(reply.into_inner()))
    }

    /// The tables of these names (none: all) as lines of JSON with schema
    /// versions, closed by a line with a digest.
    pub async fn export(&self, tables: &[&str]) -> Result<Vec<u8>, Error> {
        let request = rpc::ExportRequest {
            tables: owned(tables),
        };
        let mut chunks = self.client().export(request).await?.into_inner();
        let mut file = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            file.extend(chunk.data);
        }
        Ok(file)
    }

    /// Replaces the tables that an export holds by its rows, in one
    /// transaction. The file is verified whole before anything is changed.
    pub async fn import(&self, file: &[u8]) -> Result<Imported, Error> {
        let chunks: Vec<_> = file
            .chunks(256 << 10)
            .map(|data| rpc::ImportChunk {
                data: data.to_vec(),
            })
            .collect();
        let reply = self
            .client()
            .import(tokio_stream::iter(chunks))
            .await?
            .into_inner();
        Ok(Imported {
            revision: reply.revision,
            rows: reply.rows,
            tables: reply.tables,
        })
    }

    /// Compares tables of the node of that name (none: all of them) with the
    /// publisher's; where `rows`, counts the rows that differ.
    pub async fn compare(
        &self,
        node: &str,
        tables: &[&str],
        rows: bool,
    ) -> Result<Comparison, Error> {
        let request = rpc::CompareRequest {
            node: node.into(),
            tables: owned(tables),
            rows,
        };
        let reply = self.client().compare(request).await?;
        Ok(Comparison::from(reply.into_inner()))
    }

    /// Has the node of that name brought in order by the publisher, or
    /// stopped; `tables` (none: all) are those that [`Mending::Repair`] looks
    /// at, `reason` says who asked.
    pub async fn mend(
        &self,
        mending: Mending,
        node: &str,
        tables: &[&str],
        reason: &str,
    ) -> Result<Mended, Error> {
        let request = rpc::MendRequest {
            kind: rpc::mend_request::Kind::from(mending).into(),
            node: node.into(),
            tables: owned(tables),
            reason: reason.into(),
        };
        let reply = self.client().mend(request).await?.into_inner();
        Ok(Mended {
            text: reply.text,
            tables: reply.tables,
        })
    }

    /// What the promotion of this node means; where `carry_out`, has it done.
    /// `reason` says who asked.
    pub async fn promote(&self, carry_out: bool, reason: &str) -> Result<Promotion, Error> {
        let request = rpc::PromoteRequest {
            carry_out,
            reason: reason.into(),
        };
        let reply = self.client().promote(request).await?;
        Ok(Promotion::from(reply.into_inner()))
    }

    /// Whether all nodes may vote, or one; where `carry_out`, has it done.
    /// `reason` says who asked.
    pub async fn set_voters(
        &self,
        all: bool,
        carry_out: bool,
        reason: &str,
    ) -> Result<VotersChange, Error> {
        let request = rpc::VotersRequest {
            all,
            carry_out,
            reason: reason.into(),
        };
        let reply = self.client().voters(request).await?;
        Ok(VotersChange::from(reply.into_inner()))
    }

    /// Figures on tables, watchers and files.
    pub async fn statistics(&self) -> Result<Statistics, Error> {
        let reply = self.client().statistics(rpc::StatisticsRequest {}).await?;
        Ok(Statistics::from(reply.into_inner()))
    }

    /// Tells the database the replicator's judgement, which [`Status`] shows.
    pub async fn report(&self, report: Report) -> Result<(), Error> {
        self.client()
            .report(rpc::ReportRequest::from(report))
            .await?;
        Ok(())
    }

    /// Orders maintenance; answers a sentence on what was done.
    pub async fn order(&self, order: Order, reason: &str) -> Result<String, Error> {
        let request = rpc::OrderRequest {
            kind: rpc::order_request::Kind::from(order).into(),
            reason: reason.into(),
        };
        Ok(self.client().order(request).await?.into_inner().text)
    }

    pub(crate) async fn watch_from(
        &self,
        request: rpc::WatchRequest,
    ) -> Result<Streaming<rpc::WatchReply>, Error> {
        Ok(self.client().watch(request).await?.into_inner())
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).into()).collect()
}
