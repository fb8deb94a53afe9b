//! What waits to be written to a link: appended by many, written in batches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::Frame;

/// The link has ended; what was sent may or may not have arrived.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the link to the other side has ended")]
pub struct LinkDown;

/// The sending half of one link, cheap to clone. It belongs to one incarnation
/// of the link: once that has ended, every send fails, so that no frame of an
/// old connection reaches a new router.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    filled: Notify,
    /// Wakes senders that wait for room.
    room: Notify,
    /// Bytes above which [`Outbox::send`] waits.
    mark: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: BytesMut,
    /// Bytes that the writer holds now.
    writing: usize,
    down: bool,
}

impl Outbox {
    /// An empty one; [`Outbox::send`] waits above `mark` bytes.
    pub fn new(mark: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            filled: Notify::new(),
            room: Notify::new(),
            mark,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame, after a wait while too much is on its way already.
    pub async fn send<F: Frame>(&self, frame: &F) -> Result<(), LinkDown> {
        self.has_room().await?;
        self.push(frame)
    }

    /// Waits until less than the mark is on its way.
    pub async fn has_room(&self) -> Result<(), LinkDown> {
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            // Registered before the look, so that no wake-up is missed.
            room.as_mut().enable();
            {
                let state = self.state();
                if state.down {
                    return Err(LinkDown);
                }
                if state.waiting.len() + state.writing < self.0.mark {
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// Sends a frame without a wait. Meant for those that bound by other
    /// means what they send.
    pub fn push<F: Frame>(&self, frame: &F) -> Result<(), LinkDown> {
        self.with(|out| frame.encode(out)).map(|_| ())
    }

    /// Appends frames by a function, under one lock. Returns how many bytes
    /// are on their way now.
    pub fn with(&self, append: impl FnOnce(&mut BytesMut)) -> Result<usize, LinkDown> {
        let mut state = self.state();
        if state.down {
            return Err(LinkDown);
        }
        let idle = state.waiting.is_empty();
        append(&mut state.waiting);
        let total = state.waiting.len() + state.writing;
        let wake = idle && !state.waiting.is_empty();
        drop(state);
        if wake {
            self.0.filled.notify_one();
        }
        Ok(total)
    }

    /// Ends the link: what waits is dropped, every further send fails.
    pub fn end(&self) {
        {
            let mut state = self.state();
            state.down = true;
            state.waiting = BytesMut::new();
        }
        self.0.filled.notify_one();
        self.0.room.notify_waiters();
    }

    /// Writes whatever is appended until the link ends, in as few writes as
    /// there were wake-ups: under load, frames gather while one is on its way.
    pub async fn write(&self, mut socket: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut batch = BytesMut::new();
        loop {
            {
                let mut state = self.state();
                if state.down {
                    return Ok(());
                }
                std::mem::swap(&mut batch, &mut state.waiting);
                state.writing = batch.len();
            }
            if batch.is_empty() {
                self.0.room.notify_waiters();
                self.0.filled.notified().await;
                continue;
            }
            socket.write_all(&batch).await?;
            // TLS may keep a part to itself.
            socket.flush().await?;
            batch.clear();
            if batch.capacity() > 1 << 20 {
                // A rare large batch must not keep its memory.
                batch = BytesMut::new();
            }
            self.state().writing = 0;
            self.0.room.notify_waiters();
        }
    }
}
