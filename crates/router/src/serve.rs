//! The service around the core: sockets, database, time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use database::tables::{EndUser, OfflineMessage, ProcessNode, RedundancyGroup, RosterItem};
use database::{Access, Database, Parameters, WatchEvent};
use peer::Credentials;
use ring::rand::{SecureRandom, SystemRandom};
use service::{Context, Paths};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use xcp::{LinkId, Listener, Outbox, RouterEvent};
use xmpp_config_manager::Report;

use crate::counters::Counters;
use crate::event::{Actions, Event, Time};
use crate::peers::{PeerEvent, Peers};
use crate::publish::{self, Publisher, To};
use crate::router::{Random, Router};
use crate::{Config, Conflict, Node, storage};

/// Batches that are handled before anything is written.
const DRAIN: usize = 32;
/// Bytes on their way to a component above which it is taken for dead.
const HUNG: usize = 256 << 20;
/// How long a takeover may take once a node is given up.
const TAKEOVER: Duration = Duration::from_secs(15);
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

/// Settings that the router goes by: its own, and those of failover.
struct Settings {
    own: Parameters,
    /// The recovery manager's, for the cluster and for this node.
    recovery: [Parameters; 2],
}

impl Settings {
    fn open(database: &Database, node: &str) -> Self {
        const RECOVERY: &str = "server-recovery-manager";
        let on_node = format!("{RECOVERY}@{node}");
        Self {
            own: database.parameters("xmpp-router"),
            recovery: [RECOVERY, &on_node].map(|name| database.parameters(name)),
        }
    }

    /// Waits for the next change.
    async fn changed(&mut self) {
        let [all, node] = &mut self.recovery;
        tokio::select! {
            () = self.own.changed() => {}
            () = all.changed() => {}
            () = node.changed() => {}
        }
    }

    fn read(&self) -> Config {
        let set = |name: &str| {
            let values = self.recovery.iter().rev();
            let mut values = values.map(|from| from.get(name, String::new()));
            values.find(|value| !value.is_empty())
        };
        // The manager raises the alarm about values that cannot be used.
        let recovery = recovery::Parameters::read(set).unwrap_or_default();
        Config {
            phantom_seconds: recovery.relogin_upper.as_secs(),
            cover_seconds: (recovery.keepalive_timeout + TAKEOVER).as_secs(),
            ..read_config(&self.own)
        }
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
        offline_bytes_per_sender: parameters
            .get("OfflineBytesPerSender", default.offline_bytes_per_sender),
        resume_seconds: parameters.get("ResumeSeconds", default.resume_seconds),
        queue_stanzas: parameters.get("QueueStanzas", default.queue_stanzas),
        queue_bytes: parameters.get("QueueBytes", default.queue_bytes),
        ack_request_ms: parameters.get("AckRequestMilliseconds", default.ack_request_ms),
        hold_ms: parameters.get("HoldMilliseconds", default.hold_ms),
        ack_timeout_seconds: parameters.get("AckTimeoutSeconds", default.ack_timeout_seconds),
        unload_seconds: parameters.get("UnloadSeconds", default.unload_seconds),
        vcard_bytes: parameters.get("VCardBytes", default.vcard_bytes),
        carbons: parameters.get("Carbons", default.carbons),
        ..default
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
    /// Name of this node.
    own: String,
    /// The nodes of the cluster, by name.
    nodes: BTreeMap<String, ProcessNode>,
    /// The redundancy groups, by name.
    groups: BTreeMap<String, RedundancyGroup>,
    /// Where users are at home is known.
    users_known: bool,
    /// The homes that this node serves.
    serves: BTreeSet<String>,
    /// Homes that it began to serve, and whose sessions it has not taken over.
    gained: Vec<String>,
    paths: Paths,
    /// Connections to the routers of other nodes; a test has none.
    peers: Option<Peers>,
}

impl Shell {
    fn peer(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Up {
                link,
                node,
                outgoing,
                out,
            } => {
                self.outboxes.insert(link, out);
                self.handle(if outgoing {
                    Event::PeerConnected { node, link }
                } else {
                    Event::GuestConnected { node, link }
                });
            }
            PeerEvent::Replies(link, replies) => {
                for reply in replies {
                    self.handle(Event::PeerReply { link, reply });
                }
            }
            PeerEvent::Frames(link, frames) => {
                for frame in frames {
                    self.handle(Event::GuestFrame { link, frame });
                }
            }
            PeerEvent::Down(link) => {
                self.outboxes.remove(&link);
                self.handle(Event::PeerClosed { link });
            }
        }
    }

    /// Nodes or groups changed.
    fn cluster_changed(&mut self) {
        if self.nodes.is_empty() {
            return;
        }
        let others: Vec<(u64, String)> = self
            .nodes
            .values()
            .filter(|node| node.name != self.own && node.replica != 0)
            .map(|node| (node.replica.unsigned_abs(), node.address.clone()))
            .collect();
        let nodes = self.nodes.values().map(|node| Node {
            name: (&*node.name).into(),
            number: node.replica.unsigned_abs(),
            address: (&*node.address).into(),
            publisher: node.role == "publisher",
            stand_in: self.stand_in(&node.name).map(Into::into),
        });
        let nodes = Event::Nodes {
            own: (&*self.own).into(),
            nodes: nodes.collect(),
        };
        self.handle(nodes);
        if let Some(peers) = &mut self.peers {
            peers.connect_to(&others);
        }
        self.take_over();
    }

    /// The node that takes a node's users over when it fails.
    fn stand_in(&self, node: &str) -> Option<&str> {
        let mut groups = self.groups.values().filter(|it| it.high_availability);
        groups.find_map(|group| group.other(node))
    }

