//! Tags and annotations that mean more than their text: what the OpenTelemetry exporters hide in
//! Zipkin's flat span, taken apart and put together.

use periplus_model::{
    Attribute, Event, Link, Resource, Scope, Span, SpanKind, StatusCode, TraceId,
};

use super::json_value::{from_object, to_object};
use crate::otlp::{MAX_ATTRIBUTES, MAX_LINKS};

pub(super) const ERROR: &str = "error";
pub(super) const STATUS_CODE: &str = "otel.status_code";
pub(super) const STATUS_DESCRIPTION: &str = "otel.status_description";
pub(super) const SCOPE_NAMES: [&str; 2] = ["otel.scope.name", "otel.library.name"];
pub(super) const SCOPE_VERSIONS: [&str; 2] = ["otel.scope.version", "otel.library.version"];
pub(super) const SPAN_KIND: &str = "span.kind";
pub(super) const TRACE_STATE: &str = "w3c.tracestate";
pub(super) const LINK_PREFIX: &str = "otlp.link.";
pub(super) const DROPPED_ATTRIBUTES: &str = "otel.dropped_attributes_count";
pub(super) const DROPPED_EVENTS: &str = "otel.dropped_events_count";
pub(super) const DROPPED_LINKS: &str = "otel.dropped_links_count";

/// Beginnings of the names that describe who made a span, not the span.
const RESOURCE_PREFIXES: [&str; 9] = [
    "telemetry.sdk.",
    "telemetry.distro.",
    "host.",
    "k8s.",
    "cloud.",
    "container.",
    "process.",
    "os.",
    "deployment.environment",
];

const RESOURCE_NAMES: [&str; 3] = [
    "service.namespace",
    "service.instance.id",
    "service.version",
];

/// Puts a tag where it belongs.
pub(super) fn apply(
    key: String,
    value: String,
    span: &mut Span,
    resource: &mut Resource,
    scope: &mut Scope,
) {
    match key.as_str() {
        ERROR => span.status.code = StatusCode::Error,
        STATUS_CODE => match value.as_str() {
            // An `error` tag says more than `OK`, wherever it stands.
            "OK" if span.status.code == StatusCode::Unset => {
                span.status.code = StatusCode::Ok;
                return;
            }
            "OK" | "UNSET" => return,
            "ERROR" => {
                span.status.code = StatusCode::Error;
                return;
            }
            _ => {}
        },
        STATUS_DESCRIPTION => {
            span.status.message = value;
            return;
        }
        SPAN_KIND if value == "internal" && span.kind == SpanKind::Unspecified => {
            span.kind = SpanKind::Internal;
            return;
        }
        TRACE_STATE => {
            span.trace_state = value;
            return;
        }
        key if SCOPE_NAMES.contains(&key) && fits(&scope.name, &value) => {
            scope.name = value;
            return;
        }
        key if SCOPE_VERSIONS.contains(&key) && fits(&scope.version, &value) => {
            scope.version = value;
            return;
        }
        DROPPED_ATTRIBUTES | DROPPED_EVENTS | DROPPED_LINKS => {
            if let Ok(count) = value.parse::<u32>() {
                let to = match key.as_str() {
                    DROPPED_ATTRIBUTES => &mut span.dropped_attributes_count,
                    DROPPED_EVENTS => &mut span.dropped_events_count,
                    _ => &mut span.dropped_links_count,
                };
                *to = to.saturating_add(count);
                return;
            }
        }
        key if key.starts_with(LINK_PREFIX) => {
            if let Some(link) = parse_link(&value) {
                if span.links.len() < MAX_LINKS {
                    span.links.push(link);
                } else {
                    span.dropped_links_count = span.dropped_links_count.saturating_add(1);
                }
                return;
            }
        }
        key if is_of_resource(key) && resource.attributes.len() < MAX_ATTRIBUTES => {
            resource.attributes.push(Attribute::new(key, value));
            return;
        }
        _ => {}
    }
    push_attribute(span, key, value);
}

/// Adds an attribute, or counts it as dropped when the span is full.
pub(super) fn push_attribute(span: &mut Span, key: String, value: String) {
    if span.attributes.len() < MAX_ATTRIBUTES {
        span.attributes.push(Attribute::new(key, value));
    } else {
        span.dropped_attributes_count = span.dropped_attributes_count.saturating_add(1);
    }
}

fn is_of_resource(key: &str) -> bool {
    RESOURCE_NAMES.contains(&key)
        || RESOURCE_PREFIXES
            .iter()
            .any(|prefix| key.starts_with(prefix))
}

/// Whether a scope's name or version is free, or says the same already.
fn fits(slot: &str, value: &str) -> bool {
    slot.is_empty() || slot == value
}

/// The event that an annotation stands for.
pub(super) fn to_event(time_unix_nano: u64, value: String) -> Event {
    match unpack(&value) {
        Some((name, attributes, dropped_attributes_count)) => Event {
            time_unix_nano,
            name: name.to_owned(),
            attributes,
            dropped_attributes_count,
        },
        None => Event {
            time_unix_nano,
            name: value,
            ..Event::default()
        },
    }
}

/// The annotation's text of an event.
pub(super) fn from_event(event: &Event) -> String {
    if event.attributes.is_empty() && event.dropped_attributes_count == 0 {
        // A bare name that looks packed is packed, so that it is not taken apart.
        match unpack(&event.name) {
            Some(_) => format!("{}|{{}}|0", event.name),
            None => event.name.clone(),
        }
    } else {
        format!(
            "{}|{}|{}",
            event.name,
            to_object(&event.attributes),
            event.dropped_attributes_count
        )
    }
}

/// `name|{json}|dropped`.
fn unpack(text: &str) -> Option<(&str, Vec<Attribute>, u32)> {
    let (rest, dropped) = text.rsplit_once('|')?;
    let dropped = dropped.parse().ok()?;
    // Neither the name nor the JSON is free of bars: the object begins at the first `|{` that
    // leaves a whole one.
    rest.match_indices("|{").take(MAX_BARS).find_map(|(at, _)| {
        let attributes = from_object(&rest[at + 1..])?;
        Some((&rest[..at], attributes, dropped))
    })
}

/// How many places are tried for the beginning of an annotation's JSON.
const MAX_BARS: usize = 8;

/// `trace|span|state|{json}|dropped`.
fn parse_link(text: &str) -> Option<Link> {
    let mut parts = text.splitn(4, '|');
    let (trace_id, span_id) = (parts.next()?, parts.next()?);
    let trace_state = parts.next()?;
    let (json, dropped) = parts.next()?.rsplit_once('|')?;
    Some(Link {
        trace_id: trace_id.parse::<TraceId>().ok()?,
        span_id: span_id.parse().ok()?,
        trace_state: trace_state.to_owned(),
        flags: 0,
        attributes: from_object(json)?,
        dropped_attributes_count: dropped.parse().ok()?,
    })
}

/// The tag's text of a link.
pub(super) fn from_link(link: &Link) -> String {
    format!(
        "{}|{}|{}|{}|{}",
        link.trace_id,
        link.span_id,
        link.trace_state,
        to_object(&link.attributes),
        link.dropped_attributes_count
    )
}
