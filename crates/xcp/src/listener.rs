//! The router's side: every component's link, as one stream of events.

use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Decoder, Outbox, ProtocolError, ToComponent, ToRouter, VERSION};

/// Bytes on their way to a component above which [`Outbox::send`] waits. The
/// router itself never waits; it looks at what [`Outbox::with`] returns.
const MARK: usize = 4 << 20;
/// Batches of frames that may wait for the router before sockets are left
/// unread, which in turn slows the components down.
const BATCHES: usize = 64;

/// Number of a link; never used twice.
pub type LinkId = u32;

/// What happens on the router's links.
#[derive(Debug)]
pub enum RouterEvent {
    /// A component connected and was welcomed.
    Up {
        /// Number of its link.
        link: LinkId,
        /// Id of its service.
        component: String,
        /// Differs at each start of the component.
        instance: u64,
        /// Where frames for it go.
        out: Outbox,
    },
    /// Frames from a component, in order.
    Frames {
        /// Number of its link.
        link: LinkId,
        /// The frames; never a Hello.
        frames: Vec<ToRouter>,
    },
    /// A link ended, and every connection of it.
    Down {
        /// Number of the link.
        link: LinkId,
    },
}

/// The router's listening socket and the links made through it.
#[derive(Debug)]
pub struct Listener {
    events: mpsc::Receiver<RouterEvent>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens at `path` (mode 0660). `instance` should differ at each start
    /// of the router; it and the domain go into Welcome.
    pub fn bind(path: &Path, instance: u64, domain: &str) -> std::io::Result<Self> {
        let listener = service::uds::listen(path)?;
        let (sender, events) = mpsc::channel(BATCHES);
        let welcome = ToComponent::Welcome {
            version: VERSION,
            instance,
            domain: domain.into(),
        };
        let task = tokio::spawn(accept(listener, welcome, sender));
        Ok(Self { events, task })
    }

    /// The next event. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> RouterEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The accepting task holds a sender and never ends by itself.
            None => std::future::pending().await,
        }
    }

    /// An event that is there already, for draining before writing.
    pub fn try_next(&mut self) -> Option<RouterEvent> {
        self.events.try_recv().ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: UnixListener, welcome: ToComponent, events: mpsc::Sender<RouterEvent>) {
    let mut last: LinkId = 0;
    // Dropped with this task, and every link's task with it.
    let mut links = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    last = last.wrapping_add(1);
                    links.spawn(serve(last, socket, welcome.clone(), events.clone()));
                }
                Err(error) => {
                    tracing::error!(%error, "A component could not be accepted.");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = links.join_next() => {}
        }
    }
}

/// One link, from Hello to its end.
async fn serve(
    link: LinkId,
    socket: UnixStream,
    welcome: ToComponent,
    events: mpsc::Sender<RouterEvent>,
) {
    let (mut from, to) = socket.into_split();
    let out = Outbox::new(MARK);
    let mut decoder = Decoder::<ToRouter>::default();
    let mut up = false;
    let reading = async {
        loop {
            let mut frames = Vec::new();
            loop {
                let frame = match decoder.next_frame() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => return refuse(link, &error),
                };
                match (up, frame) {
                    (false, ToRouter::Hello { version, .. }) if version != VERSION => {
                        return refuse(link, &ProtocolError::Version(version));
                    }
                    (
                        false,
                        ToRouter::Hello {
                            component,
                            instance,
                            ..
                        },
                    ) => {
                        up = true;
                        // Welcome is the first frame: the router learns of the
                        // outbox only below.
                        if out.push(&welcome).is_err() {
                            return;
                        }
                        let event = RouterEvent::Up {
                            link,
                            component,
                            instance,
                            out: out.clone(),
                        };
                        if events.send(event).await.is_err() {
                            return;
                        }
                    }
                    (false, _) => {
                        return refuse(link, &ProtocolError::OutOfTurn("Hello must come first"));
                    }
                    (true, ToRouter::Hello { .. }) => {
                        return refuse(link, &ProtocolError::OutOfTurn("Hello came twice"));
                    }
                    (true, frame) => frames.push(frame),
                }
            }
            if !frames.is_empty() {
                let event = RouterEvent::Frames { link, frames };
                if events.send(event).await.is_err() {
                    return;
                }
            }
            let buffer = decoder.buffer();
            buffer.reserve(32 << 10);
            match from.read_buf(buffer).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(link, %error, "A component's link broke.");
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
    if up {
        let _ = events.send(RouterEvent::Down { link }).await;
    }
}

fn refuse(link: LinkId, error: &ProtocolError) {
    tracing::error!(link, %error, "A component broke the protocol of the link; closing it.");
}
