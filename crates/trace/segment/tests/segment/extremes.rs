//! What does not fit the usual form.

use std::sync::Arc;

use periplus_filter::{Field, Scope as Where, SpanFilter, TimeRange};
use periplus_model::{Attribute, Batch, Resource, Scope, Span, SpanGroup, SpanId, TraceId, Value};
use periplus_segment::{BuildError, Builder, EncodeOptions, Segment, limits};

use crate::round_trip::check;
use crate::support::shown;

fn of(spans: Vec<Span>) -> Batch {
    Batch {
        groups: vec![SpanGroup {
            resource: Arc::new(Resource::of_service("a")),
            scope: Arc::new(Scope::default()),
            spans,
        }],
    }
}

fn span(trace: u64, id: u64) -> Span {
    Span {
        trace_id: TraceId::from_halves(1, trace),
        span_id: SpanId::from_u64(id),
        name: "operation".to_owned(),
        start_unix_nano: 1_760_000_000_000_000_000 + id * 1_000,
        end_unix_nano: 1_760_000_000_000_000_000 + id * 2_000,
        ..Span::default()
    }
}

fn segment(batch: &Batch, group_spans: usize) -> Segment {
    let mut builder = Builder::new();
    builder.append(batch).expect("room");
    let options = EncodeOptions::default().with_group_spans(group_spans);
    Segment::open(builder.encode(&options)).expect("a sound segment")
}

#[test]
fn attributes_without_end_come_back_and_are_found() {
    let keys = limits::MAX_COLUMNS as u64 + 500;
    let spans = (0..keys).map(|n| {
        let mut span = span(n / 10, n);
        span.attributes = vec![
            Attribute::new("first", n as i64),
            Attribute::new(format!("key {n}"), format!("value {n}")),
            Attribute::new(format!("key {n}"), Value::Double(0.5)),
            Attribute::new("last", "same"),
        ];
        span
    });
    let batch = of(spans.collect());
    let segment = segment(&batch, 1_000);
    check(&segment, &[batch]);
    for n in [0, 7, keys - 1] {
        let field = Field::Attribute {
            scope: Where::Span,
            key: format!("key {n}"),
        };
        for filter in [
            SpanFilter::equals(field.clone(), &*format!("value {n}")),
            SpanFilter::Exists(field),
        ] {
            let search = segment.search(&filter).expect("a sound segment");
            let groups = (0..segment.group_count()).map(|number| segment.group(number));
            let hits: Vec<_> = groups
                .flat_map(|group| group.hits(&search, TimeRange::ALL).expect("hits"))
                .map(|hit| hit.id.low())
                .collect();
            assert_eq!(hits, [n / 10], "{n}");
        }
    }
}

#[test]
fn more_attribute_lists_than_shapes_come_back() {
    let spans = (0..limits::MAX_SHAPES as u64 + 1_000).map(|n| {
        let mut span = span(n / 10, n);
        let bits = (0..13).filter(|bit| n >> bit & 1 == 1);
        let attribute = |bit| Attribute::new(format!("key {bit}"), bit);
        span.attributes = bits.map(attribute).collect();
        span
    });
    let batch = of(spans.collect());
    check(&segment(&batch, 16_384), &[batch]);
}

#[test]
fn a_trace_in_many_pieces_and_a_long_text_come_back() {
    let mut spans: Vec<Span> = (1..=5_000).rev().map(|id| span(1, id)).collect();
    for span in &mut spans {
        let id = span.span_id.as_u64();
        span.parent_span_id = (id > 1).then(|| SpanId::from_u64(id / 2));
    }
    spans[77].attributes = vec![Attribute::new("long", "x".repeat(1 << 20))];
    spans[78].attributes = vec![Attribute::new("long", Value::Bytes(vec![7; 1 << 20]))];
    spans.push(span(2, 3));
    let batch = of(spans);
    let segment = segment(&batch, 300);
    assert!(segment.group_count() > 15);
    check(&segment, std::slice::from_ref(&batch));
    let found = segment.find(TraceId::from_halves(1, 1)).expect("sound");
    assert_eq!(found.len(), 17);
}

#[test]
fn a_value_that_is_nested_too_deep_is_refused_as_a_whole() {
    let mut value = Value::Empty;
    for _ in 0..=limits::MAX_DEPTH {
        value = Value::Array(vec![value]);
    }
    let mut deep = span(1, 2);
    deep.attributes = vec![Attribute::new("deep", value)];
    let mut builder = Builder::new();
    builder.append(&of(vec![span(1, 1)])).expect("room");
    let refused = builder.append(&of(vec![span(1, 3), span(2, 4), deep]));
    assert_eq!(refused, Err(BuildError::TooDeep));
    assert_eq!((builder.span_count(), builder.trace_count()), (1, 1));
    let trace = builder.trace(TraceId::from_halves(1, 1)).expect("a trace");
    assert_eq!(shown(&trace), shown(&of(vec![span(1, 1)]).groups));
}
