//! A replica compared with the publisher's and brought in order by it, at one
//! and the same place of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use replication::{Facts, Hold, LARGEST_MESSAGE, Voting, number};
use store::{Contents, Digest, Entry, Store, TableContents, difference};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::cluster::{self, Cluster, LARGEST_WORD};
use crate::engine::Engine;
use crate::neighbours::differing;
use crate::rpc::mend_request::Kind;
use crate::rpc::neighbour_client::NeighbourClient;
use crate::server::CHUNK;
use crate::{Error, rpc, transfer, voters};

/// How long this node may take to come to the publisher's place before it is
/// compared where it is.
const ARRIVAL: Duration = Duration::from_secs(5);
/// The same before it is mended, which is possible nowhere else: it may have
/// been stopped, and has to catch up.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long the publisher may take to come to this node's place.
const BEHIND: Duration = Duration::from_secs(5);
/// How long rows may take on their way. Nothing is applied here meanwhile.
const FETCH: Duration = Duration::from_secs(60);
/// How long another node may take with an order.
const ORDER: Duration = Duration::from_secs(150);

type Client = NeighbourClient<tonic::transport::Channel>;

fn client(cluster: &Cluster, node: u64, address: &str) -> Client {
    NeighbourClient::new(cluster.peers.channel(node, address))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE)
}

fn late(what: &str, limit: Duration) -> Error {
    Error::Unavailable(format!("{what} in {} s; try again", limit.as_secs()))
}

/// The publisher, which must be another node.
struct Publisher {
    name: String,
    client: Client,
}

fn publisher(engine: &Engine, facts: &Facts) -> Result<Publisher, Error> {
    let own = cluster::name_of(engine, number(facts.node));
    let Some(cluster) = engine
        .cluster()
        .filter(|_| facts.leader != Some(facts.node))
    else {
        return Err(Error::Invalid(format!(
            "node {own} is the publisher; the others are compared with it and repaired by it"
        )));
    };
    let Some((node, address)) = cluster::leader(facts) else {
        return Err(Error::Unavailable(format!(
            "node {own} has not heard from its publisher yet"
        )));
    };
    Ok(Publisher {
        name: cluster::name_of(engine, number(node)),
        client: client(cluster, node, &address),
    })
}

impl Publisher {
    fn error(&self, status: &Status) -> Error {
        Error::Unavailable(format!(
            "the publisher, {}, does not answer: {}",
            self.name,
            status.message()
        ))
    }

    /// The tables as the publisher has them now.
    async fn digests(&self, engine: &Engine) -> Result<rpc::DigestsReply, Error> {
        let mut client = self.client.clone().max_decoding_message_size(LARGEST_WORD);
        let asked = tokio::time::timeout(BEHIND, client.look(cluster::word(engine)));
        let word = asked
            .await
            .map_err(|_| {
                late(
                    &format!("the publisher, {}, did not answer", self.name),
                    BEHIND,
                )
            })?
            .map_err(|status| self.error(&status))?;
        Ok(word.into_inner().digests.unwrap_or_default())
    }

    /// Rows of the publisher at the place of `least` or behind it. The first
    /// part is there, so that the place is known.
    async fn rows(
        &self,
        tables: &[String],
        least: u64,
        contents: bool,
    ) -> Result<(rpc::RowsPart, Streaming<rpc::RowsPart>), Error> {
        let request = rpc::RowsRequest {
            tables: tables.into(),
            least,
            contents,
        };
        let mut parts = self
            .client
            .clone()
            .rows(request)
            .await
            .map_err(|status| self.error(&status))?
            .into_inner();
        let first = parts
            .message()
            .await
            .map_err(|status| self.error(&status))?;
        Ok((first.unwrap_or_default(), parts))
    }
}

