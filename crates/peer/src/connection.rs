//! A stream with what is known of its other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A stream with what is known of its other end, which `tonic` gives to the
/// service with each request. What it `holds` is let go when it ends.
#[derive(Debug)]
pub struct Connection<S, I, H = ()> {
    stream: S,
    remote: I,
    _holds: H,
}

impl<S, I> Connection<S, I> {
    /// A connection that holds nothing.
    pub fn new(stream: S, remote: I) -> Self {
        Self::holding(stream, remote, ())
    }
}

impl<S, I, H> Connection<S, I, H> {
    /// A connection that holds something, such as a place among few.
    pub fn holding(stream: S, remote: I, holds: H) -> Self {
        Self {
            stream,
            remote,
            _holds: holds,
        }
    }
}

impl<S, I: Clone, H> Connection<S, I, H> {
    /// What is known of the other end.
    pub fn remote(&self) -> I {
        self.remote.clone()
    }
}

impl<S, I: Clone + Send + Sync + 'static, H> Connected for Connection<S, I, H> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.remote.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin, H: Unpin> AsyncRead for Connection<S, I, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin, H: Unpin> AsyncWrite for Connection<S, I, H> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
