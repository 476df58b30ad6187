//! Segments that were written once can be read for ever.
//!
//! `tests/golden/v1.seg` was written when version 1 of the format was made, the others when the writer had
//! learned what they are named for. None is ever written anew: a writer that writes something else gets a
//! file of its own, and the ones before stay readable (`UPDATE_GOLDEN=1` writes one that is missing).

use std::path::PathBuf;
use std::sync::Arc;

use periplus_filter::{Field, Intrinsic, SpanFilter, TimeRange};
use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status,
    StatusCode, TraceId, Value,
};
use periplus_segment::{Builder, EncodeOptions, Segment};

use crate::round_trip::check;

const START: u64 = 1_760_000_000_000_000_000;

fn attributes(n: u64) -> Vec<Attribute> {
    let nested = Value::Map(vec![
        Attribute::new(
            "list",
            Value::Array(vec![1_i64.into(), "two".into(), Value::Empty]),
        ),
        Attribute::new("twice", "1"),
        Attribute::new("twice", "2"),
    ]);
    match n % 4 {
        0 => vec![
            Attribute::new("http.route", "/orders/{id}"),
            Attribute::new("http.response.status_code", 200 + (n % 3) as i64),
            Attribute::new("session.id", format!("{n:032x}")),
        ],
        1 => vec![
            Attribute::new("cached", n.is_multiple_of(3)),
            Attribute::new("amount", n as f64 / 4.0),
            Attribute::new("minus zero", -0.0),
            Attribute::new("raw", Value::Bytes(vec![0, 255, n as u8])),
        ],
        2 => vec![
            Attribute::new("nested", nested),
            Attribute::new("empty", Value::Empty),
            Attribute::new("twice", "a"),
            Attribute::new("twice", "b"),
        ],
        _ => vec![Attribute::new("peer.service", "database")],
    }
}

fn span(n: u64) -> Span {
    let trace = n / 7;
    let first = n.is_multiple_of(7);
    Span {
        trace_id: TraceId::from_halves(trace % 2, 1_000 + trace),
        span_id: SpanId::from_u64(1 + n),
        parent_span_id: match n % 7 {
            0 => None,
            // Somewhere else.
            6 => Some(SpanId::from_u64(1 << 60)),
            _ => Some(SpanId::from_u64(n)),
        },
        trace_state: if first { "a=b" } else { "" }.to_owned(),
        flags: 0x101,
        name: format!("operation {}", n % 5),
        kind: SpanKind::from_number((n % 6) as i32),
        start_unix_nano: START + trace * 1_000_000 + n % 7 * 1_234,
        // Two end before they start.
        end_unix_nano: START + trace * 1_000_000 + if n % 40 == 9 { 0 } else { 77_777 * (n % 9) },
        attributes: attributes(n),
        dropped_attributes_count: u32::from(n == 3) * 9,
        events: (0..n % 3)
            .map(|event| Event {
                time_unix_nano: START + trace * 1_000_000 + event * 10,
                name: "exception".to_owned(),
                attributes: vec![Attribute::new("exception.type", "Overflow")],
                dropped_attributes_count: u32::from(n == 5),
            })
            .collect(),
        dropped_events_count: u32::from(n == 4) * 8,
        links: (0..u64::from(n % 10 == 2))
            .map(|_| Link {
                trace_id: TraceId::from_halves(5, n),
                span_id: SpanId::from_u64(n),
                trace_state: "c=d".to_owned(),
                flags: 1,
                attributes: vec![Attribute::new("why", "retry")],
                dropped_attributes_count: 2,
            })
            .collect(),
        dropped_links_count: u32::from(n == 6) * 7,
        status: Status {
            code: StatusCode::from_number((n % 3) as i32),
            message: if n % 3 == 2 { "failed" } else { "" }.to_owned(),
        },
    }
}

fn batch() -> Batch {
    let group = |service: usize| {
        let mut resource = Resource::of_service(["shop", "stock", ""][service]);
        resource.schema_url = "https://example.org/resource".to_owned();
        SpanGroup {
            resource: Arc::new(resource),
            scope: Arc::new(Scope {
                name: "library".to_owned(),
                version: "1.2".to_owned(),
                attributes: vec![Attribute::new("scope", service as i64)],
                dropped_attributes_count: 1,
                schema_url: "https://example.org/scope".to_owned(),
            }),
            spans: (0..80)
                .filter(|n| n % 3 == service as u64)
                .map(span)
                .collect(),
        }
    };
    Batch {
        groups: (0..3).map(group).collect(),
    }
}

/// What a golden file has, written by `write` if it is missing and that is asked for.
pub(crate) fn file(name: &str, write: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let path = golden.join(name);
    if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, write()).expect("the file is written");
    }
    std::fs::read(path).expect("the golden file")
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.append(&batch()).expect("room");
    builder
}

fn golden() -> Segment {
    let options = EncodeOptions::default().with_group_spans(30);
    let bytes = file("v1.seg", || builder().encode(&options));
    Segment::open(bytes).expect("a sound segment")
}

#[test]
fn version_1_is_read() {
    let segment = golden();
    assert_eq!(segment.info().version, 1);
    assert_eq!(segment.info().groups, 3);
    check(&segment, &[batch()]);
    assert!(segment.verify().is_empty());
}

#[test]
fn version_1_answers() {
    let (segment, builder) = (golden(), builder());
    assert_eq!(*segment.red().expect("sound"), builder.red());
    assert_eq!(*segment.operations().expect("sound"), builder.operations());
    let fresh = builder.encode(&EncodeOptions::default());
    let fresh = Segment::open(fresh).expect("a sound segment");
    assert_eq!(
        segment.calls().expect("sound"),
        fresh.calls().expect("sound")
    );
    let filter = SpanFilter::equals(Field::Intrinsic(Intrinsic::Service), "stock");
    let search = segment.search(&filter).expect("sound");
    let hits: usize = (0..segment.group_count())
        .map(|number| segment.group(number).hits(&search, TimeRange::ALL))
        .map(|hits| hits.expect("sound").len())
        .sum();
    assert_eq!(hits, builder.hits(&filter, TimeRange::ALL).len());
}
