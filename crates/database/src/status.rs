//! What the database tells about itself.

use serde::Serialize;

use crate::rpc;

/// State of replication on this node, and where the node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// 0 known, nothing matched yet · 1 snapshot running, lag, or members
    /// missing · 2 good · 3 mismatch or stale · 4 error.
    pub state: u8,
    /// Why the state is what it is.
    pub reason: String,
    /// Entries of the log that are not applied here.
    pub lag_entries: u64,
    /// For how long something has not been applied.
    pub lag_seconds: u64,
    /// `leader`, `follower`, `learner`, `candidate` or `shutdown`.
    pub role: String,
    /// Index up to which the log is applied.
    pub applied: u64,
    /// Index of the log's last entry.
    pub last_log: u64,
    /// Index of the last snapshot; 0 when there is none.
    pub snapshot_index: u64,
    /// Index up to which the log is dropped.
    pub purged: u64,
    /// Whether a snapshot is being made or taken over.
    pub snapshot_running: bool,
    /// Revision of the last transaction.
    pub revision: u64,
    /// Name of the history that revisions count in.
    pub epoch: String,
    /// Number of this node.
    pub node: u64,
    /// Term of the log.
    pub term: u64,
    /// The nodes of the cluster.
    pub members: Vec<Member>,
    /// What was found and done at the last recovery; empty when nothing.
    pub recovery: String,
    /// What keeps the database from serving well; empty when nothing.
    pub fault: String,
    /// The last entry of the log on the node that leads, as it told last.
    pub leader_last: u64,
    /// Seconds since that node was heard, or since the service started; on the
    /// node that leads since a majority of several voters confirmed that, and 0
    /// where it votes alone.
    pub silent_seconds: u64,
    /// Whether that node was heard since the service started, or is this one.
    pub heard: bool,
    /// Tables that differ from that node's at the same place of the log.
    pub mismatched: Vec<String>,
    /// Why that node will not have this one; empty when it does.
    pub refused: String,
    /// Why replication of this node is stopped; empty while it is not.
    pub stopped: String,
    /// Whether the tables are there to be read: a node that begins empty gets
    /// them first.
    pub complete: bool,
    /// Why this node, which led, leads no more; empty when it does or never
    /// did.
    pub superseded: String,
    /// Numbers of nodes that have not begun in this log, which is not the
    /// first one: nobody waits for them.
    pub elsewhere: Vec<u64>,
}

/// A node of the cluster, as this one knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its number in the log.
    pub node: u64,
    /// Its host name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Whether it votes; otherwise it is a learner.
    pub voter: bool,
    /// Whether it leads, or is the only one that may.
    pub leads: bool,
    /// Its state, as in [`Status::state`].
    pub state: u8,
    /// Entries that it lacks.
    pub lag_entries: u64,
    /// Why its state is what it is.
    pub reason: String,
    /// For how long it has lacked something.
    pub lag_seconds: u64,
    /// Whether it answers this node.
    pub reachable: bool,
    /// How long it took to answer, in microseconds; 0 for this node.
    pub ping_micros: u64,
    /// Version of its software; empty when it is not known.
    pub version: String,
}

/// The replicator's judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// State of this node.
    pub state: u8,
    /// Why.
    pub reason: String,
    /// Entries of the log that are not applied here.
    pub lag_entries: u64,
    /// For how long.
    pub lag_seconds: u64,
}

/// Digests of the tables at one position of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Index up to which the log was applied.
    pub applied: u64,
    /// Revision of the last transaction.
    pub revision: u64,
    /// The tables.
    pub tables: Vec<TableStatistics>,
}

/// A node's tables beside the publisher's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The last entry that is applied on the node.
    pub applied: u64,
    /// The same on the publisher.
    pub publisher_applied: u64,
    /// Whether both were compared at the same place of the log; what differs
    /// at different ones may only be late.
    pub same_place: bool,
    /// The tables.
    pub tables: Vec<TableComparison>,
    /// Why replication of the node is stopped; empty while it is not.
    pub stopped: String,
}

/// A table beside the publisher's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableComparison {
    /// Its name.
    pub table: String,
    /// Whether it is equal.
    pub equal: bool,
    /// Rows on the node.
    pub rows: u64,
    /// Rows on the publisher.
    pub publisher_rows: u64,
    /// Rows that differ, where they were counted.
    #[serde(flatten)]
    pub counts: Option<RowCounts>,
}

