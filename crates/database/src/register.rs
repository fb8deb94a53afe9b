//! The publisher's own place in the cluster's tables.

use replication::number;
use service::{Context, Heartbeat, Node};

use crate::engine::Engine;
use crate::tables::{EndUser, ProcessNode, RedundancyGroup};
use crate::{Database, Error, Table, Transaction};

/// Users that get their home's new name in one transaction.
const BATCH: usize = 500;

/// Keeps the publisher's own row among the cluster's nodes up to date, and its
/// name where others stand by it. A subscriber's row is written on the
/// publisher.
pub(crate) async fn register(
    context: &Context,
    engine: &Engine,
    database: &Database,
    heartbeat: &Heartbeat,
) -> anyhow::Result<()> {
    // A test has no set-up.
    let Ok(node) = context.node() else {
        return Ok(());
    };
    if !engine.leads() {
        return Ok(());
    }
    let row = own_row(node, number(engine.node().name()))?;
    let nodes = database.list::<ProcessNode>(&[]).await?;
    let mut groups = database.list::<RedundancyGroup>(&[]).await?;
    let mut change = Transaction::new();
    for old in &nodes {
        if old.replica == row.replica && old.name != row.name {
            rename_homes(database, &old.name, &row.name, heartbeat).await?;
            change = change.delete::<ProcessNode>(&[&old.name]);
            change = rename_in_groups(change, &mut groups, &old.name, &row.name)?;
        }
    }
    if !nodes.contains(&row) {
        change = change.put(&row)?;
    }
    let free = |name: &&str| !groups.iter().any(|group| group.name == **name);
    if !groups.iter().any(|group| has(group, &row.name))
        && let Some(name) = [redundancy::DEFAULT, &row.name].into_iter().find(free)
    {
        change = change.insert(&RedundancyGroup {
            name: name.into(),
            description: String::new(),
            first: row.name.clone(),
            second: None,
            high_availability: false,
        })?;
    }
    if !change.is_empty() {
        database.transact(change).await?;
        tracing::info!(
            table = ProcessNode::SCHEMA.table,
            "This node's own row was written."
        );
    }
    Ok(())
}

fn own_row(node: Node, replica: u64) -> anyhow::Result<ProcessNode> {
    Ok(ProcessNode {
        name: node.name,
        domain: node.domain,
        address: node.address,
        role: "publisher".into(),
        product: node.product,
        replica: i64::try_from(replica)?,
    })
}

fn has(group: &RedundancyGroup, node: &str) -> bool {
    group.first == node || group.second.as_deref() == Some(node)
}

fn rename_in_groups(
    mut change: Transaction,
    groups: &mut [RedundancyGroup],
    from: &str,
    to: &str,
) -> Result<Transaction, Error> {
    for group in groups.iter_mut().filter(|group| has(group, from)) {
        if group.first == from {
            to.clone_into(&mut group.first);
        } else {
            group.second = Some(to.into());
        }
        change = change.put(group)?;
    }
    Ok(change)
}

/// Gives the users of this node its new name. When this is interrupted, the
/// old row is still there and the next start goes on.
async fn rename_homes(
    database: &Database,
    from: &str,
    to: &str,
    heartbeat: &Heartbeat,
) -> Result<(), Error> {
    let users = database.list::<EndUser>(&[]).await?;
    let users: Vec<_> = users.iter().filter(|user| user.node == from).collect();
    for batch in users.chunks(BATCH) {
        heartbeat.tick();
        let renamed = batch.iter().fold(Transaction::new(), |change, user| {
            change.set_column::<EndUser>(&[&user.user], "node", from, to)
        });
        database.transact(renamed).await?;
    }
    Ok(())
}
