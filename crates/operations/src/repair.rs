//! Replicas compared with the publisher's, and brought in order by it.

use database::{Comparison, Mended, Mending, REPLICATION_TIMEOUT};
use serde::Serialize;

use crate::Operations;
use crate::action::{Caller, actions};
use crate::error::{Error, Result};

/// Every subscriber.
const ALL: &str = "all";
/// Whose parameter the replication timeout is.
pub(crate) const REPLICATOR: &str = "database-replicator";

/// The replication timeout that this text of the parameter means.
pub(crate) fn timeout_seconds(text: Option<String>) -> u64 {
    let default = || REPLICATION_TIMEOUT.1.parse().ok();
    let set = text.and_then(|text| text.parse().ok());
    set.or_else(default).unwrap_or_default()
}

/// A node and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfNode<T> {
    /// Its host name.
    pub node: String,
    /// What it answered; none when it did not.
    #[serde(flatten)]
    pub answer: Option<T>,
    /// Why it did not; empty when it did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// The difference that was found between nodes and the publisher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The nodes.
    pub nodes: Vec<OfNode<Comparison>>,
}

impl Audit {
    /// Whether every node answered and follows, and no table differs.
    pub fn is_clean(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.all(|node| {
            let answer = node.answer.as_ref();
            answer.is_some_and(|found| {
                found.stopped.is_empty() && found.tables.iter().all(|table| table.equal)
            })
        })
    }
}

/// What was done to nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repairs {
    /// The nodes.
    pub nodes: Vec<OfNode<Mended>>,
}

/// How long replication may be behind before it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeout {
    /// In seconds.
    pub seconds: u64,
}

impl<T> OfNode<T> {
    fn new(node: String, answer: &Result<T>) -> Self
    where
        T: Clone,
    {
        Self {
            node,
            answer: answer.as_ref().ok().cloned(),
            error: answer
                .as_ref()
                .err()
                .map_or_else(String::new, |error| error.message.clone()),
        }
    }
}

/// The answers of nodes; when none answered, the first one's reason.
fn answered<T: Clone>(nodes: Vec<(String, Result<T>)>) -> Result<Vec<OfNode<T>>> {
    let answers = nodes
        .iter()
        .map(|(node, answer)| OfNode::new(node.clone(), answer));
    let answers: Vec<_> = answers.collect();
    if answers.iter().any(|node| node.answer.is_some()) {
        return Ok(answers);
    }
    match nodes.into_iter().find_map(|(_, answer)| answer.err()) {
        Some(error) => Err(error),
        None => Ok(answers),
    }
}

impl Operations {
    /// The subscribers that a word means: a host name, or `all`.
    async fn subscribers(&self, wanted: &str) -> Result<Vec<String>> {
        let nodes = self.storage().nodes().await?;
        if wanted != ALL {
            let Some(node) = nodes.iter().find(|node| node.name == wanted) else {
                return Err(Error::not_found(format!(
                    "no node of the cluster is called {wanted:?}. Give a subscriber's host name, as \
                     \"show network cluster\" shows them, or all"
                )));
            };
            if node.publisher {
                return Err(Error::refused(format!(
                    "{wanted} is the publisher: the others are compared with it and repaired by it. \
                     Give a subscriber's host name, or all"
                )));
            }
            return Ok(vec![wanted.into()]);
        }
        let subscribers = nodes
            .into_iter()
            .filter(|node| node.joined && !node.publisher);
        let subscribers: Vec<_> = subscribers.map(|node| node.name).collect();
        if subscribers.is_empty() {
            return Err(Error::refused(
                "the cluster has no subscriber that has joined; there is nothing to compare",
            ));
        }
        Ok(subscribers)
    }

    async fn compared(
        &self,
        nodes: &str,
        table: Option<&str>,
        rows: bool,
    ) -> Result<Vec<(String, Result<Comparison>)>> {
        let tables: Vec<&str> = table.into_iter().collect();
        let mut answers = Vec::new();
        for node in self.subscribers(nodes).await? {
            let answer = self.storage().compare(&node, &tables, rows).await;
            answers.push((node, answer));
        }
        Ok(answers)
    }

