//! Model → version 2 JSON.

use periplus_model::{Batch, Resource, Scope, Span, SpanKind, TraceId};

use super::endpoint::Endpoint;
use super::parts::Parts;
use crate::json_text::{Object, push_list, push_number, push_string};

/// Encodes a batch as a list of Zipkin v2 spans.
pub fn encode_json(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    let spans = batch
        .groups
        .iter()
        .flat_map(|group| group.spans.iter().map(move |span| (group, span)));
    push_list(&mut out, spans, |out, (group, span)| {
        append_span(out, &group.resource, &group.scope, span);
    });
    out
}

/// Appends one span as a JSON object, its fields in Zipkin's order.
pub fn append_span(out: &mut Vec<u8>, resource: &Resource, scope: &Scope, span: &Span) {
    push_span(out, span, &Parts::of(resource, scope, span));
}

/// Appends one span as Zipkin's server hands it out: the names of the span and of services in lower
/// case, annotations sorted, each once.
pub fn append_normalised_span(out: &mut Vec<u8>, resource: &Resource, scope: &Scope, span: &Span) {
    let mut parts = Parts::of(resource, scope, span);
    parts.normalise();
    push_span(out, span, &parts);
}

fn push_span(out: &mut Vec<u8>, span: &Span, parts: &Parts<'_>) {
    let mut object = Object::begin(out);
    push_trace_id(object.key("traceId"), span.trace_id);
    if let Some(parent) = span.parent_span_id {
        push_hex(object.key("parentId"), &parent.to_hex());
    }
    push_hex(object.key("id"), &span.span_id.to_hex());
    if let Some(kind) = kind_name(span.kind) {
        push_string(object.key("kind"), kind);
    }
    if !parts.name.is_empty() {
        push_string(object.key("name"), &parts.name);
    }
    for (key, micros) in [("timestamp", parts.timestamp), ("duration", parts.duration)] {
        if let Some(micros) = micros {
            push_number(object.key(key), micros);
        }
    }
    push_endpoint(&mut object, "localEndpoint", &parts.local);
    push_endpoint(&mut object, "remoteEndpoint", &parts.remote);
    if !parts.annotations.is_empty() {
        push_list(
            object.key("annotations"),
            &parts.annotations,
            |out, (micros, value)| {
                let mut object = Object::begin(out);
                push_number(object.key("timestamp"), *micros);
                push_string(object.key("value"), value);
                object.end();
            },
        );
    }
    if !parts.tags.is_empty() {
        let mut tags = Object::begin(object.key("tags"));
        for (key, value) in &parts.tags {
            push_string(tags.key(key), value);
        }
        tags.end();
    }
    for (key, flag) in [("debug", parts.debug), ("shared", parts.shared)] {
        if flag {
            object.key(key).extend_from_slice(b"true");
        }
    }
    object.end();
}

fn push_endpoint(object: &mut Object<'_>, key: &str, endpoint: &Endpoint<'_>) {
    if endpoint.is_empty() {
        return;
    }
    let mut to = Object::begin(object.key(key));
    if let Some(name) = &endpoint.service_name {
        push_string(to.key("serviceName"), name);
    }
    for (key, address) in [("ipv4", endpoint.ipv4), ("ipv6", endpoint.ipv6)] {
        if let Some(address) = address {
            push_string(to.key(key), &address.to_string());
        }
    }
    if let Some(port) = endpoint.port {
        push_number(to.key("port"), port.into());
    }
    to.end();
}

const fn kind_name(kind: SpanKind) -> Option<&'static str> {
    match kind {
        SpanKind::Client => Some("CLIENT"),
        SpanKind::Server => Some("SERVER"),
        SpanKind::Producer => Some("PRODUCER"),
        SpanKind::Consumer => Some("CONSUMER"),
        SpanKind::Internal | SpanKind::Unspecified => None,
    }
}

fn push_trace_id(out: &mut Vec<u8>, id: TraceId) {
    let digits = id.to_hex();
    push_hex(
        out,
        if id.is_64_bit() {
            &digits[16..]
        } else {
            &digits
        },
    );
}

fn push_hex(out: &mut Vec<u8>, digits: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(digits);
    out.push(b'"');
}
