//! Protobuf → model, by hand: straight into the model's types, without generated ones between.

use std::sync::Arc;

use periplus_model::{
    Attribute, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode,
    TraceId, Value,
};

use super::error::{Place, SpanError};
use super::limits::{MAX_ATTRIBUTES, MAX_EVENTS, MAX_LINKS, Room, push_bounded};
use super::{DecodeError, Decoded};
use crate::protobuf::{Payload, Reader, WireError};

/// Decodes an `ExportTraceServiceRequest` (or `TracesData`, which has the same form).
///
/// # Errors
///
/// The bytes are not such a message. Spans that break a rule are no error: see [`Decoded`].
pub fn decode_protobuf(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut decoded = Decoded::default();
    let mut place = Place::default();
    let mut reader = Reader::new("ExportTraceServiceRequest", bytes);
    while let Some((field, payload)) = reader.next()? {
        if field == 1 {
            let bytes = payload.bytes("ExportTraceServiceRequest.resource_spans")?;
            resource_spans(bytes, place, &mut decoded)?;
            place.resource_spans += 1;
        }
    }
    Ok(decoded)
}

fn resource_spans(bytes: &[u8], mut place: Place, to: &mut Decoded) -> Result<(), DecodeError> {
    let mut resource = Resource::default();
    let mut groups = Vec::new();
    let mut reader = Reader::new("ResourceSpans", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => read_resource(payload.bytes("ResourceSpans.resource")?, &mut resource)?,
            2 => {
                let bytes = payload.bytes("ResourceSpans.scope_spans")?;
                groups.push(scope_spans(bytes, place, to)?);
                place.scope_spans += 1;
            }
            3 => resource.schema_url = payload.text("ResourceSpans.schema_url")?,
            _ => {}
        }
    }
    let resource = Arc::new(resource);
    let groups = groups.into_iter().filter(|(_, spans)| !spans.is_empty());
    to.batch
        .groups
        .extend(groups.map(|(scope, spans)| SpanGroup {
            resource: resource.clone(),
            scope: Arc::new(scope),
            spans,
        }));
    Ok(())
}

fn scope_spans(
    bytes: &[u8],
    mut place: Place,
    to: &mut Decoded,
) -> Result<(Scope, Vec<Span>), DecodeError> {
    let mut scope = Scope::default();
    let mut spans = Vec::new();
    let mut reader = Reader::new("ScopeSpans", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => read_scope(payload.bytes("ScopeSpans.scope")?, &mut scope)?,
            2 => {
                match read_span(payload.bytes("ScopeSpans.spans")?) {
                    Ok(span) => spans.push(span),
                    Err(SpanError::Refused(reason)) => to.refused.add(place, &reason),
                    Err(SpanError::Request(error)) => return Err(error),
                }
                place.span += 1;
            }
            3 => scope.schema_url = payload.text("ScopeSpans.schema_url")?,
            _ => {}
        }
    }
    Ok((scope, spans))
}

pub(super) fn read_resource(bytes: &[u8], resource: &mut Resource) -> Result<(), DecodeError> {
    let mut dropped = 0;
    let mut reader = Reader::new("Resource", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => push_bounded(
                &mut resource.attributes,
                MAX_ATTRIBUTES,
                &mut dropped,
                attribute(payload.bytes("Resource.attributes")?, &mut { Room::WHOLE })?,
            ),
            2 => {
                resource.dropped_attributes_count =
                    payload.uint32("Resource.dropped_attributes_count")?;
            }
            _ => {}
        }
    }
    add(&mut resource.dropped_attributes_count, dropped);
    Ok(())
}

pub(super) fn read_scope(bytes: &[u8], scope: &mut Scope) -> Result<(), DecodeError> {
    let mut dropped = 0;
    let mut reader = Reader::new("InstrumentationScope", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => scope.name = payload.text("InstrumentationScope.name")?,
            2 => scope.version = payload.text("InstrumentationScope.version")?,
            3 => push_bounded(
                &mut scope.attributes,
                MAX_ATTRIBUTES,
                &mut dropped,
                attribute(payload.bytes("InstrumentationScope.attributes")?, &mut {
                    Room::WHOLE
                })?,
            ),
            4 => {
                scope.dropped_attributes_count =
                    payload.uint32("InstrumentationScope.dropped_attributes_count")?;
            }
            _ => {}
        }
    }
    add(&mut scope.dropped_attributes_count, dropped);
    Ok(())
}