    /// Compares the digests of the tables of a subscriber, or of `all`, with
    /// the publisher's.
    pub async fn audit(&self, caller: &Caller, nodes: &str) -> Result<Audit> {
        let work = async {
            let nodes = answered(self.compared(nodes, None, false).await?)?;
            Ok(Audit { nodes })
        };
        caller.does(&actions::REPLICATION_AUDIT, nodes, work).await
    }

    /// What differs between the publisher and those whom [`Operations::mend`]
    /// would change, by tables and rows. Nothing is changed. One that is to
    /// begin anew need not be able to say.
    pub async fn mending_preview(
        &self,
        caller: &Caller,
        mending: Mending,
        nodes: &str,
        table: Option<&str>,
    ) -> Result<Audit> {
        caller.may(&actions::REPLICATION_MEND)?;
        let compared = self.compared(nodes, table, true).await?;
        let nodes = if mending == Mending::Reset {
            let nodes = compared.into_iter();
            nodes
                .map(|(node, answer)| OfNode::new(node, &answer))
                .collect()
        } else {
            answered(compared)?
        };
        Ok(Audit { nodes })
    }

    /// Has a subscriber, or `all` of them, brought in order by the publisher,
    /// or stopped. One after the other, so that no more than one is away.
    pub async fn mend(
        &self,
        caller: &Caller,
        mending: Mending,
        nodes: &str,
        table: Option<&str>,
    ) -> Result<Repairs> {
        let word = format!("{mending:?}").to_lowercase();
        let subject = [Some(word.as_str()), table, Some(nodes)];
        let subject: Vec<&str> = subject.into_iter().flatten().collect();
        let work = async {
            let tables: Vec<&str> = table.into_iter().collect();
            let reason = by(caller);
            let mut answers = Vec::new();
            for node in self.subscribers(nodes).await? {
                let done = self.storage().mend(mending, &node, &tables, &reason).await;
                answers.push((node, done));
            }
            Ok(Repairs {
                nodes: answered(answers)?,
            })
        };
        caller
            .does(&actions::REPLICATION_MEND, &subject.join(" "), work)
            .await
    }

    /// Sets how long replication may be behind before it has failed.
    pub async fn set_replication_timeout(&self, caller: &Caller, seconds: &str) -> Result<Timeout> {
        let (name, _) = REPLICATION_TIMEOUT;
        let work = async {
            let mut definitions = database::PARAMETERS.iter();
            let definition = definitions
                .find(|(_, one)| one.name == name)
                .map(|(_, one)| one)
                .ok_or_else(|| Error::failed(format!("{name} is not defined")))?;
            let checked = definition.check(seconds);
            checked.map_err(|invalid| Error::invalid(format!("{invalid}. Nothing was changed")))?;
            let storage = self.storage();
            storage
                .set_parameter(REPLICATOR, name, Some(seconds))
                .await?;
            // It was checked to be one.
            let seconds = seconds.parse().unwrap_or_default();
            Ok(Timeout { seconds })
        };
        caller
            .does(&actions::REPLICATION_TIMEOUT_SET, seconds, work)
            .await
    }
}

/// Who asked, for the history of the replicas.
pub(crate) fn by(caller: &Caller) -> String {
    let place = if caller.origin.is_empty() {
        caller.face
    } else {
        &caller.origin
    };
    format!("by {} from {place}", caller.user)
}

#[cfg(test)]
mod tests {
    use database::{RowCounts, TableComparison};

    use crate::error::Kind;
    use crate::fakes::{Fakes, administrator, node};

    use super::*;

    fn table(name: &str, differing: u64) -> TableComparison {
        TableComparison {
            table: name.into(),
            equal: differing == 0,
            rows: 5,
            publisher_rows: 5,
            counts: (differing > 0).then_some(RowCounts {
                differing,
                ..RowCounts::default()
            }),
        }
    }

    /// A publisher and two subscribers, the second of which does not answer.
    fn cluster(folder: &tempfile::TempDir) -> (Fakes, Operations) {
        let fakes = Fakes::default();
        let mut world = fakes.world();
        world.nodes = vec![
            node("alpha", true),
            node("beta", false),
            node("gamma", false),
        ];
        let compared = Comparison {
            tables: vec![table("end_user", 2), table("vcard", 1)],
            same_place: true,
            ..Comparison::default()
        };
        world.comparisons.insert("beta".into(), compared);
        drop(world);
        let operations = fakes.operations(folder.path());
        (fakes, operations)
    }

