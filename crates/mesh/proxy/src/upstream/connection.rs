//! Connections to endpoints, and the pool of each endpoint in a worker.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use periplus_wire::export::FixedTags;

use crate::balance::{Host, Latency};
use crate::buffer::{Blocks, Buffer};
use crate::clock::Micros;
use crate::net::{Source, Stream};
use crate::snapshot::{Cluster, Transport};
use crate::stats::ClusterStats;
use crate::telemetry::istio::PeerCell;
use crate::upstream::Permit;
use crate::upstream::age::{Age, Lifetime};
use crate::upstream::birth::{Birth, Reaches};
use crate::upstream::http2::Http2Pool;
use crate::upstream::link::{Behind, Link};

/// The most idle connections that a worker keeps for one endpoint.
const MOST_IDLE: usize = 1024;

/// One endpoint as a worker sees it. It outlives the configuration that brought it, as long as the
/// endpoint itself stays.
pub(crate) struct EndpointState {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where connections to it are made from, if that is said.
    pub(crate) source: Option<Source>,
    /// `address` as text: the tags `upstream_address` and `peer.address`.
    pub(crate) text: String,
    /// What spans tell of it, once one has.
    pub(super) told: RefCell<Option<Rc<FixedTags>>>,
    /// What its proxy tells about it.
    pub(crate) workload: PeerCell,
    /// Requests that it is working on for this worker.
    pub(crate) active: Cell<u32>,
    /// How fast it answers this worker.
    pub(crate) latency: Latency,
    /// What all workers know of it.
    pub(crate) host: RefCell<Option<Arc<Host>>>,
    /// Its connections of this worker, idle or not, those being opened included.
    connections: Cell<u32>,
    #[expect(
        clippy::vec_box,
        reason = "they go from hand to hand, and moving one costs more than a pointer"
    )]
    idle: RefCell<Vec<Box<UpstreamConnection>>>,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    /// Its connections of HTTP/2.
    pub(super) http2: Http2Pool,
    /// How connections to it are made.
    link: RefCell<Link>,
    /// The endpoint has left its cluster: connections are not pooled any more.
    retired: Cell<bool>,
    /// For how long connections are used.
    pub(super) lifetime: Cell<Lifetime>,
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct UpstreamConnection {
    pub(crate) stream: Stream,
    /// Holds a block only while an exchange is under way.
    pub(crate) buffer: Buffer,
    /// It has served an exchange before.
    pub(crate) reused: bool,
    birth: Birth,
    /// This proxy's address, once somebody has asked for it.
    local: OnceCell<Box<SocketAddr>>,
    age: Age,
    idle_since: Micros,
    slot: Slot,
}

/// What a connection occupies: counted from the moment it begins to be opened.
#[derive(Debug)]
pub(crate) struct Slot {
    endpoint: Rc<EndpointState>,
    stats: Arc<ClusterStats>,
    permit: Permit,
}

/// What the pool has to offer.
#[derive(Debug)]
pub(crate) enum Pooled {
    /// An idle connection.
    Idle(Box<UpstreamConnection>),
    /// A connection may be opened.
    Open(Slot),
    /// The limit is reached: one has to wait.
    Full,
}

#[derive(Debug, Default)]
struct Waiter {
    /// `Some(None)`: a connection has gone, so that one may be opened.
    offer: RefCell<Option<Option<Box<UpstreamConnection>>>>,
    waker: RefCell<Option<Waker>>,
}

/// A place in the line for a connection.
#[derive(Debug)]
pub(crate) struct Waiting {
    endpoint: Rc<EndpointState>,
    waiter: Rc<Waiter>,
}

impl EndpointState {
    pub(crate) fn new(address: SocketAddr, source: Option<Source>) -> Rc<Self> {
        Rc::new(Self {
            address,
            source,
            text: address.to_string(),
            told: RefCell::default(),
            workload: PeerCell::default(),
            active: Cell::new(0),
            latency: Latency::default(),
            host: RefCell::default(),
            connections: Cell::new(0),
            idle: RefCell::default(),
            waiters: RefCell::default(),
            http2: Http2Pool::default(),
            link: RefCell::default(),
            retired: Cell::new(false),
            lifetime: Cell::new(Lifetime::ENDLESS),
        })
    }

    /// Says how connections are made from now on; those that there are stay.
    pub(super) fn set_link(&self, link: Link) {
        *self.link.borrow_mut() = link;
    }

    /// The same endpoint, to which connections are made from somewhere else.
    pub(super) fn reached_from(&self, source: Source) -> Rc<Self> {
        let state = Self::new(self.address, Some(source));
        state.set_link(self.link.borrow().clone());
        *state.host.borrow_mut() = self.host.borrow().clone();
        state.workload.take_over(&self.workload);
        state.lifetime.set(self.lifetime.get());
        state
    }

    /// Whether connections that are made in this way are as good as those that there are.
    pub(super) fn fits(&self, transport: &Transport) -> bool {
        self.link.borrow().transport.takes_over(transport)
    }

