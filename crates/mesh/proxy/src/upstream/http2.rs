//! Connections of HTTP/2 to an endpoint: each is shared by the streams of a worker.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::client::{Builder, Connection, SendRequest};

use crate::clock::Micros;
use crate::http2::{Payload, Pinger};
use crate::net::Stream;
use crate::reply::Failure;
use crate::snapshot::Http2Options;
use crate::stats::ClusterStats;
use crate::tls::Secured;
use crate::upstream::age::Age;
use crate::upstream::birth::{Birth, Reaches};
use crate::upstream::connection::Slot;
use crate::upstream::{ClusterState, EndpointState};

/// The limit of response heads; Envoy's default.
const MAX_HEADER_LIST: u32 = 60 * 1024;

/// The connections of a worker to one endpoint.
#[derive(Default)]
pub(crate) struct Http2Pool {
    connections: RefCell<Vec<Rc<Shared>>>,
    /// How many streams the endpoint allowed on a connection when it was last asked; zero is unknown.
    limit_of_peer: Cell<usize>,
    /// The connection that is being opened. One at a time: whoever waits for it may share it.
    opening: RefCell<Option<Rc<Opening>>>,
}

/// A connection.
pub(crate) struct Shared {
    send: RefCell<SendRequest<Payload>>,
    endpoint: Rc<EndpointState>,
    /// What its TLS has shown.
    secured: Option<Rc<Secured>>,
    /// This proxy's address.
    local: Option<SocketAddr>,
    birth: Birth,
    /// Streams under way.
    active: Cell<u32>,
    /// The most that the configuration allows; the peer may allow fewer.
    limit: u32,
    /// It has carried a stream before.
    reused: Cell<bool>,
    age: Age,
    stats: Arc<ClusterStats>,
    /// Its task has ended: nothing comes from it any more.
    closed: Cell<bool>,
    /// Since when a sweep has seen no stream.
    idle_since: Cell<Option<Micros>>,
}

/// A stream's place on a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    shared: Rc<Shared>,
    /// The connection has carried a stream before this one.
    pub(crate) reused: bool,
}

/// The end of an attempt to connect, for everybody who waits for it.
#[derive(Debug, Default)]
struct Opening {
    result: RefCell<Option<Result<(), Failure>>>,
    wakers: RefCell<Vec<Waker>>,
}

impl Http2Pool {
    /// A place on a connection that has room.
    fn lease(&self) -> Option<Lease> {
        // A connection that is dropped may touch the pool.
        let mut gone = Vec::new();
        let mut connections = self.connections.borrow_mut();
        let mut at = 0;
        let found = loop {
            let Some(shared) = connections.get(at) else {
                break None;
            };
            if shared
                .age
                .is_over(shared.endpoint.lifetime.get(), &shared.stats)
            {
                gone.push(connections.swap_remove(at));
                continue;
            }
            match shared.has_room() {
                Ok(true) => break Some(shared.lease()),
                Ok(false) => at += 1,
                Err(_) => gone.push(connections.swap_remove(at)),
            }
        };
        drop(connections);
        found
    }

    /// Whether a stream may begin on one of the connections.
    fn has_room(&self) -> bool {
        let connections = self.connections.borrow();
        connections.iter().any(|it| it.has_room().unwrap_or(false))
    }

    /// Lets the connections go; each closes after its last stream.
    pub(super) fn clear(&self) {
        let connections = std::mem::take(&mut *self.connections.borrow_mut());
        drop(connections);
    }

    /// Lets connections go that had no stream for too long: how many.
    pub(super) fn sweep(&self, now: Micros, idle_timeout: Option<Duration>) -> u64 {
        let expired = |shared: &Rc<Shared>| {
            if shared.active.get() > 0 {
                return false;
            }
            let since = shared.idle_since.get().unwrap_or(now);
            shared.idle_since.set(Some(since));
            idle_timeout.is_some_and(|timeout| now - since >= timeout.as_micros() as u64)
        };
        let (gone, kept): (Vec<_>, Vec<_>) = self.connections.take().into_iter().partition(expired);
        self.connections.replace(kept);
        gone.len() as u64
    }
}

impl Shared {
    /// Whether one more stream may begin; an error if the connection takes none any more.
    fn has_room(&self) -> Result<bool, h2::Error> {
        let mut send = self.send.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        match send.poll_ready(&mut cx) {
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(())) => {}
        }
        let of_peer = send.current_max_send_streams();
        self.endpoint.http2.limit_of_peer.set(of_peer);
        let active = self.active.get();
        Ok(active < self.limit && (active as usize) < of_peer)
    }

    fn lease(self: &Rc<Self>) -> Lease {
        self.active.set(self.active.get() + 1);
        self.idle_since.set(None);
        self.age.count();
        Lease {
            shared: self.clone(),
            reused: self.reused.replace(true),
        }
    }
}

impl fmt::Debug for Http2Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Pool").finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("active", &self.active)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// The way to begin a stream.
    pub(crate) fn sender(&self) -> SendRequest<Payload> {
        self.shared.send.borrow().clone()
    }

    /// What the connection's TLS has shown.
    pub(crate) fn secured(&self) -> Option<&Rc<Secured>> {
        self.shared.secured.as_ref()
    }

    /// Whether the connection is closed, rather than this stream alone.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.get()
    }
}

impl Reaches for Lease {
    fn local_address(&self) -> Option<SocketAddr> {
        self.shared.local
    }

    fn birth(&self) -> &Birth {
        &self.shared.birth
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.active.set(shared.active.get() - 1);
        shared.endpoint.offer(None);
    }
}