/// Tables in parts, joined.
async fn gather(
    first: rpc::RowsPart,
    mut parts: Streaming<rpc::RowsPart>,
) -> Result<BTreeMap<String, Vec<rpc::StoredRow>>, Error> {
    let mut tables: BTreeMap<String, Vec<rpc::StoredRow>> = BTreeMap::new();
    let mut next = Some(first);
    while let Some(part) = next {
        for table in part.tables {
            tables.entry(table.table).or_default().extend(table.rows);
        }
        next = parts.message().await?;
    }
    Ok(tables)
}

/// What another node asks of the publisher.
pub(crate) async fn rows(
    engine: &Arc<Engine>,
    request: rpc::RowsRequest,
) -> Result<ReceiverStream<Result<rpc::RowsPart, Status>>, Error> {
    let wait = engine.node().raft().wait(Some(BEHIND));
    wait.applied_index_at_least(Some(request.least), "another node is there")
        .await
        .map_err(|_| late("the publisher did not come to that node's place", BEHIND))?;
    let store = engine.store();
    let read = tokio::task::spawn_blocking(move || store.contents(&request.tables)).await;
    let contents = read
        .map_err(|error| Error::Unavailable(error.to_string()))?
        .inspect_err(|error| {
            if error.is_corruption() {
                engine.restart(&error.to_string());
            }
        })?;
    let (sender, parts) = mpsc::channel(2);
    let empty = move || rpc::RowsPart {
        index: contents.index,
        revision: contents.revision,
        tables: Vec::new(),
    };
    let tables = contents.tables;
    tokio::spawn(async move {
        let (mut part, mut size) = (empty(), 0);
        for table in tables {
            part.tables.push(rpc::TableRows {
                table: table.table.clone(),
                rows: Vec::new(),
            });
            for entry in table.rows {
                if size > CHUNK {
                    size = 0;
                    if sender
                        .send(Ok(std::mem::replace(&mut part, empty())))
                        .await
                        .is_err()
                    {
                        return;
                    }
                    part.tables.push(rpc::TableRows {
                        table: table.table.clone(),
                        rows: Vec::new(),
                    });
                }
                let row = stored_row(entry, request.contents);
                size += row.key.len() + 64;
                size += row.row.as_ref().map_or(0, |row| row.content.len());
                if let Some(last) = part.tables.last_mut() {
                    last.rows.push(row);
                }
            }
        }
        // Whoever asked may be gone.
        let _ = sender.send(Ok(part)).await;
    });
    Ok(ReceiverStream::new(parts))
}

fn stored_row(entry: Entry, content: bool) -> rpc::StoredRow {
    rpc::StoredRow {
        digest: entry.digest().to_bytes().to_vec(),
        key: entry.key,
        row: content.then_some(rpc::Row {
            content: entry.row.content,
            version: entry.row.version,
            revision: entry.row.revision,
        }),
    }
}

/// Checks that the tables exist; none stands for all.
fn known(tables: &[String]) -> Result<(), Error> {
    tables
        .iter()
        .try_for_each(|name| transfer::find(name).map(drop))
}

/// Compares this node's tables with the publisher's.
pub(crate) async fn compare(
    engine: &Engine,
    request: &rpc::CompareRequest,
) -> Result<rpc::Comparison, Error> {
    known(&request.tables)?;
    let facts = engine.node().facts();
    let publisher = publisher(engine, &facts)?;
    let theirs = publisher.digests(engine).await?;
    // One that is stopped will not come there.
    let there = match facts.stopped {
        None => cluster::digests_at(engine, theirs.applied).await,
        Some(_) => None,
    };
    let same_place = there.is_some();
    let (ours, applied) = match there {
        Some(tables) => (tables, theirs.applied),
        None => {
            let (tables, applied, _) = engine.store().digests();
            (tables, applied)
        }
    };
    let ours = cluster::digests(applied, 0, &ours);
    let different = differing(&ours.tables, &theirs.tables);
    let names: BTreeSet<&String> = [&ours.tables, &theirs.tables]
        .into_iter()
        .flatten()
        .map(|table| &table.table)
        .filter(|name| request.tables.is_empty() || request.tables.contains(name))
        .collect();
    let rows_of = |tables: &[rpc::TableDigest], name: &String| {
        let mut tables = tables.iter();
        let found = tables.find(|table| table.table == *name);
        found.map_or(0, |table| table.rows)
    };
    let tables = names.into_iter().map(|name| rpc::TableComparison {
        equal: !different.contains(name),
        rows: rows_of(&ours.tables, name),
        publisher_rows: rows_of(&theirs.tables, name),
        counts: None,
        table: name.clone(),
    });
    let mut compared = rpc::Comparison {
        applied,
        publisher_applied: theirs.applied,
        same_place,
        tables: tables.collect(),
        stopped: facts.stopped.clone().unwrap_or_default(),
    };
    if request.rows && compared.tables.iter().any(|table| !table.equal) {
        count(engine, &publisher, &facts, &mut compared).await?;
    }
    Ok(compared)
}

