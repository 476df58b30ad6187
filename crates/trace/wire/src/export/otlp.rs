//! OTLP protobuf, as Envoy's OpenTelemetry tracer reports it.
//!
//! Spans are appended to a run ([`append_span`]); the rest of the request lies in front of it
//! ([`Envelope::append_head`]), so that a run can be sent without being copied:
//!
//! ```
//! use periplus_wire::export::otlp;
//!
//! let envelope = otlp::Envelope::new(&[("service.name", "reviews.default")], "envoy", "1.40.0");
//! let run = Vec::new(); // filled with `otlp::append_span`
//! let mut request = Vec::new();
//! envelope.append_head(&mut request, run.len());
//! request.extend_from_slice(&run);
//! ```

use periplus_model::StatusCode;

use crate::export::SpanRef;
use crate::protobuf::{
    field_length, push_bytes, push_fixed32, push_fixed64, push_head, push_varint_field,
    varint_length,
};

/// What surrounds a proxy's spans in a request, encoded once: one `ResourceSpans` with one
/// `ScopeSpans`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `ResourceSpans.resource`, its key and length included.
    resource: Vec<u8>,
    /// `ScopeSpans.scope`, its key and length included.
    scope: Vec<u8>,
}

impl Envelope {
    /// With these resource attributes (`service.name` among them) and this instrumentation scope.
    pub fn new(resource: &[(&str, &str)], scope_name: &str, scope_version: &str) -> Self {
        let mut attributes = Vec::new();
        for (key, value) in resource {
            push_attribute(&mut attributes, 1, key, value);
        }
        let mut scope = Vec::new();
        push_text(&mut scope, 1, scope_name);
        push_text(&mut scope, 2, scope_version);
        let mut envelope = Self {
            resource: Vec::new(),
            scope: Vec::new(),
        };
        push_bytes(&mut envelope.resource, 1, &attributes);
        push_bytes(&mut envelope.scope, 1, &scope);
        envelope
    }

    /// Appends everything of an `ExportTraceServiceRequest` that comes before a run of spans of
    /// this many bytes. Nothing comes after it.
    pub fn append_head(&self, out: &mut Vec<u8>, run_length: usize) {
        let scope_spans = self.scope.len() + run_length;
        let resource_spans = self.resource.len() + field_length(scope_spans);
        push_head(out, 1, resource_spans);
        out.extend_from_slice(&self.resource);
        push_head(out, 2, scope_spans);
        out.extend_from_slice(&self.scope);
    }

    /// Appends a whole `ExportTraceServiceRequest` around a run of spans.
    pub fn append_request(&self, out: &mut Vec<u8>, run: &[u8]) {
        self.append_head(out, run.len());
        out.extend_from_slice(run);
    }
}

/// Appends a span to a run of spans: `ScopeSpans.spans`, with key and length.
///
/// All attributes are strings, empty ones included; times have microsecond resolution; an unset
/// status is an empty message, as from Envoy.
pub fn append_span(out: &mut Vec<u8>, span: &SpanRef<'_>) {
    push_head(out, 2, span_length(span));
    out.extend_from_slice(&[0x0a, 16]);
    out.extend_from_slice(&span.trace_id.to_bytes());
    out.extend_from_slice(&[0x12, 8]);
    out.extend_from_slice(&span.span_id.to_bytes());
    push_text(out, 3, span.trace_state);
    if let Some(parent) = span.parent_span_id {
        out.extend_from_slice(&[0x22, 8]);
        out.extend_from_slice(&parent.to_bytes());
    }
    push_text(out, 5, span.name);
    push_varint_field(out, 6, span.kind as u64);
    let (start, end) = times(span);
    push_fixed64(out, 7, start);
    push_fixed64(out, 8, end);
    for (key, value) in span.tags {
        push_attribute(out, 9, key, value);
    }
    if span.status == StatusCode::Unset {
        push_head(out, 15, 0);
    } else {
        push_head(out, 15, 2);
        push_varint_field(out, 3, span.status as u64);
    }
    push_fixed32(out, 16, span.flags);
}

/// What [`append_span`] writes after key and length.
fn span_length(span: &SpanRef<'_>) -> usize {
    let ids = 18 + 10 + span.parent_span_id.map_or(0, |_| 10);
    let kind = 2;
    let times = 9 + 9;
    let status = if span.status == StatusCode::Unset {
        2
    } else {
        4
    };
    let flags = 2 + 4;
    ids + text_length(span.trace_state)
        + text_length(span.name)
        + kind
        + times
        + status
        + flags
        + span
            .tags
            .iter()
            .map(|(key, value)| field_length(attribute_length(key, value)))
            .sum::<usize>()
}

fn times(span: &SpanRef<'_>) -> (u64, u64) {
    let start = span.start_unix_micros.saturating_mul(1000);
    let duration = span.duration_micros.saturating_mul(1000);
    (start, start.saturating_add(duration))
}

fn push_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        push_bytes(out, field, text.as_bytes());
    }
}

fn text_length(text: &str) -> usize {
    if text.is_empty() {
        0
    } else {
        field_length(text.len())
    }
}

/// `KeyValue{key, AnyValue{string_value}}`.
#[inline]
fn push_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    push_head(out, field, attribute_length(key, value));
    push_bytes(out, 1, key.as_bytes());
    push_head(out, 2, field_length(value.len()));
    push_bytes(out, 1, value.as_bytes());
}

#[inline]
fn attribute_length(key: &str, value: &str) -> usize {
    let any_value = 1 + varint_length(value.len() as u64) + value.len();
    field_length(key.len()) + field_length(any_value)
}
