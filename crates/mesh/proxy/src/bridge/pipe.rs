//! One direction of a bridged exchange: body pieces from a source to a sink, of whichever protocol,
//! with back-pressure.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;

use crate::grpc::Messages;
use crate::relay::RelayError;

/// The most bytes of a request that are kept for being sent again.
const MOST_KEPT: usize = 64 * 1024;
/// Pieces are made one up to this size. A frame of HTTP/2 may have a single byte, and a piece for each would take a
/// hundred times as much memory.
const SMALL: usize = 1024;

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
    /// The end, with the trailer section if there is one.
    End(Option<Trailers>),
}

/// A trailer section.
#[derive(Clone, Debug)]
pub(crate) struct Trailers {
    /// As the text of HTTP/1.1 has it.
    pub(crate) lines: Bytes,
    /// As HTTP/2 has it, if it has come that way.
    pub(crate) fields: Option<HeaderMap>,
}

/// Adds data to what came before, if both are small.
pub(crate) fn joins(before: Option<&mut Bytes>, data: &Bytes) -> bool {
    let Some(before) = before.filter(|before| before.len() + data.len() <= SMALL) else {
        return false;
    };
    *before = [&before[..], data].concat().into();
    true
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
    fn end(&mut self, trailers: Option<&mut Trailers>) -> Result<(), PipeError>;

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
    /// Those of gRPC, if they are counted.
    messages: Option<Messages>,
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
    /// It is all there is.
    whole: bool,
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
            messages: None,
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
        pipe.kept.whole = ended;
        pipe
    }

    /// Counts the messages of gRPC.
    pub(crate) fn count_messages(&mut self) {
        self.messages = Some(Messages::default());
    }

    /// How many messages of gRPC there were, if they are counted.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.map_or(0, |messages| messages.count)
    }

    /// A body that has come as a whole, for another attempt.
    pub(crate) fn holding(body: &[u8]) -> Self {
        let mut pipe = Self::replayable(body.is_empty());
        if !body.is_empty() {
            pipe.kept.bytes = body.len();
            pipe.kept
                .pieces
                .push(Piece::Data(Bytes::copy_from_slice(body)));
        }
        pipe.kept.whole = true;
        pipe
    }

    /// Whether all of it is kept for another attempt.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.whole && !self.kept.given_up
    }

    /// All of it, if that is kept.
    pub(crate) fn kept(&self) -> Option<&[Piece]> {
        self.is_kept().then_some(&*self.kept.pieces)
    }

    /// How many bytes are kept for another attempt.
    pub(crate) fn held(&self) -> usize {
        self.kept.bytes
    }

    /// Whether nothing was kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.pieces.is_empty()
    }

    /// Whether it was too long to be kept.
    pub(crate) fn is_given_up(&self) -> bool {
        self.kept.given_up
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
        self.messages = self.messages.map(|_| Messages::default());
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
                self.kept.whole = true;
                return Poll::Ready(Ok(()));
            }
            if self.waiting.is_empty() {
                match ready!(self.poll_piece(cx, source))? {
                    Piece::Data(data) if self.bodiless && !data.is_empty() => {
                        return Poll::Ready(Err(PipeError::Malformed));
                    }
                    Piece::Data(data) => self.waiting = data,
                    Piece::End(mut trailers) => {
                        self.ended = true;
                        sink.end(trailers.as_mut())?;
                        self.trailers = trailers.map(|trailers| trailers.lines);
                    }
                }
                *progress = true;
                continue;
            }
            let room = ready!(sink.poll_room(cx, self.waiting.len()))?;
            let part = self.waiting.split_to(room.min(self.waiting.len()));
            self.given = part.len();
            self.body_bytes += part.len() as u64;
            if let Some(messages) = &mut self.messages {
                messages.pass(&part);
            }
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
                kept.push(&piece);
            }
        }
        Poll::Ready(Ok(piece))
    }
}

