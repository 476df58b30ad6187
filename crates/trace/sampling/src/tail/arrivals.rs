use std::sync::Arc;

use periplus_model::{Batch, SpanGroup, TraceId, heap};

/// What a pending trace takes besides its groups, in all the tables that it is in.
const TRACE_BYTES: u64 = 400;

/// What a group takes besides its spans.
const GROUP_BYTES: usize = 128;

/// A batch, taken apart and measured: the part of the work that needs no sampler.
#[derive(Debug)]
pub struct Arrivals(pub(super) Vec<Arrival>);

/// What a batch brings for one trace.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) id: TraceId,
    pub(super) groups: Vec<Arc<SpanGroup>>,
    pub(super) spans: u64,
    pub(super) bytes: u64,
    pub(super) has_root: bool,
}

impl Arrivals {
    /// Of a batch.
    pub fn of(batch: Batch) -> Self {
        // A resource is held as long as one trace of the batch holds it: each bears its part.
        let shared: usize = (batch.groups.iter())
            .map(|group| {
                heap::attributes(&group.resource.attributes)
                    + heap::attributes(&group.scope.attributes)
            })
            .sum();
        let traces = batch.by_trace();
        let part = shared.div_ceil(traces.len().max(1)) as u64;
        let arrivals = traces.into_iter().map(|(id, groups)| {
            let spans = || groups.iter().flat_map(|group| &group.spans);
            let own: usize = spans()
                .map(|span| size_of_val(span) + heap::span(span))
                .sum();
            Arrival {
                id,
                spans: spans().count() as u64,
                bytes: (own + groups.len() * GROUP_BYTES) as u64 + part + TRACE_BYTES,
                has_root: spans().any(|span| span.parent_span_id.is_none()),
                groups: groups.into_iter().map(Arc::new).collect(),
            }
        });
        Self(arrivals.collect())
    }
}