pub(super) fn read_span(bytes: &[u8]) -> Result<Span, SpanError> {
    let mut span = Span::default();
    let (mut attributes, mut events, mut links) = (0, 0, 0);
    // A bad id must not hide that the rest cannot be read at all.
    let mut refused = None;
    let mut keep = |result: Result<(), String>| {
        if let Err(reason) = result {
            refused.get_or_insert(reason);
        }
    };
    let mut reader = Reader::new("Span", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => keep(trace_id(payload.bytes("Span.trace_id")?).map(|id| span.trace_id = id)),
            2 => keep(span_id(payload.bytes("Span.span_id")?).map(|id| span.span_id = id)),
            3 => span.trace_state = payload.text("Span.trace_state")?,
            4 => {
                let bytes = payload.bytes("Span.parent_span_id")?;
                keep(parent_span_id(bytes).map(|id| span.parent_span_id = id));
            }
            5 => span.name = payload.text("Span.name")?,
            6 => span.kind = SpanKind::from_number(payload.varint("Span.kind")? as i32),
            7 => span.start_unix_nano = payload.fixed64("Span.start_time_unix_nano")?,
            8 => span.end_unix_nano = payload.fixed64("Span.end_time_unix_nano")?,
            9 => push_bounded(
                &mut span.attributes,
                MAX_ATTRIBUTES,
                &mut attributes,
                attribute(payload.bytes("Span.attributes")?, &mut { Room::WHOLE })?,
            ),
            10 => {
                span.dropped_attributes_count = payload.uint32("Span.dropped_attributes_count")?;
            }
            11 => push_bounded(
                &mut span.events,
                MAX_EVENTS,
                &mut events,
                event(payload.bytes("Span.events")?)?,
            ),
            12 => span.dropped_events_count = payload.uint32("Span.dropped_events_count")?,
            13 => match link(payload.bytes("Span.links")?) {
                Ok(link) => push_bounded(&mut span.links, MAX_LINKS, &mut links, link),
                Err(SpanError::Refused(reason)) => keep(Err(reason)),
                Err(error) => return Err(error),
            },
            14 => span.dropped_links_count = payload.uint32("Span.dropped_links_count")?,
            15 => read_status(payload.bytes("Span.status")?, &mut span.status)?,
            16 => span.flags = payload.fixed32("Span.flags")?,
            _ => {}
        }
    }
    add(&mut span.dropped_attributes_count, attributes);
    add(&mut span.dropped_events_count, events);
    add(&mut span.dropped_links_count, links);
    match refused {
        Some(reason) => Err(SpanError::Refused(reason)),
        None => validate(span),
    }
}

/// The rules that a span must keep to be taken.
pub(super) fn validate(span: Span) -> Result<Span, SpanError> {
    if span.trace_id.is_zero() {
        Err(SpanError::Refused("trace_id is missing or zero".to_owned()))
    } else if span.span_id.is_zero() {
        Err(SpanError::Refused("span_id is missing or zero".to_owned()))
    } else {
        Ok(span)
    }
}

fn read_status(bytes: &[u8], status: &mut Status) -> Result<(), WireError> {
    let mut reader = Reader::new("Status", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            2 => status.message = payload.text("Status.message")?,
            3 => status.code = StatusCode::from_number(payload.varint("Status.code")? as i32),
            _ => {}
        }
    }
    Ok(())
}

fn event(bytes: &[u8]) -> Result<Event, DecodeError> {
    let mut event = Event::default();
    let mut dropped = 0;
    let mut reader = Reader::new("Span.Event", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => event.time_unix_nano = payload.fixed64("Span.Event.time_unix_nano")?,
            2 => event.name = payload.text("Span.Event.name")?,
            3 => push_bounded(
                &mut event.attributes,
                MAX_ATTRIBUTES,
                &mut dropped,
                attribute(payload.bytes("Span.Event.attributes")?, &mut {
                    Room::WHOLE
                })?,
            ),
            4 => {
                event.dropped_attributes_count =
                    payload.uint32("Span.Event.dropped_attributes_count")?;
            }
            _ => {}
        }
    }
    add(&mut event.dropped_attributes_count, dropped);
    Ok(event)
}

