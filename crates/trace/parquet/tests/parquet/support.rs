//! Traces of every kind, written and read in memory.

use std::sync::Arc;

use parquet::file::reader::ChunkReader;
use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status,
    StatusCode, TraceId, Value,
};
use periplus_parquet::{ExportCounts, ExportOptions, Exporter, Import, ImportError};
use periplus_store::StoredTrace;
use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) fn write(traces: &[StoredTrace], options: ExportOptions) -> (ExportCounts, Vec<u8>) {
    let mut exporter = Exporter::new(Vec::new(), options).unwrap();
    for trace in traces {
        exporter.push(trace).unwrap();
    }
    exporter.finish().unwrap()
}

pub(crate) fn read(file: impl Into<bytes::Bytes>) -> Result<Vec<Batch>, ImportError> {
    read_from(file.into())
}

pub(crate) fn read_from(reader: impl ChunkReader + 'static) -> Result<Vec<Batch>, ImportError> {
    Import::new(reader, "spans.parquet".to_owned())?.collect()
}

/// The groups that have spans, doubles as bits so that each is equal to itself only.
pub(crate) fn contents<'a>(groups: impl IntoIterator<Item = &'a SpanGroup>) -> Vec<SpanGroup> {
    let groups = groups.into_iter().filter(|group| !group.spans.is_empty());
    groups.cloned().map(with_bits).collect()
}

fn with_bits(mut group: SpanGroup) -> SpanGroup {
    each_bits(&mut Arc::make_mut(&mut group.resource).attributes);
    each_bits(&mut Arc::make_mut(&mut group.scope).attributes);
    for span in &mut group.spans {
        each_bits(&mut span.attributes);
        let events = span.events.iter_mut().map(|event| &mut event.attributes);
        let links = span.links.iter_mut().map(|link| &mut link.attributes);
        events.chain(links).for_each(|list| each_bits(list));
    }
    group
}

fn each_bits(attributes: &mut [Attribute]) {
    attributes.iter_mut().for_each(|a| bits(&mut a.value));
}

fn bits(value: &mut Value) {
    match value {
        Value::Double(v) => *value = format!("double {:016x}", v.to_bits()).into(),
        Value::Array(values) => values.iter_mut().for_each(bits),
        Value::Map(entries) => each_bits(entries),
        _ => {}
    }
}

pub(crate) fn traces() -> impl Strategy<Value = Vec<StoredTrace>> {
    vec(trace(), 0..5)
}

fn trace() -> impl Strategy<Value = StoredTrace> {
    let groups = vec((resource(), scope(), vec(span(), 0..4)), 0..4);
    (id(), groups).prop_map(|(id, groups)| StoredTrace {
        id,
        groups: groups.into_iter().map(|g| Arc::new(group(id, g))).collect(),
        incomplete: None,
    })
}

fn group(id: TraceId, (resource, scope, mut spans): (Resource, Scope, Vec<Span>)) -> SpanGroup {
    spans.iter_mut().for_each(|span| span.trace_id = id);
    SpanGroup {
        resource: Arc::new(resource),
        scope: Arc::new(scope),
        spans,
    }
}

fn id() -> impl Strategy<Value = TraceId> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(TraceId::from_bytes),
        (0..3_u64).prop_map(|n| TraceId::from_halves(0, n)),
    ]
}

fn resource() -> impl Strategy<Value = Resource> {
    let some = (attributes(), number(), text());
    let some = some.prop_map(|(attributes, dropped, url)| Resource {
        attributes,
        dropped_attributes_count: dropped,
        schema_url: url,
    });
    prop_oneof![
        some,
        Just(Resource::of_service("cart")),
        Just(Resource::default())
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    let some = (text(), text(), attributes(), number(), text());
    some.prop_map(|(name, version, attributes, dropped, url)| Scope {
        name,
        version,
        attributes,
        dropped_attributes_count: dropped,
        schema_url: url,
    })
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (any::<u64>(), any::<Option<u64>>(), text(), number(), text());
    let kinds = (0..6_i32, 0..3_i32, text());
    let times = (time(), time());
    let dropped = (number(), number(), number());
    let lists = (attributes(), vec(event(), 0..3), vec(link(), 0..3));
    (ids, kinds, times, dropped, lists).prop_map(|(ids, kinds, times, dropped, lists)| Span {
        trace_id: TraceId::ZERO,
        span_id: SpanId::from_u64(ids.0),
        parent_span_id: ids.1.map(SpanId::from_u64),
        trace_state: ids.2,
        flags: ids.3,
        name: ids.4,
        kind: SpanKind::from_number(kinds.0),
        start_unix_nano: times.0,
        end_unix_nano: times.1,
        attributes: lists.0,
        dropped_attributes_count: dropped.0,
        events: lists.1,
        dropped_events_count: dropped.1,
        links: lists.2,
        dropped_links_count: dropped.2,
        status: Status {
            code: StatusCode::from_number(kinds.1),
            message: kinds.2,
        },
    })
}

fn event() -> impl Strategy<Value = Event> {
    let parts = (time(), text(), attributes(), number());
    parts.prop_map(|(time_unix_nano, name, attributes, dropped)| Event {
        time_unix_nano,
        name,
        attributes,
        dropped_attributes_count: dropped,
    })
}

fn link() -> impl Strategy<Value = Link> {
    let parts = (id(), any::<u64>(), text(), number(), attributes(), number());
    parts.prop_map(
        |(trace_id, span, trace_state, flags, attributes, dropped)| Link {
            trace_id,
            span_id: SpanId::from_u64(span),
            trace_state,
            flags,
            attributes,
            dropped_attributes_count: dropped,
        },
    )
}

fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
    vec(attribute(value()), 0..4)
}

fn attribute(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Attribute> {
    (text(), value).prop_map(|(key, value)| Attribute { key, value })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Empty),
        text().prop_map(Value::String),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        double().prop_map(Value::Double),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec(attribute(inner), 0..4).prop_map(Value::Map),
        ]
    })
}

/// Any bits, NaNs and infinities among them; decimal ones too.
fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(|n| f64::from(n) / 10.0),
        Just(f64::NAN),
        Just(-0.0),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just(String::new()),
        Just("service.name".to_owned()),
        Just("http.status_code".to_owned()),
        Just("$bytes".to_owned()),
    ]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        1_760_000_000_000_000_000..1_760_000_001_000_000_000_u64,
        Just(0),
    ]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), Just(0)]
}
