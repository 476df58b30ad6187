//! Getting a connection to an endpoint while the client waits.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::buffer::BLOCK;
use crate::call::Call;
use crate::clock::Micros;
use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::http1::chunked::ChunkError;
use crate::http1::framing::{Decoder, Framing};
use crate::relay::poll_flush;
use crate::reply::Failure;
use crate::trace::Waited;
use crate::upstream::{ClusterState, EndpointState, Pooled, UpstreamConnection};
use crate::worker::Worker;

/// A client that waits for something.
pub(crate) trait Waits {
    fn call(&self) -> &Call;

    fn call_mut(&mut self) -> &mut Call;

    /// Ready once the client has gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Failure>;

    /// Reads the request's body, which goes on later all the same: ready once it is there as a whole, or `most`
    /// bytes of it.
    fn poll_body(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<Body, Failure>>;
}

/// What there is of a request's body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) data: Vec<u8>,
    pub(crate) is_whole: bool,
}

/// How much more memory a body may take than its data, for the heads of its chunks.
const MOST_FRAMING: usize = 8;

impl Body {
    /// The body at the beginning of what has arrived, at most so many bytes of it; none if it is malformed.
    fn peek(framing: Framing, mut arrived: &[u8], most: usize) -> Result<Self, ChunkError> {
        let mut decoder = Decoder::new(framing);
        let mut body = Self::default();
        while !decoder.is_done() {
            let piece = decoder.decode(arrived)?;
            let (piece_end, room) = (piece.skip + piece.data, most - body.data.len());
            let data = &arrived[piece.skip..piece_end];
            body.data.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room || piece_end == 0 {
                return Ok(body);
            }
            arrived = &arrived[piece_end..];
        }
        body.is_whole = true;
        Ok(body)
    }
}

/// Lets time pass until then, as long as the client is there.
pub(crate) async fn pause(client: &mut impl Waits, until: Micros) -> Result<(), Failure> {
    client.call().timer.set_at(Some(until));
    poll_fn(|cx| {
        if let Poll::Ready(gone) = client.poll_gone(cx) {
            return Poll::Ready(Err(gone));
        }
        let call = client.call();
        call.timer
            .poll_passed(|| call.worker.clock.now(), cx)
            .map(|()| match call.worker.timers.is_cut() {
                true => Err(Failure::Ending),
                false => Ok(()),
            })
    })
    .await
}

/// A connection of HTTP/1.1 to the endpoint: from the pool unless `fresh`, else a new one.
pub(crate) async fn acquire(
    client: &mut impl Waits,
    exchange: &Exchange,
    cluster: &Rc<ClusterState>,
    endpoint: &Rc<EndpointState>,
    fresh: bool,
) -> Result<Box<UpstreamConnection>, Failure> {
    if !fresh && let Some(connection) = endpoint.pop_idle() {
        return Ok(connection);
    }
    // Boxed, as it is rare: else every connection would hold the memory for it.
    Box::pin(wait_for(client, exchange, cluster, endpoint)).await
}

/// A connection of the client's own, whatever is spoken on it.
#[cold]
pub(crate) async fn acquire_raw(
    client: &mut impl Waits,
    exchange: &Exchange,
    cluster: &Rc<ClusterState>,
    endpoint: &Rc<EndpointState>,
) -> Result<Box<UpstreamConnection>, Failure> {
    let behind = client.call().client.ends();
    let worker = client.call().worker.clone();
    let connect = async {
        let slot = cluster.own_slot(endpoint).ok_or(Failure::Overflow)?;
        let timed = Timed::begin(exchange, &worker, Waited::connecting);
        let open = UpstreamConnection::open_raw(slot, behind);
        let opened = tokio::time::timeout(cluster.cluster.connect_timeout, open).await;
        drop(timed);
        cluster.connected(endpoint, opened)
    };
    Box::pin(while_pending(client, exchange, cluster, connect)).await
}

/// Measures how long an attempt waits, until it is dropped: that of a wait that was given up, too.
struct Timed<'a> {
    exchange: &'a Exchange,
    worker: &'a Worker,
    begin: Micros,
    note: fn(&Waited, Micros),
}

impl<'a> Timed<'a> {
    /// None if no span tells it.
    fn begin(
        exchange: &'a Exchange,
        worker: &'a Worker,
        note: fn(&Waited, Micros),
    ) -> Option<Self> {
        exchange.is_measured().then(|| Self {
            exchange,
            worker,
            begin: worker.clock.now(),
            note,
        })
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let took = self.worker.clock.now() - self.begin;
        self.exchange.waited(|waited| (self.note)(waited, took));
    }
}

