use std::collections::BTreeSet;
use std::fmt;

use periplus_model::{SpanGroup, SpanKind, TraceId};

use crate::{Operation, SpanFilter, TimeRange};

/// Where a trace stands among all: by the start of its earliest span, then by id.
pub(super) type Place = (u64, TraceId);

/// Something that holds spans: a table in memory or a segment on the disk. A trace may lie in
/// several.
pub(super) trait Part: fmt::Debug + Send + Sync {
    /// For each chunk that is searched at once, the starts of its first and its last span.
    fn chunks(&self) -> Vec<(u64, u64)>;

    /// The traces that have a span in this chunk which starts in the range and matches, with the
    /// start of their earliest span in this part; in any order.
    fn hits(
        &self,
        chunk: usize,
        filter: &SpanFilter,
        range: TimeRange,
    ) -> Result<Vec<Place>, Damage>;

    /// What it holds of a trace.
    fn trace(&self, id: TraceId) -> Result<Vec<SpanGroup>, Damage>;

    /// The start of the trace's earliest span in this part, if it has any; zero if none has one.
    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage>;

    /// Adds the names of its services.
    fn services(&self, found: &mut BTreeSet<String>) -> Result<(), Damage>;

    /// Adds the operations of a service.
    fn operations(
        &self,
        service: &str,
        kind: Option<SpanKind>,
        found: &mut BTreeSet<Operation>,
    ) -> Result<(), Damage>;

    /// Notes that something of it cannot be read.
    fn damaged(&self, damage: &Damage);
}

/// A part of a segment cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    /// What is wrong.
    pub(super) reason: String,
}

/// The earlier of two starts; zero means unknown.
pub(super) fn earlier(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, known) | (known, 0) => known,
        (a, b) => a.min(b),
    }
}
