//! Gathering the status and showing it until somebody wants to sign in.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event as Input};
use service::{Paths, introspect};

use crate::INTERFACE;
use crate::system::{Node, Place, System};
use crate::wizard::Key;

use super::Screen;
use super::keys::{self, Pressed};
use super::status::{self, Snapshot};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for the supervisor.
const LIMIT: Duration = Duration::from_secs(10);
/// The whole screen is drawn anew this often, over what others wrote on it.
const REDRAW: Duration = Duration::from_secs(60);

/// Shows the status until Enter.
pub(super) fn status(place: &Place, screen: &mut Screen) -> anyhow::Result<()> {
    let snapshots = gather(place.clone())?;
    let mut shown = None;
    let mut drawn = Instant::now();
    screen.clear()?;
    loop {
        if let Some(snapshot) = snapshots.try_iter().last() {
            shown = Some(snapshot);
        }
        if drawn.elapsed() > REDRAW {
            drawn = Instant::now();
            screen.clear()?;
        }
        if let Some(snapshot) = &shown {
            screen.draw(|frame| status::draw(snapshot, frame))?;
        }
        if event::poll(Duration::from_millis(500))?
            && let Input::Key(key) = event::read()?
        {
            match keys::read(key) {
                Some(Pressed::Key(Key::Enter)) => return Ok(()),
                Some(Pressed::Redraw) => screen.clear()?,
                _ => {}
            }
        }
    }
}

/// Looks again and again, in a thread of its own: a service that hangs must
/// not make the console hang.
fn gather(place: Place) -> anyhow::Result<Receiver<Snapshot>> {
    let (sender, receiver) = sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                if sender.send(look(&place).await).is_err() {
                    return;
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
    });
    Ok(receiver)
}

async fn look(place: &Place) -> Snapshot {
    let paths = place.paths();
    let addresses = Node
        .addresses(INTERFACE)
        .into_iter()
        .filter(|address| match address {
            IpAddr::V4(_) => true,
            // Link-local addresses are of no use to anybody at the console.
            IpAddr::V6(six) => !six.is_unicast_link_local(),
        });
    let client = supervisor::Client::connect(&paths.supervisor_socket());
    let services = match tokio::time::timeout(LIMIT, client.list()).await {
        Ok(Ok(services)) => Ok(services),
        Ok(Err(_)) => Err("the supervisor does not answer yet".into()),
        Err(_) => Err(format!(
            "the supervisor did not answer in {} s",
            LIMIT.as_secs()
        )),
    };
    Snapshot {
        node: service::Node::load(&paths).ok(),
        addresses: addresses.map(|address| address.to_string()).collect(),
        services,
        alarms: alarms(&paths).await,
        time: now(),
    }
}

async fn alarms(paths: &Paths) -> Vec<(String, service::Severity, String)> {
    let mut found = Vec::new();
    for id in paths.running().unwrap_or_default() {
        // One that does not answer is the supervisor's to tell of.
        for alarm in introspect::alarms(paths, &id).await.unwrap_or_default() {
            found.push((id.clone(), alarm.severity, alarm.text));
        }
    }
    found.sort_by_key(|(_, severity, _)| std::cmp::Reverse(*severity));
    found
}

/// The time of day in the node's time zone, in coordinated time where that is
/// not known.
fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    now.format(&format).unwrap_or_default()
}
