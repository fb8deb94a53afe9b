//! The service around the core: sockets, database, time.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use database::tables::{EndUser, RosterItem};
use database::{Access, Database, Parameters, WatchEvent};
use ring::rand::{SecureRandom, SystemRandom};
use service::Context;
use tokio::sync::mpsc;
use tokio::time::Instant;
use xcp::{LinkId, Listener, Outbox, RouterEvent};
use xmpp_config_manager::Report;

use crate::counters::Counters;
use crate::event::{Actions, Event, Time};
use crate::publish::{Publisher, To};
use crate::router::{Random, Router};
use crate::{Config, Conflict, storage};

/// Batches that are handled before anything is written.
const DRAIN: usize = 32;
/// Bytes on their way to a component above which it is taken for dead.
const HUNG: usize = 256 << 20;
/// Longest time for storing what is undelivered when the service stops.
const FAREWELL: Duration = Duration::from_secs(8);

/// Two clocks, read together.
#[derive(Debug)]
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Time {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Time {
            monotonic: u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX),
            unix: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn at(&self, monotonic: u64) -> Instant {
        self.0 + Duration::from_millis(monotonic)
    }
}

/// Reads the router's parameters. Each applies without a restart.
fn read_config(parameters: &Parameters) -> Config {
    let default = Config::default();
    let conflict: String = parameters.get("ResourceConflict", "replace".into());
    Config {
        conflict: if conflict == "generate" {
            Conflict::Generate
        } else {
            Conflict::Replace
        },
        sessions_per_user: parameters.get("SessionsPerUser", default.sessions_per_user),
        roster_items: parameters.get("RosterItems", default.roster_items),
        roster_bytes: parameters.get("RosterBytes", default.roster_bytes),
        block_items: parameters.get("BlockItems", default.block_items),
        offline_messages: parameters.get("OfflineMessages", default.offline_messages),
        offline_bytes: parameters.get("OfflineBytes", default.offline_bytes),
        resume_seconds: parameters.get("ResumeSeconds", default.resume_seconds),
        queue_stanzas: parameters.get("QueueStanzas", default.queue_stanzas),
        queue_bytes: parameters.get("QueueBytes", default.queue_bytes),
        ack_request_ms: parameters.get("AckRequestMilliseconds", default.ack_request_ms),
        hold_ms: parameters.get("HoldMilliseconds", default.hold_ms),
        ack_timeout_seconds: parameters.get("AckTimeoutSeconds", default.ack_timeout_seconds),
        unload_seconds: parameters.get("UnloadSeconds", default.unload_seconds),
        vcard_bytes: parameters.get("VCardBytes", default.vcard_bytes),
        carbons: parameters.get("Carbons", default.carbons),
    }
}

fn random() -> anyhow::Result<Random> {
    let source = SystemRandom::new();
    let mut seed = [0u8; 8];
    source
        .fill(&mut seed)
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let mut last = u64::from_le_bytes(seed);
    Ok(Box::new(move || {
        let mut bytes = [0u8; 8];
        // After a first success it does not fail; if it ever did, numbers
        // that do not repeat are the least that is needed.
        if source.fill(&mut bytes).is_ok() {
            last = u64::from_le_bytes(bytes);
        } else {
            last = last.wrapping_add(1);
        }
        last
    }))
}

/// The parts that actions are carried out with.
struct Shell {
    clock: Clock,
    router: Router,
    actions: Actions,
    outboxes: HashMap<LinkId, Outbox>,
    database: Database,
    answers: mpsc::UnboundedSender<Event>,
    publisher: Publisher,
}

impl Shell {
    fn handle(&mut self, event: Event) {
        self.router
            .handle(event, self.clock.now(), &mut self.actions);
    }

    fn link(&mut self, event: RouterEvent) {
        match event {
            RouterEvent::Frames { link, frames } => {
                let now = self.clock.now();
                for frame in frames {
                    let event = Event::Frame { link, frame };
                    self.router.handle(event, now, &mut self.actions);
                }
            }
            RouterEvent::Up {
                link,
                component,
                out,
                ..
            } => {
                self.outboxes.insert(link, out);
                self.handle(Event::LinkUp { link, component });
            }
            RouterEvent::Down { link } => {
                self.outboxes.remove(&link);
                self.handle(Event::LinkDown { link });
            }
        }
    }

    /// Writes frames and issues requests.
    fn carry_out(&mut self) {
        for (link, frames) in &mut self.actions.links {
            if frames.is_empty() {
                continue;
            }
            if let Some(out) = self.outboxes.get(link) {
                let waiting = out.with(|buffer| buffer.extend_from_slice(frames));
                if waiting.is_ok_and(|waiting| waiting > HUNG) {
                    tracing::error!(link, "A component does not read; closing its link.");
                    out.end();
                }
            }
            frames.clear();
        }
        for request in self.actions.store.drain(..) {
            let database = self.database.clone();
            let answers = self.answers.clone();
            tokio::spawn(async move {
                let event = storage::carry_out(database, request).await;
                // The receiver is gone only when the service ends.
                let _ = answers.send(event);
            });
        }
        for (link, reason) in self.actions.broken.drain(..) {
            tracing::error!(
                link,
                reason,
                "A component broke the protocol; closing its link."
            );
            if let Some(out) = self.outboxes.get(&link) {
                out.end();
            }
        }
        for news in self.actions.soft.drain(..) {
            self.publisher.tell(news, To::All);
        }
    }

