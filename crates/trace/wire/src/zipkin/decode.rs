//! JSON → model.

use std::collections::HashMap;
use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, TraceId,
};

use super::endpoint::{LOCAL, REMOTE, append_attributes, non_empty};
use super::error::{DecodeError, SpanProblem};
use super::raw::{Number, RawAnnotation, RawList, RawSpan};
use super::tags::{apply, to_event};
use super::{ABSENT_START, DEBUG, SHARED};
use crate::json_text::error_text;
use crate::otlp::MAX_EVENTS;

/// Decodes the body of `POST /api/v2/spans`: a list of spans. An empty body is an empty list.
///
/// Spans are grouped by who made them; within a group they keep their order.
///
/// # Errors
///
/// The body is no list of version 2 spans, or one of the spans breaks a rule.
pub fn decode_json(body: &[u8]) -> Result<Batch, DecodeError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Ok(Batch::default()),
        Some(b'[') => {}
        Some(_) => return Err(DecodeError::NotAList),
    }
    let RawList(spans) = serde_json::from_slice(body).map_err(|error| {
        if is_version_1(body) {
            DecodeError::Version1
        } else {
            DecodeError::Json(error_text(&error))
        }
    })?;
    let mut groups = Groups::default();
    for (index, span) in spans.into_iter().enumerate() {
        if span.binary_annotations {
            return Err(DecodeError::Version1);
        }
        groups
            .add(span)
            .map_err(|problem| DecodeError::Span { index, problem })?;
    }
    Ok(groups.batch)
}

/// Whether a body that cannot be read has the mark of version 1, as Zipkin looks for it.
fn is_version_1(body: &[u8]) -> bool {
    let mark = b"yAnnotations\"";
    body.windows(mark.len()).any(|window| window == mark)
}

/// A batch that grows, and where spans of each maker go. All attributes of a resource made here are
/// texts.
#[derive(Default)]
struct Groups {
    batch: Batch,
    by_maker: HashMap<Maker, usize>,
}

#[derive(PartialEq, Eq, Hash)]
struct Maker {
    resource: Vec<(String, String)>,
    scope: (String, String),
}

impl Groups {
    fn add(&mut self, raw: RawSpan) -> Result<(), SpanProblem> {
        let mut resource = Resource::default();
        let mut scope = Scope::default();
        let span = to_span(raw, &mut resource, &mut scope)?;
        // Senders report in runs: most spans belong where the one before went.
        if let Some(last) = self.batch.groups.last_mut()
            && *last.resource == resource
            && *last.scope == scope
        {
            last.spans.push(span);
            return Ok(());
        }
        let maker = Maker {
            resource: resource.attributes.iter().map(as_texts).collect(),
            scope: (scope.name.clone(), scope.version.clone()),
        };
        let groups = &mut self.batch.groups;
        let at = *self.by_maker.entry(maker).or_insert_with(|| {
            groups.push(SpanGroup {
                resource: Arc::new(resource),
                scope: Arc::new(scope),
                spans: Vec::new(),
            });
            groups.len() - 1
        });
        groups[at].spans.push(span);
        Ok(())
    }
}

fn as_texts(attribute: &Attribute) -> (String, String) {
    let value = attribute.value.as_str().unwrap_or_default();
    (attribute.key.clone(), value.to_owned())
}

fn to_span(raw: RawSpan, resource: &mut Resource, scope: &mut Scope) -> Result<Span, SpanProblem> {
    let mut span = Span {
        trace_id: trace_id(raw.trace_id.as_deref())?,
        span_id: span_id(raw.id.as_deref())?,
        kind: kind(raw.kind.as_deref())?,
        name: raw.name.unwrap_or_default(),
        ..Span::default()
    };
    span.parent_span_id = parent_id(raw.parent_id.as_deref())?.filter(|id| *id != span.span_id);
    set_times(&mut span, raw.timestamp, raw.duration)?;
    if let Some(local) = &raw.local_endpoint {
        if let Some(name) = non_empty(local.service_name.as_deref()) {
            *resource = Resource::of_service(name);
        }
        append_attributes(&mut span.attributes, local, &LOCAL)?;
    }
    if let Some(remote) = &raw.remote_endpoint {
        append_attributes(&mut span.attributes, remote, &REMOTE)?;
    }
    for (name, flag) in [
        (
            SHARED,
            raw.shared == Some(true) && span.kind != SpanKind::Client,
        ),
        (DEBUG, raw.debug == Some(true)),
    ] {
        if flag {
            span.attributes.push(Attribute::new(name, true));
        }
    }
    for (key, value) in raw.tags.unwrap_or_default().0 {
        match value {
            Some(value) => apply(key, value, &mut span, resource, scope),
            None => return Err(SpanProblem::NullTag(shorten(&key))),
        }
    }
    for (i, annotation) in raw.annotations.unwrap_or_default().into_iter().enumerate() {
        add_event(&mut span, i, annotation)?;
    }
    Ok(span)
}

