//! Getting a connection to an endpoint while the client waits.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::reply::Failure;
use crate::upstream::{ClusterState, EndpointState, Pooled, UpstreamConnection};

impl Connection {
    /// A connection to the endpoint: from the pool unless `fresh`, else a new one.
    pub(crate) async fn acquire(
        &mut self,
        exchange: &Exchange,
        cluster: &Rc<ClusterState>,
        endpoint: &Rc<EndpointState>,
        fresh: bool,
    ) -> Result<UpstreamConnection, Failure> {
        if !fresh && let Some(connection) = endpoint.pop_idle() {
            return Ok(connection);
        }
        // Boxed, as it is rare: else every connection would hold the memory for it.
        Box::pin(self.acquire_slowly(exchange, cluster, endpoint)).await
    }

    /// Opens a connection, or waits for one.
    async fn acquire_slowly(
        &mut self,
        exchange: &Exchange,
        cluster: &Rc<ClusterState>,
        endpoint: &Rc<EndpointState>,
    ) -> Result<UpstreamConnection, Failure> {
        let stats = &cluster.stats;
        let Some(_pending) = cluster.pending_permit() else {
            stats.rq_pending_overflow.increment();
            return Err(Failure::Overflow);
        };
        stats.rq_pending_total.increment();
        stats.rq_pending_active.increment();
        let connect = async {
            loop {
                let slot = match cluster.checkout(endpoint) {
                    Pooled::Idle(connection) => return Ok(connection),
                    Pooled::Open(slot) => slot,
                    Pooled::Full => {
                        let waiting = endpoint.wait();
                        match poll_fn(|cx| waiting.poll(cx)).await {
                            Some(connection) => return Ok(connection),
                            None => continue,
                        }
                    }
                };
                let open = UpstreamConnection::open(slot);
                return match tokio::time::timeout(cluster.cluster.connect_timeout, open).await {
                    Ok(Ok(connection)) => Ok(connection),
                    Ok(Err(error)) => {
                        stats.cx_connect_fail.increment();
                        let endpoint = &endpoint.text;
                        let cluster = &cluster.cluster.name;
                        tracing::debug!(cluster, endpoint, %error, "cannot connect");
                        Err(Failure::Connect)
                    }
                    Err(_) => {
                        stats.cx_connect_timeout.increment();
                        Err(Failure::ConnectTimeout)
                    }
                };
            }
        };
        let result = self.while_client_waits(exchange, connect).await;
        stats.rq_pending_active.decrement();
        if result.is_err() {
            stats.rq_pending_failure_eject.increment();
        }
        result
    }

    /// Runs something within the route's timeout, as long as the client is there.
    async fn while_client_waits<T>(
        &mut self,
        exchange: &Exchange,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let timeout = self
            .call
            .forward_action(exchange)
            .and_then(|forward| forward.timeout);
        self.call.timer.set(exchange.begin, timeout);
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if self.poll_client(cx).is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            self.call
                .timer
                .poll_passed(|| self.call.worker.clock.now(), cx)
                .map(|()| Err(Failure::RouteTimeout))
        })
        .await
    }

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