fn link(bytes: &[u8]) -> Result<Link, SpanError> {
    let mut link = Link::default();
    let mut dropped = 0;
    let mut refused = None;
    let mut reader = Reader::new("Span.Link", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => match payload.bytes("Span.Link.trace_id")? {
                [] => {}
                bytes => match trace_id(bytes) {
                    Ok(id) => link.trace_id = id,
                    Err(reason) => refused = Some(format!("a link's {reason}")),
                },
            },
            2 => match payload.bytes("Span.Link.span_id")? {
                [] => {}
                bytes => match span_id(bytes) {
                    Ok(id) => link.span_id = id,
                    Err(reason) => refused = Some(format!("a link's {reason}")),
                },
            },
            3 => link.trace_state = payload.text("Span.Link.trace_state")?,
            4 => push_bounded(
                &mut link.attributes,
                MAX_ATTRIBUTES,
                &mut dropped,
                attribute(payload.bytes("Span.Link.attributes")?, &mut { Room::WHOLE })?,
            ),
            5 => {
                link.dropped_attributes_count =
                    payload.uint32("Span.Link.dropped_attributes_count")?;
            }
            6 => link.flags = payload.fixed32("Span.Link.flags")?,
            _ => {}
        }
    }
    add(&mut link.dropped_attributes_count, dropped);
    match refused {
        Some(reason) => Err(SpanError::Refused(reason)),
        None => Ok(link),
    }
}

/// `KeyValue`.
fn attribute(bytes: &[u8], room: &mut Room) -> Result<Attribute, DecodeError> {
    let mut key = String::new();
    let mut value = Value::Empty;
    let mut reader = Reader::new("KeyValue", bytes);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => key = payload.text("KeyValue.key")?,
            2 => value = any_value(payload.bytes("KeyValue.value")?, value, room)?,
            _ => {}
        }
    }
    Ok(Attribute { key, value })
}

/// `AnyValue`, on top of what an earlier piece of the same message has said.
fn any_value(bytes: &[u8], mut value: Value, room: &mut Room) -> Result<Value, DecodeError> {
    let mut reader = Reader::new("AnyValue", bytes);
    while let Some((field, payload)) = reader.next()? {
        value = match field {
            1 => Value::String(payload.text("AnyValue.string_value")?),
            2 => Value::Bool(payload.varint("AnyValue.bool_value")? != 0),
            3 => Value::Int(payload.varint("AnyValue.int_value")? as i64),
            4 => Value::Double(f64::from_bits(payload.fixed64("AnyValue.double_value")?)),
            5 => {
                let bytes = payload.bytes("AnyValue.array_value")?;
                let items = match value {
                    Value::Array(items) => items,
                    _ => Vec::new(),
                };
                let item = |bytes: &[u8], room: &mut Room| any_value(bytes, Value::Empty, room);
                Value::Array(list("ArrayValue", bytes, items, room, item)?)
            }
            6 => {
                let bytes = payload.bytes("AnyValue.kvlist_value")?;
                let items = match value {
                    Value::Map(items) => items,
                    _ => Vec::new(),
                };
                Value::Map(list("KeyValueList", bytes, items, room, attribute)?)
            }
            7 => Value::Bytes(payload.bytes("AnyValue.bytes_value")?.to_vec()),
            _ => value,
        };
    }
    Ok(value)
}

/// `ArrayValue` and `KeyValueList`: a repeated field 1, behind the items that there are.
fn list<T>(
    message: &'static str,
    bytes: &[u8],
    mut items: Vec<T>,
    room: &mut Room,
    item: impl Fn(&[u8], &mut Room) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    room.enter()?;
    let mut reader = Reader::new(message, bytes);
    while let Some((field, payload)) = reader.next()? {
        if field == 1 {
            room.take()?;
            items.push(item(list_item(message, payload)?, room)?);
        }
    }
    room.leave();
    Ok(items)
}

fn list_item<'a>(message: &'static str, payload: Payload<'a>) -> Result<&'a [u8], WireError> {
    payload.bytes(match message {
        "ArrayValue" => "ArrayValue.values",
        _ => "KeyValueList.values",
    })
}

fn trace_id(bytes: &[u8]) -> Result<TraceId, String> {
    match bytes.try_into() {
        Ok(bytes) => Ok(TraceId::from_bytes(bytes)),
        Err(_) => Err(wrong_length("trace_id", bytes, 16)),
    }
}

fn span_id(bytes: &[u8]) -> Result<SpanId, String> {
    match bytes.try_into() {
        Ok(bytes) => Ok(SpanId::from_bytes(bytes)),
        Err(_) => Err(wrong_length("span_id", bytes, 8)),
    }
}

/// Empty or zero: a root.
fn parent_span_id(bytes: &[u8]) -> Result<Option<SpanId>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match span_id(bytes) {
        Ok(id) => Ok((!id.is_zero()).then_some(id)),
        Err(_) => Err(wrong_length("parent_span_id", bytes, 8)),
    }
}

fn wrong_length(field: &str, bytes: &[u8], expected: usize) -> String {
    format!("{field} has {} bytes instead of {expected}", bytes.len())
}

const fn add(count: &mut u32, more: u32) {
    *count = count.saturating_add(more);
}
