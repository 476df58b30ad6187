//! The endpoint's side of a bridged exchange.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::StatusCode;
use http::uri::Scheme;

use crate::bridge::http1::{Http1Sink, Http1Source};
use crate::bridge::http2::{Http2Sink, Http2Source, source_error};
use crate::bridge::pipe::{Pipe, PipeError, Sink, Source};
use crate::buffer::Output;
use crate::call::{Call, Protocol};
use crate::conversation::poll_more_of_head;
use crate::http1::edit::append_field;
use crate::http1::framing::Framing;
use crate::http1::head::Limits;
use crate::http1::request::Tunnel;
use crate::http1::status::append_status_line;
use crate::http2::head::{self, Malformed};
use crate::http2::{Payload, Waiting};
use crate::relay::{Relay, RelayError};
use crate::reply::Failure;
use crate::tls::Secured;
use crate::upstream::{Birth, Lease, Reaches, UpstreamConnection};

/// Whoever answers the request.
pub(super) enum Upstream {
    Http1 {
        connection: Box<UpstreamConnection>,
        /// The request, as it goes.
        out: Output,
        /// The body of the request goes in chunks.
        chunks: bool,
        /// It knows nothing of HTTP: whatever it is sent, and sends, belongs to a tunnel.
        is_raw: bool,
        /// The response's body.
        body: Relay,
    },
    Http2 {
        send: SendStream<Payload>,
        /// How much of the request waits to be written, if that is to be known.
        waiting: Option<Waiting>,
        /// Nothing of the request's body was sent yet.
        is_new: bool,
        response: ResponseFuture,
        /// The response's body, once its head is there.
        recv: Option<RecvStream>,
        lease: Lease,
    },
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum NoResponse {
    /// The endpoint has surely not worked on the request (RFC 9113 §8.7).
    Unprocessed(Failure),
    Failed(Failure),
}

impl From<Failure> for NoResponse {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Upstream {
    /// Sends the head of a request, whose text is in the output, over HTTP/1.1.
    pub(super) fn http1(mut connection: Box<UpstreamConnection>, call: &Call, out: Output) -> Self {
        if !connection.buffer.has_block() {
            connection.buffer = crate::buffer::Buffer::on(call.worker.blocks.lend());
        }
        Self::Http1 {
            connection,
            out,
            chunks: call.request.framing == Framing::Chunked,
            is_raw: false,
            body: Relay::default(),
        }
    }

    /// Sends the bytes of a tunnel, and nothing else.
    pub(super) fn raw(mut connection: Box<UpstreamConnection>, call: &Call, out: Output) -> Self {
        connection.buffer = crate::buffer::Buffer::on(call.worker.blocks.lend());
        Self::Http1 {
            connection,
            out,
            chunks: false,
            is_raw: true,
            body: Relay::default(),
        }
    }

    /// Sends it as a stream of HTTP/2; `ended` says that no body follows.
    pub(super) fn http2(
        lease: Lease,
        endpoint: &str,
        call: &Call,
        head: Output,
        ended: bool,
    ) -> Result<Self, NoResponse> {
        let scheme = if call.request.is_https {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        let text = call.worker.texts.copy(&head.bytes);
        call.worker.blocks.give_back_output(head);
        let mut request = head::request(&text, scheme, endpoint, !lease.reused)
            .map_err(|Malformed(problem)| Failure::Untranslatable(problem))?;
        let tunnel = call.request.tunnel;
        if tunnel == Tunnel::Upgrade {
            ask_for_upgrade(&mut request, call)?;
        }
        let ended = ended && tunnel == Tunnel::None;
        let (response, send) = lease
            .sender()
            .send_request(request, ended)
            .map_err(|_| NoResponse::Unprocessed(Failure::Terminated))?;
        let accounts = call.worker.accounts.as_ref();
        Ok(Self::Http2 {
            send,
            waiting: accounts.map(|_| Waiting::default()),
            is_new: true,
            response,
            recv: None,
            lease,
        })
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Upstream::Http1 { .. } => Protocol::Http1,
            Upstream::Http2 { .. } => Protocol::Http2,
        }
    }

    /// What the TLS of the connection has shown.
    pub(super) fn secured(&self) -> Option<&Rc<Secured>> {
        match self {
            Upstream::Http1 { connection, .. } => connection.stream.secured(),
            Upstream::Http2 { lease, .. } => lease.secured(),
        }
    }

