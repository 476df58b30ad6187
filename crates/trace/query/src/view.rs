//! How Jaeger's APIs, HTTP and gRPC, show a stored trace.

use std::sync::Arc;

use periplus_insight::jaeger::{AdjustedGroup, AdjustedSpan, adjust, unadjusted};
use periplus_model::{Attribute, Batch, SpanGroup, Value};
use periplus_store::StoredTrace;

use crate::Options;

/// Jaeger's OTLP answers carry the adjusters' warnings in this attribute, a list of texts.
const WARNINGS: &str = "@jaeger@warnings";

/// What is done to a trace before it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    raw: bool,
    max_clock_skew_nano: u64,
    /// Zero: no limit.
    max_spans: usize,
}

impl View {
    pub(crate) fn new(options: &Options, raw: bool) -> Self {
        Self {
            raw,
            max_clock_skew_nano: u64::try_from(options.max_clock_skew.as_nanos())
                .unwrap_or(u64::MAX),
            max_spans: options.max_trace_spans,
        }
    }

    /// The trace after Jaeger's adjusters, cut to the largest size.
    pub(crate) fn of(self, trace: &StoredTrace) -> Vec<AdjustedGroup> {
        let cut = self.max_spans > 0 && trace.span_count() > self.max_spans;
        let first;
        let groups = if cut {
            first = first_spans(&trace.groups, self.max_spans);
            &first
        } else {
            &trace.groups
        };
        let mut adjusted = if self.raw {
            unadjusted(groups)
        } else {
            adjust(groups, self.max_clock_skew_nano)
        };
        if cut && let Some(first) = first_span_mut(&mut adjusted) {
            let max = self.max_spans;
            first.warnings.push(format!(
                "trace has more than {max} spans, showing first {max} spans only"
            ));
        }
        adjusted
    }
}

fn first_span_mut(groups: &mut [AdjustedGroup]) -> Option<&mut AdjustedSpan> {
    groups.iter_mut().find_map(|group| group.spans.first_mut())
}

fn first_spans(groups: &[Arc<SpanGroup>], mut left: usize) -> Vec<Arc<SpanGroup>> {
    let mut out = Vec::new();
    for group in groups {
        if left == 0 {
            break;
        }
        let taken = left.min(group.spans.len());
        left -= taken;
        out.push(if taken == group.spans.len() {
            Arc::clone(group)
        } else {
            Arc::new(SpanGroup {
                resource: Arc::clone(&group.resource),
                scope: Arc::clone(&group.scope),
                spans: group.spans[..taken].to_vec(),
            })
        });
    }
    out
}

/// As OTLP: warnings become an attribute.
pub(crate) fn into_batch(groups: Vec<AdjustedGroup>) -> Batch {
    let span = |adjusted: AdjustedSpan| {
        let mut span = adjusted.span;
        if !adjusted.warnings.is_empty() {
            let warnings = adjusted.warnings.into_iter().map(Value::String).collect();
            span.attributes
                .push(Attribute::new(WARNINGS, Value::Array(warnings)));
        }
        span
    };
    Batch {
        groups: groups
            .into_iter()
            .map(|group| SpanGroup {
                resource: group.resource,
                scope: group.scope,
                spans: group.spans.into_iter().map(span).collect(),
            })
            .collect(),
    }
}
