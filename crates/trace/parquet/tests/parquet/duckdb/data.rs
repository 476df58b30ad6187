//! The spans that both are asked about.

use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Link, Resource, Scope, Span, SpanGroup, SpanId, TraceId, Value,
};
use periplus_store::{MemoryStore, SpanSink};
use periplus_wire::otlp::decode_protobuf;
use serde_json::{Value as Json, json};

const SPANS: usize = 10_000;
const START: u64 = 1_760_000_000_000_000_000;

/// A store with the demo's spans, and with spans that are odd.
pub(crate) async fn store() -> MemoryStore {
    let store = MemoryStore::default();
    for request in periplus_workload::demo(SPANS, START) {
        let decoded = decode_protobuf(&request).unwrap();
        assert!(decoded.refused.is_empty());
        store.append(decoded.batch).await.unwrap();
    }
    let groups = vec![group(1, every_type()), group(2, twice())];
    store.append(Batch { groups }).await.unwrap();
    store
}

fn group(trace: u64, span: Span) -> SpanGroup {
    SpanGroup {
        resource: Arc::new(Resource::default()),
        scope: Arc::new(Scope::default()),
        spans: vec![Span {
            trace_id: TraceId::from_halves(0, trace),
            span_id: SpanId::from_u64(trace),
            ..span
        }],
    }
}

fn every_type() -> Span {
    let inner = Value::Map(vec![Attribute::new("deep", "below")]);
    let list = vec![Value::Int(1), "second".into(), Value::Empty];
    Span {
        name: "every type".to_owned(),
        start_unix_nano: START + 999,
        // It ends before it starts.
        end_unix_nano: START - 1,
        flags: u32::MAX,
        attributes: vec![
            Attribute::new("empty", Value::Empty),
            Attribute::new("text", "Ünïcode \u{1f6a2}"),
            Attribute::new("true", true),
            Attribute::new("int", i64::MIN),
            Attribute::new("double", 0.1),
            Attribute::new("bytes", Value::Bytes(vec![0, 0xff])),
            Attribute::new("list", Value::Array(list)),
            Attribute::new("map", Value::Map(vec![Attribute::new("inner", inner)])),
        ],
        links: vec![Link {
            trace_id: TraceId::from_halves(0, 2),
            span_id: SpanId::from_u64(2),
            attributes: vec![Attribute::new("why", "retry")],
            ..Link::default()
        }],
        ..Span::default()
    }
}

pub(crate) fn every_type_in_sql() -> Json {
    json!([[
        true,
        "Ünïcode \u{1f6a2}",
        true,
        i64::MIN,
        0.1,
        "00FF",
        "second",
        "below",
        null,
        "0000000000000002",
        "retry",
        0,
        u32::MAX,
        START / 1_000
    ]])
}

/// What OTLP forbids and some senders send.
fn twice() -> Span {
    Span {
        name: "twice".to_owned(),
        start_unix_nano: START,
        end_unix_nano: START + 1,
        attributes: vec![Attribute::new("key", "first"), Attribute::new("key", 2)],
        ..Span::default()
    }
}
