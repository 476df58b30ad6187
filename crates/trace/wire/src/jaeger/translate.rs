//! Span → span.

use periplus_model::{Attribute, Event, Link, Scope, Span, SpanId, SpanKind};

use super::error::SpanProblem;
use super::project::RefType;
use super::raw::{RawLog, RawReference, RawSpan, RawValue};
use super::status::Meaning;
use super::text::Attributes;
use super::{DEBUG, REF_TYPE};

const INVALID_SPAN_NAME: &str = "invalid-span-name";
const INVALID_EVENT_NAME: &str = "invalid-event-name";

/// Jaeger's flags of a span.
const SAMPLED: u32 = 1;
const DEBUG_FLAG: u32 = 2;

/// The span, and the scope that its tags name.
pub(super) fn to_span(raw: &RawSpan<'_>) -> Result<(Span, Scope), SpanProblem> {
    if let Some(problem) = raw.problem {
        return Err(problem);
    }
    if raw.trace_id.is_zero() {
        return Err(SpanProblem::ZeroId("the trace id"));
    }
    if raw.span_id.is_zero() {
        return Err(SpanProblem::ZeroId("the span id"));
    }
    let tags = &raw.tags.list;
    let meaning = Meaning::of(tags);
    let mut attributes = Attributes::with_capacity(tags.len());
    tags.iter()
        .filter(|tag| !meaning.replaces(tag))
        .for_each(|tag| attributes.push(tag));
    let name = attributes.name(raw.operation_name, INVALID_SPAN_NAME);
    if raw.flags & DEBUG_FLAG != 0 {
        attributes.list.push(Attribute::new(DEBUG, true));
    }
    let parent_span_id = parent(raw);
    let span = Span {
        trace_id: raw.trace_id,
        span_id: raw.span_id,
        parent_span_id,
        trace_state: meaning.trace_state.to_owned(),
        flags: raw.flags & SAMPLED,
        name,
        kind: meaning.kind.unwrap_or(SpanKind::Unspecified),
        start_unix_nano: raw.start_unix_nano,
        end_unix_nano: end(raw)?,
        attributes: attributes.list,
        dropped_attributes_count: raw.tags.dropped,
        events: raw.logs.iter().map(event).collect(),
        dropped_events_count: raw.dropped_logs,
        links: links(raw, parent_span_id),
        dropped_links_count: raw.dropped_references,
        status: meaning.status(),
    };
    let scope = Scope {
        name: meaning.scope_name.unwrap_or_default().to_owned(),
        version: meaning.scope_version().unwrap_or_default().to_owned(),
        ..Scope::default()
    };
    Ok((span, scope))
}

/// A negative duration is kept: the span ends before it starts, 1970 at the earliest.
fn end(raw: &RawSpan<'_>) -> Result<u64, SpanProblem> {
    let end = i128::from(raw.start_unix_nano).saturating_add(raw.duration_nano);
    u64::try_from(end.max(0)).map_err(|_| SpanProblem::OutOfRange("the end"))
}

fn parent(raw: &RawSpan<'_>) -> Option<SpanId> {
    let first = |ref_type| {
        raw.references
            .iter()
            .find(|it| it.ref_type == ref_type && it.trace_id == raw.trace_id)
            .map(|reference| reference.span_id)
    };
    raw.parent_span_id
        .or_else(|| first(RefType::ChildOf))
        .or_else(|| first(RefType::FollowsFrom))
        .filter(|id| !id.is_zero())
}

/// The references, but for the one that says no more than the parent's id.
fn links(raw: &RawSpan<'_>, parent: Option<SpanId>) -> Vec<Link> {
    let is_parent = |reference: &&RawReference| {
        reference.ref_type == RefType::ChildOf
            && reference.trace_id == raw.trace_id
            && Some(reference.span_id) == parent
    };
    raw.references
        .iter()
        .filter(|reference| !is_parent(reference))
        .map(|reference| Link {
            trace_id: reference.trace_id,
            span_id: reference.span_id,
            attributes: vec![Attribute::new(REF_TYPE, reference.ref_type.attribute())],
            ..Link::default()
        })
        .collect()
}

/// The first text of the key `event` is the name.
fn event(log: &RawLog<'_>) -> Event {
    let fields = &log.fields.list;
    let mut attributes = Attributes::with_capacity(fields.len());
    let mut name = None;
    for field in fields {
        match field.value {
            RawValue::Text(text) if field.key == b"event" && name.is_none() => name = Some(text),
            _ => attributes.push(field),
        }
    }
    Event {
        time_unix_nano: log.time_unix_nano,
        name: attributes.name(name.unwrap_or_default(), INVALID_EVENT_NAME),
        attributes: attributes.list,
        dropped_attributes_count: log.fields.dropped,
    }
}
