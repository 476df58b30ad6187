use std::fmt;
use std::sync::Arc;

use periplus_filter::Scalar;
use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{Calls, Red, ServiceOperation};

use super::meter::Meter;
use crate::{Detail, Scope, SpanFilter, TimeRange};

/// Where a trace stands among all: by the start of its earliest span, then by id.
pub(super) type Place = (u64, TraceId);

/// Something that holds spans: a table in memory or a segment on the disk. A trace may lie in
/// several.
///
/// What takes a while ends early when the meter is over; then the answer lacks something, and
/// [`Meter::check`] says why.
pub(super) trait Part: fmt::Debug + Send + Sync {
    /// The number of a segment, which never changes; a table has none.
    fn segment(&self) -> Option<u64>;

    /// The start of its earliest span, and that of its latest.
    fn starts(&self) -> (u64, u64);

    /// What is searched at once, piece by piece.
    fn chunks(&self) -> Vec<Chunk>;

    /// Looks up what a search needs once.
    fn prepare(&self, filter: &SpanFilter) -> Result<Prepared, Damage>;

    /// The traces that have a span in this chunk which starts in the range and matches, with the
    /// start of their earliest span in this part; in any order.
    fn hits(
        &self,
        chunk: usize,
        filter: &Prepared,
        range: TimeRange,
        meter: &Meter,
    ) -> Result<Vec<Place>, Damage>;

    /// How many spans of this chunk start in the range and match.
    fn count(
        &self,
        chunk: usize,
        filter: &Prepared,
        range: TimeRange,
        meter: &Meter,
    ) -> Result<u64, Damage>;

    /// Some of the spans of a chunk that start in the range and match, from a place in it on; and the
    /// place behind them, if it is not the end.
    fn spans(
        &self,
        from: (usize, usize),
        filter: &Prepared,
        range: TimeRange,
        meter: &Meter,
    ) -> Result<(Vec<SpanGroup>, Option<usize>), Damage>;

    /// What it holds of a trace, or an outline of that. The memory for it is taken from the meter.
    fn trace(&self, id: TraceId, detail: Detail, meter: &Meter) -> Result<Vec<SpanGroup>, Damage>;

    /// The start of the trace's earliest span in this part, if it has any; zero if none has one.
    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage>;

    /// The operations of its services, sorted.
    fn operations(&self, meter: &Meter) -> Result<Arc<Vec<ServiceOperation>>, Damage>;

    /// The rates, errors and durations of its spans, in one or more pieces.
    fn red(&self, meter: &Meter) -> Result<Vec<Arc<Red>>, Damage>;

    /// The calls that its traces tell of, each as if it had no spans elsewhere.
    fn calls(&self, meter: &Meter) -> Result<Arc<Calls>, Damage>;

    /// The calls that what it has of one trace tells of.
    fn calls_of(&self, id: TraceId, meter: &Meter) -> Result<Calls, Damage>;

    /// For each of its traces the upper half of the id's hash, and below that a number for
    /// [`Self::id_of`]; sorted, some more than once.
    fn trace_hashes(&self, meter: &Meter) -> Result<Arc<Vec<u64>>, Damage>;

    /// The trace with this number.
    fn id_of(&self, number: u32) -> Result<Option<TraceId>, Damage>;

    /// The keys of the attributes in one scope, some more than once.
    fn attribute_keys(
        &self,
        scope: Scope,
        meter: &Meter,
        see: &mut dyn FnMut(&str),
    ) -> Result<(), Damage>;

    /// The values of an attribute, some more than once. `first` is a prefix and a limit: values that
    /// do not begin with it may be left out, and those that come behind so many others.
    fn attribute_values(
        &self,
        attribute: (Scope, &str),
        first: (&str, usize),
        meter: &Meter,
        see: &mut dyn FnMut(Scalar<'_>),
    ) -> Result<(), Damage>;

    /// Notes that something of it cannot be read.
    fn damaged(&self, damage: &Damage);
}

/// A filter, prepared by a part for itself.
#[derive(Clone, Debug)]
pub(super) enum Prepared {
    /// For a table.
    Table(SpanFilter),
    /// For a segment.
    Segment(periplus_segment::Search),
    /// Nothing of the part matches.
    Nothing,
}

/// A piece of a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// The start of the earliest of its spans.
    pub(super) first: u64,
    /// The start of the latest.
    pub(super) last: u64,
}

impl Chunk {
    /// Whether some of its spans may start in the range.
    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        let TimeRange {
            start_unix_nano: start,
            end_unix_nano: end,
        } = range;
        start < end && self.first < end && start <= self.last
    }
}

/// Whether some spans of a part may start in the range.
pub(super) fn overlaps(part: &dyn Part, range: TimeRange) -> bool {
    let (first, last) = part.starts();
    Chunk { first, last }.overlaps(range)
}

/// A part of a segment cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    /// What is wrong.
    pub(super) reason: String,
    /// Whether its bytes are wrong; else they could only not be had this time.
    pub(super) lasting: bool,
}

/// The earlier of two starts; zero means unknown.
pub(super) fn earlier(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, known) | (known, 0) => known,
        (a, b) => a.min(b),
    }
}