impl Kept {
    /// Adds what the attempt under way has had.
    fn push(&mut self, piece: &Piece) {
        if let (Some(Piece::Data(before)), Piece::Data(data)) = (self.pieces.last_mut(), piece)
            && joins(Some(before), data)
        {
            return;
        }
        self.pieces.push(piece.clone());
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// A source of given pieces, some of which are late.
    struct Script {
        pieces: VecDeque<Option<Piece>>,
        given: usize,
        taken: usize,
        knows_its_end: bool,
    }

    impl Source for Script {
        fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Result<Piece, PipeError>> {
            match self.pieces.pop_front() {
                Some(Some(piece)) => {
                    if let Piece::Data(data) = &piece {
                        self.given += data.len();
                    }
                    Poll::Ready(Ok(piece))
                }
                Some(None) => Poll::Pending,
                None => Poll::Ready(Ok(Piece::End(None))),
            }
        }

        fn is_ended(&self) -> bool {
            self.knows_its_end && self.pieces.is_empty()
        }

        fn taken(&mut self, bytes: usize) {
            self.taken += bytes;
            assert!(self.taken <= self.given, "more was taken than was given");
        }
    }

    /// A sink with little room, which it has at times only.
    #[derive(Default)]
    struct Narrow {
        rooms: VecDeque<usize>,
        body: Vec<u8>,
        trailers: Option<Vec<u8>>,
        ends: usize,
    }

    impl Sink for Narrow {
        fn poll_room(&mut self, _: &mut Context<'_>, _: usize) -> Poll<Result<usize, PipeError>> {
            match self.rooms.pop_front() {
                Some(0) => Poll::Pending,
                Some(room) => Poll::Ready(Ok(room)),
                None => Poll::Ready(Ok(usize::MAX)),
            }
        }

        fn data(&mut self, data: Bytes, last: bool) -> Result<(), PipeError> {
            assert_eq!(self.ends, 0, "data behind the end");
            self.body.extend_from_slice(&data);
            self.ends += usize::from(last);
            Ok(())
        }

        fn end(&mut self, trailers: Option<&mut Trailers>) -> Result<(), PipeError> {
            self.trailers = trailers.map(|trailers| trailers.lines.to_vec());
            self.ends += 1;
            Ok(())
        }

        fn poll_flush(&mut self, _: &mut Context<'_>, _: &mut bool) -> Poll<Result<(), PipeError>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Polls at most so often: whether it came to the end.
    fn pass(pipe: &mut Pipe, source: &mut Script, sink: &mut Narrow, polls: usize) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        (0..polls).any(|_| match pipe.poll(&mut cx, source, sink, &mut false) {
            Poll::Ready(result) => {
                result.expect("no failure");
                true
            }
            Poll::Pending => false,
        })
    }

    fn script(sizes: &[Option<usize>], trailers: Option<&'static [u8]>, knows: bool) -> Script {
        let mut next = 0_u8;
        let mut pieces: VecDeque<_> = sizes
            .iter()
            .map(|size| {
                size.map(|size| {
                    Piece::Data(
                        (0..size)
                            .map(|_| {
                                next = next.wrapping_add(1);
                                next
                            })
                            .collect(),
                    )
                })
            })
            .collect();
        if let Some(trailers) = trailers {
            let trailers = Trailers {
                lines: Bytes::from_static(trailers),
                fields: None,
            };
            pieces.push_back(Some(Piece::End(Some(trailers))));
        }
        Script {
            pieces,
            given: 0,
            taken: 0,
            knows_its_end: knows,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_body_passes_whole_however_it_comes_and_goes_twice_if_need_be(
            sizes in prop::collection::vec(prop::option::of(0_usize..300), 0..12),
            rooms in prop::collection::vec(0_usize..100, 0..20),
            trailers in any::<bool>(),
            knows in any::<bool>(),
            first in 0_usize..20,
        ) {
            let trailers = trailers.then_some(&b"a: b\r\n"[..]);
            let expected: Vec<u8> = (1..=sizes.iter().flatten().sum()).map(|n| n as u8).collect();
            let mut source = script(&sizes, trailers, knows);
            let mut pipe = Pipe::replayable(false);
            // A first attempt, which may have come to any point.
            let mut lost = Narrow { rooms: rooms.clone().into(), ..Narrow::default() };
            pass(&mut pipe, &mut source, &mut lost, first);
            prop_assert!(expected.starts_with(&lost.body));
            prop_assert!(pipe.rewind(false));
            let mut sink = Narrow { rooms: rooms.into(), ..Narrow::default() };
            prop_assert!(pass(&mut pipe, &mut source, &mut sink, 100));
            prop_assert_eq!(&sink.body, &expected);
            prop_assert_eq!(pipe.body_bytes, expected.len() as u64);
            prop_assert_eq!((sink.trailers.as_deref(), sink.ends), (trailers, 1));
            prop_assert_eq!(source.taken, source.given);
        }
    }

    #[test]
    fn a_beginning_that_is_too_long_is_not_kept() {
        let mut source = script(&[Some(MOST_KEPT), Some(1)], None, true);
        let mut pipe = Pipe::replayable(false);
        assert!(pass(&mut pipe, &mut source, &mut Narrow::default(), 2));
        assert!(!pipe.rewind(false));
    }

    #[test]
    fn a_piece_of_each_byte_is_not_kept_as_a_piece() {
        let mut source = script(&[Some(1); 3 * SMALL], None, true);
        let mut pipe = Pipe::replayable(false);
        assert!(pass(&mut pipe, &mut source, &mut Narrow::default(), 2));
        assert!(pipe.is_kept());
        let pieces = pipe.kept.pieces.len();
        assert!(pieces <= 4, "{pieces} pieces");
        assert!(pipe.rewind(false));
        let mut sink = Narrow::default();
        assert!(pass(&mut pipe, &mut source, &mut sink, 2));
        assert_eq!(sink.body.len(), 3 * SMALL);
    }

    #[test]
    fn data_where_no_body_may_be_is_an_error() {
        let mut source = script(&[Some(0), Some(1)], None, true);
        let mut cx = Context::from_waker(Waker::noop());
        let moved =
            Pipe::bodiless(false).poll(&mut cx, &mut source, &mut Narrow::default(), &mut false);
        assert!(matches!(moved, Poll::Ready(Err(PipeError::Malformed))));
    }
}
