//! The client's side of a bridged exchange.

use std::task::{Context, Poll};

use crate::acquire::{Arriving, Waits};
use crate::bridge::http1::{Http1Sink, Http1Source};
use crate::bridge::http2::{Http2Sink, Http2Source};
use crate::bridge::mirror::{Mirrored, Nowhere};
use crate::bridge::pipe::{Pipe, PipeError, Source as _};
use crate::bridge::upstream::Upstream;
use crate::call::{Call, Protocol};
use crate::connection::Connection;
use crate::http1::framing::Framing;
use crate::http2::ServerStream;
use crate::relay::{Relay, RelayError, poll_flush};

/// Whoever sent the request.
pub(crate) enum Client<'a> {
    Http1 {
        connection: &'a mut Connection,
        /// The request's body.
        body: &'a mut Relay,
    },
    Http2(&'a mut ServerStream),
    /// A copy of a request.
    Mirrored(&'a mut Mirrored),
}

impl Client<'_> {
    /// The same, for one attempt.
    pub(super) fn by_ref(&mut self) -> Client<'_> {
        match self {
            Client::Http1 { connection, body } => Client::Http1 { connection, body },
            Client::Http2(stream) => Client::Http2(stream),
            Client::Mirrored(copy) => Client::Mirrored(copy),
        }
    }

    /// The client's protocol.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Client::Http1 { .. } => Protocol::Http1,
            Client::Http2(_) => Protocol::Http2,
            Client::Mirrored(copy) => copy.call.protocol,
        }
    }

    pub(super) fn call_mut(&mut self) -> &mut Call {
        match self {
            Client::Http1 { connection, .. } => &mut connection.call,
            Client::Http2(stream) => &mut stream.call,
            Client::Mirrored(copy) => &mut copy.call,
        }
    }

    /// From here on the bytes behind the request are those of a tunnel.
    #[cold]
    pub(super) fn open_tunnel(&mut self) {
        if let Client::Http1 { body, .. } = self {
            **body = Relay::new(Framing::Close, false);
        }
    }

    /// Tells the client that nothing more comes through the tunnel; HTTP/2 has said so already.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Client::Http1 { connection, .. } => connection.stream.poll_shutdown(cx).map(|_| ()),
            Client::Http2(_) | Client::Mirrored(_) => Poll::Ready(()),
        }
    }

    /// How much of the request has come and not gone on, and how much of the response waits to be written.
    pub(super) fn held(&mut self) -> usize {
        match self {
            // A buffer of a fixed size.
            Client::Http1 { .. } => 0,
            Client::Http2(stream) => {
                let waiting = stream.waiting.as_ref().map_or(0, |waiting| waiting.get());
                stream.recv.flow_control().used_capacity() + waiting
            }
            // Copies have a limit of their own.
            Client::Mirrored(_) => 0,
        }
    }

    /// Whether the request is known to have no body, or none any more.
    pub(super) fn has_sent_all(&self) -> bool {
        match self {
            Client::Http1 { body, .. } => body.is_taken(),
            Client::Http2(stream) => stream.early.is_none() && stream.recv.is_end_stream(),
            Client::Mirrored(copy) => copy.body.is_ended(),
        }
    }

    /// Whether the connection may take another request after this response, and whether the
    /// response's body goes in chunks.
    pub(super) fn framing_of_response(&self) -> (bool, bool) {
        let Client::Http1 { connection, .. } = self else {
            return (true, false);
        };
        let call = &connection.call;
        let is_modern = call.request.minor_version == 1;
        let is_open = matches!(call.response.framing, Framing::Chunked | Framing::Close);
        let keep = call.request.keep_alive && !connection.is_to_end() && (is_modern || !is_open);
        (keep, is_open && is_modern)
    }

    /// Sends an interim response whose text this is.
    pub(super) fn send_interim(&mut self, text: &[u8]) {
        match self {
            Client::Http1 { connection, .. } => {
                let call = &mut connection.call;
                // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
                if call.request.minor_version == 1 {
                    call.response.copy_interim(text, &mut call.out.bytes);
                }
            }
            Client::Http2(stream) => stream.send_interim(text),
            Client::Mirrored(_) => {}
        }
    }

    /// Writes what was not written yet of interim responses.
    pub(super) fn poll_interim(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<Result<(), PipeError>> {
        match self {
            Client::Http1 { connection, .. } => {
                let (stream, out) = (&mut connection.stream, &mut connection.call.out);
                poll_flush(cx, stream, out, progress).map_err(|_| RelayError::Sink.into())
            }
            Client::Http2(_) | Client::Mirrored(_) => Poll::Ready(Ok(())),
        }
    }

    /// Sends the head of the response, which is in the output; `ended` says that nothing follows.
    pub(super) fn send_head(&mut self, ended: bool) -> Result<(), PipeError> {
        match self {
            // The output is written before, or with, the first of the body.
            Client::Http1 { .. } | Client::Mirrored(_) => Ok(()),
            Client::Http2(stream) => stream.send_head(ended),
        }
    }

    /// Moves the request's body on.
    pub(super) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        upstream: &mut Upstream,
        progress: &mut bool,
    ) -> Poll<Result<(), PipeError>> {
        match self {
            Client::Http1 { connection, body } => {
                let mut source = Http1Source {
                    stream: &mut connection.stream,
                    buffer: &mut connection.call.buffer,
                    body,
                };
                upstream.poll_sink(cx, pipe, &mut source, progress)
            }
            Client::Http2(stream) => {
                let (recv, early) = (&mut stream.recv, stream.early.as_deref_mut());
                let mut source = Http2Source { recv, early };
                upstream.poll_sink(cx, pipe, &mut source, progress)
            }
            Client::Mirrored(copy) => upstream.poll_sink(cx, pipe, &mut copy.body, progress),
        }
    }

    /// Moves the response's body on.
    pub(super) fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        upstream: &mut Upstream,
        chunks: bool,
        progress: &mut bool,
    ) -> Poll<Result<(), PipeError>> {
        match self {
            Client::Http1 { connection, .. } => {
                let mut sink = Http1Sink {
                    stream: &mut connection.stream,
                    out: &mut connection.call.out,
                    chunks,
                };
                upstream.poll_source(cx, pipe, &mut sink, progress)
            }
            Client::Http2(stream) => match &mut stream.send {
                Some(send) => {
                    let waiting = stream.waiting.as_ref();
                    let mut sink = Http2Sink {
                        send,
                        waiting,
                        is_new: &mut false,
                    };
                    upstream.poll_source(cx, pipe, &mut sink, progress)
                }
                None => Poll::Ready(Err(RelayError::Sink.into())),
            },
            Client::Mirrored(_) => upstream.poll_source(cx, pipe, &mut Nowhere, progress),
        }
    }
}

impl Waits for Client<'_> {
    fn call(&self) -> &Call {
        match self {
            Client::Http1 { connection, .. } => &connection.call,
            Client::Http2(stream) => &stream.call,
            Client::Mirrored(copy) => &copy.call,
        }
    }

    fn call_mut(&mut self) -> &mut Call {
        Client::call_mut(self)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<crate::reply::Failure> {
        match self {
            Client::Http1 { connection, .. } => connection.poll_gone(cx),
            Client::Http2(stream) => stream.poll_gone(cx),
            // Nobody waits for it.
            Client::Mirrored(_) => Poll::Pending,
        }
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        arriving: &mut Arriving,
    ) -> Poll<Result<(), crate::reply::Failure>> {
        match self {
            Client::Http1 { connection, .. } => connection.poll_body(cx, arriving),
            Client::Http2(stream) => stream.poll_body(cx, arriving),
            // No filter asks about it.
            Client::Mirrored(_) => Poll::Ready(Ok(())),
        }
    }
}
