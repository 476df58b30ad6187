//! A byte stream to a peer, over TCP or TLS: everything above sees only polls.

mod rewound;

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

pub(crate) use self::rewound::Rewound;
use crate::buffer::Buffer;
use crate::snapshot::{Cluster, TcpKeepalive};
use crate::tls::{Secured, TlsLayer};

/// One connection to a client or to an endpoint.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TcpStream,
    /// What lies between the socket's bytes and those of the stream; most often nothing.
    layer: Option<Box<Layer>>,
}

/// What may lie there.
#[derive(Debug)]
enum Layer {
    /// Bytes that were read to find out what they are: they come first.
    Ahead { bytes: Vec<u8>, taken: usize },
    /// TLS, and what its handshake has shown.
    Tls(TlsLayer, Option<Rc<Secured>>),
}

/// Where a connection to an endpoint is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) ip: IpAddr,
    /// The address is another host's, and packets have this mark unless it is zero.
    pub(crate) foreign: Option<u32>,
}

impl Source {
    /// A client's own address.
    pub(crate) fn of(client: SocketAddr, mark: u32) -> Self {
        Self {
            ip: client.ip().to_canonical(),
            foreign: Some(mark),
        }
    }

    /// Where connections of a cluster to an address are made from, if that is said.
    pub(crate) fn of_cluster(cluster: &Cluster, address: SocketAddr) -> Option<Self> {
        let mut sources = cluster.sources.iter().copied();
        let ip = sources.find(|source| source.is_ipv4() == address.is_ipv4())?;
        Some(Self { ip, foreign: None })
    }

    fn bind(self, socket: &TcpSocket) -> io::Result<()> {
        if let Some(mark) = self.foreign {
            let socket = SockRef::from(socket);
            if self.ip.is_ipv4() {
                socket.set_ip_transparent_v4(true)?;
            } else {
                socket.set_ip_transparent_v6(true)?;
            }
            if mark > 0 {
                socket.set_mark(mark)?;
            }
        }
        socket.bind(SocketAddr::new(self.ip, 0))
    }
}

impl Stream {
    /// Over a connected socket; Nagle's algorithm is turned off.
    pub(crate) fn new(tcp: TcpStream) -> Self {
        // A socket that cannot do this still works.
        let _ = tcp.set_nodelay(true);
        Self { tcp, layer: None }
    }

