//! Getting a connection to an endpoint while the client waits.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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

    /// Reads the request's body, which goes on later all the same: ready once it is there as a whole, or as much of it
    /// as is asked for.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        arriving: &mut Arriving,
    ) -> Poll<Result<(), Failure>>;
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
    /// Whether it is there as a whole, and has no more than so many bytes. One that is not may have few: those whose
    /// chunks take more memory than their data is worth.
    pub(crate) fn is_within(&self, most: usize) -> bool {
        self.is_whole && self.data.len() <= most
    }
}

/// A body that is arriving. What was looked at once is not looked at again.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// So much of it is enough.
    pub(crate) most: usize,
    pub(crate) body: Body,
    decoder: Option<Decoder>,
    /// How many bytes of what has arrived have been looked at.
    seen: usize,
}

impl Arriving {
    fn new(most: usize) -> Self {
        Self {
            most,
            body: Body::default(),
            decoder: None,
            seen: 0,
        }
    }

    /// Looks at all that has arrived, which begins as it did before: whether it is enough.
    fn is_enough(&mut self, framing: Framing, arrived: &[u8]) -> Result<bool, ChunkError> {
        let decoder = self.decoder.get_or_insert_with(|| Decoder::new(framing));
        let data = &mut self.body.data;
        while !decoder.is_done() {
            let piece = decoder.decode(&arrived[self.seen..])?;
            let begin = self.seen + piece.skip;
            self.seen = begin + piece.data;
            let room = self.most - data.len();
            data.extend_from_slice(&arrived[begin..begin + piece.data.min(room)]);
            if piece.data > room || piece.skip + piece.data == 0 {
                return Ok(data.len() >= self.most);
            }
        }
        self.body.is_whole = true;
        Ok(true)
    }
}

/// Waits for the body of a request, or for so many bytes of it: for as long as nothing may move, and as the whole request
/// may take.
pub(crate) async fn wait_for_body(
    client: &mut impl Waits,
    exchange: &Exchange,
    most: usize,
) -> Result<Body, Failure> {
    let call = client.call();
    let after = |since: Micros, time: Option<Duration>| {
        let time = time.filter(|time| !time.is_zero())?;
        Some(since + time.as_micros() as u64)
    };
    let manager = &call.view.manager;
    let most_idle = exchange.idle_timeout(manager);
    let request = after(exchange.begin, manager.request_timeout);
    let stream = after(exchange.begin, exchange.stream_timeout());
    let mut idle = after(call.worker.clock.now(), most_idle);
    let mut arriving = Arriving::new(most);
    poll_fn(|cx| {
        if let Poll::Ready(arrived) = client.poll_body(cx, &mut arriving) {
            return Poll::Ready(arrived);
        }
        let call = client.call();
        let passed = |at: Option<Micros>| at.is_some_and(|at| at <= call.worker.clock.now());
        if !passed(idle) {
            // It is more of the body that has woken this.
            idle = after(call.worker.clock.now(), most_idle);
        }
        loop {
            let deadlines = [request, stream, idle];
            call.timer.set_at(deadlines.into_iter().flatten().min());
            ready!(call.timer.poll_passed(|| call.worker.clock.now(), cx));
            if call.worker.timers.is_cut() {
                return Poll::Ready(Err(Failure::Ending));
            }
            let request_complete = false;
            if passed(stream) {
                return Poll::Ready(Err(Failure::StreamTimeout { request_complete }));
            }
            if passed(request) {
                return Poll::Ready(Err(Failure::RequestTimeout));
            }
            if passed(idle) {
                return Poll::Ready(Err(Failure::Idle { request_complete }));
            }
        }
    })
    .await?;
    Ok(arriving.body)
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
    let after = |time: Option<Duration>| {
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

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        arriving: &mut Arriving,
    ) -> Poll<Result<(), Failure>> {
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
            let is_enough = arriving.is_enough(call.request.framing, arrived);
            let largest = MOST_FRAMING * arriving.most + BLOCK;
            if is_enough.map_err(Failure::ClientBody)? || arrived.len() >= largest {
                return Poll::Ready(Ok(()));
            }
            if call.buffer.is_full() {
                // So there is always room for more: what is unread is less than that.
                let (head, double) = (call.buffer.head().len(), 2 * call.buffer.capacity());
                call.buffer.grow(double.min(head + largest));
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