/// Counts the rows that differ in the tables that do.
async fn count(
    engine: &Engine,
    publisher: &Publisher,
    facts: &Facts,
    compared: &mut rpc::Comparison,
) -> Result<(), Error> {
    let names: Vec<String> = compared
        .tables
        .iter()
        .filter(|table| !table.equal)
        .map(|table| table.table.clone())
        .collect();
    let hold = engine.node().replica().hold().await;
    // One that is stopped is compared where it is.
    let least = if facts.stopped.is_none() {
        hold.applied()
    } else {
        0
    };
    let fetched = async {
        let (first, parts) = publisher.rows(&names, least, false).await?;
        let index = first.index;
        Ok::<_, Error>((index, gather(first, parts).await?))
    };
    let (index, theirs) = tokio::time::timeout(FETCH, fetched)
        .await
        .map_err(|_| late("the publisher's rows did not arrive", FETCH))??;
    let wanted = names.clone();
    let read = move |store: &Store| -> Result<Vec<_>, store::Error> {
        wanted.iter().map(|name| store.row_digests(name)).collect()
    };
    let (ours, place) = rows_at(engine, hold, index, facts.stopped.is_none(), read).await?;
    compared.applied = place;
    compared.publisher_applied = index;
    compared.same_place = place == index;
    for table in &mut compared.tables {
        let Some(ours) = ours.iter().find(|one| one.table == table.table) else {
            continue;
        };
        let none = Vec::new();
        let theirs = theirs.get(&table.table).unwrap_or(&none);
        let theirs: BTreeMap<Vec<u8>, Digest> = theirs
            .iter()
            .filter_map(|row| {
                let digest = row.digest.as_slice().try_into().ok()?;
                Some((row.key.clone(), Digest::from_bytes(digest)))
            })
            .collect();
        let found = difference(&ours.rows, &theirs);
        table.rows = ours.rows.len() as u64;
        table.publisher_rows = theirs.len() as u64;
        table.counts = Some(rpc::RowCounts {
            differing: found.differing,
            missing: found.missing,
            extra: found.extra,
        });
    }
    Ok(())
}

/// Reads the replica at a place of the log, or where it is when it does not
/// come there soon. Answers which place that was.
async fn rows_at<T: Send + 'static>(
    engine: &Engine,
    hold: Hold,
    index: u64,
    moves: bool,
    read: impl Fn(&Store) -> Result<T, store::Error> + Clone + Send + 'static,
) -> Result<(T, u64), Error> {
    let limit = if moves { ARRIVAL } else { Duration::ZERO };
    let there = tokio::time::timeout(limit, hold.read(index, read.clone())).await;
    if let Ok(Ok(rows)) = there {
        return Ok((rows, index));
    }
    let hold = engine.node().replica().hold().await;
    let here = hold.applied();
    let rows = hold.read(here, read).await;
    Ok((
        rows.map_err(|error| Error::Unavailable(error.to_string()))?,
        here,
    ))
}

