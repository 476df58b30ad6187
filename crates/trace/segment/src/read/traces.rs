//! Traces by their ids, and all of them.

use std::borrow::Borrow;
use std::sync::Arc;

use periplus_filter::Detail;
use periplus_model::{Span, SpanGroup, TraceId};

use super::group::Group;
use super::segment::Segment;
use super::spans::grouped;
use crate::ReadError;
use crate::hash::hash_trace;

/// Where a trace lies: a row group, and the trace's number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TracePlace {
    /// The number of the row group.
    pub group: usize,
    /// The number of the trace among those of the row group.
    pub trace: usize,
}

impl Segment {
    /// The spans of a trace: in the order of arrival, neighbours of one resource and scope in one
    /// group. `None` if the segment has none.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn trace(&self, id: TraceId) -> Result<Option<Vec<SpanGroup>>, ReadError> {
        let places = self.find(id)?;
        if places.is_empty() {
            return Ok(None);
        }
        let pieces = places
            .iter()
            .map(|place| (self.group(place.group), place.trace));
        let groups = Group::trace_of(pieces, Detail::Full, |_| true)?;
        Ok(Some(groups))
    }

    /// The start of the earliest span that the segment has of a trace; zero if it has spans but
    /// knows no start, `None` if it has none.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn trace_start(&self, id: TraceId) -> Result<Option<u64>, ReadError> {
        let Some(place) = self.find(id)?.into_iter().next() else {
            return Ok(None);
        };
        let group = self.group(place.group);
        let start = group.trace_table()?.starts.get(place.trace).copied();
        Ok(start)
    }

    /// Where the pieces of a trace lie: one, unless the trace is very large. Empty if the trace is
    /// not here.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn find(&self, id: TraceId) -> Result<Vec<TracePlace>, ReadError> {
        let mut places = Vec::new();
        for place in self.find_by_hash(id)? {
            let group = self.group(place.group);
            if group.trace_ids()?.get(place.trace) == Some(&id.to_bytes()) {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// Where pieces of a trace may lie, or of another one, which is unlikely: by the id's hash.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn find_by_hash(&self, id: TraceId) -> Result<Vec<TracePlace>, ReadError> {
        let hash = hash_trace(id.as_u128());
        if !self.inner.filter()?.may_contain(hash) {
            return Ok(Vec::new());
        }
        let pieces = self.inner.index()?.find(hash);
        let mut places: Vec<TracePlace> = pieces.map(|piece| self.place_of(piece)).collect();
        places.sort_unstable();
        Ok(places)
    }

    /// For each piece of a trace the upper half of the id's hash and the piece's number below that,
    /// sorted.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn trace_hashes(&self) -> Result<Arc<Vec<u64>>, ReadError> {
        Ok(Arc::clone(self.inner.index()?.entries()))
    }

    /// Where a piece lies, by its number from [`Segment::trace_hashes`].
    pub fn place_of(&self, piece: u32) -> TracePlace {
        let groups = &self.inner.footer.groups;
        let number = groups.partition_point(|group| group.first_piece <= piece) - 1;
        TracePlace {
            group: number,
            trace: (piece - groups[number].first_piece) as usize,
        }
    }
}

impl Group {
    fn trace_ids(&self) -> Result<&[[u8; 16]], ReadError> {
        let (ids, _) = self.raw(crate::layout::Core::TraceId)?.as_chunks::<16>();
        Ok(ids)
    }

    /// The id of one of its traces.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn trace_id(&self, number: usize) -> Result<Option<TraceId>, ReadError> {
        Ok((self.trace_ids()?.get(number)).map(|id| TraceId::from_bytes(*id)))
    }

    /// How many spans it has of one of its traces.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn trace_spans(&self, number: usize) -> Result<usize, ReadError> {
        let lengths = self.codes(crate::layout::Core::TraceSpans)?;
        Ok(super::group::at_or_zero(lengths, number) as usize)
    }

    /// The spans that it has of one of its traces, as [`Segment::trace`] gives them. Of a trace in
    /// pieces, this is one piece.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged, or it has no such trace.
    pub fn trace(&self, number: usize) -> Result<Vec<SpanGroup>, ReadError> {
        self.trace_in(number, Detail::Full)
    }

    /// As much as is wanted of [`Self::trace`].
    ///
    /// # Errors
    ///
    /// As [`Self::trace`].
    pub fn trace_in(&self, number: usize, detail: Detail) -> Result<Vec<SpanGroup>, ReadError> {
        Self::trace_of(std::iter::once((self, number)), detail, |_| true)
    }

    /// The spans of a trace that has these pieces, each a row group and the trace's number in it, as
    /// [`Segment::trace`] gives them, as long as there is room for them: the first for which there is
    /// none, and all behind it, are left out.
    ///
    /// # Errors
    ///
    /// As [`Self::trace`].
    pub fn trace_of<G: Borrow<Self>>(
        pieces: impl Iterator<Item = (G, usize)>,
        detail: Detail,
        mut has_room: impl FnMut(&Span) -> bool,
    ) -> Result<Vec<SpanGroup>, ReadError> {
        let mut spans = Vec::new();
        let mut last = None;
        for (piece, number) in pieces {
            let group: &Self = piece.borrow();
            if number >= group.head().traces as usize {
                return Err(group.damaged(crate::layout::Core::TraceId, "one of them is missing"));
            }
            let mut rows = group.spans_from(number, detail)?;
            let is_whole = rows.read_while(number, &mut spans, &mut has_room)?;
            last = Some(piece);
            if !is_whole {
                break;
            }
        }
        match last {
            Some(piece) => grouped(piece.borrow(), spans),
            None => Ok(Vec::new()),
        }
    }

    /// The spans of all of its traces, trace by trace: what a merge or an export reads. Of a trace
    /// in pieces, this is one piece.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn all(&self) -> Result<Vec<Vec<SpanGroup>>, ReadError> {
        let mut rows = self.spans_from(0, Detail::Full)?;
        (0..self.head().traces as usize)
            .map(|trace| {
                let mut spans = Vec::new();
                rows.read_trace(trace, &mut spans)?;
                grouped(self, spans)
            })
            .collect()
    }
}
