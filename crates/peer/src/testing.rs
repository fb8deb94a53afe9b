//! Nodes in one process: the same channels and messages as between machines,
//! without TLS, and a network that a test cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{Connection, Remote};

/// One end of a connection, with who is at the other.
pub type Side = Connection<DuplexStream, Remote>;

/// What becomes of a node's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Alive,
    /// They stay, and nothing passes.
    Frozen,
}

#[derive(Clone, Debug)]
struct Door {
    sides: mpsc::UnboundedSender<io::Result<Side>>,
    fate: watch::Sender<Fate>,
}

/// The network between the nodes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    doors: Arc<Mutex<BTreeMap<u64, Door>>>,
    /// Nodes that nothing goes to or comes from.
    isolated: watch::Sender<BTreeSet<u64>>,
}

impl Wire {
    fn doors(&self) -> MutexGuard<'_, BTreeMap<u64, Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel of node `from`, which says truly who it is, to node `to`.
    pub fn channel(&self, from: u64, to: u64) -> Channel {
        let wire = self.clone();
        let connect = move |_: Uri| {
            let wire = wire.clone();
            async move {
                let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let parted = move |isolated: &BTreeSet<u64>| {
                    isolated.contains(&from) || isolated.contains(&to)
                };
                let mut isolated = wire.isolated.subscribe();
                if parted(&isolated.borrow()) {
                    return Err(refused());
                }
                let (mut left, here) = tokio::io::duplex(64 << 10);
                let (mut right, there) = tokio::io::duplex(64 << 10);
                let side = Side::new(there, Remote { replica: from });
                let mut fate = {
                    let doors = wire.doors();
                    let door = doors.get(&to).ok_or_else(refused)?;
                    door.sides.send(Ok(side)).map_err(|_| refused())?;
                    door.fate.subscribe()
                };
                tokio::spawn(async move {
                    // It ends with the node's door, and both sides see that.
                    if *fate.borrow() == Fate::Alive {
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut left, &mut right) => return,
                            _ = isolated.wait_for(parted) => return,
                            _ = fate.changed() => {}
                        }
                    }
                    let _ = fate.wait_for(|fate| *fate == Fate::Alive).await;
                });
                Ok::<_, io::Error>(TokioIo::new(here))
            }
        };
        Endpoint::from_static("http://node.invalid")
            .connect_with_connector_lazy(tower::service_fn(connect))
    }

    /// Connections to a node, for `tonic`'s `serve_with_incoming`. Those from
    /// before end.
    pub fn listen(&self, number: u64) -> UnboundedReceiverStream<io::Result<Side>> {
        let (sender, sides) = mpsc::unbounded_channel();
        let door = Door {
            sides: sender,
            fate: watch::Sender::new(Fate::Alive),
        };
        self.doors().insert(number, door);
        UnboundedReceiverStream::new(sides)
    }

    /// The node hangs: connections to it are made and stay, and nothing passes.
    pub fn freeze(&self, number: u64) {
        if let Some(door) = self.doors().get(&number) {
            door.fate.send_replace(Fate::Frozen);
        }
    }

    /// The node is alone: connections to it and of it end and are refused, until
    /// it is [joined](Self::join) again.
    pub fn isolate(&self, number: u64) {
        self.isolated.send_if_modified(|nodes| nodes.insert(number));
    }

    /// The node is back on the network.
    pub fn join(&self, number: u64) {
        self.isolated
            .send_if_modified(|nodes| nodes.remove(&number));
    }

    /// Nobody reaches the node any more, and its connections end.
    pub fn cut(&self, number: u64) {
        self.doors().remove(&number);
    }
}
