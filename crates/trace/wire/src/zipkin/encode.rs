//! Model → JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use periplus_model::{
    Attribute, Batch, Event, Resource, Scope, Span, SpanKind, StatusCode, TraceId, Value,
};

use super::endpoint::{Endpoint, LOCAL, REMOTE};
use super::json_value::to_text;
use super::tags::{
    DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS, ERROR, LINK_PREFIX, SCOPE_NAMES,
    SCOPE_VERSIONS, SPAN_KIND, STATUS_CODE, STATUS_DESCRIPTION, TRACE_STATE, from_event, from_link,
};
use super::{ABSENT_START, DEBUG, SHARED};
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
    let parts = Parts::of(resource, scope, span);
    let mut object = Object::begin(out);
    push_trace_id(object.key("traceId"), span.trace_id);
    if let Some(parent) = span.parent_span_id {
        push_hex(object.key("parentId"), &parent.to_hex());
    }
    push_hex(object.key("id"), &span.span_id.to_hex());
    if let Some(kind) = kind_name(span.kind) {
        push_string(object.key("kind"), kind);
    }
    if !span.name.is_empty() {
        push_string(object.key("name"), &span.name);
    }
    push_times(&mut object, span, parts.absent_start);
    push_endpoint(&mut object, "localEndpoint", &parts.local);
    push_endpoint(&mut object, "remoteEndpoint", &parts.remote);
    if !span.events.is_empty() {
        push_list(object.key("annotations"), &span.events, push_annotation);
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

/// What of a span goes where.
#[derive(Default)]
struct Parts<'a> {
    local: Endpoint<'a>,
    remote: Endpoint<'a>,
    /// Sorted, and the last of a name wins, as in Zipkin.
    tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    absent_start: bool,
    shared: bool,
    debug: bool,
}

impl<'a> Parts<'a> {
    fn of(resource: &'a Resource, scope: &'a Scope, span: &'a Span) -> Self {
        let mut parts = Self::default();
        parts.take_resource(resource);
        parts.take_scope(scope);
        for attribute in &span.attributes {
            parts.take_attribute(attribute);
        }
        if parts.remote.is_empty() {
            parts.remote = Endpoint::of_peer(span);
        }
        parts.take_status(span);
        if span.kind == SpanKind::Internal {
            parts.tag(SPAN_KIND, "internal");
        }
        if !span.trace_state.is_empty() {
            parts.tag(TRACE_STATE, span.trace_state.as_str());
        }
        for (i, link) in span.links.iter().enumerate() {
            let key = Cow::Owned(format!("{LINK_PREFIX}{i}"));
            parts.tags.insert(key, Cow::Owned(from_link(link)));
        }
        for (key, count) in [
            (DROPPED_ATTRIBUTES, span.dropped_attributes_count),
            (DROPPED_EVENTS, span.dropped_events_count),
            (DROPPED_LINKS, span.dropped_links_count),
        ] {
            if count != 0 {
                parts.tag(key, count.to_string());
            }
        }
        parts
    }

    fn take_resource(&mut self, resource: &'a Resource) {
        for attribute in &resource.attributes {
            match (attribute.key.as_str(), &attribute.value) {
                ("service.name", Value::String(name)) if self.local.service_name.is_none() => {
                    self.local.service_name = Some(name);
                }
                _ => self.tag(&attribute.key, to_text(&attribute.value)),
            }
        }
    }

    fn take_scope(&mut self, scope: &'a Scope) {
        for (keys, text) in [(SCOPE_NAMES, &scope.name), (SCOPE_VERSIONS, &scope.version)] {
            for key in keys.iter().filter(|_| !text.is_empty()) {
                self.tag(key, text.as_str());
            }
        }
    }

    fn take_attribute(&mut self, attribute: &'a Attribute) {
        match (attribute.key.as_str(), &attribute.value) {
            (SHARED, Value::Bool(true)) => self.shared = true,
            (DEBUG, Value::Bool(true)) => self.debug = true,
            (ABSENT_START, Value::Bool(true)) => self.absent_start = true,
            _ if self.local.take(attribute, &LOCAL) => {}
            _ if self.remote.take(attribute, &REMOTE) => {}
            _ => self.tag(&attribute.key, to_text(&attribute.value)),
        }
    }

    /// An error that an `error` tag alone brings back needs no other tag.
    fn take_status(&mut self, span: &'a Span) {
        let message = span.status.message.as_str();
        let has_error = self.tags.contains_key(ERROR);
        match span.status.code {
            StatusCode::Error if has_error && message.is_empty() => {}
            StatusCode::Error => {
                self.tag(STATUS_CODE, "ERROR");
                if !has_error {
                    self.tag(ERROR, message);
                }
            }
            StatusCode::Ok => self.tag(STATUS_CODE, "OK"),
            StatusCode::Unset => {}
        }
        if !message.is_empty() {
            self.tag(STATUS_DESCRIPTION, message);
        }
    }

    fn tag(&mut self, key: &'a str, value: impl Into<Cow<'a, str>>) {
        self.tags.insert(Cow::Borrowed(key), value.into());
    }
}

/// Zipkin's times are positive microseconds: zero counts as absent, and what is shorter than a
/// microsecond lasts one.
fn push_times(object: &mut Object<'_>, span: &Span, absent_start: bool) {
    let start = span.start_unix_nano / 1000;
    if start != 0 && !absent_start {
        push_number(object.key("timestamp"), start);
    }
    match span.duration_nano() {
        0 => {}
        nanos => push_number(object.key("duration"), (nanos / 1000).max(1)),
    }
}

fn push_endpoint(object: &mut Object<'_>, key: &str, endpoint: &Endpoint<'_>) {
    if endpoint.is_empty() {
        return;
    }
    let mut to = Object::begin(object.key(key));
    if let Some(name) = endpoint.service_name {
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

fn push_annotation(out: &mut Vec<u8>, event: &Event) {
    let mut object = Object::begin(out);
    push_number(object.key("timestamp"), event.time_unix_nano / 1000);
    push_string(object.key("value"), &from_event(event));
    object.end();
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
