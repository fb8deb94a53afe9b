//! Messages in pairs at an even rate: each sent with the time in its body,
//! each received with the time that it took.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use memchr::memmem;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::client::TlsStream;

use crate::Target;
use crate::connection::{Connection, RESOURCE};

/// How much to send, and for how long.
pub(crate) struct Plan {
    pub(crate) rate: u32,
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
    pub(crate) body: usize,
}

/// Marks the time in a body: this, then twelve digits of microseconds.
const MARK: &[u8] = b"<body>t";
const DIGITS: usize = 12;
/// Wait for what is still under way when the sending has ended.
const STRAGGLERS: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Tally {
    sent: u64,
    /// Microseconds of each message that was sent in the measured time.
    ways: Vec<u32>,
    lost_connections: usize,
}

/// Sends by the plan over `sessions`, user 0 to user 1, 2 to 3 and so on.
pub(crate) async fn run(
    target: &Target,
    mut sessions: Vec<(usize, Connection)>,
    plan: &Plan,
) -> Result<()> {
    if sessions.len() < 2 || plan.rate == 0 {
        bail!("messages need two users and a rate above 0");
    }
    sessions.sort_by_key(|(index, _)| *index);
    let senders = sessions.len() / 2;
    let origin = Instant::now();
    let window = plan.warmup..plan.warmup + plan.measured;
    let tally = Rc::new(RefCell::new(Tally::default()));
    let local = LocalSet::new();
    let interval = Duration::from_secs(1) * u32::try_from(senders)? / plan.rate;
    for (index, connection) in sessions {
        let (reader, writer) = tokio::io::split(connection.stream);
        local.spawn_local(receive(
            reader,
            connection.buffer,
            origin,
            window.clone(),
            tally.clone(),
        ));
        if index % 2 == 0 {
            let to = format!(
                "{}{}@{}/{RESOURCE}",
                target.prefix,
                index + 1,
                target.domain
            );
            let offset = interval * u32::try_from(index / 2)? / u32::try_from(senders)?;
            let sender = send(
                writer,
                to,
                plan.body,
                interval,
                offset,
                origin,
                window.clone(),
                tally.clone(),
            );
            local.spawn_local(sender);
        } else {
            local.spawn_local(hold(writer, origin + window.end + STRAGGLERS));
        }
    }
    local
        .run_until(async {
            tokio::time::sleep_until((origin + window.start).into()).await;
            println!("{}", json!({"event": "steady"}));
            tokio::time::sleep_until((origin + window.end).into()).await;
            println!("{}", json!({"event": "measured"}));
            tokio::time::sleep(STRAGGLERS).await;
        })
        .await;
    report(&mut tally.borrow_mut(), plan);
    Ok(())
}

/// Keeps the write half of a receiver open.
async fn hold(writer: WriteHalf<TlsStream<TcpStream>>, until: Instant) {
    tokio::time::sleep_until(until.into()).await;
    drop(writer);
}

#[allow(clippy::too_many_arguments)] // one sender's whole world, used once
async fn send(
    mut writer: WriteHalf<TlsStream<TcpStream>>,
    to: String,
    body: usize,
    interval: Duration,
    offset: Duration,
    origin: Instant,
    window: std::ops::Range<Duration>,
    tally: Rc<RefCell<Tally>>,
) {
    let padding = "x".repeat(body.saturating_sub(DIGITS + 1));
    let mut clock = tokio::time::interval_at((origin + offset).into(), interval);
    // What falls due while the server is slow is sent late, not left out.
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut number = 0_u64;
    loop {
        let due = clock.tick().await;
        let due = due.into_std().duration_since(origin);
        if due >= window.end {
            break;
        }
        number += 1;
        let time = due.as_micros();
        let stanza = format!(
            "<message to='{to}' type='chat' id='{number}'><body>t{time:0DIGITS$}{padding}</body></message>"
        );
        if writer.write_all(stanza.as_bytes()).await.is_err() {
            tally.borrow_mut().lost_connections += 1;
            return;
        }
        if window.contains(&due) {
            tally.borrow_mut().sent += 1;
        }
    }
    hold(writer, origin + window.end + STRAGGLERS).await;
}

async fn receive(
    mut reader: ReadHalf<TlsStream<TcpStream>>,
    mut buffer: Vec<u8>,
    origin: Instant,
    window: std::ops::Range<Duration>,
    tally: Rc<RefCell<Tally>>,
) {
    let finder = memmem::Finder::new(MARK);
    loop {
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => {
                tally.borrow_mut().lost_connections += 1;
                return;
            }
            Ok(_) => {}
        }
        let now = origin.elapsed();
        let mut from = 0;
        while let Some(at) = finder.find(&buffer[from..]) {
            let start = from + at + MARK.len();
            let Some(digits) = buffer.get(start..start + DIGITS) else {
                break;
            };
            let sent = digits
                .iter()
                .fold(0_u64, |n, d| n * 10 + u64::from(d.wrapping_sub(b'0')));
            let sent = Duration::from_micros(sent);
            if window.contains(&sent) {
                let way = now.saturating_sub(sent).as_micros();
                tally
                    .borrow_mut()
                    .ways
                    .push(u32::try_from(way).unwrap_or(u32::MAX));
            }
            from = start + DIGITS;
        }
        // A mark may be cut by the end of what was read.
        let keep = buffer
            .len()
            .min(MARK.len() + DIGITS - 1)
            .min(buffer.len() - from);
        buffer.drain(..buffer.len() - keep);
    }
}

fn report(tally: &mut Tally, plan: &Plan) {
    tally.ways.sort_unstable();
    let quantile = |per_mille: usize| {
        let last = tally.ways.len().checked_sub(1)?;
        tally.ways.get(last * per_mille / 1000).copied()
    };
    println!(
        "{}",
        json!({
            "event": "done",
            "rate": plan.rate,
            "seconds": plan.measured.as_secs(),
            "sent": tally.sent,
            "received": tally.ways.len(),
            "p50_us": quantile(500),
            "p99_us": quantile(990),
            "max_us": quantile(1000),
            "lost_connections": tally.lost_connections,
        })
    );
}
