//! Connections to and from the routers of other nodes: bytes only, what they
//! mean is the core's affair.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use peer::Credentials;
use service::{Alarms, Severity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use xcp::{Decoder, Frame, LinkId, Outbox, PeerFrame, PeerReply};

/// The port that nodes reach each other's routers at.
const PORT: u16 = 7400;
/// What is spoken there, so that no connection for something else is taken
/// for one of ours.
const PROTOCOL: &[u8] = b"signalbox-router";
/// Batches of frames that may wait for the router before a connection is left
/// unread, which in turn slows its sender down.
const BATCHES: usize = 64;
/// First and longest pause between two tries to connect, or to listen.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Above the numbers of components' links.
const FIRST: LinkId = 1 << 31;

/// What happens on these connections.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    /// One was made.
    Up {
        link: LinkId,
        /// Number of the other node.
        node: u64,
        /// Made by this node.
        outgoing: bool,
        /// Where frames for it go.
        out: Outbox,
    },
    /// Answers came.
    Replies(LinkId, Vec<PeerReply>),
    /// Frames came.
    Frames(LinkId, Vec<PeerFrame>),
    /// One ended.
    Down(LinkId),
}

/// What the tasks share.
#[derive(Clone, Debug)]
struct Shared {
    credentials: Credentials,
    events: mpsc::Sender<PeerEvent>,
    last: Arc<AtomicU32>,
}

impl Shared {
    fn link(&self) -> LinkId {
        FIRST | self.last.fetch_add(1, Ordering::Relaxed)
    }
}

/// All connections between this router and others.
#[derive(Debug)]
pub(crate) struct Peers {
    shared: Shared,
    events: mpsc::Receiver<PeerEvent>,
    /// What connects, by number and address of the node.
    towards: BTreeMap<(u64, String), tokio::task::AbortHandle>,
    tasks: JoinSet<()>,
}

impl Peers {
    /// Begins to listen; connects to nobody yet.
    pub(crate) fn start(credentials: &Credentials, alarms: Alarms) -> Self {
        let (sender, events) = mpsc::channel(BATCHES);
        let shared = Shared {
            credentials: credentials.speaking(PROTOCOL),
            events: sender,
            last: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(shared.clone(), alarms));
        Self {
            shared,
            events,
            towards: BTreeMap::new(),
            tasks,
        }
    }

    /// Connects to these nodes, by number and address, and to no others.
    pub(crate) fn connect_to(&mut self, nodes: &[(u64, String)]) {
        self.towards.retain(|node, task| {
            let stays = nodes.contains(node);
            if !stays {
                task.abort();
            }
            stays
        });
        for node in nodes {
            if !self.towards.contains_key(node) {
                let (number, address) = node.clone();
                let task = connect(self.shared.clone(), number, address);
                let task = self.tasks.spawn(task);
                self.towards.insert(node.clone(), task);
            }
        }
        // Those that were aborted.
        while self.tasks.try_join_next().is_some() {}
    }

    /// The next event. Cancelling the wait loses nothing.
    pub(crate) async fn next(&mut self) -> PeerEvent {
        match self.events.recv().await {
            Some(event) => event,
            // A sender is kept here.
            None => std::future::pending().await,
        }
    }

    /// An event that is there already.
    pub(crate) fn try_next(&mut self) -> Option<PeerEvent> {
        self.events.try_recv().ok()
    }
}

/// Says that a connection ended, whatever ended it.
#[derive(Debug)]
struct Ending {
    link: LinkId,
    events: mpsc::Sender<PeerEvent>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let down = PeerEvent::Down(self.link);
        if let Err(mpsc::error::TrySendError::Full(down)) = self.events.try_send(down) {
            let events = self.events.clone();
            tokio::spawn(async move { events.send(down).await });
        }
    }
}