    /// This node serves these homes from now on.
    fn serving(&mut self, homes: BTreeMap<String, u64>) {
        let now: BTreeSet<String> = homes.keys().cloned().collect();
        self.gained.extend(now.difference(&self.serves).cloned());
        self.serves = now;
        let homes = homes.into_iter().map(|(home, epoch)| (home.into(), epoch));
        self.handle(Event::Serving(homes.collect()));
        self.take_over();
    }

    /// Takes over what other routers had of the users whom this node began to
    /// serve, once it is known who these are.
    fn take_over(&mut self) {
        if self.gained.is_empty() || !self.users_known || self.nodes.is_empty() {
            return;
        }
        let homes: Vec<Box<str>> = self.gained.drain(..).map(Into::into).collect();
        let (paths, answers) = (self.paths.clone(), self.answers.clone());
        tokio::spawn(async move {
            let sessions = publish::adopt(paths).await;
            // The receiver is gone only when the service ends.
            let _ = answers.send(Event::Adopted { homes, sessions });
        });
    }

    fn messages_changed(&mut self, event: WatchEvent<OfflineMessage>) {
        if let WatchEvent::Put(row) = event {
            self.handle(Event::StoredElsewhere {
                user: row.owner.into(),
                sequence: row.sequence,
                size: row.stanza.len(),
            });
        }
    }

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
        for (link, reason) in self.actions.closed.drain(..) {
            tracing::warn!(link, reason, "A connection to another router is closed.");
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
                home: storage::home_of(&user),
                user: user.user.into(),
                enabled: user.enabled,
            }),
            WatchEvent::Delete(key) => {
                if let Some(user) = key.0.into_iter().next() {
                    self.handle(Event::UserChanged {
                        user: user.into(),
                        enabled: false,
                        home: None,
                    });
                }
            }
            WatchEvent::Snapshot(rows) => {
                let homes = rows
                    .iter()
                    .map(|row| (row.user.as_str().into(), storage::home_of(row)))
                    .collect();
                self.handle(Event::UsersRead(homes));
                self.users_known = true;
                self.take_over();
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
                        home: None,
                    });
                }
            }
        }
    }
}

/// The certificate for connections between nodes; a test has none.
fn credentials() -> anyhow::Result<Option<Credentials>> {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    Ok(Some(Credentials::load(Path::new(&folder))?))
}

async fn next_peer(peers: &mut Option<Peers>) -> PeerEvent {
    match peers {
        Some(peers) => peers.next().await,
        None => std::future::pending().await,
    }
}

/// The homes that this node serves, with the epoch of each claim; `None` while
/// nobody says so: then it serves its own.
pub type Homes = watch::Receiver<Option<BTreeMap<String, u64>>>;

/// Waits for the next word on what this node serves.
async fn next_homes(homes: &mut Homes) -> Option<BTreeMap<String, u64>> {
    if homes.changed().await.is_err() {
        // Nobody will say anything more; the last word holds.
        std::future::pending::<()>().await;
    }
    homes.borrow_and_update().clone()
}

/// Runs the router until the service stops. It serves the users of its own
/// node.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let (_, homes) = watch::channel(None);
    serve_homes(ctx, homes).await
}

/// Runs the router until the service stops, for the users of these homes.
pub async fn serve_homes(ctx: Context, mut homes: Homes) -> anyhow::Result<()> {
    let node = ctx.node()?;
    let heartbeat = ctx.heartbeat("router");
    let database = Database::open(ctx.paths(), Access::Conversation);
    let mut settings = Settings::open(&database, &node.name);
    ctx.status("Waits for the database.");
    loop {
        tokio::select! {
            () = settings.own.loaded() => break,
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
    let router = Router::new(&node.domain, settings.read(), random, clock.now());
    let mut counters = Counters::new(ctx.perf(), &node.size);
    let mut users = database.watch::<EndUser>(&[]);
    let mut rosters = database.watch_changes::<RosterItem>(&[]);
    let mut nodes = database.watch::<ProcessNode>(&[]);
    let mut groups = database.watch::<RedundancyGroup>(&[]);
    let mut messages = database.watch_changes::<OfflineMessage>(&[]);
    let peers = credentials()?.map(|credentials| Peers::start(&credentials, ctx.alarms().clone()));
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
        own: node.name.clone(),
        nodes: BTreeMap::new(),
        groups: BTreeMap::new(),
        users_known: false,
        serves: BTreeSet::new(),
        gained: Vec::new(),
        paths: ctx.paths().clone(),
        peers,
    };
    homes.mark_changed();
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
            event = nodes.next() => {
                event.apply(&mut shell.nodes, |row| (row.name.clone(), row));
                shell.cluster_changed();
            }
            event = groups.next() => {
                event.apply(&mut shell.groups, |row| (row.name.clone(), row));
                shell.cluster_changed();
            }
            homes = next_homes(&mut homes) => {
                if let Some(homes) = homes {
                    shell.serving(homes);
                }
            }
            event = messages.next() => shell.messages_changed(event),
            event = next_peer(&mut shell.peers) => {
                shell.peer(event);
                for _ in 1..DRAIN {
                    let Some(event) = shell.peers.as_mut().and_then(Peers::try_next) else { break };
                    shell.peer(event);
                }
            }
            to = shell.publisher.wanted() => shell.publish(to),
            () = settings.changed() => shell.handle(Event::Configured(settings.read())),
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
        tokio::select! {
            Some(event) = answered.recv() => shell.handle(event),
            event = next_peer(&mut shell.peers) => shell.peer(event),
            () = tokio::time::sleep_until(end) => {
                tracing::error!("Not everything could be stored before the stop.");
                break;
            }
        }
        shell.carry_out();
    }
    for out in shell.outboxes.values() {
        while out.with(|_| {}).is_ok_and(|waiting| waiting > 0) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