    /// The most recently used idle connection that is still good.
    #[inline]
    pub(crate) fn pop_idle(&self) -> Option<Box<UpstreamConnection>> {
        loop {
            // Not in one expression with the check: dropping a connection may touch the pool.
            let mut connection = self.idle.borrow_mut().pop()?;
            if connection.stream.is_quiet() {
                return Some(connection);
            }
            connection.slot.stats.cx_stale.increment();
        }
    }

    /// A connection of the pool, or leave to open one. `permit` asks the limit; this worker may
    /// always have one connection, else it could wait for others for ever.
    pub(crate) fn checkout(
        self: &Rc<Self>,
        stats: &Arc<ClusterStats>,
        permit: impl FnOnce(bool) -> Option<Permit>,
    ) -> Pooled {
        if let Some(connection) = self.pop_idle() {
            return Pooled::Idle(connection);
        }
        match self.slot(stats, permit) {
            Some(slot) => Pooled::Open(slot),
            None => Pooled::Full,
        }
    }

    /// Leave to open a connection.
    pub(super) fn slot(
        self: &Rc<Self>,
        stats: &Arc<ClusterStats>,
        permit: impl FnOnce(bool) -> Option<Permit>,
    ) -> Option<Slot> {
        let permit = permit(self.connections.get() == 0)?;
        Some(Slot::new(self.clone(), stats.clone(), permit))
    }

    /// Opens a connection: with how it came to be.
    pub(super) async fn connect(&self, alpn: &[u8], behind: Behind) -> io::Result<(Stream, Birth)> {
        if self.link.borrow().is_plain() {
            let mut birth = Birth::begin();
            let stream = Stream::connect(self.address, self.source).await?;
            birth.is_connected();
            return Ok((self.link.borrow().watched(stream, alpn)?, birth));
        }
        let link = self.link.borrow().clone();
        // Boxed, so that a plaintext connection does not need the memory for it.
        Box::pin(link.connect((self.address, self.source), alpn, behind)).await
    }

    /// How many connections this worker has to it.
    pub(super) fn connections(&self) -> u32 {
        self.connections.get()
    }

    /// Whether there is a connection, or somebody who means to have one.
    pub(super) fn is_used(self: &Rc<Self>) -> bool {
        self.connections.get() > 0 || Rc::strong_count(self) > 1
    }

    /// Takes a place in the line.
    pub(crate) fn wait(self: &Rc<Self>) -> Waiting {
        let waiter = Rc::<Waiter>::default();
        self.waiters.borrow_mut().push_back(waiter.clone());
        Waiting {
            endpoint: self.clone(),
            waiter,
        }
    }

    /// Whether anybody stands in the line.
    #[inline]
    pub(super) fn has_waiters(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// The endpoint has left: closes its idle connections.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
        self.http2.clear();
    }

