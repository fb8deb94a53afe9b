//! Who may do what: privilege levels, the list of actions, and the audit line
//! that each use of one leaves.

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// Privilege level of an administrator, and the level that an action needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Level 0: look at the node.
    Look,
    /// Level 1: operate it.
    Operate,
    /// Level 4: change and stop it.
    Administer,
}

impl Level {
    /// The number that the command line shows.
    pub fn number(self) -> u8 {
        match self {
            Self::Look => 0,
            Self::Operate => 1,
            Self::Administer => 4,
        }
    }
}

impl Serialize for Level {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// An action that an administrator can take, whichever face it comes through.
#[derive(Debug, PartialEq, Eq)]
pub struct Action {
    /// Stable name, as the audit line has it.
    pub name: &'static str,
    /// Least privilege level.
    pub level: Level,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Name of the administrator.
    pub user: String,
    /// The administrator's level.
    pub level: Level,
    /// Through which face: `cli`, `web`.
    pub face: &'static str,
    /// Where from: an address, or the terminal.
    pub origin: String,
}

impl Caller {
    /// Refuses an action above the caller's level.
    pub fn may(&self, action: &Action) -> Result<()> {
        if self.level >= action.level {
            return Ok(());
        }
        self.audit(action, "", "forbidden");
        Err(Error::new(
            Kind::Forbidden,
            format!(
                "this needs privilege level {}, and {} has level {}. Ask an administrator of \
                 level {} to do it",
                action.level.number(),
                self.user,
                self.level.number(),
                action.level.number()
            ),
        ))
    }

    /// Checks the level, does the work, and leaves one audit line with the
    /// outcome, also when the work is dropped before its end. `subject` says
    /// what it was done to, without secrets.
    pub async fn does<T>(
        &self,
        action: &Action,
        subject: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.may(action)?;
        let mut line = AuditLine {
            caller: self,
            action,
            subject,
            outcome: INTERRUPTED.into(),
        };
        let outcome = work.await;
        line.outcome = match &outcome {
            Ok(_) => "done".into(),
            Err(error) => error.message.clone(),
        };
        outcome
    }

    fn audit(&self, action: &Action, subject: &str, outcome: &str) {
        tracing::info!(
            target: "audit",
            user = self.user,
            level = self.level.number(),
            face = self.face,
            origin = self.origin,
            action = action.name,
            subject,
            outcome,
            "An administrative action was taken."
        );
    }
}

/// Outcome of work that was dropped: the caller gave up or hung up. What it had
/// asked of other services goes on there.
const INTERRUPTED: &str = "interrupted; it may have taken effect";

/// The audit line of work that has begun; written when it goes out of scope.
struct AuditLine<'a> {
    caller: &'a Caller,
    action: &'a Action,
    subject: &'a str,
    outcome: String,
}

impl Drop for AuditLine<'_> {
    fn drop(&mut self) {
        self.caller.audit(self.action, self.subject, &self.outcome);
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $level:ident;)*) => {
        /// Every action, with its name and level.
        pub mod actions {
            use super::{Action, Level};
            $($(#[$doc])* pub const $constant: Action =
                Action { name: $name, level: Level::$level };)*
            /// The whole list.
            pub const ALL: &[&Action] = &[$(&$constant),*];
        }
    };
}