impl Opening {
    async fn wait(&self) -> Result<(), Failure> {
        poll_fn(|cx| match &*self.result.borrow() {
            Some(result) => Poll::Ready(result.clone()),
            None => {
                self.wakers.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn end(&self, result: Result<(), Failure>) {
        *self.result.borrow_mut() = Some(result);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }
}

impl ClusterState {
    /// A place for a stream on a connection to the endpoint, if there is one at once.
    pub(crate) fn http2_lease(&self, endpoint: &EndpointState) -> Option<Lease> {
        endpoint.http2.lease()
    }

    /// A place for a stream on a connection to the endpoint, sooner or later.
    pub(crate) async fn http2_open(
        self: &Rc<Self>,
        endpoint: &Rc<EndpointState>,
        options: Http2Options,
        is_high: bool,
    ) -> Result<Lease, Failure> {
        loop {
            if let Some(lease) = endpoint.http2.lease() {
                // One after the other, so that nobody waits while there is room.
                endpoint.wake_for_room();
                return Ok(lease);
            }
            let opening = endpoint.http2.opening.borrow().clone();
            let opening = match opening {
                Some(opening) => opening,
                None => match self.slot(endpoint, is_high) {
                    Some(slot) => self.http2_connect(endpoint, slot, options),
                    None => {
                        let waiting = endpoint.wait();
                        poll_fn(|cx| waiting.poll(cx)).await;
                        continue;
                    }
                },
            };
            opening.wait().await?;
        }
    }

    /// Opens a connection in a task of its own: whoever asked for it may go away meanwhile.
    fn http2_connect(
        self: &Rc<Self>,
        endpoint: &Rc<EndpointState>,
        slot: Slot,
        options: Http2Options,
    ) -> Rc<Opening> {
        let opening = Rc::<Opening>::default();
        *endpoint.http2.opening.borrow_mut() = Some(opening.clone());
        let (cluster, endpoint) = (self.clone(), endpoint.clone());
        let ended = opening.clone();
        tokio::task::spawn_local(async move {
            let stats = cluster.stats.clone();
            stats.cx_http2_total.increment();
            let connect = connect(&endpoint, options);
            let opened = tokio::time::timeout(cluster.cluster.connect_timeout, connect).await;
            let connected = cluster.connected(&endpoint, opened);
            drop(cluster);
            endpoint.http2.opening.borrow_mut().take();
            let (send, connection, (secured, local, birth)) = match connected {
                Ok(connected) => connected,
                Err(failure) => {
                    ended.end(Err(failure));
                    return;
                }
            };
            slot.count_connected();
            let shared = Rc::new(Shared {
                send: RefCell::new(send),
                endpoint: endpoint.clone(),
                secured,
                local,
                birth,
                active: Cell::new(0),
                limit: options.max_concurrent_streams,
                reused: Cell::new(false),
                age: endpoint.lifetime.get().begin(),
                stats,
                closed: Cell::new(false),
                idle_since: Cell::new(None),
            });
            let weak = Rc::downgrade(&shared);
            endpoint.http2.connections.borrow_mut().push(shared);
            ended.end(Ok(()));
            // Whoever waits gets the first turn at it.
            tokio::task::yield_now().await;
            if endpoint.is_retired() {
                endpoint.http2.clear();
            }
            drive(connection, &weak, &endpoint, options).await;
            drop(slot);
        });
        opening
    }
}

impl EndpointState {
    /// The next who waits is told if a connection has room: it is new, or the endpoint allows more streams.
    fn wake_for_room(&self) {
        if self.has_waiters() && self.http2.has_room() {
            self.offer(None);
        }
    }
}

type Connected = (
    SendRequest<Payload>,
    Connection<Stream, Payload>,
    (Option<Rc<Secured>>, Option<SocketAddr>, Birth),
);

async fn connect(endpoint: &EndpointState, options: Http2Options) -> io::Result<Connected> {
    let (stream, birth) = endpoint.connect(b"h2", None).await?;
    let ends = (stream.secured().cloned(), stream.local_address(), birth);
    let mut builder = Builder::new();
    match endpoint.http2.limit_of_peer.get() {
        // The codec's own guess.
        0 => {}
        // Its settings may come after the first streams.
        known => {
            builder.initial_max_send_streams(known);
        }
    }
    let (send, connection) = builder
        .enable_push(false)
        .header_table_size(options.header_table_size)
        .initial_window_size(options.initial_stream_window_size)
        .initial_connection_window_size(options.initial_connection_window_size)
        .max_header_list_size(MAX_HEADER_LIST)
        .handshake(stream)
        .await
        .map_err(io::Error::other)?;
    Ok((send, connection, ends))
}

/// Reads and writes the connection until it ends.
async fn drive(
    mut connection: Connection<Stream, Payload>,
    shared: &Weak<Shared>,
    endpoint: &EndpointState,
    options: Http2Options,
) {
    let mut pinger = Pinger::new(options.keepalive, connection.ping_pong());
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = std::pin::Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(ended.err());
        }
        endpoint.wake_for_room();
        pinger.poll_lost(cx).map(|()| None)
    })
    .await;
    if let Some(shared) = shared.upgrade() {
        shared.closed.set(true);
        if let Some(error) = ended {
            let endpoint = &shared.endpoint.text;
            tracing::debug!(endpoint, %error, "the connection has ended");
        }
        let connections = &shared.endpoint.http2.connections;
        connections
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &shared));
    }
}