    /// How much of the response has come and not gone on, and how much of the request waits to be written.
    pub(super) fn held(&mut self) -> usize {
        match self {
            // A buffer of a fixed size.
            Upstream::Http1 { .. } => 0,
            Upstream::Http2 { recv, waiting, .. } => {
                let recv = recv.as_mut();
                let used = recv.map_or(0, |recv| recv.flow_control().used_capacity());
                used + waiting.as_ref().map_or(0, |waiting| waiting.get())
            }
        }
    }

    /// Whether the connection has served an exchange before.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Upstream::Http1 { connection, .. } => connection.reused,
            Upstream::Http2 { lease, .. } => lease.reused,
        }
    }

    /// Waits for a response head, and writes its text: whether nothing follows it.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        call: &mut Call,
        limits: Limits,
        text: &mut Vec<u8>,
    ) -> Poll<Result<bool, NoResponse>> {
        let to_head = call.request.is_head;
        text.clear();
        match self {
            Upstream::Http1 { is_raw: true, .. } => {
                text.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
                let parsed = call.response.parse(text, limits, to_head);
                parsed.map_err(|refused| Failure::Protocol(refused.reason))?;
                Poll::Ready(Ok(false))
            }
            Upstream::Http1 {
                connection, body, ..
            } => loop {
                let unread = connection.buffer.unread();
                if !unread.is_empty() {
                    let parsed = call.response.parse(unread, limits, to_head);
                    let parsed = parsed.map_err(|refused| Failure::Protocol(refused.reason))?;
                    if let Some(length) = parsed {
                        text.extend_from_slice(&unread[..length]);
                        connection.buffer.consume(length);
                        *body = Relay::new(call.response.framing, false);
                        return Poll::Ready(Ok(body.is_taken()));
                    }
                }
                ready!(poll_more_of_head(cx, connection, limits))?;
            },
            Upstream::Http2 {
                response,
                recv,
                lease,
                ..
            } => {
                let failed = |error: &h2::Error| no_response(error, lease);
                if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                    let interim = interim.map_err(|error| failed(&error))?;
                    head::append_response(interim.status(), interim.headers(), text);
                } else {
                    let (head, body) = ready!(Pin::new(response).poll(cx))
                        .map_err(|error| failed(&error))?
                        .into_parts();
                    if head.status == StatusCode::SWITCHING_PROTOCOLS {
                        Err(Failure::Protocol("an upgrade as of HTTP/1.1"))?;
                    }
                    if head.status == StatusCode::OK && call.request.tunnel == Tunnel::Upgrade {
                        append_switch(&head.headers, call, text);
                    } else {
                        head::append_response(head.status, &head.headers, text);
                    }
                    if body.is_end_stream()
                        && call.protocol == Protocol::Http1
                        && !head.headers.contains_key(http::header::CONTENT_LENGTH)
                        && !to_head
                        && !matches!(head.status.as_u16(), 204 | 304)
                    {
                        // Else it would have to go in chunks, or to end the connection.
                        text.truncate(text.len() - 2);
                        text.extend_from_slice(b"content-length: 0\r\n\r\n");
                    }
                    *recv = Some(body);
                }
                let parsed = call.response.parse(text, limits, to_head);
                match parsed.map_err(|refused| Failure::Protocol(refused.reason))? {
                    Some(_) => {
                        let ended = recv.as_ref().is_some_and(RecvStream::is_end_stream);
                        Poll::Ready(Ok(ended))
                    }
                    None => Err(Failure::Protocol("the head is incomplete"))?,
                }
            }
        }
    }

    /// It has accepted a tunnel: whether it has sent all that it will already.
    #[cold]
    pub(super) fn open_tunnel(&mut self) -> bool {
        match self {
            Upstream::Http1 { chunks, body, .. } => {
                *chunks = false;
                *body = Relay::new(Framing::Close, false);
                false
            }
            Upstream::Http2 { recv, .. } => recv.as_ref().is_some_and(RecvStream::is_end_stream),
        }
    }

    /// Tells it that nothing more comes through the tunnel; HTTP/2 has said so already.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Upstream::Http1 { connection, .. } => connection.stream.poll_shutdown(cx).map(|_| ()),
            Upstream::Http2 { .. } => Poll::Ready(()),
        }
    }

    /// Ends a tunnel; the endpoint must not take one that broke off for one that has ended.
    pub(super) fn close(mut self, call: &Call, is_complete: bool) {
        if let Upstream::Http1 { connection, .. } = &mut self
            && !is_complete
        {
            connection.stream.reset_on_close();
        }
        self.release(call, false);
    }

    /// Moves the request's body on.
    pub(super) fn poll_sink(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        source: &mut dyn Source,
        progress: &mut bool,
    ) -> Poll<Result<(), PipeError>> {
        match self {
            Upstream::Http1 {
                connection,
                out,
                chunks,
                ..
            } => {
                let mut sink = Http1Sink {
                    stream: &mut connection.stream,
                    out,
                    chunks: *chunks,
                };
                pipe.poll(cx, source, &mut sink, progress)
            }
            Upstream::Http2 {
                send,
                waiting,
                is_new,
                ..
            } => {
                let mut sink = Http2Sink {
                    send,
                    waiting: waiting.as_ref(),
                    is_new,
                };
                pipe.poll(cx, source, &mut sink, progress)
            }
        }
    }

    /// Moves the response's body on.
    pub(super) fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        sink: &mut dyn Sink,
        progress: &mut bool,
    ) -> Poll<Result<(), PipeError>> {
        match self {
            Upstream::Http1 {
                connection, body, ..
            } => {
                let mut source = Http1Source {
                    stream: &mut connection.stream,
                    buffer: &mut connection.buffer,
                    body,
                };
                pipe.poll(cx, &mut source, sink, progress)
            }
            Upstream::Http2 {
                recv: Some(recv), ..
            } => {
                let mut source = Http2Source { recv, early: None };
                pipe.poll(cx, &mut source, sink, progress)
            }
            Upstream::Http2 { recv: None, .. } => Poll::Ready(Err(RelayError::Source.into())),
        }
    }

    /// Gives back what it has; the connection too, if it is `clean`.
    pub(super) fn release(self, call: &Call, clean: bool) {
        if let Upstream::Http1 {
            mut connection,
            out,
            ..
        } = self
        {
            let blocks = &call.worker.blocks;
            blocks.give_back_output(out);
            if clean
                && call.response.keep_alive
                && call.response.framing != Framing::Close
                && connection.buffer.is_empty()
            {
                connection.release(call.answered_at, blocks);
            } else {
                blocks.give_back(connection.buffer.take_block());
            }
        }
    }
}

