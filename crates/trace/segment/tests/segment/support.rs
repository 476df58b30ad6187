//! Arbitrary batches, and how they are compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status,
    StatusCode, TraceId, Value,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Few short texts, so that they repeat, and some odd ones.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]{0,2}",
        2 => "[a-z./-]{0,12}",
        1 => any::<String>().prop_map(|text| text.chars().take(9).collect()),
        1 => ("[xy]", 1..300_usize).prop_map(|(text, times)| text.repeat(times)),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Empty),
        6 => text().prop_map(Value::String),
        2 => any::<bool>().prop_map(Value::Bool),
        3 => prop_oneof![0..5_i64, any::<i64>()].prop_map(Value::Int),
        3 => double().prop_map(Value::Double),
        1 => vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((text(), inner), 0..4).prop_map(|entries| Value::Map(list(entries))),
        ]
    })
}

/// Any bits, the NaNs and both zeros among them.
fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(72.5),
        any::<u64>().prop_map(f64::from_bits),
    ]
}

fn list(entries: Vec<(String, Value)>) -> Vec<Attribute> {
    let entries = entries.into_iter();
    entries
        .map(|(key, value)| Attribute { key, value })
        .collect()
}

pub(crate) fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
    let key = prop_oneof![4 => "[abc]", 1 => text()];
    vec((key, value()), 0..5).prop_map(list)
}

/// Few of them, so that batches have traces of several spans; zero is among them.
pub(crate) fn trace_id() -> impl Strategy<Value = TraceId> {
    prop_oneof![
        8 => (0..6_u64).prop_map(|low| TraceId::from_halves(0, low)),
        1 => any::<(u64, u64)>().prop_map(|(high, low)| TraceId::from_halves(high, low)),
    ]
}

pub(crate) fn span_id() -> impl Strategy<Value = SpanId> {
    prop_oneof![8 => 0..8_u64, 1 => any::<u64>()].prop_map(SpanId::from_u64)
}

/// A time; some are unknown or from another world.
pub(crate) fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        8 => (0..50_u64).prop_map(|n| 1_760_000_000_000_000_000 + n * 1_000),
        2 => (0..1_000_u64).prop_map(|n| 1_760_000_000_000_000_000 + n * 7_919_123_457),
        1 => any::<u64>(),
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(0), 1 => any::<u32>()]
}

fn event() -> impl Strategy<Value = Event> {
    (time(), text(), attributes(), count()).prop_map(|(time, name, attributes, dropped)| Event {
        time_unix_nano: time,
        name,
        attributes,
        dropped_attributes_count: dropped,
    })
}

fn link() -> impl Strategy<Value = Link> {
    let ids = (trace_id(), span_id());
    (ids, text(), any::<u32>(), attributes(), count()).prop_map(
        |((trace_id, span_id), trace_state, flags, attributes, dropped)| Link {
            trace_id,
            span_id,
            trace_state,
            flags,
            attributes,
            dropped_attributes_count: dropped,
        },
    )
}

pub(crate) fn status() -> impl Strategy<Value = Status> {
    let message = prop_oneof![4 => Just(String::new()), 1 => text()];
    (0..3, message).prop_map(|(code, message)| Status {
        code: StatusCode::from_number(code),
        message,
    })
}

pub(crate) fn span() -> impl Strategy<Value = Span> {
    let state = prop_oneof![4 => Just(String::new()), 1 => text()];
    let ids = (
        trace_id(),
        span_id(),
        option::of(span_id()),
        state,
        0..3_u32,
    );
    let kind = (0..6).prop_map(SpanKind::from_number);
    let what = (text(), kind, time(), time(), status());
    let events = prop_oneof![3 => Just(vec![]), 1 => vec(event(), 0..3)];
    let links = prop_oneof![3 => Just(vec![]), 1 => vec(link(), 0..3)];
    let lists = (attributes(), events, links);
    (ids, what, lists, (count(), count(), count())).prop_map(|(ids, what, lists, dropped)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: ids.3,
        flags: ids.4,
        name: what.0,
        kind: what.1,
        start_unix_nano: what.2,
        end_unix_nano: what.3,
        status: what.4,
        attributes: lists.0,
        events: lists.1,
        links: lists.2,
        dropped_attributes_count: dropped.0,
        dropped_events_count: dropped.1,
        dropped_links_count: dropped.2,
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let service = option::of("[ab]");
    (service, attributes(), count(), text()).prop_map(|(service, mut attributes, dropped, url)| {
        if let Some(service) = service {
            attributes.push(Attribute::new("service.name", service));
        }
        Resource {
            attributes,
            dropped_attributes_count: dropped,
            schema_url: url,
        }
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    (text(), text(), attributes(), count(), text()).prop_map(
        |(name, version, attributes, dropped, schema_url)| Scope {
            name,
            version,
            attributes,
            dropped_attributes_count: dropped,
            schema_url,
        },
    )
}

/// Batches of groups that have spans; some groups share their resource.
pub(crate) fn batch() -> impl Strategy<Value = Batch> {
    vec((resource(), vec((scope(), vec(span(), 1..6)), 1..3)), 0..4).prop_map(|resources| {
        let mut batch = Batch::default();
        for (resource, groups) in resources {
            let resource = Arc::new(resource);
            for (scope, spans) in groups {
                batch.groups.push(SpanGroup {
                    resource: resource.clone(),
                    scope: Arc::new(scope),
                    spans,
                });
            }
        }
        batch
    })
}

/// What should come back of batches that were appended one after the other: for each trace its spans
/// in the order of arrival. Shown as text, since NaNs differ from themselves; doubles as bits.
pub(crate) fn by_trace(batches: &[Batch]) -> BTreeMap<TraceId, Vec<String>> {
    let mut traces: BTreeMap<TraceId, Vec<String>> = BTreeMap::new();
    for group in batches.iter().flat_map(|batch| &batch.groups) {
        for span in &group.spans {
            let shown = show(&group.resource, &group.scope, span);
            traces.entry(span.trace_id).or_default().push(shown);
        }
    }
    traces
}

/// The spans of groups in their order, as [`by_trace`] shows them.
pub(crate) fn shown(groups: &[SpanGroup]) -> Vec<String> {
    let mut spans = Vec::new();
    for group in groups {
        for span in &group.spans {
            spans.push(show(&group.resource, &group.scope, span));
        }
    }
    spans
}

fn show(resource: &Resource, scope: &Scope, span: &Span) -> String {
    let mut resource = resource.clone();
    let mut scope = scope.clone();
    let mut span = span.clone();
    resource.attributes.iter_mut().for_each(as_bits);
    scope.attributes.iter_mut().for_each(as_bits);
    span.attributes.iter_mut().for_each(as_bits);
    for event in &mut span.events {
        event.attributes.iter_mut().for_each(as_bits);
    }
    for link in &mut span.links {
        link.attributes.iter_mut().for_each(as_bits);
    }
    format!("{resource:?} {scope:?} {span:?}")
}

fn as_bits(attribute: &mut Attribute) {
    bits(&mut attribute.value);
}

fn bits(value: &mut Value) {
    match value {
        Value::Double(number) => *value = Value::String(format!("{:#x}", number.to_bits())),
        Value::Array(values) => values.iter_mut().for_each(bits),
        Value::Map(entries) => entries.iter_mut().for_each(as_bits),
        _ => {}
    }
}
