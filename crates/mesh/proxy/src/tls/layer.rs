//! TLS between a connection and its socket.
//!
//! What waits in memory is bounded: at most one read of records that are not decrypted yet, the
//! plaintext of one record that the reader had no space for, and the records of one write. An idle
//! connection holds none of them. Nothing is read from the socket while there is plaintext, and
//! nothing more is encrypted while records wait for the socket, so that back-pressure goes through.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::session::{MAX_FRAGMENT, Next, Plain, Session};

/// The most that records may take while they wait for the rest of a message. A handshake message has
/// at most 64 KiB.
const MAX_INCOMING: usize = 68 * 1024;
/// How much is read at a time: the largest record.
const READ: usize = MAX_FRAGMENT + 2048;
/// How much is encrypted at a time.
const WRITE: usize = 2 * MAX_FRAGMENT;

thread_local! {
    /// Memory for one read or write, lent to the connection that is polled.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TLS connection over a socket that somebody else owns.
#[derive(Debug)]
pub(crate) struct TlsLayer {
    session: Session,
    /// Records that have arrived and are not decrypted.
    incoming: Vec<u8>,
    /// Plaintext that the reader had no space for.
    plain: Vec<u8>,
    plain_taken: usize,
    /// Records that are to be sent.
    outgoing: Vec<u8>,
    sent: usize,
    /// How much plaintext of the writer is in the output, and not yet reported as written.
    accepted: usize,
    end: End,
    close_queued: bool,
}

/// How the other side has ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// It said so.
    Closed,
    /// The connection ended without a word, so that somebody may have cut it.
    Truncated,
    /// The connection is broken.
    Broken,
}

impl TlsLayer {
    /// The side that accepts; these bytes were read already.
    pub(crate) fn server(config: Arc<ServerConfig>, read: Vec<u8>) -> io::Result<Self> {
        if read.len() > MAX_INCOMING {
            return Err(too_large());
        }
        let session = Session::server(config).map_err(failed)?;
        Ok(Self::new(session, read))
    }