impl Reaches for Upstream {
    fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Upstream::Http1 { connection, .. } => connection.local_address(),
            Upstream::Http2 { lease, .. } => lease.local_address(),
        }
    }

    fn birth(&self) -> &Birth {
        match self {
            Upstream::Http1 { connection, .. } => connection.birth(),
            Upstream::Http2 { lease, .. } => lease.birth(),
        }
    }
}

/// Makes a request for an upgrade one of HTTP/2 (RFC 8441 §4).
#[cold]
fn ask_for_upgrade(request: &mut http::Request<()>, call: &Call) -> Result<(), Failure> {
    if call.request.framing != Framing::None {
        return Err(Failure::Untranslatable("an upgrade with a body"));
    }
    let protocol = call.upgrade_protocol();
    let protocol = std::str::from_utf8(protocol).map_err(|_| Failure::Untranslatable("upgrade"))?;
    request
        .extensions_mut()
        .insert(h2::ext::Protocol::from(protocol));
    *request.method_mut() = http::Method::CONNECT;
    Ok(())
}

/// Appends what HTTP/1.1 says when a protocol changes: HTTP/2 says 200.
#[cold]
fn append_switch(headers: &http::HeaderMap, call: &Call, text: &mut Vec<u8>) {
    append_status_line(text, 101);
    text.extend_from_slice(b"connection: upgrade\r\n");
    append_field(text, "upgrade", call.upgrade_protocol());
    head::append_fields(headers, text);
    text.extend_from_slice(b"\r\n");
}

fn no_response(error: &h2::Error, lease: &Lease) -> NoResponse {
    let failure = match source_error(error) {
        PipeError::Reset(reason) => Failure::Reset(reason),
        PipeError::Malformed => Failure::Protocol("no valid HTTP/2"),
        _ => Failure::Terminated,
    };
    // A GOAWAY takes the streams that the endpoint has not seen while the connection still stands;
    // those that end with the connection it may have worked on.
    let refused = failure == Failure::Reset(h2::Reason::REFUSED_STREAM)
        || error.is_go_away() && error.is_remote() && !lease.is_closed();
    if refused {
        NoResponse::Unprocessed(failure)
    } else {
        NoResponse::Failed(failure)
    }
}
