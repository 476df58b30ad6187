use periplus_model::{Batch, SpanGroup, TraceId};

use super::index::{PLACE_BYTES, TRACE_BYTES, operation_bytes, service_bytes};
use super::size;

/// What one batch brings for one trace, measured before the lock is taken.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) id: TraceId,
    pub(super) groups: Vec<SpanGroup>,
    /// How many spans the groups have.
    pub(super) spans: u64,
    /// What the groups take, without resources and scopes.
    pub(super) bytes: u64,
    /// The start of the earliest span, as in the index.
    pub(super) start: u64,
    pub(super) last_start: u64,
}

impl Arrival {
    /// The batch by traces; the order of arrival is kept within each.
    pub(super) fn split(batch: Batch) -> Vec<Self> {
        let mut arrivals: Vec<Self> = (batch.by_trace().into_iter())
            .map(|(id, groups)| Self::new(id, groups))
            .collect();
        for arrival in &mut arrivals {
            arrival.measure();
        }
        arrivals
    }

    fn new(id: TraceId, groups: Vec<SpanGroup>) -> Self {
        Self {
            id,
            groups,
            spans: 0,
            bytes: 0,
            start: 0,
            last_start: 0,
        }
    }

    fn measure(&mut self) {
        let mut bytes = 0;
        for group in &mut self.groups {
            group.spans.shrink_to_fit();
            self.spans += group.spans.len() as u64;
            bytes += size::group(&group.spans, group.spans.capacity());
            for span in &group.spans {
                self.start = earlier(self.start, span.start_unix_nano);
                self.last_start = self.last_start.max(span.start_unix_nano);
            }
        }
        self.bytes = bytes as u64;
    }

    /// The most that it can add, whatever is there already.
    pub(super) fn most_bytes(&self) -> u64 {
        let mut bytes = TRACE_BYTES;
        for group in &self.groups {
            let service = group.resource.service_name();
            bytes += size::resource(&group.resource) + size::scope(&group.scope);
            bytes += PLACE_BYTES + service_bytes(service);
            bytes += (group.spans.iter()).map(operation_bytes).sum::<usize>();
        }
        self.bytes + bytes as u64
    }
}

/// The earlier of two starts; zero means unknown.
pub(super) fn earlier(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, known) | (known, 0) => known,
        (a, b) => a.min(b),
    }
}
