//! What the tests of the codecs share: arbitrary batches, and an independent reading of OTLP.

pub(crate) mod jaeger;
pub(crate) mod proto;
pub(crate) mod thrift;
pub(crate) mod zipkin_thrift;

use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status,
    StatusCode, TraceId, Value,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Short texts with what encoders stumble over.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z.]{0,8}",
        "[\\x00-\\x7f]{0,12}",
        any::<String>().prop_map(|text| text.chars().take(8).collect()),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Empty),
        text().prop_map(Value::String),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        double().prop_map(Value::Double),
        vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((text(), inner), 0..4).prop_map(|entries| {
                let entries = entries.into_iter();
                Value::Map(
                    entries
                        .map(|(key, value)| Attribute { key, value })
                        .collect(),
                )
            }),
        ]
    })
}

/// Any double that equals itself.
fn double() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("NaN differs from itself", |number| !number.is_nan())
}

pub(crate) fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
    vec((text(), value()), 0..4).prop_map(|list| {
        let list = list.into_iter();
        list.map(|(key, value)| Attribute { key, value }).collect()
    })
}

pub(crate) fn trace_id() -> impl Strategy<Value = TraceId> {
    (prop_oneof![Just(0), any::<u64>()], 1..=u64::MAX)
        .prop_map(|(high, low)| TraceId::from_halves(high, low))
}

pub(crate) fn span_id() -> impl Strategy<Value = SpanId> {
    (1..=u64::MAX).prop_map(SpanId::from_u64)
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), count()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (
        trace_id(),
        span_id(),
        text(),
        any::<u32>(),
        attributes(),
        count(),
    )
        .prop_map(
            |(trace_id, span_id, trace_state, flags, attributes, dropped)| Link {
                trace_id,
                span_id,
                trace_state,
                flags,
                attributes,
                dropped_attributes_count: dropped,
            },
        )
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), any::<u32>()]
}

pub(crate) fn status() -> impl Strategy<Value = Status> {
    (0..3, text()).prop_map(|(code, message)| Status {
        code: StatusCode::from_number(code),
        message,
    })
}

pub(crate) fn kind() -> impl Strategy<Value = SpanKind> {
    (0..6).prop_map(SpanKind::from_number)
}

pub(crate) fn span() -> impl Strategy<Value = Span> {
    (
        (
            trace_id(),
            span_id(),
            proptest::option::of(span_id()),
            text(),
            any::<u32>(),
        ),
        (text(), kind(), any::<u64>(), any::<u64>(), status()),
        (attributes(), vec(event(), 0..3), vec(link(), 0..3)),
        (count(), count(), count()),
    )
        .prop_map(|(ids, what, lists, dropped)| Span {
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
    (attributes(), count(), text()).prop_map(|(attributes, dropped, schema_url)| Resource {
        attributes,
        dropped_attributes_count: dropped,
        schema_url,
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
    vec((resource(), vec((scope(), vec(span(), 1..3)), 1..3)), 0..3).prop_map(|resources| {
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

/// A change to valid bytes: cut, overwrite, insert, remove, repeat.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Cut(usize),
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Repeat(usize, usize),
}

impl Mutation {
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match *self {
            Self::Cut(at) => bytes.truncate(at % length),
            Self::Set(at, byte) => bytes[at % length] = byte,
            Self::Insert(at, byte) => bytes.insert(at % length, byte),
            Self::Remove(at) => {
                bytes.remove(at % length);
            }
            Self::Repeat(at, count) => {
                let begin = at % length;
                let end = (begin + count % 64).min(length);
                bytes.extend_from_within(begin..end);
            }
        }
    }
}

pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    vec(
        prop_oneof![
            any::<usize>().prop_map(Mutation::Cut),
            (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
            (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
            any::<usize>().prop_map(Mutation::Remove),
            any::<(usize, usize)>().prop_map(|(at, count)| Mutation::Repeat(at, count)),
        ],
        1..4,
    )
}
