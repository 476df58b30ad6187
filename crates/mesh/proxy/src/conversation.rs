//! The two directions of an exchange, polled by one task.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::buffer::Output;
use crate::clock::Micros;
use crate::connection::{Connection, Next};
use crate::exchange::Exchange;
use crate::http1::framing::Framing;
use crate::http1::head::Limits;
use crate::http1::response::Interims;
use crate::relay::{Relay, RelayError, poll_flush};
use crate::reply::Failure;
use crate::snapshot::Cluster;
use crate::upstream::UpstreamConnection;

/// How long a client that has closed its side, and has not asked to close, waits for the next byte:
/// it may have shut down its writing side only, but most likely it has gone.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How a conversation ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client has the whole response.
    Complete {
        /// The upstream connection is clean.
        reusable: bool,
        next: Next,
    },
    /// The endpoint had closed the pooled connection before the request came, and the request may
    /// be sent again.
    Stale,
    /// Something went wrong.
    Failed(Failure),
}

/// An exchange between a client and an endpoint.
pub(crate) struct Conversation<'a> {
    client: &'a mut Connection,
    exchange: &'a mut Exchange,
    upstream: &'a mut UpstreamConnection,
    request: &'a mut Relay,
    request_out: &'a mut Output,
    /// When the upstream had the whole request.
    request_sent: Option<Micros>,
    /// The endpoint takes no more of the request; its response may be there all the same.
    refused: bool,
    /// The body of the final response, once its head is there.
    response: Option<Relay>,
    /// The endpoint has sent something.
    heard: bool,
    interims: Interims,
    keep: bool,
    begin: Micros,
    last_progress: Micros,
    route_deadline: Option<Micros>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(
        client: &'a mut Connection,
        exchange: &'a mut Exchange,
        upstream: &'a mut UpstreamConnection,
        request: &'a mut Relay,
        request_out: &'a mut Output,
    ) -> Self {
        if let Some(attempt) = &mut exchange.attempt {
            attempt.connected = true;
            attempt.secured_by(upstream.stream.secured());
        }
        if let Some(telemetry) = &client.call.view.telemetry {
            telemetry.keep_upstream(exchange, &client.call.worker, &*upstream);
        }
        let begin = exchange.onward;
        Self {
            client,
            exchange,
            upstream,
            request,
            request_out,
            request_sent: None,
            refused: false,
            response: None,
            heard: false,
            interims: Interims::default(),
            keep: false,
            begin,
            last_progress: begin,
            route_deadline: None,
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(&mut self) -> Ended {
        if self.request.is_taken() {
            // The usual case: the whole request is in the output, sent as soon as it was read.
            self.request_is_complete(self.begin);
        }
        self.arm();
        let mut first = true;
        let result = poll_fn(|cx| self.poll(cx, std::mem::take(&mut first))).await;
        if let Some(response) = &self.response {
            self.exchange.response_bytes = response.body_bytes;
            if let Some(telemetry) = &self.client.call.view.telemetry {
                telemetry.keep_trailers(self.exchange, response.trailers());
            }
        }
        match result {
            Ok(()) => self.complete(),
            Err(Failure::Terminated) if self.may_retry() => Ended::Stale,
            Err(failure) => Ended::Failed(failure),
        }
    }

    /// What a failure of the client's direction means.
    pub(crate) fn client_failure(error: RelayError) -> Failure {
        match error {
            RelayError::Body(error) => Failure::ClientBody(error),
            RelayError::SourceEnded | RelayError::Source | RelayError::Sink => Failure::ClientGone,
        }
    }

    fn complete(&self) -> Ended {
        let request_complete = self.request_sent.is_some() && !self.refused;
        let reusable = request_complete
            && self.client.call.response.keep_alive
            && self.client.call.response.framing != Framing::Close
            && self.upstream.buffer.is_empty();
        Ended::Complete {
            reusable,
            next: if self.keep && request_complete {
                Next::Continue
            } else {
                Next::Close
            },
        }
    }

    /// Whether the failure is that of an old connection, and the request can do no harm twice
    /// (RFC 9110 §9.2.2): it is idempotent, or not a byte of it was sent.
    fn may_retry(&self) -> bool {
        self.upstream.reused
            && !self.heard
            && self.request.replayable
            && (self.request_out.is_untouched()
                || self
                    .client
                    .call
                    .request
                    .is_idempotent(self.client.call.buffer.head()))
    }

    fn poll(&mut self, cx: &mut Context<'_>, first: bool) -> Poll<Result<(), Failure>> {
        let mut progress = false;
        let sent = self.request_sent.is_some() && self.request_out.is_written();
        if !sent && let Poll::Ready(Err(failure)) = self.poll_request(cx, &mut progress) {
            return Poll::Ready(Err(failure));
        }
        if let Poll::Ready(result) = self.poll_response(cx, &mut progress) {
            return Poll::Ready(result);
        }
        // A client that only waits is looked at last: most often its response is complete by now.
        if sent && self.client.poll_client(cx).is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        if progress && !first {
            self.last_progress = self.client.call.worker.clock.now();
            self.arm();
        }
        self.poll_deadline(cx)
    }

    /// The client's direction; pending is also said when there is nothing left to do.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<Result<(), Failure>> {
        if self.refused {
            return Poll::Pending;
        }
        if self.request.is_taken() && self.request_out.is_written() {
            return self
                .client
                .poll_client(cx)
                .map(|()| Err(Failure::ClientGone));
        }
        let was_taken = self.request.is_taken();
        let moved = self.request.poll(
            cx,
            (&mut self.client.stream, &mut self.client.call.buffer),
            (&mut self.upstream.stream, self.request_out),
            progress,
        );
        match moved {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                if !was_taken {
                    self.request_is_complete(self.client.call.worker.clock.now());
                    self.arm();
                }
                self.client
                    .poll_client(cx)
                    .map(|()| Err(Failure::ClientGone))
            }
            Poll::Ready(Err(RelayError::Sink)) => {
                self.refused = true;
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Self::client_failure(error))),
        }
    }

    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<Result<(), Failure>> {
        if self.response.is_none() {
            match self.poll_head(cx, progress) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        } else {
            self.client.call.answered_at = self.client.call.worker.clock.now();
        }
        let Some(response) = &mut self.response else {
            return Poll::Pending;
        };
        let moved = response.poll(
            cx,
            (&mut self.upstream.stream, &mut self.upstream.buffer),
            (&mut self.client.stream, &mut self.client.call.out),
            progress,
        );
        moved.map(|moved| match moved {
            Ok(()) => Ok(()),
            Err(RelayError::Sink) => Err(Failure::ClientGone),
            // Envoy's codec calls an early end a protocol error; only a reset is a termination.
            Err(RelayError::SourceEnded) => Err(Failure::Protocol("the body ends early")),
            Err(RelayError::Source) => Err(Failure::Terminated),
            Err(RelayError::Body(_)) => Err(Failure::Protocol("a chunk is malformed")),
        })
    }

    /// Waits for the head of the final response; interim ones are passed on.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<Result<(), Failure>> {
        loop {
            if !self.upstream.buffer.is_empty() && self.take_head()? {
                return Poll::Ready(Ok(()));
            }
            let client = &mut *self.client;
            let flushed = poll_flush(cx, &mut client.stream, &mut client.call.out, progress);
            if let Poll::Ready(Err(_)) = flushed {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            let limits = self.limits();
            ready!(poll_more_of_head(cx, self.upstream, limits))?;
            self.heard = true;
            *progress = true;
        }
    }

    /// Those of the heads of responses.
    #[inline]
    fn limits(&self) -> Limits {
        let cluster = self.exchange.cluster.as_ref();
        cluster.map_or(Cluster::RESPONSE_LIMITS, |cluster| {
            cluster.cluster.response_limits()
        })
    }

    /// Takes heads that have arrived: whether the final one is among them.
    fn take_head(&mut self) -> Result<bool, Failure> {
        loop {
            let limits = self.limits();
            let client = &mut *self.client;
            let parsed = client.call.response.parse(
                self.upstream.buffer.unread(),
                limits,
                client.call.request.is_head,
            );
            let length = match parsed {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(false),
                Err(refused) => return Err(Failure::Protocol(refused.reason)),
            };
            if !client.call.response.is_interim() {
                self.begin_response(length)?;
                return Ok(true);
            }
            self.interims.add(length).map_err(Failure::Protocol)?;
            // As with Envoy the response has begun.
            self.exchange.retries = false;
            // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
            if client.call.request.minor_version == 1 {
                let head = &self.upstream.buffer.unread()[..length];
                client
                    .call
                    .response
                    .copy_interim(head, &mut client.call.out.bytes);
            }
            self.upstream.buffer.consume(length);
        }
    }

    fn begin_response(&mut self, length: usize) -> Result<(), Failure> {
        let client = &mut *self.client;
        let status = client.call.response.status;
        if status == 101 {
            return Err(Failure::Protocol("an upgrade that nobody asked for"));
        }
        let modern = client.call.request.minor_version == 1;
        let (framing, chunks) = match client.call.response.framing {
            framing @ (Framing::Chunked | Framing::Close) => (framing, modern),
            framing => (framing, false),
        };
        self.keep = client.call.request.keep_alive
            && !self.refused
            && !client.is_to_end()
            && (modern || !matches!(framing, Framing::Chunked | Framing::Close));
        let now = client.call.worker.clock.now();
        let since = self.request_sent.unwrap_or(self.begin);
        self.exchange.answered(status, now);
        let head = &self.upstream.buffer.unread()[..length];
        if self.exchange.retries {
            let complete = self.request.is_taken() && self.request.replayable;
            if client.call.retries_response(self.exchange, head, complete) {
                return Err(Failure::Again);
            }
        }
        self.exchange.status = status;
        client.call.answered_at = now;
        let upstream_ms = now.saturating_sub(since) / 1000;
        client
            .call
            .write_response(self.exchange, head, upstream_ms, chunks, self.keep);
        self.upstream.buffer.consume(length);
        let mut response = Relay::new(framing, chunks);
        let filled = response.fill(&mut self.upstream.buffer, &mut client.call.out);
        self.response = Some(response);
        filled.map_err(|_| {
            // Nothing of it has been sent.
            self.exchange.status = 0;
            Failure::Protocol("a chunk is malformed")
        })
    }

    fn request_is_complete(&mut self, now: Micros) {
        self.request_sent = Some(now);
        self.exchange.is_complete(now);
        if let Some(telemetry) = &self.client.call.view.telemetry {
            telemetry.keep_request(self.exchange, now);
        }
        // The time for one attempt is less than that of the route.
        self.route_deadline = self
            .exchange
            .per_try()
            .or(self.exchange.timeout)
            .filter(|timeout| !timeout.is_zero())
            .map(|timeout| now + timeout.as_micros() as u64);
    }

    /// Sets the timer to the nearest deadline.
    fn arm(&self) {
        let deadlines = [self.route_deadline, self.idle_deadline(), self.grace()];
        self.client
            .call
            .timer
            .set_at(deadlines.into_iter().flatten().min());
    }

    fn idle_deadline(&self) -> Option<Micros> {
        let timeout = self.exchange.idle_timeout(&self.client.call.view.manager)?;
        (!timeout.is_zero()).then(|| self.last_progress + timeout.as_micros() as u64)
    }

    /// When a client that has closed its side counts as gone.
    fn grace(&self) -> Option<Micros> {
        let applies = self.client.ended && self.client.call.request.keep_alive;
        let since = self.client.ended_at.max(self.last_progress);
        applies.then(|| since + GRACE.as_micros() as u64)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if self.client.ended && self.client.ended_at > self.last_progress {
                self.arm();
            }
            let clock = &self.client.call.worker.clock;
            if self
                .client
                .call
                .timer
                .poll_passed(|| clock.now(), cx)
                .is_pending()
            {
                return Poll::Pending;
            }
            let now = clock.now();
            let passed = |deadline: Option<Micros>| deadline.is_some_and(|at| at <= now);
            if passed(self.grace()) {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if passed(self.route_deadline) {
                return Poll::Ready(Err(match self.exchange.per_try() {
                    Some(_) => Failure::TryTimeout,
                    None => Failure::RouteTimeout,
                }));
            }
            if passed(self.idle_deadline()) {
                return Poll::Ready(Err(Failure::Idle {
                    request_complete: self.request_sent.is_some(),
                }));
            }
            self.arm();
        }
    }
}

/// Reads more of a response head that is not complete.
#[inline]
pub(crate) fn poll_more_of_head(
    cx: &mut Context<'_>,
    upstream: &mut UpstreamConnection,
    limits: Limits,
) -> Poll<Result<(), Failure>> {
    let buffer = &mut upstream.buffer;
    if buffer.is_full() {
        buffer.grow((2 * buffer.capacity()).min(limits.bytes + 1));
    }
    Poll::Ready(match ready!(upstream.stream.poll_read(cx, buffer)) {
        Ok(0) if !buffer.is_empty() => Err(Failure::Protocol("the head ends early")),
        Ok(0) | Err(_) => Err(Failure::Terminated),
        Ok(_) => Ok(()),
    })
}
