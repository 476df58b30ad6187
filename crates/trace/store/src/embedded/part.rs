use std::fmt;
use std::sync::Arc;

use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{Red, ServiceOperation};

use crate::{Scope, SpanFilter, TimeRange};

/// Where a trace stands among all: by the start of its earliest span, then by id.
pub(super) type Place = (u64, TraceId);

/// Something that holds spans: a table in memory or a segment on the disk. A trace may lie in
/// several.
pub(super) trait Part: fmt::Debug + Send + Sync {
    /// What is searched at once, piece by piece.
    fn chunks(&self) -> Vec<Chunk>;

    /// Looks up what a search needs once.
    fn prepare(&self, filter: &SpanFilter) -> Result<Prepared, Damage>;

    /// The traces that have a span in this chunk which starts in the range and matches, with the
    /// start of their earliest span in this part; in any order.
    fn hits(&self, chunk: usize, filter: &Prepared, range: TimeRange)
    -> Result<Vec<Place>, Damage>;

    /// What it holds of a trace.
    fn trace(&self, id: TraceId) -> Result<Vec<SpanGroup>, Damage>;

    /// The start of the trace's earliest span in this part, if it has any; zero if none has one.
    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage>;

    /// The operations of its services, sorted.
    fn operations(&self) -> Result<Arc<Vec<ServiceOperation>>, Damage>;

    /// The rates, errors and durations of its spans.
    fn red(&self) -> Result<Red, Damage>;

    /// The keys of the attributes in one scope, if it has a list of them.
    fn attribute_keys(&self, scope: Scope) -> Result<Option<Vec<String>>, Damage>;

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