/// Carries an order out on this node.
pub(crate) async fn mend(
    engine: &Arc<Engine>,
    request: &rpc::MendRequest,
) -> Result<rpc::MendReply, Error> {
    known(&request.tables)?;
    let facts = engine.node().facts();
    // The publisher itself is refused, unless it is one no more.
    let publisher = publisher(engine, &facts);
    let over = request.kind() == Kind::Reset && facts.superseded.is_some();
    if let Err(error) = &publisher
        && !over
    {
        return Err(error.clone());
    }
    let own = cluster::name_of(engine, number(facts.node));
    let node = engine.node();
    let io = |error: std::io::Error| Error::Unavailable(error.to_string());
    let votes = facts.voting() == Voting::All
        && facts
            .members
            .iter()
            .any(|member| member.voter && member.node == facts.node);
    tracing::warn!(
        order = request.kind().as_str_name(),
        reason = request.reason,
        "An order about this node's replica came."
    );
    let reply = match request.kind() {
        Kind::Stop if votes => {
            return Err(Error::Invalid(format!(
                "every node of this cluster votes, and {own} would be missing at elections and \
                 changes. \"utils dbreplication voters disable\" first, or shut the node down"
            )));
        }
        Kind::Stop => {
            node.stop_following(&request.reason).map_err(io)?;
            rpc::MendReply {
                text: format!(
                    "Replication of {own} is stopped. What is stored there can be read and gets \
                     older; \"utils dbreplication repair {own}\" or \"… reset {own}\" starts it again."
                ),
                ..Default::default()
            }
        }
        Kind::Reset => {
            voters::spare(engine).await?;
            node.order_reset(&request.reason).map_err(io)?;
            engine.restart(&format!("a reset was ordered: {}", request.reason));
            rpc::MendReply {
                text: format!(
                    "The database of {own} starts again and takes everything from the publisher; \
                     \"utils dbreplication runtimestate\" shows when it is good."
                ),
                ..Default::default()
            }
        }
        Kind::Repair => {
            let publisher = publisher?;
            let started = node.follow().map_err(io)?;
            let different = differing_tables(engine, &publisher, &request.tables).await?;
            if !different.is_empty() {
                rewrite(engine, &publisher, &different).await?;
            }
            let text = match &different[..] {
                [] => format!("No table of {own} differs from the publisher's."),
                names => format!(
                    "{} of {own} now {} the publisher's rows: {}.",
                    if names.len() == 1 {
                        "One table".into()
                    } else {
                        format!("{} tables", names.len())
                    },
                    if names.len() == 1 { "has" } else { "have" },
                    names.join(", ")
                ),
            };
            let text = if started {
                format!("Replication of {own} was started again. {text}")
            } else {
                text
            };
            rpc::MendReply {
                text,
                tables: different,
            }
        }
        Kind::Synchronize => {
            let publisher = publisher?;
            node.follow().map_err(io)?;
            let tables = rewrite(engine, &publisher, &[]).await?;
            rpc::MendReply {
                text: format!(
                    "{own} took all {} tables over from the publisher.",
                    tables.len()
                ),
                tables,
            }
        }
        Kind::Unspecified => {
            return Err(Error::Invalid(
                "the order is none of repair, synchronize, reset, stop".into(),
            ));
        }
    };
    // What is known of this node's differences is old now.
    if let (Kind::Repair | Kind::Synchronize, Some(others)) = (request.kind(), engine.cluster()) {
        cluster::look_around(engine, others).await;
    }
    Ok(reply)
}

/// The tables that differ from the publisher's at the same place of the log,
/// among those that are asked for.
async fn differing_tables(
    engine: &Engine,
    publisher: &Publisher,
    tables: &[String],
) -> Result<Vec<String>, Error> {
    let theirs = publisher.digests(engine).await?;
    let compare = async {
        loop {
            if let Some(ours) = cluster::digests_at(engine, theirs.applied).await {
                return Ok(ours);
            }
            if engine.store().applied().index > theirs.applied {
                // It went past meanwhile, and that place is not remembered.
                return Err(Error::Unavailable(
                    "the tables changed while they were compared; try again".into(),
                ));
            }
        }
    };
    let ours = tokio::time::timeout(CATCH_UP, compare)
        .await
        .map_err(|_| late("this node did not catch up with the publisher", CATCH_UP))??;
    let ours = cluster::digests(theirs.applied, 0, &ours);
    let mut different = differing(&ours.tables, &theirs.tables);
    different.retain(|name| tables.is_empty() || tables.contains(name));
    Ok(different)
}