actions! {
    /// See the services.
    SERVICE_LIST = "service.list", Look;
    /// Start a service.
    SERVICE_START = "service.start", Operate;
    /// Stop a service.
    SERVICE_STOP = "service.stop", Operate;
    /// Restart a service.
    SERVICE_RESTART = "service.restart", Operate;
    /// Activate a feature service.
    SERVICE_ACTIVATE = "service.activate", Operate;
    /// Deactivate a feature service.
    SERVICE_DEACTIVATE = "service.deactivate", Operate;
    /// See whether a service is restarted automatically.
    SERVICE_AUTO_RESTART_SHOW = "service.auto-restart.show", Look;
    /// Choose whether a service is restarted automatically.
    SERVICE_AUTO_RESTART = "service.auto-restart", Operate;
    /// See the state of the machine.
    STATUS = "status.show", Look;
    /// See the versions.
    VERSION = "version.show", Look;
    /// See the network settings.
    NETWORK_SHOW = "network.show", Look;
    /// Change the network settings.
    NETWORK_SET = "network.set", Administer;
    /// Change the time zone.
    TIMEZONE_SET = "timezone.set", Administer;
    /// See the time zones there are.
    TIMEZONE_LIST = "timezone.list", Look;
    /// Collect the support bundle.
    TECH = "tech.show", Operate;
    /// Read counters.
    PERF = "perf.query", Look;
    /// See the alarms.
    ALARMS = "alarms.list", Look;
    /// See the users.
    USERS_LIST = "users.list", Look;
    /// Add a user.
    USERS_ADD = "users.add", Operate;
    /// Add many users.
    USERS_IMPORT = "users.import", Operate;
    /// Remove a user.
    USERS_DELETE = "users.delete", Operate;
    /// Give a user a new password.
    USERS_PASSWORD = "users.password", Operate;
    /// Give users a home node, or take it from them.
    USERS_ASSIGN = "users.assign", Operate;
    /// Move all users of a node.
    USERS_MOVE = "users.move", Operate;
    /// Even the nodes' users out.
    USERS_REBALANCE = "users.rebalance", Operate;
    /// Restart the machine.
    SYSTEM_RESTART = "system.restart", Administer;
    /// Shut the machine down.
    SYSTEM_SHUTDOWN = "system.shutdown", Administer;
    /// List logs.
    LOG_LIST = "log.list", Look;
    /// Read a log.
    LOG_READ = "log.read", Operate;
    /// See the parameters of services.
    PARAMETERS_SHOW = "parameters.show", Look;
    /// Change a parameter of a service.
    PARAMETERS_SET = "parameters.set", Administer;
    /// See the nodes of the cluster.
    CLUSTER_SHOW = "cluster.show", Look;
    /// Add a node to the cluster.
    CLUSTER_ADD = "cluster.add", Administer;
    /// Remove a node from the cluster.
    CLUSTER_REMOVE = "cluster.remove", Administer;
    /// See the redundancy groups.
    GROUPS_LIST = "groups.list", Look;
    /// Make a redundancy group.
    GROUPS_ADD = "groups.add", Administer;
    /// Change a redundancy group.
    GROUPS_CHANGE = "groups.change", Administer;
    /// End a redundancy group.
    GROUPS_DELETE = "groups.delete", Administer;
    /// Switch high availability of a redundancy group.
    AVAILABILITY_SET = "availability.set", Administer;
    /// See how users who have no home node get one.
    ASSIGNMENT_SHOW = "assignment.show", Look;
    /// Choose how users who have no home node get one.
    ASSIGNMENT_SET = "assignment.set", Administer;
    /// See the state of a redundancy group.
    HA_STATUS = "ha.status", Look;
    /// Move a node's users to its peer.
    HA_FAILOVER = "ha.failover", Operate;
    /// Move a node's users back.
    HA_FALLBACK = "ha.fallback", Operate;
    /// Lead a redundancy group out of failed mode.
    HA_RECOVER = "ha.recover", Operate;
    /// See what happened in a redundancy group, and why.
    HA_HISTORY = "ha.history", Look;
    /// See the state of replication.
    REPLICATION_STATUS = "replication.status", Look;
    /// Compare nodes' tables with the publisher's.
    REPLICATION_AUDIT = "replication.audit", Look;
    /// Bring nodes' replicas in order by the publisher's, or stop them.
    REPLICATION_MEND = "replication.mend", Administer;
    /// Promote this node when the publisher is lost for good.
    REPLICATION_PROMOTE = "replication.promote", Administer;
    /// Have every node vote, or the publisher alone.
    REPLICATION_VOTERS = "replication.voters.set", Administer;
    /// Choose how long replication may be behind before it has failed.
    REPLICATION_TIMEOUT_SET = "replication.timeout.set", Administer;
    /// See the state of the real-time stores.
    DATASTORE_STATUS = "datastore.status", Look;
    /// See whether the start gate waits for replication.
    REPLICATION_MONITOR_SHOW = "replication.monitor.show", Look;
    /// Choose whether the start gate waits for replication.
    REPLICATION_MONITOR_SET = "replication.monitor.set", Administer;
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        /// Gathers this thread's lines for as long as the guard lives.
        fn gather(&self) -> tracing::subscriber::DefaultGuard {
            let lines = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(self.clone());
            tracing::subscriber::set_default(lines.finish())
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn caller(level: Level) -> Caller {
        Caller {
            user: "mallory".into(),
            level,
            face: "cli",
            origin: "test".into(),
        }
    }

    #[tokio::test]
    async fn work_above_the_level_is_never_begun() {
        let mut begun = false;
        let outcome = caller(Level::Operate)
            .does(&actions::SYSTEM_RESTART, "", async {
                begun = true;
                Ok(())
            })
            .await;
        assert_eq!(outcome.unwrap_err().kind, Kind::Forbidden);
        assert!(!begun);
    }

    #[tokio::test]
    async fn every_end_leaves_one_audit_line() {
        for (ends, outcome) in [
            (Some(Ok(())), "outcome=\"done\""),
            (Some(Err(Error::failed("it burns"))), "outcome=\"it burns\""),
            (None, "outcome=\"interrupted; it may have taken effect\""),
        ] {
            let lines = Lines::default();
            let gathering = lines.gather();
            let caller = caller(Level::Administer);
            let work = async {
                match ends {
                    Some(ended) => ended,
                    None => std::future::pending().await,
                }
            };
            let mut work = Box::pin(caller.does(&actions::USERS_DELETE, "alice", work));
            let _ = futures::poll!(&mut work);
            drop(work);
            drop(gathering);
            let text = lines.text();
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(
                text.contains(outcome) && text.contains("alice") && text.contains("audit"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn work_that_is_dropped_before_it_is_begun_leaves_no_line() {
        let lines = Lines::default();
        let gathering = lines.gather();
        let caller = caller(Level::Administer);
        drop(caller.does(&actions::USERS_DELETE, "", async { Ok(()) }));
        drop(gathering);
        assert_eq!(lines.text(), "");
    }

    #[test]
    fn every_level_reaches_exactly_what_is_at_or_below_it() {
        for action in actions::ALL {
            for level in [Level::Look, Level::Operate, Level::Administer] {
                let allowed = caller(level).may(action).is_ok();
                assert_eq!(
                    allowed,
                    level.number() >= action.level.number(),
                    "{action:?}"
                );
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = actions::ALL.iter().map(|action| action.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), actions::ALL.len());
    }
}
