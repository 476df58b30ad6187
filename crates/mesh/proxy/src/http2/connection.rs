//! A client's connection: accepts streams, and ends it when it should.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};

use crate::call::{Call, Client, Current, Parts, Protocol};
use crate::clock::Micros;
use crate::connection::Connection;
use crate::http2::{Payload, Pinger, ServerStream};
use crate::net::Rewound;
use crate::registry::Registered;
use crate::timer::Timer;
use crate::view::HttpView;
use crate::worker::Worker;

/// Envoy's limit of streams that a client gives up early (CVE-2023-44487): of this many at least
/// half, each within the time, and the connection is closed.
const RESETS_OF: u64 = 500;
const EARLY: Duration = Duration::from_secs(1);
/// How long a client without streams may take to answer that it has seen the GOAWAY.
const CLOSING: Duration = Duration::from_secs(1);
/// The parts of calls that a worker keeps for the next streams.
const KEPT_PARTS: usize = 256;
/// How much of the responses of one stream waits to be written.
const MAX_SEND_BUFFER: usize = 256 * 1024;

/// What the streams of a connection share.
struct Shared {
    worker: Rc<Worker>,
    client: Rc<Client>,
    /// Held until the last stream has ended.
    registered: Registered,
    active: Cell<usize>,
    /// When there was last one.
    idle_since: Cell<Micros>,
    ended: Cell<u64>,
    given_up_early: Cell<u64>,
    /// Wakes the connection when a stream ends.
    waker: RefCell<Option<Waker>>,
}

/// The connection, without its streams.
struct Server {
    h2: h2::server::Connection<Rewound, Payload>,
    shared: Rc<Shared>,
    current: Current,
    pinger: Pinger,
    timer: Timer,
    /// Since when the client is asked to open no more streams.
    closing: Option<Micros>,
    /// It was ended for giving up too many streams.
    is_shut: bool,
    /// When the connection began,
    opened: Micros,
    /// and how many streams it has brought.
    streams: u32,
}

/// A stream that is to be served.
pub(super) struct Opened {
    stream: ServerStream,
    head: http::request::Parts,
    shared: Rc<Shared>,
}

