//! The supervisor as a service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use catalogue::{Catalogue, Service};
use futures::StreamExt;
use service::{Context, Role, uds};
use tokio::sync::Mutex;

use crate::files::Files;
use crate::monitor::Monitor;
use crate::server;
use crate::systemd::{Event, Systemd};

/// Signals that come within this time are taken together: a start of one
/// service is a dozen of them.
const GATHER: Duration = Duration::from_millis(30);
/// How often alarms are judged without any signal.
const TICK: Duration = Duration::from_secs(2);
/// How often everything is looked at anew, should a signal have been missed.
const LOOK: u32 = 30;

/// Runs the supervisor.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let node = ctx.node()?;
    let catalogue = Catalogue::read(Path::new(catalogue::UNIT_FOLDER))?;
    let publisher = node.role == Role::Publisher;
    let services = catalogue.in_start_order();
    let services = services.filter(|service| service.fits(&node.product, publisher));
    let services: Vec<Service> = services.cloned().collect();
    let count = services.len();
    let catalogue = Catalogue::of(services);

    let systemd = Systemd::connect().await?;
    let mut events = systemd.events().await?;
    let files = Files::new(ctx.id(), ctx.paths());
    let monitor = Monitor::new(catalogue, files, systemd, ctx.alarms().clone()).await?;
    let monitor = Arc::new(Mutex::new(monitor));

    let socket = uds::listen(&ctx.paths().supervisor_socket())
        .context("cannot listen on the supervisor's socket")?;
    let server = server::serve(socket, monitor.clone(), ctx.stop_token().clone());
    tokio::pin!(server);
    ctx.ready(&format!("Supervises {count} services."));

    let heartbeat = ctx.heartbeat("systemd");
    let mut tick = tokio::time::interval(TICK);
    let mut ticks = 0;
    loop {
        tokio::select! {
            () = ctx.stopping() => return Ok(()),
            ended = &mut server => {
                ended?;
                bail!("the supervisor's socket was closed");
            }
            event = events.next() => {
                let Some(event) = event else {
                    bail!("the connection to the system bus was lost");
                };
                let events = gather(event, &mut events).await;
                monitor.lock().await.follow(events).await?;
            }
            _ = tick.tick() => {
                ticks += 1;
                let mut monitor = monitor.lock().await;
                if ticks % LOOK == 0 {
                    monitor.refresh_all().await?;
                } else {
                    monitor.step().await?;
                }
                heartbeat.tick();
            }
        }
    }
}

async fn gather(first: Event, events: &mut (impl StreamExt<Item = Event> + Unpin)) -> Vec<Event> {
    let mut gathered = vec![first];
    let end = tokio::time::sleep(GATHER);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return gathered,
            event = events.next() => match event {
                Some(event) => gathered.push(event),
                None => return gathered,
            },
        }
    }
}
