//! Rates, errors and durations: those of a segment, of a builder, and of the spans.

use std::collections::BTreeMap;

use periplus_model::{Batch, SpanKind, StatusCode, Value};
use periplus_segment::{Builder, EncodeOptions, Red, Segment, WINDOW_NANO, bucket_of};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::batch;

type Key = (u64, String, String, SpanKind);
type Counts = (u64, BTreeMap<u16, u32>);

fn expected(batches: &[Batch]) -> BTreeMap<Key, Counts> {
    let mut all: BTreeMap<Key, Counts> = BTreeMap::new();
    for group in batches.iter().flat_map(|batch| &batch.groups) {
        for span in &group.spans {
            let failed = span.status.code == StatusCode::Error
                || match span.attribute("error") {
                    Some(Value::Bool(failed)) => *failed,
                    Some(Value::String(text)) => text == "true",
                    _ => false,
                };
            let key = (
                span.start_unix_nano / WINDOW_NANO * WINDOW_NANO,
                group.resource.service_name().to_owned(),
                span.name.clone(),
                span.kind,
            );
            let (errors, durations) = all.entry(key).or_default();
            *errors += u64::from(failed);
            *durations
                .entry(bucket_of(span.duration_nano()))
                .or_default() += 1;
        }
    }
    all
}

fn found(red: &Red) -> BTreeMap<Key, Counts> {
    assert!(red.series.is_sorted());
    let mut all = BTreeMap::new();
    for point in red.points() {
        let series = red.series[point.series].clone();
        let key = (
            point.start_unix_nano,
            series.service,
            series.name,
            series.kind,
        );
        let durations = point.durations.iter().copied().collect();
        let before = all.insert(key, (point.errors, durations));
        assert_eq!(before, None);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn they_are_those_of_the_spans(
        batches in vec(batch(), 0..4),
        errors in vec(any::<Option<bool>>(), 20),
    ) {
        let mut batches = batches;
        let mut errors = errors.into_iter().cycle();
        for group in batches.iter_mut().flat_map(|batch| &mut batch.groups) {
            for span in &mut group.spans {
                if let Some(Some(error)) = errors.next() {
                    span.attributes.push(periplus_model::Attribute::new("error", error));
                }
            }
        }
        let mut builder = Builder::new();
        for batch in &batches {
            builder.append(batch).expect("room");
        }
        let expected = expected(&batches);
        let red = builder.red();
        prop_assert_eq!(&found(&red), &expected);
        let bytes = builder.encode(&EncodeOptions::default());
        let segment = Segment::open(bytes).expect("sound");
        prop_assert_eq!(&*segment.red().expect("sound"), &red);
        prop_assert_eq!(&*segment.operations().expect("sound"), &red.series);
        prop_assert_eq!(&builder.operations(), &red.series);
    }
}
