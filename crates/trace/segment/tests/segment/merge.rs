//! Merged column by column, segments answer what one that is built anew of their spans answers.

use std::collections::BTreeSet;

use periplus_filter::{Scope, SpanFilter, TimeRange};
use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Span, SpanGroup, SpanId, TraceId, Value,
};
use periplus_segment::{
    Builder, Calls, EncodeOptions, MergeError, Red, Segment, ServiceOperation, limits, merge,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::round_trip::check;
use crate::search::filter;
use crate::support::batch;

/// Everything that is asked of a segment as a whole.
#[derive(Debug, PartialEq)]
struct Answers {
    traces: u64,
    last_end: u64,
    red: Red,
    calls: Calls,
    operations: Vec<ServiceOperation>,
    keys: BTreeSet<(String, String)>,
    values: BTreeSet<(String, String)>,
    /// For each filter how many spans match, and the traces with them.
    hits: Vec<(u64, BTreeSet<(u64, TraceId)>)>,
}

const SCOPES: [Scope; 5] = [
    Scope::Any,
    Scope::Span,
    Scope::Resource,
    Scope::Event,
    Scope::Link,
];

fn answers(segment: &Segment, filters: &[SpanFilter]) -> Answers {
    assert!(segment.verify().is_empty(), "{:?}", segment.verify());
    let groups = || (0..segment.group_count()).map(|number| segment.group(number));
    let info = segment.info();
    let mut keys = BTreeSet::new();
    let mut values = BTreeSet::new();
    for scope in SCOPES {
        let mut see = |key: &str| {
            keys.insert((format!("{scope:?}"), key.to_owned()));
        };
        let listed = segment.attribute_keys(scope, |key| see(&key.key));
        listed.expect("a sound segment");
        for group in groups() {
            group.residual_keys(scope, &mut see).expect("sound");
        }
        for key in ["a", "b", "c", "id", "repeated"] {
            let mut see = |value: periplus_filter::Scalar<'_>| {
                values.insert((format!("{scope:?} {key}"), format!("{value:?}")));
            };
            let listed = segment.attribute_values((scope, key), "", usize::MAX, &mut see);
            listed.expect("a sound segment");
            for group in groups() {
                group
                    .attribute_values((scope, key), &mut see)
                    .expect("sound");
            }
        }
    }
    let hits = filters.iter().map(|filter| {
        let search = segment.search(filter).expect("a sound segment");
        let mut found = (0, BTreeSet::new());
        for group in groups() {
            found.0 += group.match_count(&search, TimeRange::ALL).expect("sound");
            let hits = group.hits(&search, TimeRange::ALL).expect("sound");
            found
                .1
                .extend(hits.iter().map(|hit| (hit.start_unix_nano, hit.id)));
        }
        found
    });
    Answers {
        traces: info.traces,
        last_end: info.last_end_unix_nano,
        red: (*segment.red().expect("sound")).clone(),
        calls: (*segment.calls().expect("sound")).clone(),
        operations: (*segment.operations().expect("sound")).clone(),
        keys,
        values,
        hits: hits.collect(),
    }
}

fn build(batches: &[Batch], options: &EncodeOptions) -> Segment {
    let mut builder = Builder::new();
    for batch in batches {
        builder.append(batch).expect("room");
    }
    Segment::open(builder.encode(options)).expect("a sound segment")
}

fn merged(inputs: &[Segment], options: &EncodeOptions) -> Segment {
    let bytes = merge(inputs, options, &|| false).expect("sound segments");
    Segment::open(bytes).expect("a sound segment")
}

/// Merges segments of these batches, and compares with one that is built of all.
fn check_merge(
    batches: &[Vec<Batch>],
    inputs: &[Segment],
    options: &EncodeOptions,
    filters: &[SpanFilter],
) {
    let all = batches.concat();
    let merged = merged(inputs, options);
    check(&merged, &all);
    let expected = build(&all, options);
    assert_eq!(answers(&merged, filters), answers(&expected, filters));
    check_groups(&merged, inputs, options);
}

/// Row groups have about the size that is wanted, or that of those which they come from.
fn check_groups(merged: &Segment, inputs: &[Segment], options: &EncodeOptions) {
    let sizes = |segment: &Segment| -> Vec<usize> {
        (0..segment.group_count())
            .map(|number| segment.group(number).span_count())
            .collect()
    };
    let largest = inputs
        .iter()
        .flat_map(sizes)
        .chain([options.group_spans])
        .max();
    let largest = largest.unwrap_or_default();
    let most = options.group_spans + options.group_spans / 4;
    let sizes = sizes(merged);
    assert!(
        sizes.iter().all(|size| *size <= most.max(largest)),
        "{sizes:?}"
    );
    let starts = (0..sizes.len()).map(|number| merged.group(number).trace_starts());
    let starts: Vec<u64> = starts.flat_map(|(first, last)| [first, last]).collect();
    assert!(starts.is_sorted(), "{starts:?}");
}

fn of_spans(spans: usize) -> EncodeOptions {
    EncodeOptions::default().with_group_spans(spans)
}

