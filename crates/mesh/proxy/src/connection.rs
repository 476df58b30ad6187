//! A downstream connection: one task that reads requests and has them answered, in order.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::buffer::Buffer;
use crate::call::{Call, Client, Current, Parts, Protocol};
use crate::clock::Micros;
use crate::http1::head::{Limits, Refused};
use crate::http2;
use crate::net::Stream;
use crate::registry::Registered;
use crate::relay::poll_flush;
use crate::reply::Reply;
use crate::snapshot::Codec;
use crate::telemetry::Refusal;
use crate::telemetry::istio::PeerCell;
use crate::view::HttpView;
use crate::worker::Worker;

/// How long a request head may take if `request_headers_timeout` is not set. Envoy has no limit then,
/// so that a client may hold a connection and its buffer for ever.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that is to end may stay idle: a request may be on its way.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// How long, and for how many bytes, a client may go on sending after its last answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// A downstream connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) call: Call,
    pub(crate) registered: Registered,
    pub(crate) stream: Stream,
    pub(crate) current: Current,
    /// The client has closed its side.
    pub(crate) ended: bool,
    /// When it did.
    pub(crate) ended_at: Micros,
    /// When the connection began,
    opened: Micros,
    /// and how many requests it has brought.
    requests: u32,
}

/// What a connection does after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the next request.
    Continue,
    /// Close; the client may still be sending.
    Close,
    /// Close so that the client sees that the response is incomplete.
    Abort,
}

/// What came instead of a request.
#[derive(Debug)]
enum NoRequest {
    /// The client closed, or was idle for too long.
    Gone,
    /// It is not acceptable.
    Refused(Refused),
    /// The head did not arrive in time.
    TimedOut,
    /// There is no memory for the rest of it.
    Overloaded,
}

