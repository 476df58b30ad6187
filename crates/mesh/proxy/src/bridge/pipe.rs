//! One direction of a bridged exchange: body pieces from a source to a sink, of whichever protocol,
//! with back-pressure.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;

use crate::relay::RelayError;

/// The most bytes of a request that are kept for being sent again.
const MOST_KEPT: usize = 64 * 1024;

/// Why a body did not get to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PipeError {
    Relay(RelayError),
    /// The source has reset its stream of HTTP/2.
    Reset(Reason),
    /// What the source sent is no valid HTTP/2.
    Malformed,
}

impl From<RelayError> for PipeError {
    fn from(error: RelayError) -> Self {
        Self::Relay(error)
    }
}

/// What comes out of a source.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    /// The end, with the lines of the trailer section if there is one.
    End(Option<Bytes>),
}

/// Where a body comes from.
pub(crate) trait Source {
    /// The next piece.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, PipeError>>;

    /// Whether it is known already that neither data nor trailers follow.
    fn is_ended(&self) -> bool;

    /// The sink has taken so many bytes: as many more may come.
    fn taken(&mut self, bytes: usize);
}

/// Where a body goes to.
pub(crate) trait Sink {
    /// How many bytes it takes now, at least one.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, PipeError>>;

    /// Takes data for which there is room.
    fn data(&mut self, data: Bytes, last: bool) -> Result<(), PipeError>;

    /// Ends the body.
    fn end(&mut self, trailers: Option<&[u8]>) -> Result<(), PipeError>;

    /// Passes on what it was given.
    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<Result<(), PipeError>>;
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Data that waits for room.
    waiting: Bytes,
    /// Bytes that the sink was given since its last flush.
    given: usize,
    /// Bytes that the source was not told of yet.
    owed: usize,
    /// All was given to the sink.
    ended: bool,
    /// Any data is one byte too much.
    bodiless: bool,
    /// Bytes of body so far.
    pub(crate) body_bytes: u64,
    /// The lines of the trailer section, if there was one.
    pub(crate) trailers: Option<Bytes>,
    kept: Kept,
}

/// The beginning of a body, for a second attempt.
#[derive(Debug, Default)]
struct Kept {
    pieces: Vec<Piece>,
    bytes: usize,
    /// How many of them this attempt has had.
    at: usize,
    /// It was too long, or is not needed any more.
    given_up: bool,
}

impl Pipe {
    /// `ended` says that there is no body.
    pub(crate) fn new(ended: bool) -> Self {
        Self {
            waiting: Bytes::new(),
            given: 0,
            owed: 0,
            ended,
            bodiless: false,
            body_bytes: 0,
            trailers: None,
            kept: Kept {
                given_up: true,
                ..Kept::default()
            },
        }
    }

    /// The same, with its beginning kept for a second attempt.
    pub(crate) fn replayable(ended: bool) -> Self {
        let mut pipe = Self::new(ended);
        pipe.kept.given_up = false;
        pipe
    }

    /// The same for a message that has no body: it ends all the same, perhaps with trailers.
    pub(crate) fn bodiless(ended: bool) -> Self {
        let mut pipe = Self::new(ended);
        pipe.bodiless = true;
        pipe
    }

    /// Whether the sink has all of it.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Begins again for another attempt, if all that came is still there.
    pub(crate) fn rewind(&mut self, ended: bool) -> bool {
        if self.kept.given_up {
            return false;
        }
        self.kept.at = 0;
        self.waiting = Bytes::new();
        self.given = 0;
        self.ended = ended;
        self.body_bytes = 0;
        true
    }

    /// There will be no second attempt.
    pub(crate) fn let_go(&mut self) {
        if !self.kept.given_up && self.kept.at == self.kept.pieces.len() {
            self.kept = Kept {
                given_up: true,
                ..Kept::default()
            };
        }
    }

    /// Moves what can be moved. Ready once the sink has all of it.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Source,
        sink: &mut dyn Sink,
        progress: &mut bool,
    ) -> Poll<Result<(), PipeError>> {
        loop {
            ready!(sink.poll_flush(cx, progress))?;
            let taken = std::mem::take(&mut self.given).min(self.owed);
            if taken > 0 {
                self.owed -= taken;
                source.taken(taken);
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if self.waiting.is_empty() {
                match ready!(self.poll_piece(cx, source))? {
                    Piece::Data(data) if self.bodiless && !data.is_empty() => {
                        return Poll::Ready(Err(PipeError::Malformed));
                    }
                    Piece::Data(data) => self.waiting = data,
                    Piece::End(trailers) => {
                        self.ended = true;
                        sink.end(trailers.as_deref())?;
                        self.trailers = trailers;
                    }
                }
                *progress = true;
                continue;
            }
            let room = ready!(sink.poll_room(cx, self.waiting.len()))?;
            let part = self.waiting.split_to(room.min(self.waiting.len()));
            self.given = part.len();
            self.body_bytes += part.len() as u64;
            let none_kept = self.kept.at == self.kept.pieces.len();
            self.ended = self.waiting.is_empty() && none_kept && source.is_ended();
            sink.data(part, self.ended)?;
            *progress = true;
        }
    }

    /// The next piece: of those that were kept, else of the source.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn Source,
    ) -> Poll<Result<Piece, PipeError>> {
        let kept = &mut self.kept;
        if let Some(piece) = kept.pieces.get(kept.at) {
            kept.at += 1;
            return Poll::Ready(Ok(piece.clone()));
        }
        let piece = ready!(source.poll_piece(cx))?;
        let bytes = match &piece {
            Piece::Data(data) => data.len(),
            Piece::End(_) => 0,
        };
        self.owed += bytes;
        if !kept.given_up {
            kept.bytes += bytes;
            if kept.bytes > MOST_KEPT {
                *kept = Kept {
                    given_up: true,
                    ..Kept::default()
                };
            } else {
                kept.pieces.push(piece.clone());
                kept.at += 1;
            }
        }
        Poll::Ready(Ok(piece))
    }
}
