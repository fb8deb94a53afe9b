//! systemd over D-Bus: reading units and jobs, and calling it.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail};
use futures::StreamExt;
use futures::stream::BoxStream;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::world::{Activity, Job, JobKind, Unit};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What systemd said without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A property of the unit at this object path changed.
    Unit(String),
    /// A job came into the queue.
    JobNew { unit: String },
    /// A job left the queue, with this result.
    JobRemoved { unit: String, result: String },
    /// Unit files were read again: anything may be different.
    Reloaded,
}

/// The connection to the system bus.
#[derive(Clone, Debug)]
pub(crate) struct Systemd(Connection);

impl Systemd {
    /// Connects and asks systemd to tell of changes.
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let connection = Connection::system()
            .await
            .context("cannot connect to the system bus")?;
        let systemd = Self(connection);
        systemd.manager::<()>("Subscribe", &()).await?;
        Ok(systemd)
    }

    /// Over a connection whose other end plays systemd.
    #[cfg(test)]
    pub(crate) fn played(connection: Connection) -> Self {
        Self(connection)
    }

    /// What systemd tells from now on.
    pub(crate) async fn events(&self) -> anyhow::Result<BoxStream<'static, Event>> {
        let manager = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SYSTEMD)
            .interface(MANAGER)
            .build()?;
        let units = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SYSTEMD)
            .interface(PROPERTIES)
            .member("PropertiesChanged")
            .path_namespace("/org/freedesktop/systemd1/unit")
            .build()?;
        let depth = std::num::NonZeroUsize::new(1024);
        let manager = MessageStream::for_match_rule(manager, &self.0, depth).await?;
        let units = MessageStream::for_match_rule(units, &self.0, depth).await?;
        let events = futures::stream::select(manager, units)
            .filter_map(|message| async move { message.ok().as_ref().and_then(event) });
        Ok(events.boxed())
    }

    async fn call<T>(
        &self,
        destination: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl serde::Serialize + zbus::DynamicType),
    ) -> anyhow::Result<T>
    where
        T: for<'de> serde::Deserialize<'de> + zbus::Type,
    {
        let reply = self
            .0
            .call_method(Some(destination), path, Some(interface), method, body)
            .await
            .with_context(|| format!("{method} of {interface} failed"))?;
        let body = reply.body();
        body.deserialize()
            .with_context(|| format!("the answer to {method} of {interface} is not understood"))
    }

    async fn manager<T>(
        &self,
        method: &str,
        body: &(impl serde::Serialize + zbus::DynamicType),
    ) -> anyhow::Result<T>
    where
        T: for<'de> serde::Deserialize<'de> + zbus::Type,
    {
        self.call(SYSTEMD, MANAGER_PATH, MANAGER, method, body)
            .await
    }

    /// Object path of a unit, loaded or not.
    pub(crate) async fn path(&self, unit: &str) -> anyhow::Result<String> {
        let path: OwnedObjectPath = self.manager("LoadUnit", &(unit,)).await?;
        Ok(path.to_string())
    }

    /// The jobs in the queue, by unit.
    pub(crate) async fn jobs(&self) -> anyhow::Result<BTreeMap<String, Job>> {
        type Row = (
            u32,
            String,
            String,
            String,
            OwnedObjectPath,
            OwnedObjectPath,
        );
        let rows: Vec<Row> = self.manager("ListJobs", &()).await?;
        let job = |(_, unit, kind, state, _, _): Row| {
            let job = Job {
                kind: JobKind::parse(&kind),
                running: state == "running",
            };
            (unit, job)
        };
        Ok(rows.into_iter().map(job).collect())
    }

    /// The properties of the unit at an object path.
    pub(crate) async fn unit(&self, path: &str) -> anyhow::Result<Unit> {
        let all: HashMap<String, OwnedVariant> = self
            .call(SYSTEMD, path, PROPERTIES, "GetAll", &(UNIT,))
            .await?;
        let mut of_unit = Properties(all);
        let mut of_service = Properties(HashMap::new());
        // The whole of this interface is hundreds of settings.
        for name in [
            "Result",
            "ExecMainCode",
            "ExecMainStatus",
            "StatusText",
            "NRestarts",
        ] {
            let value: OwnedVariant = self
                .call(SYSTEMD, path, PROPERTIES, "Get", &(SERVICE, name))
                .await?;
            of_service.0.insert(name.into(), value);
        }
        let mut stops_with = of_unit.words("RequiredBy");
        for name in ["ConsistsOf", "BoundBy", "RequisiteOf"] {
            stops_with.extend(of_unit.words(name));
        }
        Ok(Unit {
            loaded: of_unit.text("LoadState") == "loaded",
            active: Activity::parse(&of_unit.text("ActiveState")),
            sub: of_unit.text("SubState"),
            result: of_service.text("Result"),
            code: of_service.signed("ExecMainCode"),
            status: of_service.signed("ExecMainStatus"),
            text: of_service.text("StatusText"),
            restarts: of_service.number("NRestarts"),
            condition: of_unit.flag("ConditionResult"),
            active_since: of_unit.time("ActiveEnterTimestamp"),
            active_since_monotonic: of_unit.time("ActiveEnterTimestampMonotonic"),
            inactive_since_monotonic: of_unit.time("InactiveEnterTimestampMonotonic"),
            after: of_unit.words("After"),
            requires: of_unit.words("Requires"),
            stops_with,
            part_of: of_unit.words("PartOf"),
        })
    }

    pub(crate) async fn start(&self, unit: &str) -> anyhow::Result<()> {
        self.job("StartUnit", unit).await
    }

    pub(crate) async fn stop(&self, unit: &str) -> anyhow::Result<()> {
        self.job("StopUnit", unit).await
    }

    pub(crate) async fn restart(&self, unit: &str) -> anyhow::Result<()> {
        self.job("RestartUnit", unit).await
    }

    /// Restarts a unit if it runs.
    pub(crate) async fn try_restart(&self, unit: &str) -> anyhow::Result<()> {
        self.job("TryRestartUnit", unit).await
    }

    /// Starts a unit and waits until the job has left the queue. Answers
    /// systemd's word for how it ended: `done`, `failed`, `timeout` and so on.
    pub(crate) async fn start_and_wait(&self, unit: &str) -> anyhow::Result<String> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SYSTEMD)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()?;
        let depth = std::num::NonZeroUsize::new(1024);
        // Listens before it asks: a short job has ended before the answer is here.
        let mut ended = MessageStream::for_match_rule(rule, &self.0, depth).await?;
        let job: OwnedObjectPath = self.manager("StartUnit", &(unit, "replace")).await?;
        while let Some(message) = ended.next().await {
            let message = message?;
            let (_, path, _, result): (u32, OwnedObjectPath, String, String) =
                message.body().deserialize()?;
            if path == job {
                return Ok(result);
            }
        }
        bail!("the connection to the system bus was lost while {unit} ran")
    }

    async fn job(&self, method: &str, unit: &str) -> anyhow::Result<()> {
        let _: OwnedObjectPath = self.manager(method, &(unit, "replace")).await?;
        Ok(())
    }

    /// Sends SIGTERM to the main process.
    pub(crate) async fn terminate(&self, unit: &str) -> anyhow::Result<()> {
        let signal = nix::sys::signal::Signal::SIGTERM as i32;
        self.manager("KillUnit", &(unit, "main", signal)).await
    }

    pub(crate) async fn reset_failed(&self, unit: &str) -> anyhow::Result<()> {
        self.manager("ResetFailedUnit", &(unit,)).await
    }

    /// Reads all unit files and links again.
    pub(crate) async fn reload(&self) -> anyhow::Result<()> {
        self.manager("Reload", &()).await
    }

    pub(crate) async fn reboot(&self) -> anyhow::Result<()> {
        self.login("Reboot").await
    }

    pub(crate) async fn power_off(&self) -> anyhow::Result<()> {
        self.login("PowerOff").await
    }

    async fn login(&self, method: &str) -> anyhow::Result<()> {
        self.call(
            "org.freedesktop.login1",
            "/org/freedesktop/login1",
            "org.freedesktop.login1.Manager",
            method,
            &(false,),
        )
        .await
    }

    pub(crate) async fn set_timezone(&self, zone: &str) -> anyhow::Result<()> {
        self.call(
            "org.freedesktop.timedate1",
            "/org/freedesktop/timedate1",
            "org.freedesktop.timedate1",
            "SetTimezone",
            &(zone, false),
        )
        .await
    }
}

