//! A component's side: a link that connects again by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Decoder, Frame, Outbox, ProtocolError, ToComponent, ToRouter, VERSION};

/// Bytes on their way to the router above which senders wait.
const MARK: usize = 1 << 20;
/// Batches that may wait for [`Link::next`] before the socket is left unread.
const BATCHES: usize = 16;
/// First and longest pause between two tries to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What happens on a link.
#[derive(Debug)]
pub enum Event {
    /// The router took the component.
    Up {
        /// Where frames go until [`Event::Down`].
        out: Outbox,
        /// A number that differs at each start of the router.
        instance: u64,
        /// The domain that the router serves.
        domain: String,
    },
    /// Frames from the router, in order.
    Frames(Vec<ToComponent>),
    /// The link ended, and every connection with it. It is being made again.
    Down,
}

/// A component's link to the router. It connects in the background, again and
/// again, until it is dropped.
#[derive(Debug)]
pub struct Link {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Link {
    /// Begins to connect to the router at `path` as `component`. `instance`
    /// should differ at each start of the component. Needs a tokio runtime.
    pub fn open(path: &Path, component: &str, instance: u64) -> Self {
        let (sender, events) = mpsc::channel(BATCHES);
        let hello = ToRouter::Hello {
            version: VERSION,
            component: component.into(),
            instance,
        };
        let task = tokio::spawn(run(path.into(), hello, sender));
        Self { events, task }
    }

    /// The next event. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // The task ends only when this receiver is gone.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects for ever; ends when nobody listens any more.
async fn run(path: PathBuf, hello: ToRouter, events: mpsc::Sender<Event>) {
    let mut pause = PAUSE.0;
    loop {
        match UnixStream::connect(&path).await {
            Ok(socket) => {
                let up = session(socket, &hello, &events).await;
                if up && events.send(Event::Down).await.is_err() {
                    return;
                }
                if up {
                    pause = PAUSE.0;
                }
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "The router is not there yet.");
            }
        }
        if events.is_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One incarnation of the link; tells whether it ever was up.
async fn session(socket: UnixStream, hello: &ToRouter, events: &mpsc::Sender<Event>) -> bool {
    let (mut from, to) = socket.into_split();
    let out = Outbox::new(MARK);
    // The outbox was made just now, so nothing has ended it.
    let _ = out.push(hello);
    let mut decoder = Decoder::<ToComponent>::default();
    let mut up = false;
    let reading = async {
        loop {
            let mut frames = Vec::new();
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) if up => match frame {
                        ToComponent::Welcome { .. } => {
                            refuse(&ProtocolError::OutOfTurn("Welcome came twice"));
                            return;
                        }
                        frame => frames.push(frame),
                    },
                    Ok(Some(frame)) => {
                        let event = match welcomed(frame, &out) {
                            Ok(event) => event,
                            Err(error) => return refuse(&error),
                        };
                        up = true;
                        if events.send(event).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return refuse(&error),
                }
            }
            if !frames.is_empty() && events.send(Event::Frames(frames)).await.is_err() {
                return;
            }
            let buffer = decoder.buffer();
            buffer.reserve(16 << 10);
            match from.read_buf(buffer).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "The link to the router broke.");
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = reading => {}
        _ = out.write(to) => {}
    }
    out.end();
    up
}

fn welcomed(frame: ToComponent, out: &Outbox) -> Result<Event, ProtocolError> {
    match frame {
        ToComponent::Welcome { version, .. } if version != VERSION => {
            Err(ProtocolError::Version(version))
        }
        ToComponent::Welcome {
            instance, domain, ..
        } => Ok(Event::Up {
            out: out.clone(),
            instance,
            domain,
        }),
        _ => Err(ProtocolError::OutOfTurn(
            "the router sent something before Welcome",
        )),
    }
}

fn refuse(error: &ProtocolError) {
    tracing::error!(%error, "The router broke the protocol of the link; connecting again.");
}

const _: () = assert!(ToComponent::LIMIT >= ToRouter::LIMIT);