    #[tokio::test]
    async fn it_is_shown_first_and_only_then_done() {
        let folder = tempfile::tempdir().unwrap();
        let (fakes, operations) = cluster(&folder);
        let admin = administrator();
        let shown = operations
            .mending_preview(&admin, Mending::Repair, "beta", Some("vcard"))
            .await;
        let shown = shown.unwrap();
        let found = shown.nodes[0].answer.as_ref().unwrap();
        assert_eq!(found.tables, [table("vcard", 1)]);
        assert!(!shown.is_clean());
        let orders = |fakes: &Fakes| {
            let world = fakes.world();
            let commands = world.commands.iter().filter(|it| it.contains("Repair"));
            commands.cloned().collect::<Vec<_>>()
        };
        assert_eq!(orders(&fakes), [""; 0]);
        let done = operations.mend(&admin, Mending::Repair, "beta", Some("vcard"));
        let done = done.await.unwrap().nodes[0].answer.clone().unwrap();
        assert_eq!(done.tables, ["vcard"]);
        assert_eq!(
            orders(&fakes),
            ["Repair beta [\"vcard\"] for by admin from test"]
        );
        let left = operations
            .mending_preview(&admin, Mending::Repair, "beta", None)
            .await
            .unwrap();
        let left = left.nodes[0].answer.clone().unwrap().tables;
        assert!(!left[0].equal && left[1].equal);
        // An audit counts no rows.
        let audit = operations.audit(&admin, "beta").await.unwrap();
        let tables = audit.nodes[0].answer.clone().unwrap().tables;
        assert!(tables.iter().all(|table| table.counts.is_none()));
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_in_nobody_s_way() {
        let folder = tempfile::tempdir().unwrap();
        let (_, operations) = cluster(&folder);
        let admin = administrator();
        let done = operations.mend(&admin, Mending::Repair, "all", None).await;
        let nodes = done.unwrap().nodes;
        assert!(nodes[0].answer.is_some() && nodes[0].error.is_empty());
        assert!(nodes[1].answer.is_none() && nodes[1].error.contains("cannot be reached"));
        let alone = operations
            .mend(&admin, Mending::Repair, "gamma", None)
            .await;
        assert_eq!(alone.unwrap_err().kind, Kind::Unavailable);
        // What is to begin anew may be too damaged to be compared.
        let preview = async |mending| {
            operations
                .mending_preview(&admin, mending, "gamma", None)
                .await
        };
        assert!(preview(Mending::Stop).await.is_err());
        let shown = preview(Mending::Reset).await.unwrap();
        assert!(!shown.is_clean() && shown.nodes[0].error.contains("cannot be reached"));
    }

    #[tokio::test]
    async fn the_publisher_and_strangers_are_refused_with_what_to_give() {
        let folder = tempfile::tempdir().unwrap();
        let (fakes, operations) = cluster(&folder);
        let admin = administrator();
        let refused = operations.audit(&admin, "alpha").await.unwrap_err();
        assert!(refused.message.contains("is the publisher"), "{refused}");
        let unknown = operations.audit(&admin, "delta").await.unwrap_err();
        assert_eq!(unknown.kind, Kind::NotFound);
        fakes.world().nodes.truncate(1);
        let none = operations.audit(&admin, "all").await.unwrap_err();
        assert!(none.message.contains("no subscriber"), "{none}");
        let looker = Caller {
            level: crate::Level::Operate,
            ..admin
        };
        let low = operations.mend(&looker, Mending::Reset, "all", None).await;
        assert_eq!(low.unwrap_err().kind, Kind::Forbidden);
        let low = operations
            .mending_preview(&looker, Mending::Stop, "all", None)
            .await;
        assert_eq!(low.unwrap_err().kind, Kind::Forbidden);
    }

    #[tokio::test]
    async fn the_timeout_is_a_parameter_within_its_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let (_, operations) = cluster(&folder);
        let admin = administrator();
        let timeout = async || operations.replication(&admin).await.unwrap().timeout;
        assert_eq!(timeout().await, 300);
        for wrong in ["299", "3601", "ten", ""] {
            let set = operations.set_replication_timeout(&admin, wrong).await;
            assert_eq!(set.unwrap_err().kind, Kind::Invalid, "{wrong}");
        }
        operations
            .set_replication_timeout(&admin, "900")
            .await
            .unwrap();
        assert_eq!(timeout().await, 900);
    }
}