    /// The side that connects.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        alpn: Vec<Vec<u8>>,
    ) -> io::Result<Self> {
        let session = Session::client(config, name, alpn).map_err(failed)?;
        Ok(Self::new(session, Vec::new()))
    }

    fn new(session: Session, incoming: Vec<u8>) -> Self {
        Self {
            session,
            incoming,
            plain: Vec::new(),
            plain_taken: 0,
            outgoing: Vec::new(),
            sent: 0,
            accepted: 0,
            end: End::Open,
            close_queued: false,
        }
    }

    /// What is known about the connection.
    pub(crate) fn state(&self) -> &CommonState {
        self.session.state()
    }

    /// Whether the other side has ended the connection without saying so.
    pub(crate) fn was_truncated(&self) -> bool {
        self.end == End::Truncated
    }

    /// Ready once both sides may send. After an error the other side was told, if its socket took it.
    pub(crate) fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        tcp: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Err(error) = self.advance() {
                self.end = End::Broken;
                // The alert; a full socket must not hold up the end.
                let _ = self.poll_send(cx, tcp);
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_send(cx, tcp))?;
            if !self.session.state().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.end == End::Closed {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let mut block = lend();
            let read = poll_tcp_read(cx, tcp, &mut block[..READ]);
            if let Poll::Ready(Ok(n)) = read {
                self.incoming.extend_from_slice(&block[..n]);
            }
            give_back(block);
            if ready!(read)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if self.incoming.len() > MAX_INCOMING {
                return Poll::Ready(Err(too_large()));
            }
        }
    }

    /// Works on what has arrived, without a reader.
    fn advance(&mut self) -> io::Result<()> {
        loop {
            let mut plain = Plain {
                space: &mut [],
                taken: 0,
                rest: &mut self.plain,
            };
            let (done, next) =
                self.session
                    .advance(&mut self.incoming, &mut plain, &mut self.outgoing);
            self.incoming.drain(..done);
            match next {
                Ok(Next::Plaintext) => {}
                Ok(Next::Read) => return Ok(()),
                Ok(Next::Closed) => self.end = End::Closed,
                Err(error) => {
                    self.session.alert(&mut self.incoming, &mut self.outgoing);
                    return Err(failed(error));
                }
            }
        }
    }

    /// Reads plaintext: zero is the end that the other side has announced.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        tcp: &mut TcpStream,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let kept = &self.plain[self.plain_taken..];
        if !kept.is_empty() {
            let n = kept.len().min(space.len());
            space[..n].copy_from_slice(&kept[..n]);
            self.plain_taken += n;
            if self.plain_taken == self.plain.len() {
                self.plain = Vec::new();
                self.plain_taken = 0;
            }
            return Poll::Ready(Ok(n));
        }
        match self.end {
            End::Open => {}
            End::Closed => return Poll::Ready(Ok(0)),
            End::Truncated => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            End::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
        let mut block = lend();
        let filled = self.incoming.len();
        block[..filled].copy_from_slice(&self.incoming);
        self.incoming.clear();
        let (filled, read) = self.poll_decrypt(cx, tcp, (&mut block, filled), space);
        if filled == 0 {
            self.incoming = Vec::new();
        } else {
            self.incoming.extend_from_slice(&block[..filled]);
        }
        give_back(block);
        // What the session has to say for itself, such as a new key.
        let _ = self.poll_send(cx, tcp);
        read
    }

    /// Reads records into the block until one of them has plaintext: how many bytes of the block are
    /// left to be decrypted, and how many were.
    fn poll_decrypt(
        &mut self,
        cx: &mut Context<'_>,
        tcp: &mut TcpStream,
        (block, mut filled): (&mut [u8], usize),
        space: &mut [u8],
    ) -> (usize, Poll<io::Result<usize>>) {
        loop {
            let mut plain = Plain {
                space: &mut *space,
                taken: 0,
                rest: &mut self.plain,
            };
            let (done, next) =
                self.session
                    .advance(&mut block[..filled], &mut plain, &mut self.outgoing);
            let taken = plain.taken;
            block.copy_within(done..filled, 0);
            filled -= done;
            match next {
                Ok(Next::Plaintext) => return (filled, Poll::Ready(Ok(taken))),
                Ok(Next::Closed) => {
                    self.end = End::Closed;
                    return (0, Poll::Ready(Ok(0)));
                }
                Ok(Next::Read) => {}
                Err(error) => {
                    self.end = End::Broken;
                    self.session.alert(&mut block[..filled], &mut self.outgoing);
                    return (0, Poll::Ready(Err(failed(error))));
                }
            }
            let until = (filled + READ).min(block.len());
            if filled == until {
                self.end = End::Broken;
                return (0, Poll::Ready(Err(too_large())));
            }
            match poll_tcp_read(cx, tcp, &mut block[filled..until]) {
                Poll::Ready(Ok(0)) => {
                    self.end = End::Truncated;
                    return (0, Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                Poll::Ready(Ok(n)) => filled += n,
                Poll::Ready(Err(error)) => return (filled, Poll::Ready(Err(error))),
                Poll::Pending => return (filled, Poll::Pending),
            }
        }
    }

    /// Writes some of the bytes, from one or several parts: they count as written once the socket
    /// has all of their records, so that nobody has to flush. Called again after it was pending, the
    /// bytes must begin as they did.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        tcp: &mut TcpStream,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.accepted == 0 {
            ready!(self.poll_send(cx, tcp))?;
            self.accepted = self.encrypt(parts)?;
        }
        ready!(self.poll_send(cx, tcp))?;
        Poll::Ready(Ok(std::mem::take(&mut self.accepted)))
    }

    fn encrypt(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if self.end == End::Broken {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.advance()?;
        let mut joined = lend();
        let bytes = match parts {
            [one] => &one[..one.len().min(WRITE)],
            several => {
                let mut length = 0;
                for part in several {
                    let fits = part.len().min(WRITE - length);
                    joined[length..length + fits].copy_from_slice(&part[..fits]);
                    length += fits;
                }
                &joined[..length]
            }
        };
        let length = bytes.len();
        let encrypted = if bytes.is_empty() {
            Ok(())
        } else {
            self.session
                .encrypt(bytes, &mut self.incoming, &mut self.outgoing)
        };
        give_back(joined);
        encrypted.map_err(failed)?;
        Ok(length)
    }

    /// Ready once the socket has all records.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        tcp: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            match ready!(Pin::new(&mut *tcp).poll_write(cx, &self.outgoing[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        if self.sent > 0 {
            self.outgoing = Vec::new();
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the other side that no more bytes will come; it may go on sending.
    pub(crate) fn poll_shutdown(
        &mut self,
        cx: &mut Context<'_>,
        tcp: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        self.queue_close();
        ready!(self.poll_send(cx, tcp))?;
        Pin::new(tcp).poll_shutdown(cx)
    }

    /// The connection is about to be closed: says so, if the socket takes it at once.
    pub(crate) fn say_goodbye(&mut self, tcp: &TcpStream) {
        if self.accepted == 0 && self.sent == 0 {
            self.queue_close();
            let _ = tcp.try_write(&self.outgoing);
        }
    }

    /// The connection is to be reset.
    pub(crate) fn forget_goodbye(&mut self) {
        self.close_queued = true;
    }

    fn queue_close(&mut self) {
        if std::mem::replace(&mut self.close_queued, true)
            || self.session.state().is_handshaking()
            || self.end == End::Broken
        {
            return;
        }
        let queued = self.advance().and_then(|()| {
            self.session
                .close_notify(&mut self.incoming, &mut self.outgoing)
                .map_err(failed)
        });
        if queued.is_err() {
            self.end = End::Broken;
        }
    }
}

fn poll_tcp_read(
    cx: &mut Context<'_>,
    tcp: &mut TcpStream,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut read = ReadBuf::new(into);
    ready!(Pin::new(tcp).poll_read(cx, &mut read))?;
    Poll::Ready(Ok(read.filled().len()))
}

fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn too_large() -> io::Error {
    failed(rustls::Error::General(
        "a message of the handshake is too large".to_owned(),
    ))
}

fn lend() -> Vec<u8> {
    let mut block = SCRATCH.take();
    block.resize(MAX_INCOMING, 0);
    block
}

fn give_back(block: Vec<u8>) {
    SCRATCH.set(block);
}
