//! What is found in columns is what `span_matches` finds in spans.

use std::collections::BTreeSet;

use periplus_filter::{
    Comparison, Field, Intrinsic, Literal, Pattern, Scope, SpanFilter, TimeRange, span_matches,
};
use periplus_model::{Batch, TraceId};
use periplus_segment::{Builder, EncodeOptions, Segment};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{batch, text, time};

fn field() -> impl Strategy<Value = Field> {
    let intrinsic = proptest::sample::select(vec![
        Intrinsic::Service,
        Intrinsic::Name,
        Intrinsic::Kind,
        Intrinsic::Status,
        Intrinsic::StatusMessage,
        Intrinsic::Duration,
        Intrinsic::ScopeName,
        Intrinsic::ScopeVersion,
        // These have no column of codes.
        Intrinsic::TraceId,
        Intrinsic::SpanId,
        Intrinsic::ParentId,
        Intrinsic::EventName,
        Intrinsic::EventTime,
        Intrinsic::LinkTraceId,
        Intrinsic::LinkSpanId,
    ]);
    let scope = proptest::sample::select(vec![
        Scope::Any,
        Scope::Span,
        Scope::Resource,
        Scope::Instrumentation,
        Scope::Event,
        Scope::Link,
    ]);
    prop_oneof![
        1 => intrinsic.prop_map(Field::Intrinsic),
        2 => (scope, "[abc]").prop_map(|(scope, key)| Field::Attribute { scope, key }),
    ]
}

fn literal() -> impl Strategy<Value = Literal> {
    let word = proptest::sample::select(vec!["a", "b", "server", "client", "error", "ok", ""]);
    prop_oneof![
        text().prop_map(Literal::String),
        word.prop_map(|word| Literal::Untyped(word.to_owned())),
        (0..5_i64).prop_map(Literal::Int),
        (0..5_i64).prop_map(|int| Literal::Untyped(int.to_string())),
        prop_oneof![Just(0.0), Just(72.5), Just(f64::NAN)].prop_map(Literal::Double),
        any::<bool>().prop_map(Literal::Bool),
        any::<bool>().prop_map(|yes| Literal::Untyped(yes.to_string())),
        (0..50_000_i64).prop_map(Literal::Int),
        // The ids that batches have, and half of one.
        (0..8_u64).prop_map(|id| Literal::String(format!("{id:016x}"))),
        (0..6_u64).prop_map(|id| Literal::Untyped(format!("{id:032x}"))),
    ]
}

fn pattern() -> impl Strategy<Value = SpanFilter> {
    let patterns = vec![
        "[ab]",
        "a.*",
        "",
        "server|client|error",
        "0+[0-5]",
        ".*b",
        "(?i)A+",
    ];
    let pattern = proptest::sample::select(patterns);
    (field(), pattern, any::<bool>()).prop_map(|(field, pattern, matches)| SpanFilter::Compare {
        field,
        comparison: match matches {
            true => Comparison::Matches,
            false => Comparison::NotMatches,
        },
        literal: Literal::Pattern(Pattern::new(pattern).expect("a pattern")),
    })
}

fn comparison() -> impl Strategy<Value = Comparison> {
    proptest::sample::select(vec![
        Comparison::Equal,
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
        Comparison::Contains,
    ])
}

pub(crate) fn filter() -> impl Strategy<Value = SpanFilter> {
    let compare = (field(), comparison(), literal()).prop_map(|(field, comparison, literal)| {
        SpanFilter::Compare {
            field,
            comparison,
            literal,
        }
    });
    let leaf = prop_oneof![
        1 => Just(SpanFilter::True),
        1 => field().prop_map(SpanFilter::Exists),
        6 => compare,
        2 => pattern(),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(SpanFilter::And),
            vec(inner.clone(), 0..3).prop_map(SpanFilter::Or),
            inner.prop_map(|filter| SpanFilter::Not(Box::new(filter))),
        ]
    })
}