/// Properties of one interface; what is missing or of another type is empty.
struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    fn take<T: TryFrom<OwnedVariant>>(&mut self, name: &str) -> Option<T> {
        self.0.remove(name).and_then(|value| value.try_into().ok())
    }

    fn text(&mut self, name: &str) -> String {
        self.take(name).unwrap_or_default()
    }

    fn words(&mut self, name: &str) -> Vec<String> {
        self.take(name).unwrap_or_default()
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(name).unwrap_or_default()
    }

    fn signed(&mut self, name: &str) -> i32 {
        self.take(name).unwrap_or_default()
    }

    fn number(&mut self, name: &str) -> u32 {
        self.take(name).unwrap_or_default()
    }

    fn time(&mut self, name: &str) -> u64 {
        self.take(name).unwrap_or_default()
    }
}

fn event(message: &Message) -> Option<Event> {
    let header = message.header();
    let body = message.body();
    match header.member()?.as_str() {
        "PropertiesChanged" => Some(Event::Unit(header.path()?.to_string())),
        "JobNew" => {
            let (_, _, unit): (u32, OwnedObjectPath, String) = body.deserialize().ok()?;
            Some(Event::JobNew { unit })
        }
        "JobRemoved" => {
            let (_, _, unit, result): (u32, OwnedObjectPath, String, String) =
                body.deserialize().ok()?;
            Some(Event::JobRemoved { unit, result })
        }
        // Sent before and after; the later one finds everything in place.
        "Reloading" => Some(Event::Reloaded),
        _ => None,
    }
}