impl Connection {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        registered: Registered,
        view: Rc<HttpView>,
        stream: Stream,
        (peer, original): (SocketAddr, Option<SocketAddr>),
    ) -> Self {
        let client = Client {
            id: registered.id,
            peer,
            direct: registered.direct(),
            original,
            mark: registered.mark(),
            local: stream.local_address(),
            text: peer.ip().to_canonical().to_string(),
            secured: stream.secured().cloned(),
            workload: PeerCell::default(),
        };
        Self {
            registered,
            current: Current::new(worker, view.clone()),
            call: Call::new(
                Protocol::Http1,
                worker.clone(),
                view,
                Rc::new(client),
                Parts::new(worker),
            ),
            stream,
            ended: false,
            ended_at: 0,
            opened: worker.clock.now(),
            requests: 0,
        }
    }

    /// Serves requests of HTTP/1.1 until one side ends the connection; unless the client speaks
    /// HTTP/2, which is said.
    pub(crate) async fn run(&mut self) -> Protocol {
        match self.detect().await {
            Ok(Protocol::Http1) => {
                self.call.view.http.cx_http1_total.increment();
                while self.serve_one().await {}
                let block = self.call.buffer.take_block();
                self.call.worker.blocks.give_back(block);
                Protocol::Http1
            }
            Ok(Protocol::Http2) => Protocol::Http2,
            Err(_) => Protocol::Http1,
        }
    }

    /// Finds out which protocol the client speaks, from its first bytes.
    async fn detect(&mut self) -> Result<Protocol, NoRequest> {
        let codec = match self.call.view.manager.codec {
            Codec::Auto => self.agreed_codec(),
            codec => codec,
        };
        if codec == Codec::Http1 {
            return Ok(Protocol::Http1);
        }
        self.idle().await?;
        self.set_head_timeout();
        loop {
            let unread = self.call.buffer.unread();
            let length = unread.len().min(http2::PREFACE.len());
            let is_preface = unread[..length] == http2::PREFACE[..length];
            if codec == Codec::Http2 || is_preface && length == http2::PREFACE.len() {
                return Ok(Protocol::Http2);
            }
            if !is_preface {
                return Ok(Protocol::Http1);
            }
            if poll_fn(|cx| self.poll_more(cx)).await? == 0 {
                return Ok(Protocol::Http1);
            }
        }
    }

    /// What was agreed on by ALPN, if anything was.
    fn agreed_codec(&self) -> Codec {
        let state = self.stream.tls_state();
        match state.and_then(|state| state.alpn_protocol()) {
            None => Codec::Auto,
            Some(b"h2") => Codec::Http2,
            Some(_) => Codec::Http1,
        }
    }

    fn set_head_timeout(&self) {
        let configured = self.call.view.manager.request_headers_timeout;
        let timeout = configured.unwrap_or(HEAD_TIMEOUT);
        self.call
            .timer
            .set(self.call.worker.clock.now(), Some(timeout));
    }

    /// Serves a request: whether another one may follow.
    async fn serve_one(&mut self) -> bool {
        let begin = match self.next_request().await {
            Ok(begin) => begin,
            Err(NoRequest::Gone) => return false,
            Err(NoRequest::Refused(refused)) => {
                self.call.view.http.cx_protocol_error.increment();
                if refused.status == 431 {
                    self.call.view.http.rq_too_large.increment();
                }
                self.refuse(Reply::new(refused.status, refused.reason))
                    .await;
                return false;
            }
            Err(NoRequest::Overloaded) => {
                self.call.view.http.rq_overload_close.increment();
                self.refuse(Reply::new(503, "envoy overloaded")).await;
                return false;
            }
            Err(NoRequest::TimedOut) => {
                self.call.view.http.rq_header_timeout.increment();
                self.refuse(Reply::new(408, "the request head did not arrive in time"))
                    .await;
                return false;
            }
        };
        self.call.view.http.rq_total.increment();
        self.call.view.http.rq_active.increment();
        self.call.out = self.call.worker.blocks.lend_output();
        let http = self.call.view.http.clone();
        let next = self.exchange(begin).await;
        http.rq_active.decrement();
        let out = std::mem::take(&mut self.call.out);
        self.call.worker.blocks.give_back_output(out);
        self.call.buffer.unpin();
        match next {
            Next::Continue if !self.ended || !self.call.buffer.is_empty() => true,
            Next::Continue => false,
            Next::Close => {
                self.linger().await;
                false
            }
            Next::Abort => {
                self.stream.reset_on_close();
                false
            }
        }
    }

    /// Waits for a request and pins its head: the moment at which it was complete.
    async fn next_request(&mut self) -> Result<Micros, NoRequest> {
        if self.call.buffer.is_empty() {
            self.idle().await?;
        }
        let mut deadline_set = false;
        let mut parse_next = true;
        let mut grown = None;
        loop {
            if parse_next {
                let limits = self.limits();
                match self
                    .call
                    .request
                    .parse(self.call.buffer.unread_mut(), limits)
                {
                    Ok(Some(length)) => {
                        self.begin_request(length);
                        return Ok(self.call.worker.clock.now());
                    }
                    Ok(None) => {}
                    Err(refused) => return Err(NoRequest::Refused(refused)),
                }
            }
            if !deadline_set {
                deadline_set = true;
                self.set_head_timeout();
            }
            let before = self.call.buffer.unread().len();
            if self.call.buffer.is_full() {
                let limit = self.limits().bytes;
                let double = 2 * self.call.buffer.capacity();
                let size = double.min(limit + 1).max(before + 1);
                if let Some(most) = self.call.worker.options.max_header_bytes
                    && !self.call.view.bypasses_overload
                {
                    // What it held before counts no more.
                    drop(grown.take());
                    let more = self.call.worker.open.add_head(size, most.get());
                    grown = Some(more.ok_or(NoRequest::Overloaded)?);
                }
                self.call.buffer.grow(size);
            }
            if poll_fn(|cx| self.poll_more(cx)).await? == 0 {
                return Err(NoRequest::Gone);
            }
            // Only the end of a line can complete a head; so bytes that trickle in cost little.
            let unread = self.call.buffer.unread();
            parse_next = unread.len() >= self.limits().bytes
                || memchr::memchr(b'\n', &unread[before..]).is_some();
        }
    }

    /// Waits for the first byte of a request, without holding a block.
    async fn idle(&mut self) -> Result<(), NoRequest> {
        if self.ended {
            return Err(NoRequest::Gone);
        }
        let timeout = self.call.view.manager.idle_timeout;
        let idle_until = timeout.map(|timeout| self.call.answered_at + timeout.as_micros() as u64);
        let ends = [idle_until, self.due()].into_iter().flatten().min();
        self.call.timer.set_at(ends);
        let mut draining = false;
        poll_fn(|cx| {
            if self.registered.is_draining() && !std::mem::replace(&mut draining, true) {
                self.call
                    .timer
                    .set(self.call.worker.clock.now(), Some(DRAIN_IDLE));
            }
            if !self.call.buffer.has_block() {
                self.call.buffer = Buffer::on(self.call.worker.blocks.lend());
            }
            match self.stream.poll_read(cx, &mut self.call.buffer) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(NoRequest::Gone)),
                Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
                Poll::Pending => {
                    self.call
                        .worker
                        .blocks
                        .give_back(self.call.buffer.take_block());
                    self.poll_idle(cx)
                }
            }
        })
        .await
    }

    fn poll_idle(&self, cx: &Context<'_>) -> Poll<Result<(), NoRequest>> {
        self.registered.watch(cx);
        if self
            .call
            .timer
            .poll_passed(|| self.call.worker.clock.now(), cx)
            .is_ready()
        {
            let http = &self.call.view.http;
            match self.is_due() {
                _ if self.call.worker.timers.is_cut() => {}
                true => http.cx_max_duration_reached.increment(),
                false => http.cx_idle_timeout.increment(),
            }
            return Poll::Ready(Err(NoRequest::Gone));
        }
        Poll::Pending
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, NoRequest>> {
        match self.stream.poll_read(cx, &mut self.call.buffer) {
            Poll::Ready(Ok(n)) => return Poll::Ready(Ok(n)),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(NoRequest::Gone)),
            Poll::Pending => {}
        }
        self.call
            .timer
            .poll_passed(|| self.call.worker.clock.now(), cx)
            .map(|()| match self.call.worker.timers.is_cut() {
                true => Err(NoRequest::Gone),
                false => Err(NoRequest::TimedOut),
            })
    }

    /// A request begins: it runs on the newest configuration.
    fn begin_request(&mut self, length: usize) {
        self.requests = self.requests.saturating_add(1);
        self.call.buffer.pin(length);
        if self.call.buffer.capacity() - length < 4096 {
            // A large head must leave room for the body.
            self.call.buffer.grow(length + crate::buffer::BLOCK);
        }
        if self.call.request.nominates {
            self.call.leave_out_nominated();
        }
        let listener = self.registered.listener();
        if self.current.renew(&self.call.worker, listener) {
            self.call.view = self.current.view.clone();
        }
        self.call.take_scheme(None);
    }

    /// Whether the connection is to end after its current exchange.
    #[inline]
    pub(crate) fn is_to_end(&self) -> bool {
        self.registered.is_draining()
            || self.current.is_outdated
            || self.call.gives_up_connection()
            || self.is_used_up()
    }

    /// Whether it has served for as long, or for as many requests, as it may, which is counted.
    fn is_used_up(&self) -> bool {
        let view = &self.call.view;
        let most = view.manager.max_requests_per_connection;
        if most.is_some_and(|most| self.requests >= most) {
            view.http.cx_max_requests_reached.increment();
            return true;
        }
        let is_old = self.is_due();
        if is_old {
            view.http.cx_max_duration_reached.increment();
        }
        is_old
    }

    /// When it ends, used or not.
    #[inline]
    fn due(&self) -> Option<Micros> {
        let longest = self.call.view.manager.max_connection_duration?;
        Some(self.opened + longest.as_micros() as u64)
    }

    #[inline]
    fn is_due(&self) -> bool {
        let now = || self.call.worker.clock.now();
        self.due().is_some_and(|due| due <= now())
    }

    fn limits(&self) -> Limits {
        let manager = &self.call.view.manager;
        Limits {
            bytes: manager.max_request_head_bytes,
            fields: manager.max_headers,
        }
    }

    /// Answers what is no request, and closes.
    async fn refuse(&mut self, reply: Reply<'_>) {
        self.call.out = self.call.worker.blocks.lend_output();
        let server = &self.call.view.manager.server_name;
        reply.append_head(
            &mut self.call.out.bytes,
            &self.call.worker.clock,
            server,
            Protocol::Http1,
            true,
        );
        self.call.out.bytes.extend_from_slice(b"\r\n");
        self.call.out.bytes.extend_from_slice(reply.body.as_bytes());
        self.call.tell_refusal(&Refusal::of(&reply));
        let http = &self.call.view.http;
        http.rq.count(reply.status);
        self.call
            .timer
            .set(self.call.worker.clock.now(), Some(LINGER));
        let mut progress = false;
        let written = poll_fn(|cx| {
            let flushed = poll_flush(cx, &mut self.stream, &mut self.call.out, &mut progress);
            if flushed.is_ready() {
                return flushed.map(|flushed| flushed.is_ok());
            }
            self.call
                .timer
                .poll_passed(|| self.call.worker.clock.now(), cx)
                .map(|()| false)
        })
        .await;
        let out = std::mem::take(&mut self.call.out);
        self.call.worker.blocks.give_back_output(out);
        if written {
            self.linger().await;
        }
    }

    /// Closes our side, and takes what the client still sends: closing at once would make its
    /// kernel throw away the answer (RFC 9112 §9.6).
    async fn linger(&mut self) {
        if self.ended {
            return;
        }
        self.call
            .timer
            .set(self.call.worker.clock.now(), Some(LINGER));
        let mut left = LINGER_BYTES;
        let mut shut = false;
        self.call.buffer.unpin();
        poll_fn(|cx| {
            if !shut {
                shut = self.stream.poll_shutdown(cx).is_ready();
            }
            loop {
                let unread = self.call.buffer.unread().len();
                self.call.buffer.consume(unread);
                match self.stream.poll_read(cx, &mut self.call.buffer) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(n)) if n >= left => return Poll::Ready(()),
                    Poll::Ready(Ok(n)) => left -= n,
                    Poll::Pending => {
                        return self
                            .call
                            .timer
                            .poll_passed(|| self.call.worker.clock.now(), cx);
                    }
                }
            }
        })
        .await;
    }
}
