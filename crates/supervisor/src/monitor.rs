//! The state of the running supervisor: follows systemd's signals, keeps the
//! picture of the node, carries plans out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalogue::Catalogue;
use nix::time::{ClockId, clock_gettime};
use service::Alarms;

use crate::files::Files;
use crate::health::{COMPANIONS, Health};
use crate::rules::{Call, Plan, Refusal};
use crate::systemd::{Event, Systemd};
use crate::view::{View, views};
use crate::world::{Activity, World, id_of};

/// The picture of the node and what it takes to change it.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) catalogue: Catalogue,
    pub(crate) files: Files,
    pub(crate) systemd: Systemd,
    alarms: Alarms,
    world: World,
    health: Health,
    /// Unit name by object path.
    paths: BTreeMap<String, String>,
}

impl Monitor {
    pub(crate) async fn new(
        catalogue: Catalogue,
        files: Files,
        systemd: Systemd,
        alarms: Alarms,
    ) -> anyhow::Result<Self> {
        let mut monitor = Self {
            catalogue,
            files,
            systemd,
            alarms,
            world: World::default(),
            health: Health::default(),
            paths: BTreeMap::new(),
        };
        let companions = COMPANIONS.iter().map(|(id, _)| format!("{id}.service"));
        let services = monitor.catalogue.services().map(|s| s.unit());
        let units: Vec<String> = services.chain(companions).collect();
        for unit in units {
            let path = monitor.systemd.path(&unit).await?;
            monitor.paths.insert(path, unit);
        }
        monitor.refresh_all().await?;
        Ok(monitor)
    }

    pub(crate) fn views(&self) -> anyhow::Result<Vec<View>> {
        let now = monotonic()?;
        let micros = u64::try_from(now.as_micros())?;
        Ok(views(&self.catalogue, &self.world, micros, |id| {
            self.health.restarts(id)
        }))
    }

    /// Takes what systemd said into the picture. Signals that come together
    /// are handed over together.
    pub(crate) async fn follow(&mut self, events: Vec<Event>) -> anyhow::Result<()> {
        let mut dirty = BTreeSet::new();
        let mut all = false;
        for event in events {
            match event {
                Event::Unit(path) => {
                    if self.paths.contains_key(&path) {
                        dirty.insert(path);
                    }
                }
                Event::JobNew { unit } => dirty.extend(self.path_of(&unit)),
                Event::JobRemoved { unit, result } => {
                    if let Some(id) = id_of(&unit) {
                        if result == "dependency" {
                            self.world.given_up.insert(id.into());
                        } else {
                            self.world.given_up.remove(id);
                        }
                    }
                    dirty.extend(self.path_of(&unit));
                }
                Event::Reloaded => all = true,
            }
        }
        if all {
            return self.refresh_all().await;
        }
        if dirty.is_empty() {
            return Ok(());
        }
        for path in dirty {
            self.refresh(&path).await?;
        }
        self.refresh_rest().await
    }

    fn path_of(&self, unit: &str) -> Option<String> {
        let mut paths = self.paths.iter();
        let found = paths.find(|(_, name)| *name == unit);
        found.map(|(path, _)| path.clone())
    }

    async fn refresh(&mut self, path: &str) -> anyhow::Result<()> {
        let unit = self.systemd.unit(path).await?;
        if let Some(name) = self.paths.get(path) {
            if let Some(id) = id_of(name)
                && unit.active == Activity::Active
            {
                self.world.given_up.remove(id);
            }
            if let Some(id) = id_of(name)
                && unit.active == Activity::Activating
            {
                self.world.suspended.remove(id);
            }
            self.world.units.insert(name.clone(), unit);
        }
        Ok(())
    }

    /// Looks at everything anew.
    pub(crate) async fn refresh_all(&mut self) -> anyhow::Result<()> {
        let paths: Vec<String> = self.paths.keys().cloned().collect();
        for path in paths {
            self.refresh(&path).await?;
        }
        self.refresh_rest().await
    }

    async fn refresh_rest(&mut self) -> anyhow::Result<()> {
        self.world.jobs = self.systemd.jobs().await?;
        self.world.activated = self.files.activated()?;
        self.world.stays_down = self.files.stays_down()?;
        self.step().await
    }

    /// Restarts, alarms and marks, as of now.
    pub(crate) async fn step(&mut self) -> anyhow::Result<()> {
        let (calls, alarms) = self.health.step(&self.catalogue, &self.world, monotonic()?);
        for call in calls {
            tracing::info!(?call, "The supervisor acts by itself.");
            self.call(&call).await?;
        }
        for alarm in alarms {
            match alarm.text {
                Some(text) => self.alarms.raise(alarm.id, alarm.severity, &text),
                None => self.alarms.clear(alarm.id),
            }
        }
        self.keep_marks()
    }

    /// A service whose automatic restart is disabled has its mark while it
    /// runs, so that systemd's own restart finds it.
    fn keep_marks(&self) -> anyhow::Result<()> {
        for id in &self.world.stays_down {
            let runs = self
                .world
                .unit(id)
                .is_some_and(|unit| unit.active == Activity::Active);
            if runs && self.world.job(id).is_none() {
                self.files.mark(id)?;
            }
        }
        for id in self.files.marked()? {
            if !self.world.stays_down.contains(&id) {
                self.files.release(&id)?;
            }
        }
        Ok(())
    }

    /// Makes a plan of the picture and carries it out. Returns its other
    /// services.
    pub(crate) async fn carry_out(
        &mut self,
        plan: impl FnOnce(&Catalogue, &World) -> Result<Plan, Refusal>,
    ) -> anyhow::Result<Vec<String>> {
        let plan = plan(&self.catalogue, &self.world)?;
        for call in &plan.calls {
            self.call(call).await?;
        }
        // The one who asked sees what came of it in his next question.
        self.refresh_all().await?;
        Ok(plan.also)
    }

    async fn call(&mut self, call: &Call) -> anyhow::Result<()> {
        match call {
            Call::Start(unit) => self.systemd.start(unit).await,
            Call::Stop(unit) => self.systemd.stop(unit).await,
            Call::Restart(unit) => self.systemd.restart(unit).await,
            Call::Renew(unit) => self.systemd.terminate(unit).await,
            Call::Reload => self.systemd.reload().await,
            Call::ResetFailed(unit) => self.systemd.reset_failed(unit).await,
            Call::Link(id) => Ok(self.files.link(id)?),
            Call::Unlink(id) => Ok(self.files.unlink(id)?),
            Call::Release(id) => {
                self.world.suspended.remove(id);
                Ok(self.files.release(id)?)
            }
            Call::Suspend(id) => {
                self.world.suspended.insert(id.clone());
                Ok(())
            }
        }
    }
}

/// Time on systemd's monotonic clock.
fn monotonic() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}
