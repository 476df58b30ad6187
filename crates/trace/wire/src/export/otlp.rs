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

use super::cursor::Cursor;
use super::{FixedTags, SpanRef, with_texts};
use crate::protobuf::{field_length, push_bytes, push_head};

/// What surrounds a proxy's spans in a request, encoded once: one `ResourceSpans` with one
/// `ScopeSpans`. Log records have the same around them by other names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `ResourceSpans.resource`, its key and length included.
    resource: Vec<u8>,
    /// `ScopeSpans.scope`, its key and length included; empty without one.
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
        for (field, text) in [(1, scope_name), (2, scope_version)] {
            if !text.is_empty() {
                push_bytes(&mut scope, field, text.as_bytes());
            }
        }
        let mut envelope = Self {
            resource: Vec::new(),
            scope: Vec::new(),
        };
        push_bytes(&mut envelope.resource, 1, &attributes);
        push_bytes(&mut envelope.scope, 1, &scope);
        envelope
    }

    /// With a `Resource` that is encoded already, and without an instrumentation scope.
    pub fn of_resource(resource: &[u8]) -> Self {
        let mut envelope = Self {
            resource: Vec::new(),
            scope: Vec::new(),
        };
        push_bytes(&mut envelope.resource, 1, resource);
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
    append_span_with(out, &[], span);
}

/// Appends a span like [`append_span`], with `fixed` tags before its own.
pub fn append_span_with(out: &mut Vec<u8>, fixed: &[&FixedTags], span: &SpanRef<'_>) {
    with_texts(span, |span| append_texts(out, fixed, span));
}

#[inline]
fn append_texts(out: &mut Vec<u8>, fixed: &[&FixedTags], span: &SpanRef<'_>) {
    let length = span_length(fixed, span);
    let begin = out.len();
    out.resize(begin + field_length(length), 0);
    let mut cursor = Cursor::new(&mut out[begin..]);
    put_head(&mut cursor, 0x12, length);
    write_span(&mut cursor, fixed, span);
    debug_assert_eq!(cursor.left(), 0, "the length was computed for these fields");
}

#[inline]
fn write_span(to: &mut Cursor<'_>, fixed: &[&FixedTags], span: &SpanRef<'_>) {
    to.put(&[0x0a, 16]);
    to.put(&span.trace_id.to_bytes());
    to.put(&[0x12, 8]);
    to.put(&span.span_id.to_bytes());
    put_text(to, 0x1a, span.trace_state);
    if let Some(parent) = span.parent_span_id {
        to.put(&[0x22, 8]);
        to.put(&parent.to_bytes());
    }
    put_text(to, 0x2a, span.name);
    to.put(&[0x30, span.kind as u8, 0x39]);
    let (start, end) = times(span);
    to.put(&start.to_le_bytes());
    to.put(&[0x41]);
    to.put(&end.to_le_bytes());
    for tags in fixed {
        to.put_slice(&tags.protobuf);
    }
    for tag in span.tags {
        put_attribute(to, tag.name, tag.value);
    }
    if span.status == StatusCode::Unset {
        to.put(&[0x7a, 0]);
    } else {
        to.put(&[0x7a, 2, 0x18, span.status as u8]);
    }
    to.put(&[0x85, 0x01]);
    to.put(&span.flags.to_le_bytes());
}

/// What [`append_span`] writes after key and length.
#[inline]
fn span_length(fixed: &[&FixedTags], span: &SpanRef<'_>) -> usize {
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
        + fixed.iter().fold(0, |sum, tags| sum + tags.protobuf.len())
        + span.tags.iter().fold(0, |sum, tag| {
            sum + field_length(attribute_length(tag.name, tag.value))
        })
}

fn times(span: &SpanRef<'_>) -> (u64, u64) {
    let start = span.start_unix_micros.saturating_mul(1000);
    let duration = span.duration_micros.saturating_mul(1000);
    (start, start.saturating_add(duration))
}

/// `Span.attributes`.
pub(super) const SPAN_ATTRIBUTES: u32 = 9;

/// `KeyValue{key, AnyValue{string_value}}`, off the hot path.
pub(super) fn push_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    let value = value.as_bytes();
    push_head(out, field, attribute_length(key, value));
    push_bytes(out, 1, key.as_bytes());
    push_head(out, 2, field_length(value.len()));
    push_bytes(out, 1, value);
}

/// `Span.attributes`: `KeyValue{key, AnyValue{string_value}}`.
#[inline]
fn put_attribute(to: &mut Cursor<'_>, key: &str, value: &[u8]) {
    let length = attribute_length(key, value);
    if length < 0x80 {
        // All four lengths are single bytes.
        to.put(&[0x4a, length as u8, 0x0a, key.len() as u8]);
        to.put_slice(key.as_bytes());
        let any_value = value.len() as u8 + 2;
        to.put(&[0x12, any_value, 0x0a, value.len() as u8]);
        to.put_slice(value);
    } else {
        put_head(to, 0x4a, length);
        put_head(to, 0x0a, key.len());
        to.put_slice(key.as_bytes());
        put_head(to, 0x12, field_length(value.len()));
        put_head(to, 0x0a, value.len());
        to.put_slice(value);
    }
}

/// The length of a `KeyValue`.
#[inline]
fn attribute_length(key: &str, value: &[u8]) -> usize {
    let short = key.len() + value.len() + 6;
    if short < 0x80 {
        short
    } else {
        field_length(key.len()) + field_length(field_length(value.len()))
    }
}

/// A text, unless it is empty.
fn put_text(to: &mut Cursor<'_>, key: u8, text: &str) {
    if !text.is_empty() {
        put_head(to, key, text.len());
        to.put_slice(text.as_bytes());
    }
}

fn text_length(text: &str) -> usize {
    if text.is_empty() {
        0
    } else {
        field_length(text.len())
    }
}

/// Key and length of a length-delimited field.
#[inline]
fn put_head(to: &mut Cursor<'_>, key: u8, length: usize) {
    to.put(&[key]);
    let mut length = length as u64;
    while length >= 0x80 {
        to.put(&[length as u8 | 0x80]);
        length >>= 7;
    }
    to.put(&[length as u8]);
}