/// Serves a connection that begins with the preface, which is in its buffer.
pub(crate) async fn serve(connection: Connection) {
    let Connection {
        mut call,
        registered,
        stream,
        current,
        ..
    } = connection;
    let http = call.view.http.clone();
    http.cx_http2_total.increment();
    let stream = Rewound::new(call.buffer.unread(), stream);
    call.worker.blocks.give_back(call.buffer.take_block());
    let manager = &call.view.manager;
    let mut builder = Builder::new();
    if manager.http2.allow_connect {
        builder.enable_connect_protocol();
    }
    let mut handshake = builder
        .header_table_size(manager.http2.header_table_size)
        .max_concurrent_streams(manager.http2.max_concurrent_streams)
        .initial_window_size(manager.http2.initial_stream_window_size)
        .initial_connection_window_size(manager.http2.initial_connection_window_size)
        .max_header_list_size(u32::try_from(manager.max_request_head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .handshake(stream);
    let begun = poll_fn(|cx| {
        if let Poll::Ready(begun) = std::pin::Pin::new(&mut handshake).poll(cx) {
            return Poll::Ready(begun.ok());
        }
        let now = || call.worker.clock.now();
        call.timer.poll_passed(now, cx).map(|()| None)
    })
    .await;
    let Some(mut h2) = begun else {
        http.cx_protocol_error.increment();
        return;
    };
    let pinger = Pinger::new(manager.http2.keepalive, h2.ping_pong());
    let mut server = Server {
        h2,
        pinger,
        current,
        timer: call.timer,
        closing: None,
        is_shut: false,
        opened: call.worker.clock.now(),
        streams: 0,
        shared: Rc::new(Shared {
            idle_since: Cell::new(call.worker.clock.now()),
            worker: call.worker,
            client: call.client,
            registered,
            active: Cell::new(0),
            ended: Cell::new(0),
            given_up_early: Cell::new(0),
            waker: RefCell::default(),
        }),
    };
    poll_fn(|cx| server.poll(cx)).await;
}

impl Server {
    /// Ready once the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &self.shared;
        shared.registered.watch(cx);
        shared.watch(cx);
        if shared.registered.is_draining() {
            if shared.worker.timers.is_cut() {
                // As its streams have ended, so does it, and says nothing more.
                return match shared.active.get() {
                    0 => Poll::Ready(()),
                    _ => Poll::Pending,
                };
            }
            self.close();
        }
        if !self.is_shut && self.shared.too_many_given_up() {
            // Once, and not for as long as a client that does not read keeps the GOAWAY from going out.
            self.is_shut = true;
            self.closing = Some(self.shared.worker.clock.now());
            let http = &self.current.view.http;
            http.rq_too_many_premature_resets.increment();
            self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        loop {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    if error.is_library() {
                        self.current.view.http.cx_protocol_error.increment();
                    }
                    let peer = &self.shared.client.text;
                    tracing::debug!(peer, %error, "the connection has ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if self.pinger.poll_lost(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_idle(cx)
    }

    /// When the client is asked to open no more streams, used or not.
    fn due(&self) -> Option<Micros> {
        let longest = self.current.view.manager.max_connection_duration?;
        Some(self.opened + longest.as_micros() as u64).filter(|_| self.closing.is_none())
    }

    /// Closes a connection that has had no stream for too long, or is as old as it may be.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &self.shared;
        let since = shared.idle_since.get();
        let idle_timeout = self.current.view.manager.idle_timeout;
        let due = self.due();
        match self.closing {
            _ if shared.active.get() > 0 => self.timer.set_at(due),
            Some(closing) => self.timer.set(since.max(closing), Some(CLOSING)),
            None => {
                let idle_until = idle_timeout.map(|timeout| since + timeout.as_micros() as u64);
                self.timer
                    .set_at([idle_until, due].into_iter().flatten().min());
            }
        }
        let now = || shared.worker.clock.now();
        if self.timer.poll_passed(now, cx).is_pending() {
            return Poll::Pending;
        }
        if self.closing.is_some() {
            return Poll::Ready(());
        }
        let http = &self.current.view.http;
        match due.is_some_and(|due| due <= now()) {
            true => http.cx_max_duration_reached.increment(),
            false => http.cx_idle_timeout.increment(),
        }
        self.close();
        // The GOAWAY is written by another round.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells the client to open no more streams; those that are open go on to their end.
    fn close(&mut self) {
        if self.closing.is_none() {
            self.closing = Some(self.shared.worker.clock.now());
            self.h2.graceful_shutdown();
        }
    }

    fn begin(&mut self, request: http::Request<RecvStream>, respond: SendResponse<Payload>) {
        let shared = self.shared.clone();
        self.current
            .renew(&shared.worker, shared.registered.listener());
        let (head, body) = request.into_parts();
        let call = shared.call(self.current.view.clone());
        self.streams = self.streams.saturating_add(1);
        let most = self.current.view.manager.max_requests_per_connection;
        if most.is_some_and(|most| self.streams >= most) && self.closing.is_none() {
            self.current.view.http.cx_max_requests_reached.increment();
            self.close();
        }
        if self.current.is_outdated || call.gives_up_connection() {
            self.close();
        }
        shared.active.set(shared.active.get() + 1);
        let tasks = shared.worker.stream_tasks.clone();
        tasks.serve(Opened {
            stream: ServerStream::new(call, body, respond),
            head,
            shared,
        });
    }
}

impl Opened {
    /// Serves the stream to its end.
    pub(super) async fn serve(self) {
        let Self {
            mut stream,
            head,
            shared,
        } = self;
        let begin = stream.call.answered_at;
        let given_up = stream.serve(&head, begin).await;
        shared.recycle(stream.into_call());
        shared.end(begin, given_up);
    }
}

impl Shared {
    fn call(&self, view: Rc<HttpView>) -> Call {
        let parts = self.worker.parts.borrow_mut().pop();
        Call::new(
            Protocol::Http2,
            self.worker.clone(),
            view,
            self.client.clone(),
            parts.unwrap_or_else(|| Parts::new(&self.worker)),
        )
    }

    /// Keeps the parts of a call that has ended.
    fn recycle(&self, call: Call) {
        let parts = call.into_parts();
        let mut kept = self.worker.parts.borrow_mut();
        if kept.len() < KEPT_PARTS {
            kept.push(parts);
        }
    }

    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// A stream has ended.
    fn end(&self, begin: Micros, given_up: bool) {
        let now = self.worker.clock.now();
        if given_up && now - begin < EARLY.as_micros() as u64 {
            self.given_up_early.set(self.given_up_early.get() + 1);
        }
        self.ended.set(self.ended.get() + 1);
        self.active.set(self.active.get() - 1);
        self.idle_since.set(now);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Whether half of all streams were given up early, or will be even if all others are not.
    fn too_many_given_up(&self) -> bool {
        let given_up = self.given_up_early.get();
        given_up > 0 && 2 * given_up >= self.ended.get().max(RESETS_OF)
    }
}
