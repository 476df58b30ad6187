//! Golden files of the writer that knows zones and filters of texts, and of the merge by columns: what
//! version 1 can say and `v1.seg` does not.

use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status,
    StatusCode, TraceId, Value,
};
use periplus_segment::{Builder, EncodeOptions, Segment, limits, merge};

use crate::golden::file;
use crate::round_trip::check;

const START: u64 = 1_760_000_000_000_000_000;

/// Spans of a trace: the first is the parent of all others but for some.
fn trace(number: u64, ids: std::ops::Range<u64>) -> Vec<Span> {
    let parent = |n: u64| match n % 100 {
        _ if n == ids.start => None,
        7 => Some(SpanId::from_u64(0)),
        8 => Some(SpanId::from_u64(1 << 40 | n)),
        n if n < 50 => Some(SpanId::from_u64(ids.start)),
        _ => Some(SpanId::from_u64(n - 1)),
    };
    let span = |n: u64| Span {
        trace_id: TraceId::from_halves(9, number),
        span_id: SpanId::from_u64(n),
        parent_span_id: parent(n),
        name: format!("operation {}", n % 3),
        kind: SpanKind::from_number((n % 6) as i32),
        start_unix_nano: START + number * 1_000_000_000 + n * 1_000,
        end_unix_nano: START + number * 1_000_000_000 + n * 1_000 + n % 13 * 10_000,
        attributes: vec![
            Attribute::new("route", ["/", "/cart", "/orders/{id}"][n as usize % 3]),
            Attribute::new("size", n as i64 - 100),
        ],
        status: Status {
            code: StatusCode::from_number(i32::from(n % 17 == 2) * 2),
            ..Status::default()
        },
        ..Span::default()
    };
    let mut spans: Vec<Span> = ids.clone().map(span).collect();
    for (n, span) in spans.iter_mut().enumerate().step_by(29).skip(1) {
        let failed = Attribute::new("error", ["true", "false"][n % 2]);
        span.attributes.push(failed);
    }
    spans
}

/// Values of 70,000 bytes, each twice: a block of the dictionary has 64 KiB.
fn large_values() -> Vec<Span> {
    let mut spans = trace(3, 3_000..3_006);
    for (n, span) in spans.iter_mut().enumerate() {
        let value = ["one ", "other ", "third "][n % 3].repeat(12_000);
        span.attributes.push(Attribute::new("large", value));
    }
    let bytes = b"0123456789abcdef".repeat(65_536);
    assert_eq!(bytes.len(), 1 << 20);
    let blob = Attribute::new("blob", Value::Bytes(bytes));
    spans[5].attributes.push(blob);
    spans
}

/// Texts that are there once, and all that events and links have.
fn texts() -> Vec<Span> {
    let mut spans = trace(4, 4_000..4_012);
    for (at, span) in (0_u64..).zip(&mut spans) {
        span.attributes
            .push(Attribute::new("session", format!("session {at}")));
        span.events = (0..at % 3)
            .map(|event| Event {
                time_unix_nano: span.start_unix_nano - event,
                name: ["sent", "received"][event as usize].to_owned(),
                attributes: vec![Attribute::new(
                    "message.id",
                    format!("message {at} {event}"),
                )],
                dropped_attributes_count: event as u32,
            })
            .collect();
        span.links = (0..at % 2)
            .map(|_| Link {
                trace_id: TraceId::from_halves(at, 1),
                span_id: SpanId::from_u64(at),
                trace_state: "vendor=1".to_owned(),
                flags: 1,
                attributes: vec![Attribute::new(
                    "why",
                    Value::Array(vec![at.cast_signed().into()]),
                )],
                dropped_attributes_count: 0,
            })
            .collect();
    }
    spans
}

/// More keys than there are columns: the last ones are residual.
fn many_keys() -> Vec<Span> {
    let mut spans = trace(5, 5_000..5_001);
    spans[0].attributes = (0..limits::MAX_COLUMNS as i64 + 6)
        .map(|n| {
            let value = match n % 1_000 {
                0 => Value::Int(n),
                20 => Value::Map(vec![Attribute::new("n", n)]),
                21..30 => Value::String(format!("value {n}")),
                _ => Value::Empty,
            };
            Attribute::new(format!("key {n:04}"), value)
        })
        .collect();
    spans
}

fn group(service: &str, spans: Vec<Span>) -> SpanGroup {
    SpanGroup {
        resource: Arc::new(Resource::of_service(service)),
        scope: Arc::new(Scope {
            name: format!("library of {service}"),
            ..Scope::default()
        }),
        spans,
    }
}

/// With a trace that is larger than a row group and whose spans came in another order.
fn first() -> Batch {
    let mut pieces = trace(2, 2_000..2_300);
    pieces.reverse();
    let groups = vec![
        group("shop", pieces),
        group("stock", large_values()),
        group("shop", texts()),
        group("stock", many_keys()),
    ];
    Batch { groups }
}

/// Of the same traces and others, with the services in another order.
fn second() -> Batch {
    let mut texts = texts();
    for span in &mut texts {
        span.span_id = SpanId::from_u64(span.span_id.as_u64() + 100);
        span.attributes.pop();
    }
    let groups = vec![
        group("stock", trace(2, 2_400..2_420)),
        group("shop", texts),
        group("shop", trace(6, 6_000..6_040)),
    ];
    Batch { groups }
}

fn options() -> EncodeOptions {
    EncodeOptions::default().with_group_spans(270)
}

fn built(batch: &Batch) -> Vec<u8> {
    let mut builder = Builder::new();
    builder.append(batch).expect("room");
    builder.encode(&options())
}

fn segment(bytes: Vec<u8>) -> Segment {
    Segment::open(bytes).expect("a sound segment")
}

fn merged() -> Vec<u8> {
    let inputs = [first(), second()].map(|batch| segment(built(&batch)));
    merge(&inputs, &options(), &|| false).expect("sound segments")
}

/// A golden file, what writes it, and what was written.
type Golden = (&'static str, fn() -> Vec<u8>, fn() -> Vec<Batch>);

const GOLDEN: [Golden; 2] = [
    ("v1-columns.seg", || built(&first()), || vec![first()]),
    ("v1-merged.seg", merged, || vec![first(), second()]),
];

#[test]
fn segments_of_columns_are_read() {
    for (name, write, batches) in GOLDEN {
        let segment = segment(file(name, write));
        check(&segment, &batches());
        assert!(segment.verify().is_empty(), "{name}");
    }
}

#[test]
fn the_writer_writes_what_it_wrote() {
    for (name, write, _) in GOLDEN {
        assert!(
            file(name, write) == write(),
            "{name}: the writer writes other bytes now (so may another version of zstd); if that is meant, describe it in \
             docs/segment-format.md, keep the file among those that are read, and add one of the new writer"
        );
    }
}
