mod configuration;
mod policies;
mod sampler;

use std::sync::Arc;

use periplus_model::{Attribute, Batch, Resource, Scope, Span, SpanGroup, SpanId, TraceId, Value};

use super::{Arrivals, Policies, TailConfig};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;
/// When it all begins.
pub(super) const T0: u64 = 1_795_332_558 * SECOND;

/// A configuration from the lines below `tail_sampling:`.
pub(super) fn config(text: &str) -> (TailConfig, Policies) {
    let config =
        TailConfig::parse("t.yaml", &whole(text)).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let policies = Policies::new("t.yaml", &config).unwrap_or_else(|e| panic!("{e}\n{text}"));
    (config, policies)
}

pub(super) fn whole(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    format!("tail_sampling:\n{}\n", lines.join("\n"))
}

/// A span of a service that starts after and lasts so many milliseconds.
pub(super) fn span(trace: u64, id: u64, after_ms: u64, duration_ms: u64) -> Span {
    Span {
        trace_id: TraceId::from_halves(0, trace),
        span_id: SpanId::from_u64(id),
        parent_span_id: (id > 1).then(|| SpanId::from_u64(1)),
        name: format!("op {id}"),
        start_unix_nano: T0 + after_ms * MS,
        end_unix_nano: T0 + (after_ms + duration_ms) * MS,
        ..Span::default()
    }
}

pub(super) fn with(mut span: Span, key: &str, value: impl Into<Value>) -> Span {
    span.attributes.push(Attribute::new(key, value));
    span
}

pub(super) fn batch(service: &str, spans: Vec<Span>) -> Arrivals {
    Arrivals::of(Batch {
        groups: vec![group(service, spans)],
    })
}

pub(super) fn group(service: &str, spans: Vec<Span>) -> SpanGroup {
    SpanGroup {
        resource: Arc::new(Resource::of_service(service)),
        scope: Arc::new(Scope::default()),
        spans,
    }
}
