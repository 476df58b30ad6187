//! Model → protobuf.

use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, Status, StatusCode, Value,
};

use crate::protobuf::{push_bytes, push_fixed32, push_fixed64, push_message, push_varint_field};

/// Encodes a batch as an `ExportTraceServiceRequest` (and `TracesData`, which has the same form).
///
/// Neighbouring groups that share their resource share a `ResourceSpans`.
pub fn encode_protobuf(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    for groups in of_one_resource(batch) {
        push_message(&mut out, 1, |out| resource_spans(out, groups));
    }
    out
}

/// Runs of groups with the same resource; none is empty.
pub(super) fn of_one_resource(batch: &Batch) -> impl Iterator<Item = &[SpanGroup]> {
    batch
        .groups
        .chunk_by(|a, b| Arc::ptr_eq(&a.resource, &b.resource))
}

fn resource_spans(out: &mut Vec<u8>, groups: &[SpanGroup]) {
    let Some(first) = groups.first() else {
        return;
    };
    push_message(out, 1, |out| resource(out, &first.resource));
    for group in groups {
        push_message(out, 2, |out| {
            push_message(out, 1, |out| scope(out, &group.scope));
            for it in &group.spans {
                push_message(out, 2, |out| span(out, it));
            }
            text(out, 3, &group.scope.schema_url);
        });
    }
    text(out, 3, &first.resource.schema_url);
}

fn resource(out: &mut Vec<u8>, resource: &Resource) {
    attributes(out, 1, &resource.attributes);
    number(out, 2, resource.dropped_attributes_count);
}

fn scope(out: &mut Vec<u8>, scope: &Scope) {
    text(out, 1, &scope.name);
    text(out, 2, &scope.version);
    attributes(out, 3, &scope.attributes);
    number(out, 4, scope.dropped_attributes_count);
}

fn span(out: &mut Vec<u8>, span: &Span) {
    push_bytes(out, 1, &span.trace_id.to_bytes());
    push_bytes(out, 2, &span.span_id.to_bytes());
    text(out, 3, &span.trace_state);
    if let Some(parent) = span.parent_span_id {
        push_bytes(out, 4, &parent.to_bytes());
    }
    text(out, 5, &span.name);
    number(out, 6, span.kind as u32);
    push_fixed64(out, 7, span.start_unix_nano);
    push_fixed64(out, 8, span.end_unix_nano);
    attributes(out, 9, &span.attributes);
    number(out, 10, span.dropped_attributes_count);
    for it in &span.events {
        push_message(out, 11, |out| event(out, it));
    }
    number(out, 12, span.dropped_events_count);
    for it in &span.links {
        push_message(out, 13, |out| link(out, it));
    }
    number(out, 14, span.dropped_links_count);
    if span.status != Status::default() {
        push_message(out, 15, |out| {
            text(out, 2, &span.status.message);
            if span.status.code != StatusCode::Unset {
                push_varint_field(out, 3, span.status.code as u64);
            }
        });
    }
    if span.flags != 0 {
        push_fixed32(out, 16, span.flags);
    }
}

fn event(out: &mut Vec<u8>, event: &Event) {
    push_fixed64(out, 1, event.time_unix_nano);
    text(out, 2, &event.name);
    attributes(out, 3, &event.attributes);
    number(out, 4, event.dropped_attributes_count);
}

fn link(out: &mut Vec<u8>, link: &Link) {
    push_bytes(out, 1, &link.trace_id.to_bytes());
    push_bytes(out, 2, &link.span_id.to_bytes());
    text(out, 3, &link.trace_state);
    attributes(out, 4, &link.attributes);
    number(out, 5, link.dropped_attributes_count);
    if link.flags != 0 {
        push_fixed32(out, 6, link.flags);
    }
}

fn attributes(out: &mut Vec<u8>, field: u32, attributes: &[Attribute]) {
    for attribute in attributes {
        push_message(out, field, |out| key_value(out, attribute));
    }
}

fn key_value(out: &mut Vec<u8>, attribute: &Attribute) {
    text(out, 1, &attribute.key);
    push_message(out, 2, |out| any_value(out, &attribute.value));
}

/// Writes the member that is set, its default value included.
fn any_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Empty => {}
        Value::String(text) => push_bytes(out, 1, text.as_bytes()),
        Value::Bool(value) => push_varint_field(out, 2, u64::from(*value)),
        Value::Int(value) => push_varint_field(out, 3, *value as u64),
        Value::Double(value) => push_fixed64(out, 4, value.to_bits()),
        Value::Array(values) => push_message(out, 5, |out| {
            for value in values {
                push_message(out, 1, |out| any_value(out, value));
            }
        }),
        Value::Map(entries) => push_message(out, 6, |out| attributes(out, 1, entries)),
        Value::Bytes(bytes) => push_bytes(out, 7, bytes),
    }
}

fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        push_bytes(out, field, text.as_bytes());
    }
}

fn number(out: &mut Vec<u8>, field: u32, number: u32) {
    if number != 0 {
        push_varint_field(out, field, u64::from(number));
    }
}