/// Replaces tables of this node, or all, by the publisher's rows at the same
/// place of the log.
async fn rewrite(
    engine: &Engine,
    publisher: &Publisher,
    tables: &[String],
) -> Result<Vec<String>, Error> {
    let hold = engine.node().replica().hold().await;
    let fetched = async {
        let (first, parts) = publisher.rows(tables, hold.applied(), true).await?;
        let (index, revision) = (first.index, first.revision);
        Ok::<_, Error>((index, revision, gather(first, parts).await?))
    };
    let (index, revision, mut theirs) = tokio::time::timeout(FETCH, fetched)
        .await
        .map_err(|_| late("the publisher's rows did not arrive", FETCH))??;
    // Tables that only this node has go, too.
    let ours = engine.store().digests().0.into_iter();
    let ours = ours.filter(|table| tables.is_empty() || tables.contains(&table.table));
    for table in ours {
        theirs.entry(table.table).or_default();
    }
    let names: Vec<String> = theirs.keys().cloned().collect();
    let contents = Contents {
        index,
        revision,
        tables: theirs
            .into_iter()
            .map(|(table, rows)| TableContents {
                table,
                rows: rows.into_iter().filter_map(entry).collect(),
            })
            .collect(),
    };
    tokio::time::timeout(CATCH_UP, hold.rewrite(contents))
        .await
        .map_err(|_| late("this node did not catch up with the publisher", CATCH_UP))?
        .map_err(|error| Error::Unavailable(error.to_string()))?;
    engine
        .node()
        .keep_replica()
        .await
        .map_err(|error| Error::Unavailable(error.to_string()))?;
    Ok(names)
}

fn entry(row: rpc::StoredRow) -> Option<Entry> {
    let content = row.row?;
    Some(Entry {
        key: row.key,
        row: store::Row {
            revision: content.revision,
            version: content.version,
            content: content.content,
        },
    })
}

/// Hands an order or a question on to the node that it names; none when that
/// is this node.
pub(crate) fn elsewhere(engine: &Engine, node: &str) -> Result<Option<Elsewhere>, Error> {
    if node.is_empty() {
        return Ok(None);
    }
    let rows = cluster::rows(engine);
    let Some(row) = rows.iter().find(|row| row.name == node) else {
        return Err(Error::Invalid(format!(
            "no node of the cluster is called {node:?}; \"show network cluster\" shows them"
        )));
    };
    let replica = row.replica.unsigned_abs();
    match engine.cluster() {
        _ if replica == number(engine.node().facts().node) => Ok(None),
        Some(cluster) if replica != 0 => Ok(Some(Elsewhere {
            name: node.into(),
            client: client(cluster, replica, &cluster::address_of(&row.address)),
        })),
        _ => Err(Error::Invalid(format!(
            "node {node} has not joined the cluster"
        ))),
    }
}

/// Another node.
pub(crate) struct Elsewhere {
    name: String,
    client: Client,
}

impl Elsewhere {
    async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(ORDER, asked).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) if status.code() == tonic::Code::InvalidArgument => {
                Err(Error::Invalid(status.message().into()))
            }
            Ok(Err(status)) => Err(Error::Unavailable(format!(
                "node {} did not do it: {}",
                self.name,
                status.message()
            ))),
            Err(_) => Err(late(&format!("node {} did not answer", self.name), ORDER)),
        }
    }

    pub(crate) async fn compare(
        &self,
        request: rpc::CompareRequest,
    ) -> Result<rpc::Comparison, Error> {
        let mut client = self.client.clone();
        self.answer(client.compare(request)).await
    }

    pub(crate) async fn mend(&self, request: rpc::MendRequest) -> Result<rpc::MendReply, Error> {
        let mut client = self.client.clone();
        self.answer(client.mend(request)).await
    }
}