    /// Opens a connection, from the given address if there is one.
    pub(crate) async fn connect(address: SocketAddr, source: Option<Source>) -> io::Result<Self> {
        let Some(source) = source else {
            return Ok(Self::new(TcpStream::connect(address).await?));
        };
        let socket = match source.ip {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        source.bind(&socket)?;
        Ok(Self::new(socket.connect(address).await?))
    }

    /// The same stream, whose other side is probed when it is silent.
    pub(crate) fn with_keepalive(self, keepalive: Option<TcpKeepalive>) -> io::Result<Self> {
        if let Some(keepalive) = keepalive {
            SockRef::from(&self.tcp).set_tcp_keepalive(&keepalive.of_socket())?;
        }
        Ok(self)
    }

    /// The same stream, which ends when what was sent is not acknowledged, or taken, for as long: probes of the kernel are
    /// for those that wait, not for those that have sent something.
    pub(crate) fn with_patience(self, keepalive: Option<TcpKeepalive>) -> io::Result<Self> {
        if let Some(keepalive) = keepalive {
            SockRef::from(&self.tcp).set_tcp_user_timeout(Some(keepalive.patience()))?;
        }
        Ok(self)
    }

    /// The same stream, which begins with bytes that were read of it already.
    pub(crate) fn with_ahead(mut self, bytes: Vec<u8>) -> Self {
        debug_assert!(self.layer.is_none(), "nothing is read ahead of TLS");
        if !bytes.is_empty() {
            self.layer = Some(Box::new(Layer::Ahead { bytes, taken: 0 }));
        }
        self
    }

    /// The same stream under TLS: does the handshake, and tells with `secured` what it has shown.
    pub(crate) async fn with_tls(
        mut self,
        tls: TlsLayer,
        secured: impl FnOnce(&TlsLayer) -> Secured,
    ) -> io::Result<Self> {
        let layer = self.layer.insert(Box::new(Layer::Tls(tls, None)));
        let tcp = &mut self.tcp;
        std::future::poll_fn(|cx| match &mut **layer {
            Layer::Tls(tls, _) => tls.poll_handshake(cx, tcp),
            Layer::Ahead { .. } => Poll::Ready(Ok(())),
        })
        .await?;
        if let Layer::Tls(tls, shown) = &mut **layer {
            *shown = Some(Rc::new(secured(tls)));
        }
        Ok(self)
    }

    /// What the handshake has shown, if this is TLS.
    pub(crate) fn secured(&self) -> Option<&Rc<Secured>> {
        match self.layer.as_deref()? {
            Layer::Tls(_, shown) => shown.as_ref(),
            Layer::Ahead { .. } => None,
        }
    }

    /// What is known about the connection, if this is TLS.
    pub(crate) fn tls_state(&self) -> Option<&rustls::CommonState> {
        match self.layer.as_deref()? {
            Layer::Tls(tls, _) => Some(tls.state()),
            Layer::Ahead { .. } => None,
        }
    }

    /// The address of this side.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    /// Reads what there is into the buffer's space: zero is the end of the stream.
    #[inline]
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        if self.layer.is_some() {
            let read = self.poll_read_layer(cx, buffer.space());
            if let Poll::Ready(Ok(n)) = read {
                buffer.commit(n);
            }
            return read;
        }
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

    /// Reads through the layer that there is.
    #[cold]
    fn poll_read_layer(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.layer.as_deref_mut() {
            Some(Layer::Tls(tls, _)) => tls.poll_read(cx, &mut self.tcp, space),
            Some(Layer::Ahead { bytes, taken }) => {
                let n = space.len().min(bytes.len() - *taken);
                space[..n].copy_from_slice(&bytes[*taken..*taken + n]);
                *taken += n;
                if *taken == bytes.len() {
                    self.layer = None;
                }
                Poll::Ready(Ok(n))
            }
            None => {
                let mut read = ReadBuf::new(space);
                Pin::new(&mut self.tcp)
                    .poll_read(cx, &mut read)
                    .map_ok(|()| read.filled().len())
            }
        }
    }

    /// Writes some of the bytes. Called again after it was pending, they must begin as they did.
    #[inline]
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.layer.is_some() {
            return self.poll_write_layer(cx, &[IoSlice::new(bytes)]);
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    #[cold]
    fn poll_write_layer(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.layer.as_deref_mut() {
            Some(Layer::Tls(tls, _)) => tls.poll_write(cx, &mut self.tcp, parts),
            _ => Pin::new(&mut self.tcp).poll_write_vectored(cx, parts),
        }
    }

    /// Whether the peer has neither sent anything nor closed: what an idle pooled connection must be.
    ///
    /// Costs no system call unless an event has come in.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut probe = [0; 1];
        if self.layer.is_none() {
            let read = self.tcp.try_read(&mut probe);
            return read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        }
        let mut cx = Context::from_waker(Waker::noop());
        self.poll_read_layer(&mut cx, &mut probe).is_pending()
    }

    /// Ready once the connection has failed, as when the peer has reset it. An end of what the peer sends is none.
    pub(crate) async fn gone(&self) {
        // Fails only where the runtime ends.
        let _ = self.tcp.ready(Interest::ERROR).await;
    }

    /// Whether the peer has ended TLS without saying so: what was read may have been cut.
    pub(crate) fn was_truncated(&self) -> bool {
        matches!(self.layer.as_deref(), Some(Layer::Tls(tls, _)) if tls.was_truncated())
    }

    /// Tells the peer that no more bytes will come.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(Layer::Tls(tls, _)) = self.layer.as_deref_mut() {
            return tls.poll_shutdown(cx, &mut self.tcp);
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    /// Makes the coming close a reset, so that the peer cannot take it for a clean end.
    pub(crate) fn reset_on_close(&mut self) {
        if let Some(Layer::Tls(tls, _)) = self.layer.as_deref_mut() {
            tls.forget_goodbye();
        }
        let _ = SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(Layer::Tls(tls, _)) = self.layer.as_deref_mut() {
            tls.say_goodbye(&self.tcp);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.layer.is_some() {
            return self
                .poll_read_layer(cx, into.initialize_unfilled())
                .map_ok(|n| into.advance(n));
        }
        Pin::new(&mut self.tcp).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Stream::poll_write(&mut self, cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.layer.is_some() {
            return self.poll_write_layer(cx, parts);
        }
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written through TLS stands in the socket already.
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_shutdown(&mut self, cx)
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
    let socket = SockRef::from(stream);
    let asked = if local.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    // Without connection tracking, or without an entry, there is no answer.
    let asked = asked.ok().and_then(|asked| asked.as_socket());
    match asked.filter(|asked| *asked != local) {
        // Transparent sockets get redirected connections too: those that a workload makes.
        Some(asked) => Some(asked),
        None => is_transparent.then_some(local),
    }
}
