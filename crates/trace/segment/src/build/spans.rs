use std::ops::Range;

use periplus_model::{SpanId, SpanKind, StatusCode, TraceId};

/// What a span says about itself besides attributes, events and links; texts are borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent_span_id: Option<SpanId>,
    pub(crate) trace_state: &'a [u8],
    pub(crate) flags: u32,
    pub(crate) name: &'a [u8],
    pub(crate) kind: SpanKind,
    pub(crate) start_unix_nano: u64,
    pub(crate) end_unix_nano: u64,
    pub(crate) dropped_attributes_count: u32,
    pub(crate) dropped_events_count: u32,
    pub(crate) dropped_links_count: u32,
    pub(crate) status_code: StatusCode,
    pub(crate) status_message: &'a [u8],
}

/// The columns of a builder that have a value for each span, and those for few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    pub(crate) trace: Vec<u32>,
    /// The span of the same trace that came before, or [`NONE`].
    pub(crate) before: Vec<u32>,
    pub(crate) id: Vec<u64>,
    /// Zero where there is none; [`Spans::has_parent`] tells them from those that say zero.
    pub(crate) parent: Vec<u64>,
    pub(crate) start: Vec<u64>,
    pub(crate) end: Vec<u64>,
    /// See [`kind_status`].
    pub(crate) kind_status: Vec<u8>,
    pub(crate) name: Vec<u32>,
    pub(crate) resource: Vec<u32>,
    pub(crate) scope: Vec<u32>,
    pub(crate) flags: Vec<u32>,
    pub(crate) trace_state: Sparse,
    pub(crate) message: Sparse,
    pub(crate) dropped_attributes: Sparse,
    pub(crate) dropped_events: Sparse,
    pub(crate) dropped_links: Sparse,
}

pub(crate) const NONE: u32 = u32::MAX;

/// The kind in the low four bits, the status in the next two, and [`HAS_PARENT`].
pub(crate) const fn kind_status(kind: SpanKind, status: StatusCode) -> u8 {
    kind as u8 | (status as u8) << 4
}

/// Set in a builder's `kind_status` when the span names a parent.
pub(crate) const HAS_PARENT: u8 = 0x40;

impl Spans {
    pub(crate) fn len(&self) -> usize {
        self.id.len()
    }

    pub(crate) fn has_parent(&self, row: usize) -> bool {
        self.kind_status[row] & HAS_PARENT != 0
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.trace.truncate(rows);
        self.before.truncate(rows);
        self.id.truncate(rows);
        self.parent.truncate(rows);
        self.start.truncate(rows);
        self.end.truncate(rows);
        self.kind_status.truncate(rows);
        self.name.truncate(rows);
        self.resource.truncate(rows);
        self.scope.truncate(rows);
        self.flags.truncate(rows);
        for sparse in [
            &mut self.trace_state,
            &mut self.message,
            &mut self.dropped_attributes,
            &mut self.dropped_events,
            &mut self.dropped_links,
        ] {
            sparse.truncate(rows);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let sparse = [
            &self.trace_state,
            &self.message,
            &self.dropped_attributes,
            &self.dropped_events,
            &self.dropped_links,
        ];
        self.id.capacity() * (4 * 8 + 6 * 4 + 1)
            + sparse
                .map(|sparse| sparse.0.capacity() * 8)
                .iter()
                .sum::<usize>()
    }
}

/// A column of which most values are zero: rows and what they have, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sparse(pub(crate) Vec<(u32, u32)>);

impl Sparse {
    #[inline]
    pub(crate) fn push(&mut self, row: u32, value: u32) {
        if value != 0 {
            self.0.push((row, value));
        }
    }

    pub(crate) fn get(&self, row: u32) -> u32 {
        match self.0.binary_search_by_key(&row, |(row, _)| *row) {
            Ok(at) => self.0[at].1,
            Err(_) => 0,
        }
    }

    /// The rows of a range that have a value, and what they have.
    pub(crate) fn within(&self, rows: &Range<usize>) -> &[(u32, u32)] {
        let at = |end: usize| self.0.partition_point(|(row, _)| (*row as usize) < end);
        &self.0[at(rows.start)..at(rows.end)]
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        let keep = self.0.partition_point(|(row, _)| (*row as usize) < rows);
        self.0.truncate(keep);
    }
}

/// The earlier of two starts; zero means unknown.
#[inline]
pub(crate) const fn earlier(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, known) | (known, 0) => known,
        (a, b) if a < b => a,
        (_, b) => b,
    }
}