    /// The endpoint has failed: closes its connections, those at work when their requests end.
    pub(super) fn close_all(&self) {
        self.lifetime.set(self.lifetime.get().next_epoch());
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
        self.http2.clear();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// The endpoint has come back.
    pub(crate) fn restore(&self) {
        self.retired.set(false);
    }

    /// Connections are used for as long as the cluster says.
    pub(super) fn limit(&self, cluster: &Cluster) {
        self.lifetime.set(self.lifetime.get().limited_by(cluster));
    }

    /// Closes connections that were idle for too long or that the endpoint has closed.
    pub(crate) fn sweep(&self, now: Micros, idle_timeout: Option<Duration>, stats: &ClusterStats) {
        stats
            .cx_idle_timeout
            .add(self.http2.sweep(now, idle_timeout));
        let mut gone = Vec::new();
        {
            let mut idle = self.idle.borrow_mut();
            let mut at = 0;
            while at < idle.len() {
                let connection = &mut idle[at];
                let expired = idle_timeout.is_some_and(|timeout| {
                    now.saturating_sub(connection.idle_since) >= timeout.as_micros() as u64
                });
                if expired {
                    connection.slot.stats.cx_idle_timeout.increment();
                }
                let is_over = connection.age.is_over(self.lifetime.get(), stats);
                if expired || is_over || !connection.stream.is_quiet() {
                    gone.push(idle.swap_remove(at));
                } else {
                    at += 1;
                }
            }
        }
        drop(gone);
    }

    /// The next who waits gets the connection, or the news that one has gone.
    pub(super) fn offer(
        &self,
        mut offer: Option<Box<UpstreamConnection>>,
    ) -> Option<Box<UpstreamConnection>> {
        loop {
            let Some(waiter) = self.waiters.borrow_mut().pop_front() else {
                return offer;
            };
            if Rc::strong_count(&waiter) > 1 {
                *waiter.offer.borrow_mut() = Some(offer.take());
                if let Some(waker) = waiter.waker.borrow_mut().take() {
                    waker.wake();
                }
                return None;
            }
        }
    }
}

impl fmt::Debug for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointState")
            .field("address", &self.address)
            .field("active", &self.active)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl UpstreamConnection {
    /// Opens a connection.
    pub(crate) async fn open(slot: Slot, behind: Behind) -> io::Result<Box<Self>> {
        slot.stats.cx_http1_total.increment();
        Self::open_as(b"http/1.1", slot, behind).await
    }

    /// Opens a connection for other bytes than those of HTTP.
    pub(crate) async fn open_raw(slot: Slot, behind: Behind) -> io::Result<Box<Self>> {
        Self::open_as(b"", slot, behind).await
    }

    async fn open_as(alpn: &[u8], slot: Slot, behind: Behind) -> io::Result<Box<Self>> {
        let (stream, birth) = slot.connect(alpn, behind).await?;
        Ok(Box::new(Self {
            stream,
            birth,
            buffer: Buffer::default(),
            reused: false,
            local: OnceCell::new(),
            age: slot.endpoint.lifetime.get().begin(),
            idle_since: 0,
            slot,
        }))
    }

    /// Gives the connection back after an exchange that left it clean.
    pub(crate) fn release(mut self: Box<Self>, now: Micros, blocks: &Blocks) {
        debug_assert!(self.buffer.is_empty());
        blocks.give_back(self.buffer.take_block());
        self.reused = true;
        self.idle_since = now;
        let endpoint = self.slot.endpoint.clone();
        self.age.count();
        let is_over = self.age.is_over(endpoint.lifetime.get(), &self.slot.stats);
        if is_over || endpoint.retired.get() || !endpoint.link.borrow().is_shared() {
            return;
        }
        if let Some(connection) = endpoint.offer(Some(self)) {
            let mut idle = endpoint.idle.borrow_mut();
            if idle.len() < MOST_IDLE {
                idle.push(connection);
            } else {
                drop(idle);
                drop(connection);
            }
        }
    }
}

impl Reaches for UpstreamConnection {
    /// The kernel is asked once.
    fn local_address(&self) -> Option<SocketAddr> {
        if let Some(known) = self.local.get() {
            return Some(**known);
        }
        let address = self.stream.local_address()?;
        Some(**self.local.get_or_init(|| Box::new(address)))
    }

    fn birth(&self) -> &Birth {
        &self.birth
    }
}

impl Slot {
    fn new(endpoint: Rc<EndpointState>, stats: Arc<ClusterStats>, permit: Permit) -> Self {
        endpoint.connections.set(endpoint.connections.get() + 1);
        stats.cx_total.increment();
        stats.cx_active.increment();
        Self {
            endpoint,
            stats,
            permit: permit.begin(),
        }
    }

    /// Opens the connection: with how it came to be.
    pub(crate) async fn connect(&self, alpn: &[u8], behind: Behind) -> io::Result<(Stream, Birth)> {
        let connected = self.endpoint.connect(alpn, behind).await?;
        self.count_connected();
        Ok(connected)
    }

    /// Counts how long it took to connect.
    pub(super) fn count_connected(&self) {
        self.stats.cx_connect_ms.add(self.permit.age_ms());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let connections = &self.endpoint.connections;
        connections.set(connections.get() - 1);
        self.stats.cx_active.decrement();
        self.stats.cx_destroy.increment();
        self.stats.cx_length_ms.add(self.permit.age_ms());
        self.endpoint.offer(None);
    }
}

impl Waiting {
    /// The connection, or `None` if one has gone and the pool is to be asked again.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Box<UpstreamConnection>>> {
        if let Some(offer) = self.waiter.offer.borrow_mut().take() {
            return Poll::Ready(offer);
        }
        *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Still in the line: nobody else would take it out before its turn comes, which may be never.
        if Rc::strong_count(&self.waiter) > 1 {
            let mut waiters = self.endpoint.waiters.borrow_mut();
            waiters.retain(|other| !Rc::ptr_eq(other, &self.waiter));
            return;
        }
        // Whoever gave up must not keep what the next one waits for.
        if let Some(offer) = self.waiter.offer.borrow_mut().take()
            && let Some(connection) = self.endpoint.offer(offer)
            && !self.endpoint.retired.get()
        {
            self.endpoint.idle.borrow_mut().push(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_gives_up_leaves_the_line() {
        let endpoint = EndpointState::new(([127, 0, 0, 1], 1).into(), None);
        let [first, second] = [endpoint.wait(), endpoint.wait()];
        drop(first);
        assert_eq!(endpoint.waiters.borrow().len(), 1);
        // What is offered to somebody who gives up then is the next one's.
        let third = endpoint.wait();
        assert!(endpoint.offer(None).is_none());
        drop(second);
        let cx = Context::from_waker(Waker::noop());
        assert!(matches!(third.poll(&cx), Poll::Ready(None)));
        drop(third);
        assert!(!endpoint.has_waiters());
    }
}
