//! One direction of an exchange: body bytes from one stream to the other, with back-pressure.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::buffer::{BLOCK, Buffer, Output};
use crate::http1::chunked::{ChunkError, append_chunk_head};
use crate::http1::framing::{Decoder, Framing};
use crate::http1::name::Name;
use crate::net::Stream;

/// How much is put together before it is written.
const ENOUGH: usize = BLOCK;

/// Why a direction ended early.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RelayError {
    /// The source closed before the body was complete.
    SourceEnded,
    /// The source failed.
    Source,
    /// The sink failed.
    Sink,
    /// The body is malformed.
    Body(ChunkError),
}

/// Takes a body in one framing and passes it on in another.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    decoder: Decoder,
    /// The sink gets chunks.
    chunks: bool,
    /// All has been put into the output, the end of the body included.
    ended: bool,
    /// Bytes of body so far.
    pub(crate) body_bytes: u64,
    /// All that was ever passed on is still in the output.
    pub(crate) replayable: bool,
}

impl Relay {
    /// From a body in `from` framing to chunks, or to the bytes as they are.
    pub(crate) fn new(from: Framing, chunks: bool) -> Self {
        Self {
            decoder: Decoder::new(from),
            chunks,
            ended: from == Framing::None,
            body_bytes: 0,
            replayable: true,
        }
    }

    /// Whether the whole body has been taken from the source.
    #[inline]
    pub(crate) fn is_taken(&self) -> bool {
        self.ended
    }

    /// Puts what has arrived behind what is already in the output.
    pub(crate) fn fill(&mut self, buffer: &mut Buffer, out: &mut Output) -> Result<(), RelayError> {
        let out = &mut out.bytes;
        while !self.decoder.is_done() && out.len() < 2 * ENOUGH {
            let piece = self
                .decoder
                .decode(buffer.unread())
                .map_err(RelayError::Body)?;
            if piece.data > 0 {
                let data = &buffer.unread()[piece.skip..piece.skip + piece.data];
                if self.chunks {
                    append_chunk_head(out, data.len());
                    out.extend_from_slice(data);
                    out.extend_from_slice(b"\r\n");
                } else {
                    out.extend_from_slice(data);
                }
                self.body_bytes += piece.data as u64;
            }
            buffer.consume(piece.skip + piece.data);
            if piece.skip + piece.data == 0 {
                break;
            }
        }
        if self.decoder.is_done() && !self.ended {
            self.end(out);
        }
        Ok(())
    }

    /// Takes the next part of the body out of what has arrived, without its framing.
    pub(crate) fn take(&mut self, buffer: &mut Buffer) -> Result<Option<Bytes>, RelayError> {
        loop {
            let piece = self
                .decoder
                .decode(buffer.unread())
                .map_err(RelayError::Body)?;
            let end = piece.skip + piece.data;
            let data = Bytes::copy_from_slice(&buffer.unread()[piece.skip..end]);
            buffer.consume(end);
            self.ended = self.decoder.is_done();
            if !data.is_empty() {
                self.body_bytes += data.len() as u64;
                return Ok(Some(data));
            }
            if end == 0 || self.ended {
                return Ok(None);
            }
        }
    }

    /// The source has closed: whether the body is complete.
    pub(crate) fn finish(&mut self) -> bool {
        self.ended = self.decoder.finish();
        self.ended
    }

    /// The lines of the trailer section of a body that was taken.
    pub(crate) fn trailers(&self) -> &[u8] {
        self.decoder.trailers()
    }

