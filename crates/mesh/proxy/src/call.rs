//! A request and its answer, whichever protocol they came by.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::buffer::{Buffer, Output};
use crate::clock::Micros;
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::net::Source;
use crate::policy::Decided;
use crate::telemetry::istio::PeerCell;
use crate::timer::Timer;
use crate::tls::Secured;
use crate::view::{HttpView, View};
use crate::worker::Worker;

/// How much memory for text a call leaves to the next one.
const KEPT_BYTES: usize = 4096;

/// The protocol of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 or HTTP/1.0.
    Http1,
    Http2,
}

/// What a request is worked on with. A connection of HTTP/1.1 has one for all its requests, one of
/// HTTP/2 has one for each stream.
///
/// Heads have one form here, whatever they looked like on the wire: the text of HTTP/1.1, parsed in
/// place. So whatever reads or edits them exists once.
#[derive(Debug)]
pub(crate) struct Call {
    /// What the client speaks.
    pub(crate) protocol: Protocol,
    pub(crate) worker: Rc<Worker>,
    pub(crate) view: Rc<HttpView>,
    pub(crate) client: Rc<Client>,
    /// Requests, as they come; the head of the current one is pinned.
    pub(crate) buffer: Buffer,
    /// Responses, as they go.
    pub(crate) out: Output,
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    pub(crate) timer: Timer,
    /// Of the response's head, if it was kept for whoever is told of the exchange.
    pub(crate) response_head_bytes: u32,
    /// What the rules of the last filters that were asked have said.
    pub(crate) decided: Decided,
    /// Shortly before the last write of an answer.
    pub(crate) answered_at: Micros,
}

/// The client of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The number of its connection.
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    /// The other end of the connection, if that has said that it speaks for the peer.
    pub(crate) direct: Option<SocketAddr>,
    /// Where it wanted to go, if it was redirected.
    pub(crate) original: Option<SocketAddr>,
    /// Endpoints see its own address, in packets of this mark.
    pub(crate) mark: Option<u32>,
    /// The address of the socket.
    pub(crate) local: Option<SocketAddr>,
    /// The peer without its port: the tag `peer.address`.
    pub(crate) text: String,
    /// What its TLS has shown; none on a plaintext connection.
    pub(crate) secured: Option<Rc<Secured>>,
    /// What its proxy tells about it.
    pub(crate) workload: PeerCell,
}

impl Client {
    /// Where connections to endpoints are made from, if it is the client's own address.
    #[inline]
    pub(crate) fn source(&self) -> Option<Source> {
        self.mark.map(|mark| Source::of(self.peer, mark))
    }

    /// Its address, and where it connected to.
    pub(crate) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((self.peer, self.original.or(self.local)?))
    }
}

/// What calls need one after the other: a worker keeps it between the streams of HTTP/2.
#[derive(Debug)]
pub(crate) struct Parts {
    request: RequestHead,
    response: ResponseHead,
    timer: Timer,
    /// For the text of a head.
    head: Vec<u8>,
    out: Output,
}

impl Parts {
    pub(crate) fn new(worker: &Worker) -> Self {
        Self {
            request: RequestHead::default(),
            response: ResponseHead::default(),
            timer: worker.timers.timer(),
            head: Vec::new(),
            out: Output::default(),
        }
    }
}

impl Call {
    /// The protocol and version that the client speaks, as Envoy names it.
    pub(crate) fn protocol_text(&self) -> &'static str {
        match (self.protocol, self.request.minor_version) {
            (Protocol::Http2, _) => "HTTP/2",
            (Protocol::Http1, 0) => "HTTP/1.0",
            (Protocol::Http1, _) => "HTTP/1.1",
        }
    }

    /// A call on parts that nobody else uses.
    pub(crate) fn new(
        protocol: Protocol,
        worker: Rc<Worker>,
        view: Rc<HttpView>,
        client: Rc<Client>,
        parts: Parts,
    ) -> Self {
        Self {
            protocol,
            view,
            client,
            buffer: Buffer::of(parts.head),
            out: parts.out,
            request: parts.request,
            response: parts.response,
            timer: parts.timer,
            response_head_bytes: 0,
            decided: Decided::default(),
            answered_at: worker.clock.now(),
            worker,
        }
    }

    /// The parts, for the next one.
    pub(crate) fn into_parts(mut self) -> Parts {
        let mut head = self.buffer.take_block();
        head.clear();
        head.shrink_to(KEPT_BYTES);
        self.out.clear();
        self.out.bytes.shrink_to(KEPT_BYTES);
        self.timer.rest();
        Parts {
            request: self.request,
            response: self.response,
            timer: self.timer,
            head,
            out: self.out,
        }
    }
}

/// The configuration that the requests of a connection run on: the newest when each begins.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) view: Rc<HttpView>,
    /// What `view` was taken from.
    seen: Rc<View>,
    /// The listener has no filter chain of these conditions any more: what holds for the client now is on another,
    /// which it gets to with another connection, as in Envoy.
    pub(crate) is_outdated: bool,
}

impl Current {
    pub(crate) fn new(worker: &Worker, view: Rc<HttpView>) -> Self {
        let seen = worker.view();
        Self {
            view,
            seen,
            is_outdated: false,
        }
    }

    /// Looks for a newer configuration of the listener: whether there is one.
    #[inline]
    pub(crate) fn renew(&mut self, worker: &Worker, listener: &str) -> bool {
        let newest = worker.view();
        if Rc::ptr_eq(&newest, &self.seen) {
            return false;
        }
        if let Some(listener) = newest.listeners.get(listener) {
            let successor = listener.successor(&self.view);
            self.is_outdated = successor.is_none();
            if let Some(view) = successor {
                self.view = view.clone();
            }
        }
        self.seen = newest;
        true
    }
}
