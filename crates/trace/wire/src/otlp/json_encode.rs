//! Model → JSON.

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, Status, StatusCode, Value,
};

use super::encode::of_one_resource;
use crate::base64;
use crate::json_text::{Object, push_list, push_number, push_string};

/// Encodes a batch as an `ExportTraceServiceRequest` (and `TracesData`) in OTLP/JSON: ids in
/// lower-case hex, 64-bit integers as texts, enums as numbers; defaults are left out.
pub fn encode_json(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    let mut request = Object::begin(&mut out);
    push_list(
        request.key("resourceSpans"),
        of_one_resource(batch),
        resource_spans,
    );
    request.end();
    out
}

fn resource_spans(out: &mut Vec<u8>, groups: &[SpanGroup]) {
    let mut object = Object::begin(out);
    if let Some(first) = groups.first() {
        resource(object.key("resource"), &first.resource);
        push_list(object.key("scopeSpans"), groups, scope_spans);
        text(&mut object, "schemaUrl", &first.resource.schema_url);
    }
    object.end();
}

fn scope_spans(out: &mut Vec<u8>, group: &SpanGroup) {
    let mut object = Object::begin(out);
    scope(object.key("scope"), &group.scope);
    push_list(object.key("spans"), &group.spans, span);
    text(&mut object, "schemaUrl", &group.scope.schema_url);
    object.end();
}

fn resource(out: &mut Vec<u8>, resource: &Resource) {
    let mut object = Object::begin(out);
    attributes(
        &mut object,
        &resource.attributes,
        resource.dropped_attributes_count,
    );
    object.end();
}

fn scope(out: &mut Vec<u8>, scope: &Scope) {
    let mut object = Object::begin(out);
    text(&mut object, "name", &scope.name);
    text(&mut object, "version", &scope.version);
    attributes(
        &mut object,
        &scope.attributes,
        scope.dropped_attributes_count,
    );
    object.end();
}

fn span(out: &mut Vec<u8>, span: &Span) {
    let mut object = Object::begin(out);
    hex(object.key("traceId"), &span.trace_id.to_hex());
    hex(object.key("spanId"), &span.span_id.to_hex());
    text(&mut object, "traceState", &span.trace_state);
    if let Some(parent) = span.parent_span_id {
        hex(object.key("parentSpanId"), &parent.to_hex());
    }
    number(&mut object, "flags", span.flags);
    text(&mut object, "name", &span.name);
    number(&mut object, "kind", span.kind as u32);
    quoted(object.key("startTimeUnixNano"), span.start_unix_nano);
    quoted(object.key("endTimeUnixNano"), span.end_unix_nano);
    attributes(&mut object, &span.attributes, span.dropped_attributes_count);
    if !span.events.is_empty() {
        push_list(object.key("events"), &span.events, event);
    }
    number(&mut object, "droppedEventsCount", span.dropped_events_count);
    if !span.links.is_empty() {
        push_list(object.key("links"), &span.links, link);
    }
    number(&mut object, "droppedLinksCount", span.dropped_links_count);
    status(object.key("status"), &span.status);
    object.end();
}

fn status(out: &mut Vec<u8>, status: &Status) {
    let mut object = Object::begin(out);
    text(&mut object, "message", &status.message);
    if status.code != StatusCode::Unset {
        number(&mut object, "code", status.code as u32);
    }
    object.end();
}

fn event(out: &mut Vec<u8>, event: &Event) {
    let mut object = Object::begin(out);
    quoted(object.key("timeUnixNano"), event.time_unix_nano);
    text(&mut object, "name", &event.name);
    attributes(
        &mut object,
        &event.attributes,
        event.dropped_attributes_count,
    );
    object.end();
}

fn link(out: &mut Vec<u8>, link: &Link) {
    let mut object = Object::begin(out);
    hex(object.key("traceId"), &link.trace_id.to_hex());
    hex(object.key("spanId"), &link.span_id.to_hex());
    text(&mut object, "traceState", &link.trace_state);
    attributes(&mut object, &link.attributes, link.dropped_attributes_count);
    number(&mut object, "flags", link.flags);
    object.end();
}

fn attributes(object: &mut Object<'_>, attributes: &[Attribute], dropped: u32) {
    if !attributes.is_empty() {
        push_list(object.key("attributes"), attributes, key_value);
    }
    number(object, "droppedAttributesCount", dropped);
}

fn key_value(out: &mut Vec<u8>, attribute: &Attribute) {
    let mut object = Object::begin(out);
    push_string(object.key("key"), &attribute.key);
    any_value(object.key("value"), &attribute.value);
    object.end();
}

fn any_value(out: &mut Vec<u8>, value: &Value) {
    let mut object = Object::begin(out);
    match value {
        Value::Empty => {}
        Value::String(text) => push_string(object.key("stringValue"), text),
        Value::Bool(true) => object.key("boolValue").extend_from_slice(b"true"),
        Value::Bool(false) => object.key("boolValue").extend_from_slice(b"false"),
        Value::Int(number) => {
            push_string(object.key("intValue"), itoa::Buffer::new().format(*number));
        }
        Value::Double(number) => double(object.key("doubleValue"), *number),
        Value::Bytes(bytes) => {
            let out = object.key("bytesValue");
            out.push(b'"');
            base64::push(out, bytes);
            out.push(b'"');
        }
        Value::Array(values) => {
            let mut list = Object::begin(object.key("arrayValue"));
            push_list(list.key("values"), values, any_value);
            list.end();
        }
        Value::Map(entries) => {
            let mut list = Object::begin(object.key("kvlistValue"));
            push_list(list.key("values"), entries, key_value);
            list.end();
        }
    }
    object.end();
}

/// Protobuf's JSON writes what JSON has no number for as a text.
fn double(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        crate::json_text::push_double(out, number);
    } else if number.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if number > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}

fn text(object: &mut Object<'_>, key: &str, text: &str) {
    if !text.is_empty() {
        push_string(object.key(key), text);
    }
}

fn number(object: &mut Object<'_>, key: &str, number: u32) {
    if number != 0 {
        push_number(object.key(key), number.into());
    }
}

fn quoted(out: &mut Vec<u8>, number: u64) {
    out.push(b'"');
    push_number(out, number);
    out.push(b'"');
}

fn hex(out: &mut Vec<u8>, digits: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(digits);
    out.push(b'"');
}