/// A connection that becomes free, or a new one.
async fn wait_for(
    client: &mut impl Waits,
    exchange: &Exchange,
    cluster: &Rc<ClusterState>,
    endpoint: &Rc<EndpointState>,
) -> Result<Box<UpstreamConnection>, Failure> {
    let behind = client.call().client.ends();
    let worker = client.call().worker.clone();
    let connect = async {
        loop {
            let slot = match cluster.checkout(endpoint, exchange.is_high_priority) {
                Pooled::Idle(connection) => return Ok(connection),
                Pooled::Open(slot) => slot,
                Pooled::Full => {
                    let waiting = endpoint.wait();
                    let timed = Timed::begin(exchange, &worker, Waited::queued);
                    let offered = poll_fn(|cx| waiting.poll(cx)).await;
                    drop(timed);
                    match offered {
                        Some(connection) => return Ok(connection),
                        None => continue,
                    }
                }
            };
            let timed = Timed::begin(exchange, &worker, Waited::connecting);
            let open = UpstreamConnection::open(slot, behind);
            let opened = tokio::time::timeout(cluster.cluster.connect_timeout, open).await;
            drop(timed);
            return cluster.connected(endpoint, opened);
        }
    };
    while_pending(client, exchange, cluster, connect).await
}

/// Runs something that gets a connection: as one of the requests that wait for one, within the
/// time of the request, and as long as the client is there.
pub(crate) async fn while_pending<T>(
    client: &mut impl Waits,
    exchange: &Exchange,
    cluster: &ClusterState,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let stats = &cluster.stats;
    let Some(_pending) = cluster.pending_permit(exchange.is_high_priority) else {
        stats.rq_pending_overflow.increment();
        return Err(Failure::Overflow);
    };
    stats.rq_pending_total.increment();
    stats.rq_pending_active.increment();
    let after = |time: Option<std::time::Duration>| {
        time.filter(|time| !time.is_zero())
            .map(|time| exchange.onward + time.as_micros() as u64)
    };
    let (timeout, stream) = (after(exchange.timeout), after(exchange.stream_timeout()));
    let deadline = [timeout, stream].into_iter().flatten().min();
    client.call().timer.set_at(deadline);
    let mut work = pin!(work);
    let result = poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if let Poll::Ready(gone) = client.poll_gone(cx) {
            return Poll::Ready(Err(gone));
        }
        let call = client.call();
        call.timer
            .poll_passed(|| call.worker.clock.now(), cx)
            .map(|()| {
                Err(if call.worker.timers.is_cut() {
                    Failure::Ending
                } else if deadline == stream {
                    Failure::StreamTimeout {
                        request_complete: true,
                    }
                } else {
                    Failure::RouteTimeout
                })
            })
    })
    .await;
    stats.rq_pending_active.decrement();
    if result.is_err() {
        stats.rq_pending_failure_eject.increment();
    }
    result
}

impl Waits for Connection {
    fn call(&self) -> &Call {
        &self.call
    }

    fn call_mut(&mut self) -> &mut Call {
        &mut self.call
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        self.poll_client(cx).map(|()| Failure::ClientGone)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<Body, Failure>> {
        let call = &mut self.call;
        if call.request.expects_continue {
            // Nobody else will, before the body is there.
            // A head without it is as valid as with it.
            let _ = call.edit_head(&["expect".to_owned()], &[]);
            call.out
                .bytes
                .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        loop {
            let written = poll_flush(cx, &mut self.stream, &mut self.call.out, &mut false);
            if let Poll::Ready(Err(_)) = written {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            let call = &mut self.call;
            let arrived = call.buffer.unread();
            let body = Body::peek(call.request.framing, arrived, most);
            let body = body.map_err(Failure::ClientBody)?;
            let head = call.buffer.head().len();
            let largest = head + MOST_FRAMING * most + BLOCK;
            if body.is_whole || body.data.len() >= most || call.buffer.unread().len() >= largest {
                return Poll::Ready(Ok(body));
            }
            if call.buffer.is_full() {
                let double = 2 * call.buffer.capacity();
                call.buffer.grow(double.min(largest));
            }
            match ready!(self.stream.poll_read(cx, &mut self.call.buffer)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Failure::ClientGone)),
                Ok(_) => {}
            }
        }
    }
}

impl Connection {
    /// Watches a client that waits for its response: ready once it has gone. Requests that it sends
    /// meanwhile stay in the buffer.
    pub(crate) fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.ended && !self.call.buffer.is_full() {
            match self.stream.poll_read(cx, &mut self.call.buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    self.ended_at = self.call.worker.clock.now();
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
        Poll::Pending
    }
}