fn expected(batches: &[Batch], filter: &SpanFilter, range: TimeRange) -> BTreeSet<TraceId> {
    let groups = batches.iter().flat_map(|batch| &batch.groups);
    groups
        .flat_map(|group| group.spans.iter().map(move |span| (group, span)))
        .filter(|(_, span)| range.contains(span.start_unix_nano))
        .filter(|(group, span)| span_matches(filter, group, span))
        .map(|(_, span)| span.trace_id)
        .collect()
}

fn in_segment(segment: &Segment, filter: &SpanFilter, range: TimeRange) -> BTreeSet<TraceId> {
    let search = segment.search(filter).expect("a sound segment");
    let mut found = BTreeSet::new();
    for number in (0..segment.group_count()).rev() {
        let hits = segment.group(number).hits(&search, range);
        let hits = hits.expect("a sound segment");
        assert!(hits.is_sorted_by_key(|hit| std::cmp::Reverse(hit.start_unix_nano)));
        let group = segment.group(number);
        let spans = group
            .matching_spans(&search, range)
            .expect("a sound segment");
        let spans: Vec<_> = spans.iter().flat_map(|group| &group.spans).collect();
        let count = group.match_count(&search, range).expect("a sound segment");
        assert_eq!(spans.len() as u64, count);
        let of_spans: BTreeSet<TraceId> = spans.iter().map(|span| span.trace_id).collect();
        let of_hits: BTreeSet<TraceId> = hits.iter().map(|hit| hit.id).collect();
        assert_eq!(of_spans, of_hits);
        for span in spans {
            let whole = segment
                .trace(span.trace_id)
                .expect("sound")
                .expect("it is there");
            let mut spans = whole.iter().flat_map(|group| &group.spans);
            // In text: a NaN is not equal to itself.
            let shown = format!("{span:?}");
            assert!(spans.any(|other| format!("{other:?}") == shown), "{shown}");
        }
        for hit in hits {
            let start = segment.trace_start(hit.id).expect("a start");
            assert_eq!(start, Some(hit.start_unix_nano));
            found.insert(hit.id);
        }
    }
    found
}

fn in_builder(builder: &Builder, filter: &SpanFilter, range: TimeRange) -> BTreeSet<TraceId> {
    let hits = builder.hits(filter, range);
    assert!(hits.is_sorted_by_key(|hit| std::cmp::Reverse(hit.start_unix_nano)));
    for hit in &hits {
        assert_eq!(builder.trace_start(hit.id), Some(hit.start_unix_nano));
    }
    let whole: BTreeSet<TraceId> = hits.into_iter().map(|hit| hit.id).collect();
    // A few rows at a time it is the same.
    let mut by_turns = BTreeSet::new();
    let mut count = 0;
    for step in [1, 3] {
        for first in (0..builder.span_count()).step_by(step) {
            let rows = first..first + step;
            let found = builder.traces_with(filter, range, rows.clone());
            by_turns.extend(
                found
                    .into_iter()
                    .map(|trace| builder.trace_at(trace as usize).1),
            );
            count += builder.count(filter, range, rows);
        }
    }
    assert_eq!(by_turns, whole, "{filter:?}");
    assert_eq!(
        count,
        2 * builder.count(filter, range, 0..builder.span_count())
    );
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn columns_find_what_spans_say(
        batches in vec(batch(), 1..4),
        filters in vec(filter(), 12),
        (from, until) in (time(), time()),
        group_spans in prop_oneof![1..8_usize, Just(1000)],
    ) {
        let mut builder = Builder::new();
        for batch in &batches {
            builder.append(batch).expect("room");
        }
        let options = EncodeOptions::default().with_group_spans(group_spans);
        let segment = Segment::open(builder.encode(&options)).expect("a sound segment");
        let some = TimeRange { start_unix_nano: from, end_unix_nano: until };
        for filter in filters {
            for range in [TimeRange::ALL, some] {
                let expected = expected(&batches, &filter, range);
                let found = in_segment(&segment, &filter, range);
                prop_assert_eq!(&found, &expected, "segment: {:?}", &filter);
                let found = in_builder(&builder, &filter, range);
                prop_assert_eq!(&found, &expected, "builder: {:?}", &filter);
            }
        }
    }
}