    /// Tells a real-time store that was restarted everything.
    fn publish(&mut self, to: To) {
        let mut all = Actions::default();
        self.router.publish(&mut all);
        for news in all.soft {
            self.publisher.tell(news, to);
        }
        self.publisher.synced(to);
    }

    fn rosters_changed(&mut self, event: WatchEvent<RosterItem>) {
        match event {
            WatchEvent::Put(item) => self.handle(Event::RosterChanged {
                user: (&*item.owner).into(),
                contact: (&*item.contact).into(),
                row: Some(storage::contact(item)),
            }),
            WatchEvent::Delete(key) => {
                if let [user, contact] = key.0.as_slice() {
                    self.handle(Event::RosterChanged {
                        user: (&**user).into(),
                        contact: (&**contact).into(),
                        row: None,
                    });
                }
            }
            WatchEvent::Snapshot(_) => self.handle(Event::RostersChanged),
        }
    }

    fn users_changed(&mut self, event: WatchEvent<EndUser>) {
        match event {
            WatchEvent::Put(user) => self.handle(Event::UserChanged {
                user: user.user.into(),
                enabled: user.enabled,
            }),
            WatchEvent::Delete(key) => {
                if let Some(user) = key.0.into_iter().next() {
                    self.handle(Event::UserChanged {
                        user: user.into(),
                        enabled: false,
                    });
                }
            }
            WatchEvent::Snapshot(rows) => {
                let enabled: HashSet<String> = rows
                    .into_iter()
                    .filter(|row| row.enabled)
                    .map(|row| row.user)
                    .collect();
                let gone: Vec<Box<str>> = self
                    .router
                    .users()
                    .filter(|user| !enabled.contains(*user))
                    .map(Into::into)
                    .collect();
                for user in gone {
                    self.handle(Event::UserChanged {
                        user,
                        enabled: false,
                    });
                }
            }
        }
    }
}

/// Runs the router until the service stops.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let node = ctx.node()?;
    let heartbeat = ctx.heartbeat("router");
    let database = Database::open(ctx.paths(), Access::Conversation);
    let mut parameters = database.parameters("xmpp-router");
    ctx.status("Waits for the database.");
    loop {
        tokio::select! {
            () = parameters.loaded() => break,
            () = ctx.stopping() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(2)) => heartbeat.tick(),
        }
    }
    let (answers, mut answered) = mpsc::unbounded_channel();
    let clock = Clock(Instant::now());
    let mut random = random()?;
    let instance = random();
    let path = ctx.paths().router_socket();
    let mut listener = Listener::bind(&path, instance, &node.domain)
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    let router = Router::new(&node.domain, read_config(&parameters), random, clock.now());
    let mut counters = Counters::new(ctx.perf(), &node.size);
    let mut users = database.watch::<EndUser>(&[]);
    let mut rosters = database.watch_changes::<RosterItem>(&[]);
    // The wall clock makes the epoch higher at each start.
    let epoch = u64::try_from(clock.now().unix).unwrap_or_default();
    let publisher = Publisher::new(ctx.paths(), &node.name, epoch);
    let mut shell = Shell {
        clock,
        router,
        actions: Actions::default(),
        outboxes: HashMap::new(),
        database,
        answers,
        publisher,
    };
    let running = [("domain", &*node.domain), ("node", &*node.name)];
    let _report = Report::start(ctx.paths(), ctx.id(), &running);
    ctx.ready(&format!("Routes for {}.", node.domain));

    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = shell
            .router
            .next_deadline()
            .map_or_else(|| Instant::now() + FAREWELL, |due| shell.clock.at(due));
        tokio::select! {
            event = listener.next() => {
                shell.link(event);
                for _ in 1..DRAIN {
                    let Some(event) = listener.try_next() else { break };
                    shell.link(event);
                }
            }
            Some(event) = answered.recv() => {
                shell.handle(event);
                while let Ok(event) = answered.try_recv() {
                    shell.handle(event);
                }
            }
            event = users.next() => shell.users_changed(event),
            event = rosters.next() => shell.rosters_changed(event),
            to = shell.publisher.wanted() => shell.publish(to),
            () = parameters.changed() => {
                let config = read_config(&parameters);
                shell.handle(Event::Configured(config));
            }
            () = tokio::time::sleep_until(due) => shell.handle(Event::Tick),
            _ = second.tick() => {
                heartbeat.tick();
                counters.update(&shell.router.stats(), shell.clock.now().monotonic);
            }
            () = ctx.stopping() => break,
        }
        shell.carry_out();
        // The writers run now, even if there is more to read already.
        tokio::task::yield_now().await;
    }

    farewell(&mut shell, &mut answered).await;
    Ok(())
}

/// Closes every stream and waits until what was undelivered is stored and what
/// was said is written.
async fn farewell(shell: &mut Shell, answered: &mut mpsc::UnboundedReceiver<Event>) {
    shell.handle(Event::Shutdown);
    shell.carry_out();
    let end = Instant::now() + FAREWELL;
    while !shell.router.is_settled() {
        match tokio::time::timeout_at(end, answered.recv()).await {
            Ok(Some(event)) => {
                shell.handle(event);
                shell.carry_out();
            }
            Ok(None) | Err(_) => {
                tracing::error!("Not everything could be stored before the stop.");
                break;
            }
        }
    }
    for out in shell.outboxes.values() {
        while out.with(|_| {}).is_ok_and(|waiting| waiting > 0) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
