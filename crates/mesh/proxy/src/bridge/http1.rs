//! Bodies of HTTP/1.1 as sources and sinks of a bridged exchange.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::bridge::pipe::{Piece, PipeError, Sink, Source, Trailers};
use crate::buffer::{BLOCK, Buffer, Output};
use crate::http1::chunked::append_chunk_head;
use crate::net::Stream;
use crate::relay::{Relay, RelayError, append_trailers, poll_flush};

/// What arrives on a connection.
pub(crate) struct Http1Source<'a> {
    pub(crate) stream: &'a mut Stream,
    pub(crate) buffer: &'a mut Buffer,
    pub(crate) body: &'a mut Relay,
}

impl Source for Http1Source<'_> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, PipeError>> {
        loop {
            if !self.body.is_taken()
                && !self.buffer.is_empty()
                && let Some(data) = self.body.take(self.buffer)?
            {
                return Poll::Ready(Ok(Piece::Data(data)));
            }
            if self.body.is_taken() {
                let trailers = self.body.trailers();
                let trailers = (!trailers.is_empty()).then(|| Trailers {
                    lines: Bytes::copy_from_slice(trailers),
                    fields: None,
                });
                return Poll::Ready(Ok(Piece::End(trailers)));
            }
            match ready!(self.stream.poll_read(cx, self.buffer)) {
                Ok(0) if self.body.finish() => {}
                Ok(0) => return Poll::Ready(Err(RelayError::SourceEnded.into())),
                Ok(_) => {}
                Err(_) => return Poll::Ready(Err(RelayError::Source.into())),
            }
        }
    }

    fn is_ended(&self) -> bool {
        self.body.is_taken() && self.body.trailers().is_empty()
    }

    fn taken(&mut self, _: usize) {
        // Nothing more is read than was asked for.
    }
}

/// What leaves on a connection, behind a head that is in the output already.
pub(crate) struct Http1Sink<'a> {
    pub(crate) stream: &'a mut Stream,
    pub(crate) out: &'a mut Output,
    pub(crate) chunks: bool,
}

impl Sink for Http1Sink<'_> {
    fn poll_room(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<usize, PipeError>> {
        ready!(self.poll_flush(cx, &mut false))?;
        self.out.clear();
        Poll::Ready(Ok(BLOCK))
    }

    fn data(&mut self, data: Bytes, last: bool) -> Result<(), PipeError> {
        let out = &mut self.out.bytes;
        if self.chunks && !data.is_empty() {
            append_chunk_head(out, data.len());
            out.extend_from_slice(&data);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(&data);
        }
        if last {
            self.end(None)?;
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&mut Trailers>) -> Result<(), PipeError> {
        if self.chunks {
            let out = &mut self.out.bytes;
            out.extend_from_slice(b"0\r\n");
            if let Some(trailers) = trailers {
                append_trailers(out, &trailers.lines);
            }
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<Result<(), PipeError>> {
        poll_flush(cx, self.stream, self.out, progress).map_err(|_| RelayError::Sink.into())
    }
}
