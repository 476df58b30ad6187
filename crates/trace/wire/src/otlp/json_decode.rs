//! JSON → model.

use std::sync::Arc;

use periplus_model::{
    Attribute, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode,
    TraceId,
};
use serde::Deserialize;

use super::decode::validate;
use super::error::{Place, SpanError};
use super::json::{Object, attributes, integer, kind, nullable, status_code};
use super::limits::{MAX_ATTRIBUTES, MAX_EVENTS, MAX_LINKS, check};
use super::{DecodeError, Decoded};
use crate::json_text::error_text;

/// Decodes an `ExportTraceServiceRequest` in OTLP/JSON: ids in hex of either case, 64-bit integers
/// as texts or numbers, enums as numbers or names, field names in lowerCamelCase or snake_case.
///
/// # Errors
///
/// The text is not such a request. Spans that break a rule are no error: see [`Decoded`].
pub fn decode_json(text: &[u8]) -> Result<Decoded, DecodeError> {
    let Object(request): Object<JsonRequest> =
        serde_json::from_slice(text).map_err(|error| DecodeError::Json(error_text(&error)))?;
    let mut decoded = Decoded::default();
    let mut place = Place::default();
    for (i, Object(it)) in request.resource_spans.into_iter().enumerate() {
        place.resource_spans = i;
        let resource = Arc::new(it.resource.0.into_model(it.schema_url)?);
        for (i, Object(it)) in it.scope_spans.into_iter().enumerate() {
            place.scope_spans = i;
            let scope = Arc::new(it.scope.0.into_model(it.schema_url)?);
            let mut spans = Vec::with_capacity(it.spans.len());
            for (i, Object(span)) in it.spans.into_iter().enumerate() {
                place.span = i;
                match span.into_model() {
                    Ok(span) => spans.push(span),
                    Err(SpanError::Refused(reason)) => decoded.refused.add(place, &reason),
                    Err(SpanError::Request(error)) => return Err(error),
                }
            }
            if !spans.is_empty() {
                decoded.batch.groups.push(SpanGroup {
                    resource: resource.clone(),
                    scope,
                    spans,
                });
            }
        }
    }
    Ok(decoded)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonRequest {
    #[serde(deserialize_with = "nullable", alias = "resource_spans")]
    resource_spans: Vec<Object<JsonResourceSpans>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonResourceSpans {
    #[serde(deserialize_with = "nullable")]
    resource: Object<JsonResource>,
    #[serde(deserialize_with = "nullable", alias = "scope_spans")]
    scope_spans: Vec<Object<JsonScopeSpans>>,
    #[serde(deserialize_with = "nullable", alias = "schema_url")]
    schema_url: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonResource {
    #[serde(deserialize_with = "attributes")]
    attributes: Vec<Attribute>,
    #[serde(deserialize_with = "integer", alias = "dropped_attributes_count")]
    dropped_attributes_count: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonScopeSpans {
    #[serde(deserialize_with = "nullable")]
    scope: Object<JsonScope>,
    #[serde(deserialize_with = "nullable")]
    spans: Vec<Object<JsonSpan>>,
    #[serde(deserialize_with = "nullable", alias = "schema_url")]
    schema_url: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonScope {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    version: String,
    #[serde(deserialize_with = "attributes")]
    attributes: Vec<Attribute>,
    #[serde(deserialize_with = "integer", alias = "dropped_attributes_count")]
    dropped_attributes_count: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonSpan {
    #[serde(deserialize_with = "nullable", alias = "trace_id")]
    trace_id: String,
    #[serde(deserialize_with = "nullable", alias = "span_id")]
    span_id: String,
    #[serde(deserialize_with = "nullable", alias = "trace_state")]
    trace_state: String,
    #[serde(deserialize_with = "nullable", alias = "parent_span_id")]
    parent_span_id: String,
    #[serde(deserialize_with = "integer")]
    flags: u32,
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "kind")]
    kind: SpanKind,
    #[serde(deserialize_with = "integer", alias = "start_time_unix_nano")]
    start_time_unix_nano: u64,
    #[serde(deserialize_with = "integer", alias = "end_time_unix_nano")]
    end_time_unix_nano: u64,
    #[serde(deserialize_with = "attributes")]
    attributes: Vec<Attribute>,
    #[serde(deserialize_with = "integer", alias = "dropped_attributes_count")]
    dropped_attributes_count: u32,
    #[serde(deserialize_with = "nullable")]
    events: Vec<Object<JsonEvent>>,
    #[serde(deserialize_with = "integer", alias = "dropped_events_count")]
    dropped_events_count: u32,
    #[serde(deserialize_with = "nullable")]
    links: Vec<Object<JsonLink>>,
    #[serde(deserialize_with = "integer", alias = "dropped_links_count")]
    dropped_links_count: u32,
    #[serde(deserialize_with = "nullable")]
    status: Object<JsonStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonEvent {
    #[serde(deserialize_with = "integer", alias = "time_unix_nano")]
    time_unix_nano: u64,
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "attributes")]
    attributes: Vec<Attribute>,
    #[serde(deserialize_with = "integer", alias = "dropped_attributes_count")]
    dropped_attributes_count: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonLink {
    #[serde(deserialize_with = "nullable", alias = "trace_id")]
    trace_id: String,
    #[serde(deserialize_with = "nullable", alias = "span_id")]
    span_id: String,
    #[serde(deserialize_with = "nullable", alias = "trace_state")]
    trace_state: String,
    #[serde(deserialize_with = "attributes")]
    attributes: Vec<Attribute>,
    #[serde(deserialize_with = "integer", alias = "dropped_attributes_count")]
    dropped_attributes_count: u32,
    #[serde(deserialize_with = "integer")]
    flags: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonStatus {
    #[serde(deserialize_with = "nullable")]
    message: String,
    #[serde(deserialize_with = "status_code")]
    code: StatusCode,
}

impl JsonResource {
    fn into_model(self, schema_url: String) -> Result<Resource, DecodeError> {
        let mut dropped_attributes_count = self.dropped_attributes_count;
        Ok(Resource {
            attributes: checked(self.attributes, &mut dropped_attributes_count)?,
            dropped_attributes_count,
            schema_url,
        })
    }
}

impl JsonScope {
    fn into_model(self, schema_url: String) -> Result<Scope, DecodeError> {
        let mut dropped_attributes_count = self.dropped_attributes_count;
        Ok(Scope {
            name: self.name,
            version: self.version,
            attributes: checked(self.attributes, &mut dropped_attributes_count)?,
            dropped_attributes_count,
            schema_url,
        })
    }
}

impl JsonSpan {
    fn into_model(mut self) -> Result<Span, SpanError> {
        bound(&mut self.events, MAX_EVENTS, &mut self.dropped_events_count);
        bound(&mut self.links, MAX_LINKS, &mut self.dropped_links_count);
        let parent_span_id = match self.parent_span_id.as_str() {
            "" => None,
            text => Some(span_id("parentSpanId", text)?).filter(|id| !id.is_zero()),
        };
        validate(Span {
            trace_id: trace_id("traceId", &self.trace_id)?,
            span_id: span_id("spanId", &self.span_id)?,
            parent_span_id,
            trace_state: self.trace_state,
            flags: self.flags,
            name: self.name,
            kind: self.kind,
            start_unix_nano: self.start_time_unix_nano,
            end_unix_nano: self.end_time_unix_nano,
            attributes: checked(self.attributes, &mut self.dropped_attributes_count)?,
            dropped_attributes_count: self.dropped_attributes_count,
            events: self
                .events
                .into_iter()
                .map(|Object(event)| event.into_model())
                .collect::<Result<_, _>>()?,
            dropped_events_count: self.dropped_events_count,
            links: self
                .links
                .into_iter()
                .map(|Object(link)| link.into_model())
                .collect::<Result<_, _>>()?,
            dropped_links_count: self.dropped_links_count,
            status: Status {
                code: self.status.0.code,
                message: self.status.0.message,
            },
        })
    }
}

impl JsonEvent {
    fn into_model(mut self) -> Result<Event, DecodeError> {
        Ok(Event {
            time_unix_nano: self.time_unix_nano,
            name: self.name,
            attributes: checked(self.attributes, &mut self.dropped_attributes_count)?,
            dropped_attributes_count: self.dropped_attributes_count,
        })
    }
}

impl JsonLink {
    fn into_model(mut self) -> Result<Link, SpanError> {
        let of_link = |error| match error {
            SpanError::Refused(reason) => SpanError::Refused(format!("a link's {reason}")),
            SpanError::Request(_) => error,
        };
        Ok(Link {
            trace_id: match self.trace_id.as_str() {
                "" => TraceId::ZERO,
                text => trace_id("traceId", text).map_err(of_link)?,
            },
            span_id: match self.span_id.as_str() {
                "" => SpanId::ZERO,
                text => span_id("spanId", text).map_err(of_link)?,
            },
            trace_state: self.trace_state,
            flags: self.flags,
            attributes: checked(self.attributes, &mut self.dropped_attributes_count)?,
            dropped_attributes_count: self.dropped_attributes_count,
        })
    }
}

fn checked(
    mut attributes: Vec<Attribute>,
    dropped: &mut u32,
) -> Result<Vec<Attribute>, DecodeError> {
    bound(&mut attributes, MAX_ATTRIBUTES, dropped);
    check(&attributes)?;
    Ok(attributes)
}

/// Cuts a list that is too long, and counts what goes.
fn bound<T>(list: &mut Vec<T>, max: usize, dropped: &mut u32) {
    let excess = list.len().saturating_sub(max);
    list.truncate(max);
    *dropped = dropped.saturating_add(u32::try_from(excess).unwrap_or(u32::MAX));
}

fn trace_id(field: &str, text: &str) -> Result<TraceId, SpanError> {
    match text.parse() {
        Ok(id) if text.len() == 32 => Ok(id),
        _ => Err(not_hex(field, text, 32)),
    }
}

fn span_id(field: &str, text: &str) -> Result<SpanId, SpanError> {
    match text.parse() {
        Ok(id) if text.len() == 16 => Ok(id),
        _ => Err(not_hex(field, text, 16)),
    }
}

fn not_hex(field: &str, text: &str, digits: usize) -> SpanError {
    let reason = match text.chars().count() {
        0 => format!("{field} is missing"),
        length if length == digits => format!("{field} is not hex"),
        length => format!("{field} has {length} characters instead of {digits} hex digits"),
    };
    SpanError::Refused(reason)
}
