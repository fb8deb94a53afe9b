//! Clients that come back: what they notice of a node that is lost or left.
//!
//! Every user has stream management, without resumption: messages count when
//! the server has acknowledged them and are sent again, with the same id, in
//! the next session until it has. User 0 writes to user 1, 1 to 0 and so on.
//! Whoever has not been answered for some time connects to the other address.
//! With dual connections everybody has an inactive one there, and goes on with
//! it as soon as it is active.
//!
//! A line on standard input is the fault: from then on the time of everybody
//! who loses the connection is taken until the next session. `"back"` is
//! printed when everybody was away and has one again; then comes the next line.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use memchr::memmem;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, LocalSet};

use crate::Target;
use crate::connection::{Connection, Moved};

/// How clients behave.
pub(crate) struct Plan {
    /// The address to try when the first does not answer.
    pub(crate) other: String,
    /// Messages a second, all users together.
    pub(crate) rate: u32,
    /// Whether everybody has an inactive connection to the other address.
    pub(crate) dual: bool,
    /// Time without an answer after which a client tries the other address.
    pub(crate) patience: Duration,
    /// Longest time to wait for everybody.
    pub(crate) limit: Duration,
}

/// Time between two questions whether the server is there.
const ASKS: Duration = Duration::from_secs(2);
/// Longest time for a whole sign-in.
const SIGN_IN: Duration = Duration::from_secs(15);
/// What one address that failed is left alone for.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause before an inactive connection is tried again.
const STAND_BY_AGAIN: Duration = Duration::from_secs(1);
/// How long a client that lost its connection waits for the inactive one.
const ACTIVATION: Duration = Duration::from_secs(10);
/// Wait for what is still under way when everybody is back.
const STRAGGLERS: Duration = Duration::from_secs(45);

/// Who wrote a message, and which of theirs it is.
type Id = (usize, u64);

#[derive(Default)]
struct Tally {
    online: usize,
    /// Inactive connections.
    standing_by: usize,
    fault: Option<Instant>,
    /// Seconds from the fault to the newest session, of everybody who lost one.
    gaps: BTreeMap<usize, f64>,
    sent: HashSet<Id>,
    delivered: HashSet<Id>,
    /// Came back to who wrote them, with an error.
    returned: HashSet<Id>,
    duplicated: u64,
    failures: u64,
}

struct World {
    target: Arc<Target>,
    tls: Arc<rustls::ClientConfig>,
    plan: Plan,
    tally: RefCell<Tally>,
    /// Bounds the handshakes under way: the generator is one thread.
    doors: Semaphore,
    talking: std::cell::Cell<bool>,
}

/// Signs everybody in and follows the lines on standard input until it ends.
pub(crate) async fn run(
    target: &Arc<Target>,
    tls: &Arc<rustls::ClientConfig>,
    plan: Plan,
) -> Result<()> {
    if target.users < 2 || target.users % 2 == 1 {
        bail!("failover needs an even number of users");
    }
    let world = Rc::new(World {
        target: target.clone(),
        tls: tls.clone(),
        plan,
        tally: RefCell::default(),
        doors: Semaphore::new(target.concurrency),
        talking: std::cell::Cell::new(false),
    });
    let local = LocalSet::new();
    for index in 0..target.users {
        local.spawn_local(Client::new(index, world.clone()).live());
    }
    local.run_until(follow(&world)).await
}

/// Waits for each fault, and tells how everybody came through it.
async fn follow(world: &World) -> Result<()> {
    everybody(world).await;
    {
        let tally = world.tally.borrow();
        println!(
            "{}",
            json!({"event": "online", "sessions": tally.online, "inactive": tally.standing_by})
        );
    }
    world.talking.set(true);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        world.tally.borrow_mut().fault = Some(Instant::now());
        println!("{}", json!({"event": "fault"}));
        until(world, |tally| tally.gaps.len() >= world.target.users).await;
        online(world).await;
        world.talking.set(false);
        let settled = Instant::now();
        while settled.elapsed() < STRAGGLERS && !world.tally.borrow().is_complete() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.tally.borrow_mut().report();
        world.talking.set(true);
    }
    Ok(())
}

