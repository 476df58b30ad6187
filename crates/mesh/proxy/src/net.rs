//! A byte stream to a peer. Plain TCP today; everything above sees only polls.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::buffer::Buffer;

/// One connection to a client or to an endpoint.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TcpStream,
}

impl Stream {
    /// Over a connected socket; Nagle's algorithm is turned off.
    pub(crate) fn new(tcp: TcpStream) -> Self {
        // A socket that cannot do this still works.
        let _ = tcp.set_nodelay(true);
        Self { tcp }
    }

    /// Opens a connection, from the given address if there is one.
    pub(crate) async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let Some(source) = source else {
            return Ok(Self::new(TcpStream::connect(address).await?));
        };
        let socket = match source {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(source, 0))?;
        Ok(Self::new(socket.connect(address).await?))
    }

    /// Who is on the other side.
    pub(crate) fn peer(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// Reads what there is into the buffer's space: zero is the end of the stream.
    #[inline]
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buffer.space());
        debug_assert!(read.remaining() > 0, "a full buffer reads as end of stream");
        match Pin::new(&mut self.tcp).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) => {
                let n = read.filled().len();
                buffer.commit(n);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes some of the bytes.
    #[inline]
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    /// Whether the peer has neither sent anything nor closed: what an idle pooled connection must be.
    ///
    /// Costs no system call unless an event has come in.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut probe = [0; 1];
        let mut read = ReadBuf::new(&mut probe);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.tcp)
            .poll_read(&mut cx, &mut read)
            .is_pending()
    }

    /// Tells the peer that no more bytes will come.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    /// Makes the coming close a reset, so that the peer cannot take it for a clean end.
    pub(crate) fn reset_on_close(&self) {
        let _ = SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Where the client wanted to go: what it asked for before the kernel redirected it to this socket
/// (REDIRECT), or the address of the socket itself if that is another one than is listened on (TPROXY).
pub(crate) fn original_destination(
    stream: &TcpStream,
    local: SocketAddr,
    is_transparent: bool,
) -> Option<SocketAddr> {
    // A socket of IPv6 takes IPv4 too.
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    if is_transparent {
        return Some(local);
    }
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    // Without connection tracking, or without an entry, there is no answer.
    let original = original.ok()?.as_socket()?;
    (original != local).then_some(original)
}

/// A stream some of whose bytes were read already, to find out what they are.
#[derive(Debug)]
pub(crate) struct Rewound {
    /// They come first.
    read: Bytes,
    stream: Stream,
}

impl Rewound {
    pub(crate) fn new(read: &[u8], stream: Stream) -> Self {
        Self {
            read: Bytes::copy_from_slice(read),
            stream,
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return AsyncRead::poll_read(Pin::new(&mut self.stream), cx, into);
        }
        let length = self.read.len().min(into.remaining());
        into.put_slice(&self.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}
