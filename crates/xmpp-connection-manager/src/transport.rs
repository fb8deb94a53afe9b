//! The bytes of a connection on their way out, plain or through TLS, and TLS
//! on their way in.

use std::io::{self, IoSlice, Write};

use rustls::ServerConnection;
use tokio::net::TcpStream;

/// How a connection's bytes travel.
pub(crate) enum Transport {
    /// As they are.
    Plain(Vec<u8>),
    /// Through TLS. Boxed: a plain connection needs no room for it.
    Tls(Box<ServerConnection>),
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Tls(_) => "Tls",
        })
    }
}

/// Bytes that were accepted but not yet taken by the system.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) transport: Transport,
    /// How many there are, give or take what TLS adds.
    pending: usize,
    /// Whether the socket took no more when last asked.
    blocked: bool,
}

impl Outgoing {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            pending: 0,
            blocked: false,
        }
    }

    /// Bytes that wait.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Whether the socket must become writable before more is written.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Takes bytes to write.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match &mut self.transport {
            Transport::Plain(waiting) => waiting.extend_from_slice(bytes),
            Transport::Tls(tls) => {
                // It has no limit of its own (see `tls`), so it takes all.
                let _ = tls.writer().write_all(bytes);
            }
        }
        self.pending += bytes.len();
    }

    /// Tells the peer by TLS that nothing more will come.
    pub(crate) fn close_notify(&mut self) {
        if let Transport::Tls(tls) = &mut self.transport {
            tls.send_close_notify();
        }
    }

    /// Writes what the socket takes, several pieces with one call.
    pub(crate) fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.flush_to(&mut Socket(stream))
    }

    fn flush_to(&mut self, socket: &mut impl Write) -> io::Result<()> {
        self.blocked = false;
        loop {
            let written = match &mut self.transport {
                Transport::Plain(waiting) if waiting.is_empty() => break,
                Transport::Plain(waiting) => socket.write(waiting).inspect(|&written| {
                    waiting.drain(..written);
                }),
                Transport::Tls(tls) if !tls.wants_write() => break,
                Transport::Tls(tls) => tls.write_tls(socket),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.pending = self.pending.saturating_sub(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pending = 0;
        if let Transport::Plain(waiting) = &mut self.transport {
            // Nothing is kept while a connection is idle.
            *waiting = Vec::new();
        }
        Ok(())
    }
}

/// A socket as something to write to without waiting.
struct Socket<'s>(&'s TcpStream);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then no more.
    struct Narrow(usize, Vec<u8>);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0).min(3);
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0 -= taken;
            self.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_socket_does_not_take_waits() {
        let mut out = Outgoing::new(Transport::Plain(Vec::new()));
        out.push(b"hello ");
        out.push(b"world");
        let mut socket = Narrow(4, Vec::new());
        out.flush_to(&mut socket).unwrap();
        assert!(out.is_blocked());
        assert_eq!(out.pending(), 7);
        socket.0 = 100;
        out.flush_to(&mut socket).unwrap();
        assert_eq!(socket.1, b"hello world");
        assert!(!out.is_blocked() && out.pending() == 0);
        let Transport::Plain(waiting) = &out.transport else {
            panic!("not plain")
        };
        assert_eq!(waiting.capacity(), 0);
    }
}
