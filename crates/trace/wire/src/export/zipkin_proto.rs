//! Zipkin v2 protobuf (`zipkin.proto3.ListOfSpans`), as Envoy reports it with `HTTP_PROTO`.

use periplus_model::SpanKind;

use super::zipkin::LocalEndpoint;
use super::{FixedTags, SpanRef, with_texts};
use crate::protobuf::{push_bytes, push_fixed64, push_message, push_varint_field};

/// `Span.tags`, a map.
const TAGS: u32 = 11;

/// Appends a span to a list, with `fixed` tags before its own. A list has neither a beginning nor an end.
///
/// As from Envoy: a 64-bit trace id has 8 bytes, tags with an empty value are left out, and the finish annotation is
/// written.
pub fn append_span_with(
    out: &mut Vec<u8>,
    endpoint: &LocalEndpoint,
    fixed: &[&FixedTags],
    span: &SpanRef<'_>,
) {
    with_texts(span, |span| append_texts(out, endpoint, fixed, span));
}

fn append_texts(
    out: &mut Vec<u8>,
    endpoint: &LocalEndpoint,
    fixed: &[&FixedTags],
    span: &SpanRef<'_>,
) {
    push_message(out, 1, |out| {
        let trace_id = span.trace_id.to_bytes();
        let from = if span.trace_id.is_64_bit() { 8 } else { 0 };
        push_bytes(out, 1, &trace_id[from..]);
        if let Some(parent) = span.parent_span_id {
            push_bytes(out, 2, &parent.to_bytes());
        }
        push_bytes(out, 3, &span.span_id.to_bytes());
        let (kind, finish) = match span.kind {
            SpanKind::Client => (1, "cr"),
            SpanKind::Server => (2, "ss"),
            SpanKind::Producer => (3, ""),
            SpanKind::Consumer => (4, ""),
            SpanKind::Internal | SpanKind::Unspecified => (0, ""),
        };
        if kind != 0 {
            push_varint_field(out, 4, kind);
        }
        push_bytes(out, 5, span.name.as_bytes());
        push_fixed64(out, 6, span.start_unix_micros);
        push_varint_field(out, 7, span.duration_micros);
        push_bytes(out, 8, &endpoint.protobuf);
        if !finish.is_empty() {
            push_message(out, 10, |out| {
                let end = span.start_unix_micros.saturating_add(span.duration_micros);
                push_fixed64(out, 1, end);
                push_bytes(out, 2, finish.as_bytes());
            });
        }
        for tags in fixed {
            out.extend_from_slice(&tags.zipkin);
        }
        for tag in span.tags {
            push_tag(out, tag.name, tag.value);
        }
        if span.shared {
            push_varint_field(out, 13, 1);
        }
    });
}

/// Appends a tag of a span, unless it has no value.
pub(super) fn push_tag(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    if !value.is_empty() {
        push_message(out, TAGS, |out| {
            push_bytes(out, 1, key.as_bytes());
            push_bytes(out, 2, value);
        });
    }
}
