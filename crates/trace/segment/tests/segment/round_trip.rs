//! What is appended is what a segment gives back.

use periplus_filter::Detail;
use periplus_model::{Batch, SpanGroup, TraceId};
use periplus_segment::{Builder, EncodeOptions, Segment};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{batch, by_trace, shown};

fn build(batches: &[Batch]) -> Builder {
    let mut builder = Builder::new();
    for batch in batches {
        builder.append(batch).expect("room");
    }
    builder
}

/// What is left of spans without events, links, and all attributes but `a` and `c`.
fn outline_of(groups: &[SpanGroup]) -> Vec<SpanGroup> {
    let mut groups = groups.to_vec();
    for span in groups.iter_mut().flat_map(|group| &mut group.spans) {
        span.events.clear();
        span.links.clear();
        (span.attributes).retain(|attribute| ["a", "c"].contains(&attribute.key.as_str()));
    }
    groups
}

/// Every way to read the segment gives the spans of these batches.
pub(crate) fn check(segment: &Segment, batches: &[Batch]) {
    let expected = by_trace(batches);
    let spans: usize = expected.values().map(Vec::len).sum();
    assert_eq!(segment.info().spans, spans as u64);
    assert_eq!(segment.info().traces, expected.len() as u64);
    for (id, spans) in &expected {
        let trace = segment.trace(*id).expect("a sound segment");
        let trace = trace.unwrap_or_else(|| panic!("{id} is missing"));
        assert_eq!(&shown(&trace), spans, "{id}");
        assert!(segment.may_contain(*id).expect("a filter"));
    }
    let absent = TraceId::from_halves(77, 77);
    assert_eq!(segment.trace(absent).expect("a sound segment"), None);
    let mut read = 0;
    for number in 0..segment.group_count() {
        let group = segment.group(number);
        let traces: Vec<_> = group.traces().expect("traces").collect();
        let all = group.all().expect("spans");
        assert_eq!(all.len(), traces.len());
        for (number, (spans, (id, start))) in all.iter().zip(&traces).enumerate() {
            assert_eq!(shown(spans), shown(&group.trace(number).expect("a trace")));
            let outline = group.trace_in(number, Detail::Outline(&["a", "c"]));
            let outline = outline.expect("an outline");
            assert_eq!(shown(&outline_of(spans)), shown(&outline));
            assert_eq!(segment.trace_start(*id).expect("a start"), Some(*start));
            read += shown(spans).len();
        }
    }
    assert_eq!(read, spans);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn everything_comes_back(
        batches in vec(batch(), 0..4),
        group_spans in prop_oneof![1..8_usize, Just(1000)],
    ) {
        let options = EncodeOptions::default().with_group_spans(group_spans);
        let builder = build(&batches);
        for (id, spans) in by_trace(&batches) {
            prop_assert_eq!(builder.trace(id).map(|trace| shown(&trace)), Some(spans));
        }
        let bytes = builder.encode(&options);
        let segment = Segment::open(bytes).expect("a sound segment");
        check(&segment, &batches);
    }

    #[test]
    fn segments_by_key_have_everything_once(batches in vec(batch(), 0..4)) {
        let key = |start: u64| start / 5_000 % 3;
        let builder = build(&batches);
        let mut spans = 0;
        let mut expected = by_trace(&batches);
        for (_, bytes) in builder.encode_by(&EncodeOptions::default(), key) {
            let segment = Segment::open(bytes).expect("a sound segment");
            spans += segment.info().spans;
            for number in 0..segment.group_count() {
                let group = segment.group(number);
                for (at, (id, _)) in group.traces().expect("traces").enumerate() {
                    let trace = group.trace(at).expect("a trace");
                    prop_assert_eq!(Some(shown(&trace)), expected.remove(&id));
                }
            }
        }
        prop_assert_eq!(spans, builder.span_count() as u64);
        prop_assert!(expected.is_empty());
    }
}

#[test]
fn an_empty_builder_makes_an_empty_segment() {
    let bytes = Builder::new().encode(&EncodeOptions::default());
    let segment = Segment::open(bytes).expect("a sound segment");
    check(&segment, &[]);
    assert_eq!(segment.group_count(), 0);
}