/// Connects to a node, again and again.
async fn connect(shared: Shared, node: u64, address: String) {
    let place = if address.contains(':') {
        format!("[{address}]:{PORT}")
    } else {
        format!("{address}:{PORT}")
    };
    let mut pause = PAUSE.0;
    loop {
        match peer::connect(&shared.credentials, node, &place).await {
            Ok(stream) => {
                pause = PAUSE.0;
                let link = shared.link();
                carry(&shared.events, link, node, true, stream, PeerEvent::Replies).await;
            }
            Err(error) => {
                tracing::debug!(node, address, %error, "The router of the node is not reached.");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Takes the connections of other routers.
async fn listen(shared: Shared, alarms: Alarms) {
    const ALARM: &str = "RouterPort";
    let listener = loop {
        match peer::listen(PORT).await {
            Ok(listener) => break listener,
            Err(error) => {
                let text = format!(
                    "Users of other nodes are not reached: port {PORT} cannot be listened on ({error})."
                );
                alarms.raise(ALARM, Severity::Error, &text);
            }
        }
        tokio::time::sleep(PAUSE.1).await;
    };
    alarms.clear(ALARM);
    let mut incoming = peer::accept(listener, &shared.credentials);
    // Ended with this task.
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = incoming.next() => match accepted {
                Some(Ok(stream)) => {
                    let node = stream.remote().replica;
                    let (events, link) = (shared.events.clone(), shared.link());
                    links.spawn(async move {
                        carry(&events, link, node, false, stream, PeerEvent::Frames).await;
                    });
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "A connection from another router was not accepted.");
                }
                None => return,
            },
            Some(_) = links.join_next() => {}
        }
    }
}

/// Carries frames in both directions until the connection ends.
async fn carry<F: Frame>(
    events: &mpsc::Sender<PeerEvent>,
    link: LinkId,
    node: u64,
    outgoing: bool,
    stream: impl AsyncRead + AsyncWrite,
    event: fn(LinkId, Vec<F>) -> PeerEvent,
) {
    // Nothing waits for room there: the core bounds what it sends.
    let out = Outbox::new(usize::MAX);
    let up = PeerEvent::Up {
        link,
        node,
        outgoing,
        out: out.clone(),
    };
    if events.send(up).await.is_err() {
        return;
    }
    let ending = Ending {
        link,
        events: events.clone(),
    };
    let (from, to) = tokio::io::split(stream);
    tokio::pin!(from, to);
    let ended = tokio::select! {
        ended = read(events, link, from, event) => ended,
        ended = out.write(to) => ended,
    };
    if let Err(error) = ended {
        tracing::warn!(link, node, %error, "A connection to another router broke.");
    }
    out.end();
    drop(ending);
}

async fn read<F: Frame>(
    events: &mpsc::Sender<PeerEvent>,
    link: LinkId,
    mut from: impl AsyncRead + Unpin,
    event: fn(LinkId, Vec<F>) -> PeerEvent,
) -> io::Result<()> {
    let mut decoder = Decoder::<F>::default();
    loop {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            frames.push(frame);
        }
        if !frames.is_empty() && events.send(event(link, frames)).await.is_err() {
            return Ok(());
        }
        let buffer = decoder.buffer();
        buffer.reserve(32 << 10);
        if from.read_buf(buffer).await? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use tokio::io::AsyncWriteExt;

    async fn carried(bytes: &[u8]) -> Vec<PeerEvent> {
        let (sender, mut events) = mpsc::channel(4);
        let (mut here, there) = tokio::io::duplex(64);
        let carrying = tokio::spawn(async move {
            carry(&sender, FIRST, 2, false, there, PeerEvent::Frames).await;
        });
        // It may hang up before all of it is written.
        let _ = here.write_all(bytes).await;
        let mut all = Vec::new();
        while let Some(event) = events.recv().await {
            let ended = matches!(event, PeerEvent::Down(_));
            all.push(event);
            if ended {
                break;
            }
            if all.len() == 2 {
                // What was sent has come; now the end.
                here.shutdown().await.unwrap();
            }
        }
        carrying.await.unwrap();
        all
    }

    #[tokio::test]
    async fn frames_come_in_batches_between_up_and_down() {
        let mut bytes = BytesMut::new();
        PeerFrame::Ping.encode(&mut bytes);
        let events = carried(&bytes).await;
        assert!(matches!(
            events.as_slice(),
            [
                PeerEvent::Up { link: FIRST, node: 2, outgoing: false, .. },
                PeerEvent::Frames(FIRST, frames),
                PeerEvent::Down(FIRST),
            ] if *frames == [PeerFrame::Ping]
        ));
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_or_unknown_ends_the_connection() {
        for hostile in [
            &b"\xff\xff\xff\xff\x82\0\0\0\0\0\0\0\0"[..],
            b"\x09\0\0\0\x07\0\0\0\0\0\0\0\0",
            b"\x01\0\0\0\x82\0\0\0\0\0\0\0\0",
        ] {
            let events = carried(hostile).await;
            assert!(
                matches!(
                    events.as_slice(),
                    [PeerEvent::Up { .. }, PeerEvent::Down(_)]
                ),
                "{events:?}"
            );
        }
    }
}
