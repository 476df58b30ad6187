//! What prost makes of a request, under the rules that we have beyond the format. Where we differ from
//! prost on purpose:
//!
//! | bytes | prost | ours |
//! |---|---|---|
//! | an id of a wrong length, a missing or zero trace or span id | takes it | refuses the span |
//! | such an id that a later piece of the message corrects | takes it | refuses the span |
//! | a kind or a status code that the standard does not have | keeps the number | "not said" |
//! | a zero parent id, a zero id in a link | keeps it | none |
//! | nothing, an empty message, an unset value | three things | one thing |
//! | more values in one attribute than the limits allow | takes it | refuses the span, or the request if it is on a resource or scope |
//! | more attributes, events or links than the limits allow | takes them | drops and counts them |
//! | 100 messages and groups in each other | the limit of all together | one limit for groups; values have their own |

use std::collections::BTreeMap;

use periplus_model::TraceId;
use periplus_wire::otlp::{MAX_ATTRIBUTES, MAX_DEPTH, MAX_EVENTS, MAX_LINKS, MAX_VALUES};
use prost::{DecodeError, Message};

use crate::support::proto::{
    Any, AnyValue, KeyValue, Link, Request, Resource, Scope, Span, Status,
};

/// Of each trace its spans: requests of one span each, sorted.
pub(crate) type Traces = BTreeMap<TraceId, Vec<Vec<u8>>>;

/// What should become of a request.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) traces: Traces,
    /// Spans that are refused.
    pub(crate) refused: u64,
}

/// Why a request should be refused as a whole.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Prost says so, too.
    Malformed(#[expect(dead_code, reason = "shown when a test fails")] DecodeError),
    /// A value on a resource or a scope goes beyond the limits.
    Limits,
}

pub(crate) fn read(bytes: &[u8]) -> Result<Expected, Refusal> {
    let request = Request::decode(bytes).map_err(Refusal::Malformed)?;
    let every_id = every_id::Request::decode(bytes).map_err(Refusal::Malformed)?;
    let mut expected = Expected::default();
    for (of_resource, ids) in request
        .resource_spans
        .into_iter()
        .zip(every_id.resource_spans)
    {
        let mut resource = of_resource.resource.unwrap_or_default();
        let Resource {
            attributes,
            dropped_attributes_count,
        } = &mut resource;
        within_limits(attributes)?;
        bound(attributes, MAX_ATTRIBUTES, dropped_attributes_count);
        for (of_scope, ids) in of_resource.scope_spans.into_iter().zip(ids.scope_spans) {
            let mut scope = of_scope.scope.unwrap_or_default();
            let Scope {
                attributes,
                dropped_attributes_count,
                ..
            } = &mut scope;
            within_limits(attributes)?;
            bound(attributes, MAX_ATTRIBUTES, dropped_attributes_count);
            for (span, ids) in of_scope.spans.into_iter().zip(ids.spans) {
                match usual(span, &ids) {
                    Some(span) => {
                        let id = TraceId::from_bytes(span.trace_id.as_slice().try_into().unwrap());
                        let urls = (of_resource.schema_url.clone(), of_scope.schema_url.clone());
                        let one = one(resource.clone(), scope.clone(), urls, span);
                        expected.traces.entry(id).or_default().push(one);
                    }
                    None => expected.refused += 1,
                }
            }
        }
    }
    expected.traces.values_mut().for_each(|spans| spans.sort());
    Ok(expected)
}

/// A span with all that is said about it, as bytes that can be compared; doubles keep their bits.
pub(crate) fn one(
    resource: Resource,
    scope: Scope,
    (resource_url, scope_url): (String, String),
    span: Span,
) -> Vec<u8> {
    use crate::support::proto::{ResourceSpans, ScopeSpans};
    let request = Request {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: vec![span],
                schema_url: scope_url,
            }],
            schema_url: resource_url,
        }],
    };
    request.encode_to_vec()
}

