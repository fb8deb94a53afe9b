//! A database in a temporary folder, for other crates' tests.

use service::{Context, Paths};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use crate::{Access, Database, Error};

/// A running database whose files vanish with it.
#[derive(Debug)]
pub struct TestDatabase {
    folder: TempDir,
    context: Context,
    task: JoinHandle<anyhow::Result<()>>,
    /// Stops the database with this value.
    _guard: DropGuard,
}

impl TestDatabase {
    /// Starts a database that is empty and in state 2, and waits until it
    /// answers. Needs a tokio runtime.
    pub async fn start() -> Result<Self, Error> {
        let folder = TempDir::new().map_err(|error| Error::Unavailable(error.to_string()))?;
        Self::run(folder).await
    }

    /// Stops the database and starts it again on the same files.
    pub async fn restart(self) -> Result<Self, Error> {
        let folder = self.stop().await?;
        Self::run(folder).await
    }

    /// Stops the database and hands its folder out.
    pub async fn stop(self) -> Result<TempDir, Error> {
        self.context.stop();
        let unavailable = |error: String| Error::Unavailable(error);
        self.task
            .await
            .map_err(|error| unavailable(error.to_string()))?
            .map_err(|error| unavailable(format!("{error:#}")))?;
        Ok(self.folder)
    }

    async fn run(folder: TempDir) -> Result<Self, Error> {
        let context = Context::new("database", Paths::below(folder.path()));
        let task = tokio::spawn(crate::serve(context.clone()));
        let guard = context.stop_token().clone().drop_guard();
        let replicator = Context::new("database-replicator", context.paths().clone());
        let stop = context.stop_token().clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = crate::replicator::serve(replicator) => ended,
            }
        });
        let test = Self {
            folder,
            context,
            task,
            _guard: guard,
        };
        test.wait().await?;
        Ok(test)
    }

    async fn wait(&self) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            match self.client().status().await {
                Ok(status) if status.state == 2 => return Ok(()),
                Err(error) if tries > 2000 || self.task.is_finished() => return Err(error),
                _ => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// A client of the database.
    pub fn client(&self) -> Database {
        Database::open(self.paths(), Access::Administration)
    }

    /// The folders that the database runs in; other services can run in them
    /// too.
    pub fn paths(&self) -> &Paths {
        self.context.paths()
    }

    /// The surroundings of the database: its counters and alarms.
    pub fn context(&self) -> &Context {
        &self.context
    }
}
