//! Bodies of HTTP/2: streams as sources and sinks, with their flow control (RFC 9113 §5.2).

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::bridge::pipe::{Piece, PipeError, Sink, Source, Trailers};
use crate::http2::{Payload, Waiting, head};
use crate::relay::RelayError;

/// What arrives on a stream. Its window opens again only as far as the other side has taken it.
pub(crate) struct Http2Source<'a> {
    pub(crate) recv: &'a mut RecvStream,
    /// What was read before.
    pub(crate) early: Option<&'a mut Early>,
}

/// The beginning of a body that was read before it goes on: the window has been opened for it already.
#[derive(Debug, Default)]
pub(crate) struct Early {
    pub(crate) pieces: VecDeque<Bytes>,
    /// How many bytes there were in all, as far as the sink has not taken them.
    pub(crate) untaken: usize,
}

impl Source for Http2Source<'_> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, PipeError>> {
        if let Some(data) = self
            .early
            .as_mut()
            .and_then(|early| early.pieces.pop_front())
        {
            return Poll::Ready(Ok(Piece::Data(data)));
        }
        match ready!(self.recv.poll_data(cx)) {
            Some(Ok(data)) => return Poll::Ready(Ok(Piece::Data(data))),
            Some(Err(error)) => return Poll::Ready(Err(source_error(&error))),
            None => {}
        }
        Poll::Ready(match ready!(self.recv.poll_trailers(cx)) {
            Ok(None) => Ok(Piece::End(None)),
            Ok(Some(fields)) => {
                let mut lines = Vec::with_capacity(64);
                head::append_fields(&fields, &mut lines);
                Ok(Piece::End(Some(Trailers {
                    lines: lines.into(),
                    fields: Some(fields),
                })))
            }
            Err(error) => Err(source_error(&error)),
        })
    }

    fn is_ended(&self) -> bool {
        let early = self.early.as_ref();
        early.is_none_or(|early| early.pieces.is_empty()) && self.recv.is_end_stream()
    }

    fn taken(&mut self, mut bytes: usize) {
        if let Some(early) = &mut self.early {
            let of_early = bytes.min(early.untaken);
            early.untaken -= of_early;
            bytes -= of_early;
        }
        // Fails only if more is released than has arrived.
        let _ = self.recv.flow_control().release_capacity(bytes);
    }
}

/// What leaves on a stream.
pub(crate) struct Http2Sink<'a> {
    pub(crate) send: &'a mut SendStream<Payload>,
    /// How much of it waits to be written, if that is to be known.
    pub(crate) waiting: Option<&'a Waiting>,
    /// Nothing was sent yet on a stream that this side has opened.
    pub(crate) is_new: &'a mut bool,
}

/// How much goes along with the head of a request: one frame of the size that everybody takes (RFC 9113 §4.2).
const AT_ONCE: usize = 16 * 1024;

impl Sink for Http2Sink<'_> {
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, PipeError>> {
        if std::mem::take(self.is_new) {
            // There is no room before the connection's task has had its turn. What is sent all the same waits for it
            // in the codec, and then goes with the head in one write.
            return Poll::Ready(Ok(wanted.min(AT_ONCE)));
        }
        self.send.reserve_capacity(wanted);
        let room = self.send.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(self.send.poll_capacity(cx)) {
            Some(Ok(room)) => Poll::Ready(Ok(room)),
            Some(Err(_)) | None => Poll::Ready(Err(RelayError::Sink.into())),
        }
    }

    fn data(&mut self, data: Bytes, last: bool) -> Result<(), PipeError> {
        self.send
            .send_data(Payload::new(data, self.waiting), last)
            .map_err(|_| RelayError::Sink.into())
    }

    fn end(&mut self, trailers: Option<&mut Trailers>) -> Result<(), PipeError> {
        let fields = trailers.map(|trailers| {
            let as_they_are = trailers.fields.take().filter(head::are_fit_trailers);
            as_they_are.map_or_else(|| head::trailers(&trailers.lines), Ok)
        });
        match fields.transpose().map_err(|_| PipeError::Malformed)? {
            Some(fields) if !fields.is_empty() => self.send.send_trailers(fields),
            _ => self.send.send_data(Payload::new(Bytes::new(), None), true),
        }
        .map_err(|_| RelayError::Sink.into())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>, _: &mut bool) -> Poll<Result<(), PipeError>> {
        // The connection's task writes; what is sent has been paid for with capacity.
        Poll::Ready(Ok(()))
    }
}

/// Why nothing more arrives.
pub(crate) fn source_error(error: &h2::Error) -> PipeError {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => PipeError::Reset(reason),
        Some(_) if error.is_reset() => PipeError::Malformed,
        Some(_) if error.is_go_away() && error.is_library() => PipeError::Malformed,
        _ => RelayError::Source.into(),
    }
}