async fn until(world: &World, look: impl Fn(&Tally) -> bool) {
    let begun = Instant::now();
    while !look(&world.tally.borrow()) && begun.elapsed() < world.plan.limit {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until everybody has a session.
async fn online(world: &World) {
    until(world, |tally| tally.online >= world.target.users).await;
}

/// Waits until everybody has all connections.
async fn everybody(world: &World) {
    online(world).await;
    let inactive = if world.plan.dual {
        world.target.users
    } else {
        0
    };
    until(world, |tally| tally.standing_by >= inactive).await;
}

impl Tally {
    fn is_complete(&self) -> bool {
        self.missing() == 0
    }

    /// Neither delivered nor returned.
    fn missing(&self) -> usize {
        let missing = self.sent.difference(&self.delivered);
        missing.filter(|id| !self.returned.contains(id)).count()
    }

    /// Tells what happened since the last report.
    fn report(&mut self) {
        let mut gaps: Vec<f64> = std::mem::take(&mut self.gaps).into_values().collect();
        gaps.sort_unstable_by(f64::total_cmp);
        let quantile = |percent: usize| {
            let rank = (gaps.len() * percent).div_ceil(100);
            gaps.get(rank.saturating_sub(1)).copied()
        };
        println!(
            "{}",
            json!({
                "event": "back",
                "online": self.online,
                "lost_connections": gaps.len(),
                "p50_s": quantile(50),
                "p99_s": quantile(99),
                "max_s": quantile(100),
                "failed_attempts": self.failures,
                "sent": self.sent.len(),
                "delivered": self.delivered.len(),
                "returned": self.returned.difference(&self.delivered).count(),
                "missing": self.missing(),
                "duplicated": self.duplicated,
            })
        );
        self.fault = None;
        self.sent.clear();
        self.delivered.clear();
        self.returned.clear();
        self.duplicated = 0;
        self.failures = 0;
    }
}

/// One user.
struct Client {
    index: usize,
    world: Rc<World>,
    host: String,
    /// Messages that the server has not acknowledged, in order.
    unacknowledged: VecDeque<u64>,
    last: u64,
    /// Becomes the inactive connection, when it is active.
    second: Option<JoinHandle<Connection>>,
}

/// What a session knows of its stream management.
#[derive(Default)]
struct Counts {
    /// Acknowledged of what was sent in this session.
    acknowledged: u64,
    /// Stanzas that came.
    handled: u64,
}

impl Client {
    fn new(index: usize, world: Rc<World>) -> Self {
        Self {
            index,
            host: world.target.host.clone(),
            world,
            unacknowledged: VecDeque::new(),
            last: 0,
            second: None,
        }
    }

    async fn live(mut self) {
        let mut active = None;
        loop {
            let connection = match active.take() {
                Some(connection) => Some(connection),
                None => self.sign_in().await,
            };
            let Some(mut connection) = connection else {
                self.world.tally.borrow_mut().failures += 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let begin = "<enable xmlns='urn:xmpp:sm:3'/><presence/>";
            if connection.send(begin).await.is_err() {
                continue;
            }
            {
                let mut tally = self.world.tally.borrow_mut();
                tally.online += 1;
                if let Some(fault) = tally.fault
                    && self.last > 0
                {
                    tally.gaps.insert(self.index, fault.elapsed().as_secs_f64());
                }
            }
            if self.world.plan.dual {
                let waiting = stand_by(self.world.clone(), self.index, self.other());
                self.second = Some(tokio::task::spawn_local(waiting));
            }
            // How it ends does not matter: the next session follows.
            active = self.talk(connection).await.unwrap_or_default();
            self.world.tally.borrow_mut().online -= 1;
            if active.is_none() && self.second.is_some() {
                let waiting = activation(&mut self.second);
                active = tokio::time::timeout(ACTIVATION, waiting).await.ok();
            }
            if active.is_some() {
                self.host = self.other();
            }
            if let Some(waiting) = self.second.take() {
                waiting.abort();
            }
        }
    }

    /// The address where the client is not.
    fn other(&self) -> String {
        let (first, other) = (&self.world.target.host, &self.world.plan.other);
        if self.host == *first { other } else { first }.clone()
    }

    /// Connects to the node that serves the user; `None` when there was none.
    async fn sign_in(&mut self) -> Option<Connection> {
        let world = self.world.clone();
        let _door = world.doors.acquire().await.ok()?;
        let mut target = (*world.target).clone();
        target.host.clone_from(&self.host);
        let user = format!("{}{}", target.prefix, self.index);
        let opening = Connection::open(&target, &world.tls, &user);
        match tokio::time::timeout(SIGN_IN, opening).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => {
                if let Some(Moved(host)) = error.downcast_ref() {
                    self.host.clone_from(host);
                    return None;
                }
            }
            Err(_) => {}
        }
        self.host = self.other();
        None
    }

    /// Writes and reads until the connection is lost, or the inactive one is
    /// active.
    async fn talk(&mut self, connection: Connection) -> Result<Option<Connection>> {
        let Connection { stream, mut buffer } = connection;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut counts = Counts::default();
        let again: Vec<u64> = self.unacknowledged.iter().copied().collect();
        for number in again {
            writer.write_all(self.message(number).as_bytes()).await?;
        }
        let users = u32::try_from(self.world.target.users)?;
        let interval = Duration::from_secs(1) * users / self.world.plan.rate.max(1);
        let offset = interval.mul_f64(self.index as f64 / f64::from(users));
        let mut pace = tokio::time::interval_at((Instant::now() + offset).into(), interval);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut asks = tokio::time::interval(ASKS);
        let mut heard = Instant::now();
        let mut asked = None;
        loop {
            tokio::select! {
                read = reader.read_buf(&mut buffer) => {
                    if read? == 0 {
                        bail!("the server closed the connection");
                    }
                    heard = Instant::now();
                    asked = None;
                    let answers = self.take(&mut buffer, &mut counts)?;
                    if answers {
                        let count = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", counts.handled);
                        writer.write_all(count.as_bytes()).await?;
                    }
                }
                active = activation(&mut self.second) => return Ok(Some(active)),
                _ = pace.tick() => {
                    if self.world.talking.get() {
                        self.last += 1;
                        self.unacknowledged.push_back(self.last);
                        self.world.tally.borrow_mut().sent.insert((self.index, self.last));
                        writer.write_all(self.message(self.last).as_bytes()).await?;
                    }
                }
                _ = asks.tick() => {
                    if asked.is_some_and(|at: Instant| heard < at && at.elapsed() > self.world.plan.patience) {
                        bail!("the server does not answer");
                    }
                    asked.get_or_insert_with(Instant::now);
                    writer.write_all(b"<r xmlns='urn:xmpp:sm:3'/>").await?;
                }
            }
        }
    }

    fn message(&self, number: u64) -> String {
        let Target { prefix, domain, .. } = &*self.world.target;
        let partner = self.index ^ 1;
        let index = self.index;
        format!(
            "<message to='{prefix}{partner}@{domain}' type='chat' id='{index}-{number}'>\
             <body>{number}</body></message><r xmlns='urn:xmpp:sm:3'/>"
        )
    }

    /// Takes whole tags out of what was read; tells whether the server asks
    /// for a count.
    fn take(&mut self, buffer: &mut Vec<u8>, counts: &mut Counts) -> Result<bool> {
        let mut asked = false;
        let mut at = 0;
        while let Some(start) = memchr::memchr(b'<', &buffer[at..]).map(|it| at + it) {
            let Some(end) = memchr::memchr(b'>', &buffer[start..]).map(|it| start + it + 1) else {
                at = start;
                break;
            };
            let tag = &buffer[start..end];
            at = end;
            if tag.starts_with(b"<message ") {
                counts.handled += 1;
                self.got(tag);
            } else if tag.starts_with(b"<iq ") || tag.starts_with(b"<presence") {
                counts.handled += 1;
            } else if tag.starts_with(b"<r ") || tag == b"<r/>" {
                asked = true;
            } else if tag.starts_with(b"<a ") {
                let h = attribute(tag, b" h=").and_then(|it| it.parse().ok());
                let h: u64 = h.unwrap_or(counts.acknowledged);
                for _ in counts.acknowledged..h {
                    // The presence was counted first.
                    if counts.acknowledged > 0 {
                        self.unacknowledged.pop_front();
                    }
                    counts.acknowledged += 1;
                }
            } else if tag.starts_with(b"<see-other-host") {
                let Some(close) = memmem::find(&buffer[end..], b"</see-other-host") else {
                    at = start;
                    break;
                };
                self.host = String::from_utf8_lossy(&buffer[end..end + close])
                    .trim_matches(['[', ']'])
                    .to_owned();
            } else if tag.starts_with(b"</stream:stream") {
                bail!("the server ended the stream");
            }
        }
        if memchr::memchr(b'<', &buffer[at..]).is_none() {
            at = buffer.len();
        }
        buffer.drain(..at);
        Ok(asked)
    }

    fn got(&self, tag: &[u8]) {
        let id = attribute(tag, b" id=").and_then(|id| {
            let (index, number) = id.split_once('-')?;
            Some((index.parse().ok()?, number.parse().ok()?))
        });
        let mut tally = self.world.tally.borrow_mut();
        let Some(id) = id.filter(|id| tally.sent.contains(id)) else {
            return;
        };
        if attribute(tag, b" type=") == Some("error") {
            tally.returned.insert(id);
        } else if !tally.delivered.insert(id) {
            tally.duplicated += 1;
        }
    }
}

/// Waits until the inactive connection is active; for ever if there is none.
async fn activation(second: &mut Option<JoinHandle<Connection>>) -> Connection {
    if let Some(waiting) = second
        && let Ok(connection) = waiting.await
    {
        *second = None;
        return connection;
    }
    *second = None;
    std::future::pending().await
}

/// Holds an inactive connection until it is active.
async fn stand_by(world: Rc<World>, index: usize, host: String) -> Connection {
    let target = Target {
        host,
        ..(*world.target).clone()
    };
    let user = format!("{}{index}", target.prefix);
    loop {
        let standing = StandingBy(world.clone(), std::cell::Cell::new(false));
        let door = world.doors.acquire().await;
        let ready = || {
            drop(door);
            standing.begin();
        };
        let active = Connection::stand_by(&target, &world.tls, &user, ready).await;
        drop(standing);
        match active {
            Ok(connection) => return connection,
            Err(_) => tokio::time::sleep(STAND_BY_AGAIN).await,
        }
    }
}

/// Counts an inactive connection for as long as it is one.
struct StandingBy(Rc<World>, std::cell::Cell<bool>);

impl StandingBy {
    fn begin(&self) {
        self.1.set(true);
        self.0.tally.borrow_mut().standing_by += 1;
    }
}

impl Drop for StandingBy {
    fn drop(&mut self) {
        if self.1.get() {
            self.0.tally.borrow_mut().standing_by -= 1;
        }
    }
}

/// The value of an attribute of a tag.
fn attribute<'a>(tag: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let start = memmem::find(tag, name)? + name.len();
    let quote = *tag.get(start)?;
    let value = &tag[start + 1..];
    std::str::from_utf8(&value[..memchr::memchr(quote, value)?]).ok()
}

#[cfg(test)]
mod tests {
    use super::attribute;

    #[test]
    fn attributes_are_found_in_either_quotes() {
        assert_eq!(attribute(b"<a h='3'/>", b" h="), Some("3"));
        assert_eq!(attribute(b"<a x='1' h=\"42\"/>", b" h="), Some("42"));
        assert_eq!(attribute(b"<a xh='3'/>", b" h="), None);
        assert_eq!(attribute(b"<a h='3", b" h="), None);
    }
}