/// Rows that differ from the publisher's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// With different content.
    pub differing: u64,
    /// That only the publisher has.
    pub missing: u64,
    /// That only the node has.
    pub extra: u64,
}

/// What the promotion of a node means, or meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Promotion {
    /// Why it is refused; empty when it is not.
    pub refusal: String,
    /// The last entry of this node's log.
    pub last_log: u64,
    /// The node that led; none when it is not known.
    pub publisher: Option<OtherNode>,
    /// The others.
    pub others: Vec<OtherNode>,
    /// What was done, as a sentence; empty when nothing was.
    pub text: String,
}

/// A node as another one knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OtherNode {
    /// Its host name.
    pub name: String,
    /// Whether it answers.
    pub answers: bool,
    /// Whether it was heard since the database started; without that the rest
    /// is not known.
    pub heard: bool,
    /// The last entry of its log, as it told last.
    pub last_log: u64,
    /// How long ago that was, or how long ago the database started.
    pub seconds: u64,
}

/// What became of having one node vote, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VotersChange {
    /// Why it is refused; empty when it is not.
    pub refusal: String,
    /// What was done, as a sentence; empty when nothing was.
    pub text: String,
}

/// How a replica is brought in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mending {
    /// Tables that differ get the publisher's rows.
    Repair,
    /// Every table gets the publisher's rows.
    Synchronize,
    /// The node begins anew with nothing, under a new name in the log.
    Reset,
    /// Replication of the node stops until one of the others.
    Stop,
}

/// What was done to a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// A sentence.
    pub text: String,
    /// The tables that were rewritten.
    pub tables: Vec<String>,
}

/// Figures of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStatistics {
    /// Its name.
    pub table: String,
    /// Digest over its rows, where digests were asked for.
    pub digest: String,
    /// Version of its schema, where digests were asked for.
    pub version: u32,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of keys and content.
    pub bytes: u64,
    /// Watches on it now.
    pub watchers: u64,
    /// Changes told to watchers since the service started.
    pub notifications: u64,
    /// Changes to its rows since the service started.
    pub changes: u64,
}

/// Figures of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The tables that have or had rows.
    pub tables: Vec<TableStatistics>,
    /// Watches now.
    pub watchers: u64,
    /// Size of the log's file.
    pub log_bytes: u64,
    /// Size of the replica's files.
    pub replica_bytes: u64,
    /// Size of the snapshots.
    pub snapshot_bytes: u64,
    /// Successful transactions since the service started.
    pub transactions: u64,
    /// Transactions that changed nothing since the service started.
    pub rejected: u64,
    /// Entries written to the log since the service started; each is one
    /// write to disk shared by the transactions in it.
    pub commits: u64,
}

/// What a full check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Rows that were read.
    pub rows: u64,
    /// Tables that were compared.
    pub tables: u64,
    /// What is wrong; empty when all is well.
    pub problems: Vec<String>,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Its revision.
    pub revision: u64,
    /// Rows that were written.
    pub rows: u64,
    /// Tables that were replaced.
    pub tables: u64,
}

/// Maintenance that can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Set the replica aside and rebuild it from snapshot and log.
    Rebuild,
    /// Write a snapshot and drop the log before it.
    Snapshot,
    /// Give unused space of the log back.
    Compact,
}

impl Status {
    /// Whether several nodes vote, so that another is elected when the one that
    /// leads is lost.
    pub fn elects(&self) -> bool {
        self.members.iter().filter(|member| member.voter).count() > 1
    }
}

impl From<Order> for rpc::order_request::Kind {
    fn from(order: Order) -> Self {
        match order {
            Order::Rebuild => Self::Rebuild,
            Order::Snapshot => Self::Snapshot,
            Order::Compact => Self::Compact,
        }
    }
}

impl From<Mending> for rpc::mend_request::Kind {
    fn from(mending: Mending) -> Self {
        match mending {
            Mending::Repair => Self::Repair,
            Mending::Synchronize => Self::Synchronize,
            Mending::Reset => Self::Reset,
            Mending::Stop => Self::Stop,
        }
    }
}

impl From<rpc::Comparison> for Comparison {
    fn from(reply: rpc::Comparison) -> Self {
        let tables = reply.tables.into_iter().map(|table| TableComparison {
            table: table.table,
            equal: table.equal,
            rows: table.rows,
            publisher_rows: table.publisher_rows,
            counts: table.counts.map(|counts| RowCounts {
                differing: counts.differing,
                missing: counts.missing,
                extra: counts.extra,
            }),
        });
        Self {
            applied: reply.applied,
            publisher_applied: reply.publisher_applied,
            same_place: reply.same_place,
            tables: tables.collect(),
            stopped: reply.stopped,
        }
    }
}