fn group_spans() -> impl Strategy<Value = usize> {
    prop_oneof![1..8_usize, Just(1000)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_merge_answers_as_a_segment_built_anew(
        inputs in vec((vec(batch(), 0..3), group_spans()), 1..5),
        spans in group_spans(),
        fit in any::<bool>(),
        filters in vec(filter(), 3),
    ) {
        let segments: Vec<Segment> = (inputs.iter())
            .map(|(batches, own)| build(batches, &of_spans(if fit { spans } else { *own })))
            .collect();
        let batches: Vec<Vec<Batch>> = inputs.into_iter().map(|(batches, _)| batches).collect();
        check_merge(&batches, &segments, &of_spans(spans), &filters);
        // And once more, of what was merged.
        if segments.len() > 2 {
            let first = merged(&segments[..2], &of_spans(spans));
            let inputs: Vec<Segment> =
                std::iter::once(first).chain(segments[2..].iter().cloned()).collect();
            check_merge(&batches, &inputs, &of_spans(spans), &filters);
        }
    }

    /// Parts of a builder: their dictionaries of messages and states have what others use.
    #[test]
    fn parts_of_a_builder_are_merged(batches in vec(batch(), 1..4), filters in vec(filter(), 2)) {
        let mut builder = Builder::new();
        for batch in &batches {
            builder.append(batch).expect("room");
        }
        let parts: Vec<Segment> = builder
            .encode_by(&of_spans(5), |start| start / 5_000 % 3)
            .into_iter()
            .map(|(_, bytes)| Segment::open(bytes).expect("a sound segment"))
            .collect();
        check_merge(&[batches], &parts, &of_spans(7), &filters);
    }
}

fn of(resource: Resource, spans: Vec<Span>) -> Batch {
    Batch {
        groups: vec![SpanGroup {
            resource: resource.into(),
            scope: periplus_model::Scope::default().into(),
            spans,
        }],
    }
}

/// A span of a trace, some time later.
fn span(trace: u64, id: u64, later: u64) -> Span {
    Span {
        trace_id: TraceId::from_halves(1, trace),
        span_id: SpanId::from_u64(id),
        name: format!("operation {}", id % 7),
        start_unix_nano: 1_760_000_000_000_000_000 + later * 1_000,
        end_unix_nano: 1_760_000_000_000_000_000 + later * 2_000,
        ..Span::default()
    }
}

/// A column is one of texts one after the other in one input, a dictionary in another, and what it is
/// when it is built anew in the end.
#[test]
fn columns_are_dictionaries_where_values_repeat() {
    let batch = |first: u64, value: &dyn Fn(u64) -> String| {
        let spans = (first..first + 100).map(|n| {
            let mut span = span(n / 4, n, n);
            span.attributes = vec![Attribute::new("repeated", value(n))];
            span.attributes
                .push(Attribute::new("id", format!("id {n}")));
            span.events = vec![Event {
                name: value(n),
                attributes: vec![Attribute::new("id", Value::Bytes(value(n).into_bytes()))],
                ..Event::default()
            }];
            span.links = vec![Link {
                attributes: vec![Attribute::new("c", value(n))],
                ..Link::default()
            }];
            span
        });
        // Two services, which the inputs meet in turn: the order of arrival is another one then.
        let (mut one, mut other): (Vec<Span>, Vec<Span>) =
            spans.partition(|span| span.span_id.as_u64() % 2 == 0);
        let mut services = ["a", "b"];
        if !first.is_multiple_of(200) {
            (one, other) = (other, one);
            services.reverse();
        }
        let mut batch = of(Resource::of_service(services[0]), one);
        batch
            .groups
            .extend(of(Resource::of_service(services[1]), other).groups);
        batch
    };
    let unique = |n: u64| format!("value {n}");
    let few = |n: u64| format!("value {}", n % 5);
    let shifted = |n: u64| format!("value {}", n % 100);
    for values in [
        [&unique as &dyn Fn(u64) -> String, &few],
        [&few, &unique],
        [&unique, &unique],
        // Each has each of them once: together they repeat.
        [&shifted, &shifted],
    ] {
        let mut batches: Vec<Vec<Batch>> = (0..4)
            .map(|n| vec![batch(n * 100, values[n as usize % 2])])
            .collect();
        // One without any of it.
        batches.push(vec![of(Resource::of_service("b"), vec![span(1, 9_000, 3)])]);
        let inputs = |spans: usize| -> Vec<Segment> {
            let build = |batches: &Vec<Batch>| build(batches, &of_spans(spans));
            batches.iter().map(build).collect()
        };
        check_merge(&batches, &inputs(30), &of_spans(64), &[]);
        check_merge(&batches, &inputs(50), &of_spans(64), &[]);
        let merged = merged(&inputs(50), &of_spans(64));
        // Those of twelve traces stay as they are, but for one that has a trace of the last input.
        let groups = (0..merged.group_count()).map(|number| merged.group(number));
        assert_eq!(groups.filter(|group| group.span_count() == 48).count(), 7);
        let plain = |key| merged.has_plain_values(Scope::Span, key).expect("sound");
        let all = batches.concat();
        let anew = build(&all, &of_spans(64));
        let expected = |key| anew.has_plain_values(Scope::Span, key).expect("sound");
        assert_eq!(plain("repeated"), expected("repeated"));
        assert!(plain("id"));
    }
}

#[test]
fn large_values_cut_row_groups() {
    let options = of_spans(50).with_group_bytes(10_000);
    let batches: Vec<Vec<Batch>> = (0..3_u64)
        .map(|input| {
            let spans = (0..40).map(|n| {
                let id = input * 100 + n;
                // Every fourth lies in a trace that all inputs have.
                let trace = if n % 4 == 0 { 1 } else { 100 + id / 3 };
                let mut span = span(trace, id, 997 * id % 41);
                let size = [10, 1_500, 20_000, 3_000][n as usize % 4];
                span.attributes = vec![
                    Attribute::new("id", format!("{id}").repeat(size)),
                    Attribute::new("repeated", ["x", "y"][n as usize % 2].repeat(1_100)),
                ];
                span
            });
            vec![of(Resource::of_service("a"), spans.collect())]
        })
        .collect();
    let inputs: Vec<Segment> = batches
        .iter()
        .map(|batches| build(batches, &options))
        .collect();
    check_merge(&batches, &inputs, &options, &[]);
    let merged = merged(&inputs, &options);
    for number in 0..merged.group_count() {
        let group = merged.group(number);
        let traces = group.all().expect("spans");
        let spans = traces.iter().flatten().flat_map(|group| &group.spans);
        let texts = spans.flat_map(|span| &span.attributes);
        let sizes = texts
            .filter_map(|attribute| attribute.value.as_str())
            .map(str::len);
        let large: usize = sizes.filter(|size| *size >= 1_024).sum();
        assert!(
            large <= 10_000 || group.span_count() == 1,
            "{number}: {large}"
        );
    }
}

/// Traces of more spans than a row group has: in one input, and in several.
#[test]
fn large_traces_are_merged_piece_by_piece() {
    let batches: Vec<Vec<Batch>> = (0..3_u64)
        .map(|input| {
            let spans = (0..900).map(|n| {
                let trace = if n % 3 == 0 { 7 } else { 100 + input };
                let mut span = span(trace, input * 1_000 + n, 1_000 - n);
                span.parent_span_id = Some(SpanId::from_u64(input * 1_000 + n / 2 + 1));
                span.attributes = vec![Attribute::new("a", n as i64)];
                span
            });
            vec![of(
                Resource::of_service(["a", "b"][input as usize % 2]),
                spans.collect(),
            )]
        })
        .collect();
    for (of_inputs, of_merged) in [(100, 100), (100, 2_000), (2_000, 100)] {
        let inputs: Vec<Segment> = batches
            .iter()
            .map(|batches| build(batches, &of_spans(of_inputs)))
            .collect();
        check_merge(&batches, &inputs, &of_spans(of_merged), &[]);
    }
    // One that several inputs have is put together in memory: it must not have too many pieces.
    let inputs: Vec<Segment> = batches
        .iter()
        .map(|batches| build(batches, &of_spans(10)))
        .collect();
    let refused = merge(&inputs, &of_spans(10), &|| false);
    assert!(matches!(refused, Err(MergeError::TooLarge)), "{refused:?}");
    check_merge(&batches[..1], &inputs[..1], &of_spans(10), &[]);
}

#[test]
fn more_keys_than_columns_are_refused() {
    let batch = |first: u64| {
        let spans = (first..first + 600).map(|n| {
            let mut span = span(n, n, n);
            span.attributes = vec![Attribute::new(format!("key {n}"), n as i64)];
            span
        });
        of(Resource::of_service("a"), spans.collect())
    };
    let inputs = [0, 600].map(|first| build(&[batch(first)], &of_spans(100)));
    assert_eq!(limits::MAX_COLUMNS, 1_024, "1200 keys are too many");
    let refused = merge(&inputs, &of_spans(100), &|| false);
    assert!(
        matches!(refused, Err(MergeError::TooManyKeys)),
        "{refused:?}"
    );
    // One that has more has put them elsewhere already.
    let batches = vec![vec![batch(0), batch(600)]];
    let input = build(&batches[0], &of_spans(100));
    check_merge(&batches, &[input], &of_spans(100), &[]);
}

#[test]
fn nothing_makes_an_empty_segment() {
    let empty = build(&[], &of_spans(9));
    for inputs in [vec![], vec![empty.clone()], vec![empty.clone(), empty]] {
        check_merge(&[], &inputs, &of_spans(9), &[SpanFilter::True]);
    }
}

#[test]
fn a_merge_stops_when_it_is_told_to() {
    let batch = of(
        Resource::of_service("a"),
        (0..50).map(|n| span(n, n, n)).collect(),
    );
    let input = build(&[batch], &of_spans(10));
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let stopped = merge(&[input], &of_spans(10), &stop);
    assert!(matches!(stopped, Err(MergeError::Stopped)), "{stopped:?}");
    assert_eq!(asked.get(), 3);
}
