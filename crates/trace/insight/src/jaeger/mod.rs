//! The adjusters that Jaeger's query service applies before it answers, with its warnings word for
//! word (Jaeger v2, `jaegerquery/internal/adjuster`).
//!
//! They change copies of the spans, since that is what Jaeger's API shows. Two differences are
//! deliberate: identical copies are removed before ids are made unique, so that the copies of a
//! server half collapse too, and a server half whose id was changed keeps its client half as its
//! parent even if there are several server halves.

mod attributes;
mod duration;
mod ids;
mod skew;

use std::sync::Arc;

use periplus_model::{Resource, Scope, Span, SpanGroup};

/// Spans that share a resource and a scope, after adjustment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdjustedGroup {
    /// Who made them. Groups that shared a resource still do.
    pub resource: Arc<Resource>,
    /// What instrumentation made them.
    pub scope: Arc<Scope>,
    /// The spans.
    pub spans: Vec<AdjustedSpan>,
}

/// A span, after adjustment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdjustedSpan {
    /// The span.
    pub span: Span,
    /// What the adjusters had to say: Jaeger's `warnings`.
    pub warnings: Vec<String>,
}

/// The spans as Jaeger would have stored them, before its adjusters: what it answers with `raw=true`.
pub fn unadjusted(groups: &[Arc<SpanGroup>]) -> Vec<AdjustedGroup> {
    let mut adjusted = as_they_arrived(groups);
    duration::sanitize(&mut adjusted);
    adjusted
}

fn as_they_arrived(groups: &[Arc<SpanGroup>]) -> Vec<AdjustedGroup> {
    groups
        .iter()
        .map(|group| AdjustedGroup {
            resource: group.resource.clone(),
            scope: group.scope.clone(),
            spans: (group.spans.iter())
                .map(|span| AdjustedSpan {
                    span: span.clone(),
                    warnings: Vec::new(),
                })
                .collect(),
        })
        .collect()
}

/// The spans of one trace after all of Jaeger's adjusters: collections sorted, identical copies
/// removed, shared ids split, clock skew corrected, numeric IP addresses spelled out, the library's
/// attributes moved to the resource, empty links removed.
///
/// `max_clock_skew_nano` is the most that a clock may be corrected by. With zero, Jaeger's default,
/// no clock is touched, and a warning says by how much it would have been.
pub fn adjust(groups: &[Arc<SpanGroup>], max_clock_skew_nano: u64) -> Vec<AdjustedGroup> {
    let mut adjusted = unadjusted(groups);
    attributes::sort(&mut adjusted);
    ids::remove_copies(&mut adjusted);
    ids::split_shared(&mut adjusted);
    skew::correct(&mut adjusted, max_clock_skew_nano);
    attributes::spell_out_addresses(&mut adjusted);
    attributes::move_to_resource(&mut adjusted);
    attributes::remove_empty_links(&mut adjusted);
    adjusted
}

fn spans_mut(groups: &mut [AdjustedGroup]) -> impl Iterator<Item = &mut AdjustedSpan> {
    groups.iter_mut().flat_map(|group| &mut group.spans)
}