fn set_times(
    span: &mut Span,
    timestamp: Option<Number>,
    duration: Option<Number>,
) -> Result<(), SpanProblem> {
    match positive(timestamp) {
        Some(micros) => span.start_unix_nano = nanos("timestamp", micros)?,
        None => span.attributes.push(Attribute::new(ABSENT_START, true)),
    }
    let micros = positive(duration).unwrap_or_default();
    span.end_unix_nano = nanos("duration", micros)?
        .checked_add(span.start_unix_nano)
        .ok_or(SpanProblem::OutOfRange {
            field: "duration",
            value: micros,
        })?;
    Ok(())
}

fn add_event(span: &mut Span, i: usize, annotation: RawAnnotation) -> Result<(), SpanProblem> {
    let (Some(Number(micros)), Some(value)) = (annotation.timestamp, annotation.value) else {
        return Err(SpanProblem::IncompleteAnnotation(i));
    };
    if span.events.len() < MAX_EVENTS {
        let time_unix_nano = nanos("annotation timestamp", micros)?;
        span.events.push(to_event(time_unix_nano, value));
    } else {
        span.dropped_events_count = span.dropped_events_count.saturating_add(1);
    }
    Ok(())
}

fn positive(number: Option<Number>) -> Option<i64> {
    number
        .map(|Number(number)| number)
        .filter(|&number| number > 0)
}

fn nanos(field: &'static str, micros: i64) -> Result<u64, SpanProblem> {
    u64::try_from(micros)
        .ok()
        .and_then(|micros| micros.checked_mul(1000))
        .ok_or(SpanProblem::OutOfRange {
            field,
            value: micros,
        })
}

fn kind(text: Option<&str>) -> Result<SpanKind, SpanProblem> {
    Ok(match text {
        None => SpanKind::Unspecified,
        Some("CLIENT") => SpanKind::Client,
        Some("SERVER") => SpanKind::Server,
        Some("PRODUCER") => SpanKind::Producer,
        Some("CONSUMER") => SpanKind::Consumer,
        Some(other) => return Err(SpanProblem::UnknownKind(shorten(other))),
    })
}

fn trace_id(text: Option<&str>) -> Result<TraceId, SpanProblem> {
    let text = digits("traceId", text.ok_or(SpanProblem::Missing("traceId"))?, 32)?;
    match text.parse::<TraceId>() {
        Ok(id) if id.is_zero() => Err(SpanProblem::ZeroId("traceId")),
        Ok(id) => Ok(id),
        Err(_) => Err(SpanProblem::NotHex(text.to_owned())),
    }
}

fn span_id(text: Option<&str>) -> Result<SpanId, SpanProblem> {
    let text = digits("id", text.ok_or(SpanProblem::Missing("id"))?, 16)?;
    match text.parse::<SpanId>() {
        Ok(id) if id.is_zero() => Err(SpanProblem::ZeroId("id")),
        Ok(id) => Ok(id),
        Err(_) => Err(SpanProblem::NotHex(text.to_owned())),
    }
}

/// A parent of zero is none.
fn parent_id(text: Option<&str>) -> Result<Option<SpanId>, SpanProblem> {
    let Some(text) = text else {
        return Ok(None);
    };
    let text = digits("parentId", text, 16)?;
    match text.parse::<SpanId>() {
        Ok(id) => Ok((!id.is_zero()).then_some(id)),
        Err(_) => Err(SpanProblem::NotHex(text.to_owned())),
    }
}

fn digits<'a>(field: &'static str, text: &'a str, max: usize) -> Result<&'a str, SpanProblem> {
    match text.len() {
        0 => Err(SpanProblem::EmptyId(field)),
        length if length > max => Err(SpanProblem::LongId { field, max }),
        _ => Ok(text),
    }
}

/// Cuts what a sender wrote to what an error message bears.
fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}
