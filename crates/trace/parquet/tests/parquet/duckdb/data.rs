//! The spans that both are asked about.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use periplus_model::{
    Attribute, Batch, Link, Resource, Scope, Span, SpanGroup, SpanId, TraceId, Value,
};
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{MemoryStore, SpanStore};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

const SPANS: usize = 10_000;

/// Where the spans lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The engine without a disk.
    Memory,
    /// The engine with a disk: all in the table.
    Table,
    /// In several segments of two hours.
    Segments,
    /// In segments of which those were merged that can be: where a trace's spans came into both hours
    /// in turn, a merge would change their order.
    Merged,
}

impl Engine {
    pub(crate) const ALL: [Self; 4] = [Self::Memory, Self::Table, Self::Segments, Self::Merged];

    /// A store with the demo's spans, and with spans that are odd.
    pub(crate) fn store(self, runtime: &Runtime) -> Arc<dyn SpanStore> {
        let mut requests: Vec<_> =
            periplus_workload::demo_requests(SPANS, start(), SPANS / 8).collect();
        let groups = vec![group(1, every_type()), group(2, twice())];
        let odd = periplus_wire::otlp::encode_protobuf(&Batch { groups });
        requests.insert(requests.len() / 2, odd);
        let send = |store: &dyn SpanStore, request: Vec<u8>| {
            let taken = runtime.block_on(store.append_otlp(request.into())).unwrap();
            assert!(taken.refused.is_empty());
        };
        if self == Self::Memory {
            let store = MemoryStore::default();
            requests
                .into_iter()
                .for_each(|request| send(&store, request));
            return Arc::new(store);
        }
        let options = Options {
            background: false,
            ..Options::default()
        };
        let disk = Arc::new(SimulatedDisk::new());
        let store = EmbeddedStore::open_on(disk, Path::new("/"), options).unwrap();
        for request in requests {
            send(&store, request);
            if self != Self::Table {
                store.flush().unwrap();
            }
        }
        let flushed = store.segments().len();
        if self == Self::Merged {
            store.compact().unwrap();
        }
        let merged = store.segments().iter().any(|entry| entry.level > 0);
        let segments = store.segments().len();
        match self {
            Self::Memory | Self::Table => assert_eq!(segments, 0),
            Self::Segments => assert!(segments > 8, "{segments}"),
            Self::Merged => assert!(merged && segments < flushed, "{segments} of {flushed}"),
        }
        Arc::new(store)
    }
}

/// Half a second before an hour of today or yesterday ends: the demo's spans take a second.
fn start() -> u64 {
    static START: OnceLock<u64> = OnceLock::new();
    *START.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let hours = now.as_secs() / 3_600 - 5;
        hours * 3_600_000_000_000 - 500_000_000
    })
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
        start_unix_nano: start() + 999,
        // It ends before it starts.
        end_unix_nano: start() - 1,
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
        start() / 1_000
    ]])
}

/// What OTLP forbids and some senders send.
fn twice() -> Span {
    Span {
        name: "twice".to_owned(),
        start_unix_nano: start(),
        end_unix_nano: start() + 1,
        attributes: vec![Attribute::new("key", "first"), Attribute::new("key", 2)],
        ..Span::default()
    }
}