    /// Moves what can be moved. Ready once the sink has the whole body.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: (&mut Stream, &mut Buffer),
        sink: (&mut Stream, &mut Output),
        progress: &mut bool,
    ) -> Poll<Result<(), RelayError>> {
        let (stream, buffer) = source;
        let (sink, out) = sink;
        loop {
            if ready!(poll_flush(cx, sink, out, progress)).is_err() {
                return Poll::Ready(Err(RelayError::Sink));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if !buffer.is_empty() {
                self.replayable = false;
                let verbatim = self.decoder.verbatim(buffer.unread());
                match verbatim.filter(|_| !self.chunks) {
                    Some(n) => {
                        let part = &buffer.unread()[..n];
                        let n = match ready!(sink.poll_write(cx, part)) {
                            Ok(0) | Err(_) => return Poll::Ready(Err(RelayError::Sink)),
                            Ok(n) => n,
                        };
                        *progress = true;
                        buffer.consume(n);
                        self.body_bytes += n as u64;
                        self.decoder.advance(n);
                        if self.decoder.is_done() {
                            self.ended = true;
                        }
                        continue;
                    }
                    None => {
                        out.clear();
                        self.fill(buffer, out)?;
                        if !out.is_written() || self.ended {
                            continue;
                        }
                    }
                }
            }
            match ready!(stream.poll_read(cx, buffer)) {
                Ok(0) => {
                    if !self.decoder.finish() {
                        return Poll::Ready(Err(RelayError::SourceEnded));
                    }
                    self.replayable = false;
                    out.clear();
                    self.end(&mut out.bytes);
                }
                Ok(_) => *progress = true,
                Err(_) => return Poll::Ready(Err(RelayError::Source)),
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.ended = true;
        if self.chunks {
            out.extend_from_slice(b"0\r\n");
            append_trailers(out, self.decoder.trailers());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Writes what is in the output.
#[inline]
pub(crate) fn poll_flush(
    cx: &mut Context<'_>,
    sink: &mut Stream,
    out: &mut Output,
    progress: &mut bool,
) -> Poll<io::Result<()>> {
    while !out.is_written() {
        match ready!(sink.poll_write(cx, out.pending()))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n => out.advance(n),
        }
        *progress = true;
    }
    Poll::Ready(Ok(()))
}

/// Trailer fields go on, but for those that a trailer must not change.
pub(crate) fn append_trailers(out: &mut Vec<u8>, section: &[u8]) {
    for line in section.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if !is_forbidden_trailer(Name::of(name)) {
            out.extend_from_slice(line);
        }
    }
}

/// Whether a trailer must not change this field (RFC 9110 §6.5.1).
pub(crate) fn is_forbidden_trailer(name: Name) -> bool {
    matches!(
        name,
        Name::Host
            | Name::ContentLength
            | Name::TransferEncoding
            | Name::Connection
            | Name::Te
            | Name::Trailer
            | Name::Upgrade
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::Expect
            | Name::ContentType
            | Name::XRequestId
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Passes a body through, given in parts as if by so many reads.
    fn pass(from: Framing, chunks: bool, parts: &[&[u8]]) -> (Vec<u8>, u64) {
        let mut relay = Relay::new(from, chunks);
        let mut buffer = Buffer::on(vec![0; 4096]);
        let mut out = Output::default();
        let mut all = Vec::new();
        for part in parts {
            buffer.space()[..part.len()].copy_from_slice(part);
            buffer.commit(part.len());
            while !buffer.is_empty() && !relay.is_taken() {
                relay.fill(&mut buffer, &mut out).expect("valid");
                all.append(&mut out.bytes);
            }
        }
        if from == Framing::Close {
            assert!(relay.decoder.finish());
            relay.end(&mut all);
        }
        assert!(relay.is_taken());
        (all, relay.body_bytes)
    }

    fn split<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_body_survives_every_change_of_framing(
            body in prop::collection::vec(any::<u8>(), 1..3000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let length = body.len() as u64;
            let parts = split(&body, &cuts);
            for from in [Framing::Length(length), Framing::Close] {
                let (plain, count) = pass(from, false, &parts);
                prop_assert_eq!(&plain, &body);
                prop_assert_eq!(count, length);
                let (chunked, count) = pass(from, true, &parts);
                prop_assert_eq!(count, length);
                let parts = split(&chunked, &again);
                let (plain, _) = pass(Framing::Chunked, false, &parts);
                prop_assert_eq!(&plain, &body);
                let (rechunked, count) = pass(Framing::Chunked, true, &parts);
                prop_assert_eq!(count, length);
                let (plain, _) = pass(Framing::Chunked, false, &[&rechunked]);
                prop_assert_eq!(&plain, &body);
            }
        }
    }

    #[test]
    fn trailers_that_would_lie_are_dropped() {
        let mut out = Vec::new();
        append_trailers(
            &mut out,
            b"a: b\r\nContent-Length: 3\r\nhost: x\r\nc: d\r\n",
        );
        assert_eq!(out, b"a: b\r\nc: d\r\n");
    }
}