impl From<rpc::OtherNode> for OtherNode {
    fn from(node: rpc::OtherNode) -> Self {
        Self {
            name: node.name,
            answers: node.answers,
            heard: node.heard,
            last_log: node.last_log,
            seconds: node.seconds,
        }
    }
}

impl From<rpc::PromoteReply> for Promotion {
    fn from(reply: rpc::PromoteReply) -> Self {
        Self {
            refusal: reply.refusal,
            last_log: reply.last_log,
            publisher: reply.publisher.map(OtherNode::from),
            others: reply.others.into_iter().map(OtherNode::from).collect(),
            text: reply.text,
        }
    }
}

impl From<rpc::VotersReply> for VotersChange {
    fn from(reply: rpc::VotersReply) -> Self {
        Self {
            refusal: reply.refusal,
            text: reply.text,
        }
    }
}

fn state(state: u32) -> u8 {
    // States end at 4, the worst.
    u8::try_from(state).unwrap_or(4)
}

impl From<rpc::StatusReply> for Status {
    fn from(reply: rpc::StatusReply) -> Self {
        Self {
            state: state(reply.state),
            reason: reply.reason,
            lag_entries: reply.lag_entries,
            lag_seconds: reply.lag_seconds,
            role: reply.role,
            applied: reply.applied,
            last_log: reply.last_log,
            snapshot_index: reply.snapshot_index,
            purged: reply.purged,
            snapshot_running: reply.snapshot_running,
            revision: reply.revision,
            epoch: reply.epoch,
            node: reply.node,
            term: reply.term,
            members: reply.members.into_iter().map(Member::from).collect(),
            recovery: reply.recovery,
            fault: reply.fault,
            leader_last: reply.leader_last,
            silent_seconds: reply.silent_seconds,
            heard: reply.heard,
            mismatched: reply.mismatched,
            refused: reply.refused,
            stopped: reply.stopped,
            complete: reply.complete,
            superseded: reply.superseded,
            elsewhere: reply.elsewhere,
        }
    }
}

impl From<rpc::Member> for Member {
    fn from(member: rpc::Member) -> Self {
        Self {
            node: member.node,
            name: member.name,
            address: member.address,
            voter: member.voter,
            leads: member.leads,
            state: state(member.state),
            lag_entries: member.lag_entries,
            reason: member.reason,
            lag_seconds: member.lag_seconds,
            reachable: member.reachable,
            ping_micros: member.ping_micros,
            version: member.version,
        }
    }
}

impl From<Report> for rpc::ReportRequest {
    fn from(report: Report) -> Self {
        Self {
            state: report.state.into(),
            reason: report.reason,
            lag_entries: report.lag_entries,
            lag_seconds: report.lag_seconds,
        }
    }
}

impl From<rpc::DigestsReply> for Digests {
    fn from(reply: rpc::DigestsReply) -> Self {
        let tables = reply.tables.into_iter().map(|table| TableStatistics {
            table: table.table,
            digest: table.digest,
            version: table.version,
            rows: table.rows,
            bytes: table.bytes,
            ..TableStatistics::default()
        });
        Self {
            applied: reply.applied,
            revision: reply.revision,
            tables: tables.collect(),
        }
    }
}

impl From<rpc::CheckReply> for CheckReport {
    fn from(reply: rpc::CheckReply) -> Self {
        Self {
            rows: reply.rows,
            tables: reply.tables,
            problems: reply.problems,
        }
    }
}

impl From<rpc::StatisticsReply> for Statistics {
    fn from(reply: rpc::StatisticsReply) -> Self {
        let tables = reply.tables.into_iter().map(|table| TableStatistics {
            table: table.table,
            rows: table.rows,
            bytes: table.bytes,
            watchers: table.watchers,
            notifications: table.notifications,
            changes: table.changes,
            ..TableStatistics::default()
        });
        Self {
            tables: tables.collect(),
            watchers: reply.watchers,
            log_bytes: reply.log_bytes,
            replica_bytes: reply.replica_bytes,
            snapshot_bytes: reply.snapshot_bytes,
            transactions: reply.transactions,
            rejected: reply.rejected,
            commits: reply.commits,
        }
    }
}
