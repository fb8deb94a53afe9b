//! The database layer monitor: figures on tables and change notification,
//! and the nightly maintenance.

use std::time::Duration;

use service::{Context, Severity};

use crate::{Access, Database, Error, Order, Statistics};

/// How often figures are taken.
const LOOK: Duration = Duration::from_secs(4);
/// Hour of the night at which maintenance runs, unless `MaintenanceTime` is
/// set: 0 to 23, in the node's own time.
const HOUR: i8 = 2;

/// Runs the monitor until it is told to stop.
pub async fn serve(context: Context) -> anyhow::Result<()> {
    let database = Database::open(context.paths(), Access::Maintenance);
    let parameters = database.parameters(context.id());
    let heartbeat = context.heartbeat("database-layer-monitor");
    let mut nights = Nights::default();
    let mut ready = false;
    let mut clock = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = context.stopping() => return Ok(()),
            _ = clock.tick() => heartbeat.tick(),
        }
        match database.statistics().await {
            Ok(figures) => {
                count(&context, &figures);
                let status = format!("{} watches on the tables.", figures.watchers);
                if std::mem::replace(&mut ready, true) {
                    context.status(&status);
                } else {
                    context.ready(&status);
                }
            }
            Err(error) => context.status(&format!("Waits for the database: {error}")),
        }
        let now = jiff::Zoned::now();
        let hour = parameters.get("MaintenanceTime", HOUR);
        if nights.due(now.date(), now.hour(), hour)
            && let Err(error) = maintain(&context, &database).await
        {
            context.alarms().raise(
                "DatabaseMaintenanceFailed",
                Severity::Warning,
                &format!("The nightly maintenance did not end: {error}. It runs again tomorrow."),
            );
        }
    }
}

/// Which nights had their maintenance.
#[derive(Debug, Default)]
struct Nights(Option<jiff::civil::Date>);

impl Nights {
    /// Whether maintenance is to run now; says so once a night.
    fn due(&mut self, today: jiff::civil::Date, hour: i8, wanted: i8) -> bool {
        hour == wanted && self.0.replace(today) != Some(today)
    }
}

/// Checks the rows, writes a snapshot, and gives unused space back.
async fn maintain(context: &Context, database: &Database) -> Result<(), Error> {
    let found = database.check().await?;
    if let Some(problem) = found.problems.first() {
        let text = format!("{problem}. The replica is rebuilt from snapshot and log.");
        context
            .alarms()
            .raise("DatabaseIntegrity", Severity::Critical, &text);
        database.order(Order::Rebuild, problem).await?;
        return Ok(());
    }
    context.alarms().clear("DatabaseIntegrity");
    let snapshot = database
        .order(Order::Snapshot, "nightly maintenance")
        .await?;
    let space = database
        .order(Order::Compact, "nightly maintenance")
        .await?;
    context.alarms().clear("DatabaseMaintenanceFailed");
    tracing::info!(
        rows = found.rows,
        "Nightly maintenance: all rows are sound. {snapshot} {space}"
    );
    Ok(())
}

fn count(context: &Context, figures: &Statistics) {
    let set = |class: &str, instance: &str, name: &str, value: u64| {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        context.perf().counter(class, instance, name).set(value);
    };
    set(
        "DB Change Notification Server",
        "",
        "Clients",
        figures.watchers,
    );
    for table in &figures.tables {
        set("Database Tables", &table.table, "Rows", table.rows);
        set("Database Tables", &table.table, "Bytes", table.bytes);
        set("Database Tables", &table.table, "Watchers", table.watchers);
        set(
            "Database Tables",
            &table.table,
            "Notifications",
            table.notifications,
        );
        set("Database Tables", &table.table, "Changes", table.changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn maintenance_is_due_once_a_night() {
        let mut nights = Nights::default();
        let first = date(2026, 1, 1);
        assert!(!nights.due(first, 1, 2));
        assert!(nights.due(first, 2, 2));
        assert!(!nights.due(first, 2, 2));
        assert!(!nights.due(first, 3, 2));
        assert!(nights.due(date(2026, 1, 2), 2, 2));
    }
}