/// The span as it should be kept; nothing if it is refused.
fn usual(mut span: Span, ids: &every_id::Span) -> Option<Span> {
    let lengths =
        |ids: &[Vec<u8>], allowed: &[usize]| ids.iter().all(|id| allowed.contains(&id.len()));
    let sound = lengths(&ids.trace_id, &[16])
        && lengths(&ids.span_id, &[8])
        && lengths(&ids.parent_span_id, &[0, 8])
        && ids
            .links
            .iter()
            .all(|link| lengths(&link.trace_id, &[0, 16]) && lengths(&link.span_id, &[0, 8]));
    let zero = |id: &[u8]| id.iter().all(|byte| *byte == 0);
    if !sound || zero(&span.trace_id) || zero(&span.span_id) {
        return None;
    }
    if zero(&span.parent_span_id) {
        span.parent_span_id.clear();
    }
    if !(0..=5).contains(&span.kind) {
        span.kind = 0;
    }
    let status = span.status.get_or_insert_with(Status::default);
    if !(0..=2).contains(&status.code) {
        status.code = 0;
    }
    for event in &mut span.events {
        within_limits(&mut event.attributes).ok()?;
        bound(
            &mut event.attributes,
            MAX_ATTRIBUTES,
            &mut event.dropped_attributes_count,
        );
    }
    for link in &mut span.links {
        within_limits(&mut link.attributes).ok()?;
        bound(
            &mut link.attributes,
            MAX_ATTRIBUTES,
            &mut link.dropped_attributes_count,
        );
        let Link {
            trace_id, span_id, ..
        } = link;
        for id in [trace_id, span_id] {
            // Some senders write an empty id, others zeros; on the way out both are the same.
            if zero(id) {
                id.clear();
            }
        }
    }
    within_limits(&mut span.attributes).ok()?;
    bound(
        &mut span.attributes,
        MAX_ATTRIBUTES,
        &mut span.dropped_attributes_count,
    );
    bound(&mut span.events, MAX_EVENTS, &mut span.dropped_events_count);
    bound(&mut span.links, MAX_LINKS, &mut span.dropped_links_count);
    Some(span)
}

/// Drops what is too much, and counts it.
fn bound<T>(list: &mut Vec<T>, most: usize, dropped: &mut u32) {
    let more = list.len().saturating_sub(most);
    list.truncate(most);
    *dropped = dropped.saturating_add(u32::try_from(more).unwrap());
}

/// Checks values against the limits, and gives those that are not set the one form that we have.
fn within_limits(attributes: &mut [KeyValue]) -> Result<(), Refusal> {
    for attribute in attributes {
        let value = attribute.value.get_or_insert_with(AnyValue::default);
        let mut values = 0;
        if depth(value, &mut values) > MAX_DEPTH || values > MAX_VALUES {
            return Err(Refusal::Limits);
        }
    }
    Ok(())
}

/// How many arrays and maps lie in each other; counts the values in them.
fn depth(value: &mut AnyValue, values: &mut usize) -> usize {
    let mut inner = |value: &mut AnyValue| {
        *values += 1;
        depth(value, values)
    };
    match &mut value.value {
        Some(Any::Array(array)) => 1 + array.values.iter_mut().map(inner).max().unwrap_or_default(),
        Some(Any::Map(map)) => {
            let entries = map.values.iter_mut();
            let value =
                |entry: &mut KeyValue| inner(entry.value.get_or_insert_with(AnyValue::default));
            1 + entries.map(value).max().unwrap_or_default()
        }
        _ => 0,
    }
}

/// The ids alone, each occurrence of them.
mod every_id {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", repeated, tag = "1")]
        pub(super) trace_id: Vec<Vec<u8>>,
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub(super) span_id: Vec<Vec<u8>>,
        #[prost(bytes = "vec", repeated, tag = "4")]
        pub(super) parent_span_id: Vec<Vec<u8>>,
        #[prost(message, repeated, tag = "13")]
        pub(super) links: Vec<Link>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Link {
        #[prost(bytes = "vec", repeated, tag = "1")]
        pub(super) trace_id: Vec<Vec<u8>>,
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub(super) span_id: Vec<Vec<u8>>,
    }
}
