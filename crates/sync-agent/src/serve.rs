//! The sync agent as a service.

use std::time::{Duration, Instant};

use database::tables::{EndUser, ProcessNode};
use database::{Access, Database, Error, Transaction, Watch, WatchEvent};
use redundancy::Move;
use service::{Context, Heartbeat, Node, Role};

use crate::Agent;
use crate::progress::tell_complete;
use crate::watched::Watched;

/// How long a change may take; longer than that the database does not answer.
const ANSWER: Duration = Duration::from_secs(4);
/// Longest pause between signs of life.
const TICK: Duration = Duration::from_secs(1);

/// Runs the sync agent until it is told to stop. The publisher's assigns users;
/// which node that is can change.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let node = context.node()?;
    let heartbeat = context.heartbeat("sync-agent");
    let database = Database::open(context.paths(), Access::Assignment);
    let mut role = OwnRole::new(&database, &node);
    loop {
        let ends = if role.publisher {
            work(&context, &heartbeat, &database, &mut role).await?
        } else {
            stand_by(&context, &heartbeat, &mut role).await
        };
        if ends {
            return Ok(());
        }
    }
}

/// Whether this node is the publisher: as it was set up, until its row among
/// the nodes says otherwise.
struct OwnRole {
    row: Watch<ProcessNode>,
    publisher: bool,
}

impl OwnRole {
    fn new(database: &Database, node: &Node) -> Self {
        Self {
            row: database.watch(&[&node.name]),
            publisher: node.role == Role::Publisher,
        }
    }

    /// Waits until the role is another one. Safe to cancel.
    async fn changes(&mut self) {
        loop {
            let row = match self.row.next().await {
                WatchEvent::Snapshot(rows) => rows.into_iter().next(),
                WatchEvent::Put(row) => Some(row),
                WatchEvent::Delete(_) => None,
            };
            // A row that is not there yet says nothing.
            let publisher = row.map_or(self.publisher, |row| row.role == "publisher");
            if std::mem::replace(&mut self.publisher, publisher) != publisher {
                return;
            }
        }
    }
}

/// Does nothing while another node is the publisher; answers whether the agent
/// is to end.
async fn stand_by(context: &Context, heartbeat: &Heartbeat, role: &mut OwnRole) -> bool {
    tell_complete(context);
    context.ready("The publisher's sync agent assigns users; nothing is to do here.");
    loop {
        tokio::select! {
            () = context.stopping() => return true,
            () = role.changes() => return false,
            () = tokio::time::sleep(TICK) => heartbeat.tick(),
        }
    }
}

/// Gives users their homes while this node is the publisher; answers whether
/// the agent is to end.
async fn work(
    context: &Context,
    heartbeat: &Heartbeat,
    database: &Database,
    role: &mut OwnRole,
) -> anyhow::Result<bool> {
    context.status("Waits for the database.");
    let mut watched = Watched::new(database);
    let mut agent = Agent::default();
    loop {
        tokio::select! {
            () = context.stopping() => return Ok(true),
            () = role.changes() => return Ok(false),
            () = watched.all(&mut agent) => break,
            () = tokio::time::sleep(TICK) => heartbeat.tick(),
        }
    }
    tell_complete(context);
    context.ready(&sentence(&agent));
    let counter = |name: &str| context.perf().counter("Cisco Sync Agent", "", name);
    let (assigned, waiting) = (counter("UsersAssigned"), counter("UsersWaiting"));
    let origin = Instant::now();
    let mut clock = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            () = context.stopping() => return Ok(true),
            () = role.changes() => return Ok(false),
            () = watched.next(&mut agent) => {}
            _ = clock.tick() => {
                heartbeat.tick();
                context.status(&sentence(&agent));
            }
        }
        let moves = agent.next(origin.elapsed());
        if !moves.is_empty() {
            heartbeat.tick();
            match tokio::time::timeout(ANSWER, change(database, &moves)).await {
                Ok(Ok(())) => {
                    agent.done(&moves);
                    assigned.add(i64::try_from(moves.len()).unwrap_or(i64::MAX));
                    tracing::info!(users = moves.len(), "Users were given their home nodes.");
                }
                Ok(Err(Error::Unavailable(_))) | Err(_) => agent.unanswered(origin.elapsed()),
                Ok(Err(error)) => {
                    // Somebody changed or deleted one of them; the feed tells.
                    tracing::debug!(users = moves.len(), %error, "A change was refused.");
                    agent.refused(&moves, origin.elapsed());
                }
            }
            heartbeat.tick();
        }
        waiting.set(i64::try_from(agent.waiting()).unwrap_or(i64::MAX));
    }
}

async fn change(database: &Database, moves: &[Move]) -> Result<(), Error> {
    let change = moves.iter().fold(Transaction::new(), |change, one| {
        change.set_column::<EndUser>(&[&one.user], "node", &one.from, &one.to)
    });
    database.transact(change).await.map(drop)
}

fn sentence(agent: &Agent) -> String {
    let users = agent.users();
    match (agent.waiting(), agent.obstacle()) {
        (0, _) => format!("Each of {users} users has a home node."),
        (waiting, "") => format!("Gives {waiting} of {users} users a home node."),
        (waiting, why) => format!("{waiting} of {users} users have no home node: {why}."),
    }
}
