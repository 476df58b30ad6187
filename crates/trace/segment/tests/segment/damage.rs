//! Damaged bytes are an error or do not matter; they are never a panic and never a wrong answer.

use std::sync::LazyLock;

use periplus_filter::{Comparison, Field, Intrinsic, Literal, Scope, SpanFilter, TimeRange};
use periplus_model::TraceId;
use periplus_segment::{
    Builder, Calls, EncodeOptions, Info, MergeError, ReadError, Red, Segment, merge,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::support::{batch, shown};

/// Everything that a segment answers.
#[derive(Debug, PartialEq)]
struct Answers {
    info: Info,
    traces: Vec<(TraceId, u64, Vec<String>)>,
    hits: Vec<TraceId>,
    none: u64,
    red: Red,
    calls: Calls,
}

fn filter() -> SpanFilter {
    let field = Field::Attribute {
        scope: Scope::Any,
        key: "a".to_owned(),
    };
    let literal = Literal::Untyped("a".to_owned());
    SpanFilter::Or(vec![
        SpanFilter::Exists(field.clone()),
        SpanFilter::equals(field, literal),
    ])
}

/// Nothing matches, which is known without a look at columns.
fn none() -> SpanFilter {
    let long = SpanFilter::Compare {
        field: Field::Intrinsic(Intrinsic::Duration),
        comparison: Comparison::GreaterOrEqual,
        literal: Literal::Int(i64::MAX),
    };
    let texts = ["a", "b", "c"].map(|key| {
        let field = Field::Attribute {
            scope: Scope::Any,
            key: key.to_owned(),
        };
        SpanFilter::equals(field, Literal::String("nobody has it".to_owned()))
    });
    SpanFilter::Or(texts.into_iter().chain([long]).collect())
}

fn answers(segment: &Segment) -> Result<Answers, ReadError> {
    let search = segment.search(&filter())?;
    let none = segment.search(&none())?;
    let mut answers = Answers {
        info: segment.info(),
        traces: Vec::new(),
        hits: Vec::new(),
        none: 0,
        red: (*segment.red()?).clone(),
        calls: (*segment.calls()?).clone(),
    };
    for number in 0..segment.group_count() {
        let group = segment.group(number);
        for (id, start) in group.traces()? {
            let trace = segment.trace(id)?.unwrap_or_default();
            answers.traces.push((id, start, shown(&trace)));
        }
        group.all()?;
        let hits = group.hits(&search, TimeRange::ALL)?;
        answers.hits.extend(hits.iter().map(|hit| hit.id));
        answers.none += group.match_count(&none, TimeRange::ALL)?;
    }
    Ok(answers)
}

fn sample() -> Vec<u8> {
    let mut runner = TestRunner::deterministic();
    let mut builder = Builder::new();
    for _ in 0..2 {
        let batch = batch().new_tree(&mut runner).expect("a batch").current();
        builder.append(&batch).expect("room");
    }
    builder.encode(&EncodeOptions::default().with_group_spans(8))
}

#[test]
fn each_damaged_byte_is_noticed_or_does_not_matter() {
    let sound = sample();
    let expected = answers(&Segment::open(sound.clone()).expect("sound")).expect("sound");
    let mut noticed = 0;
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        match Segment::open(bytes).and_then(|segment| {
            assert_eq!(segment.info(), expected.info, "byte {at}");
            answers(&segment)
        }) {
            Ok(found) => assert_eq!(found, expected, "byte {at}"),
            Err(_) => noticed += 1,
        }
    }
    // Every byte lies in something that is read.
    assert_eq!(noticed, sound.len());
}

#[test]
fn a_damaged_byte_fails_a_merge_or_does_not_matter() {
    let bytes = sample();
    let sound = Segment::open(bytes.clone()).expect("sound");
    let options = EncodeOptions::default().with_group_spans(8);
    let with = |bytes: Vec<u8>| match Segment::open(bytes) {
        Ok(segment) => merge(&[sound.clone(), segment], &options, &|| false),
        Err(source) => Err(MergeError::Read { input: 1, source }),
    };
    let expected = with(bytes.clone()).expect("sound");
    let mut harmless = 0;
    for at in (0..bytes.len()).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        match with(bytes) {
            Ok(merged) => {
                assert!(merged == expected, "byte {at}");
                harmless += 1;
            }
            Err(MergeError::Read { input: 1, .. }) => {}
            Err(error) => panic!("byte {at}: {error:?}"),
        }
    }
    // Of the index, the filters and the zones nothing is taken over.
    assert!(harmless > 0 && harmless < bytes.len() / 7 / 2, "{harmless}");
}

#[test]
fn a_cut_segment_is_none() {
    let sound = sample();
    for length in 0..sound.len() {
        assert!(Segment::open(sound[..length].to_vec()).is_err(), "{length}");
    }
    let mut longer = sound;
    longer.push(0);
    assert!(Segment::open(longer).is_err());
}

#[test]
fn verify_names_what_is_damaged() {
    let sound = sample();
    let segment = Segment::open(sound.clone()).expect("sound");
    assert!(segment.verify().is_empty());
    let mut bytes = sound.clone();
    bytes[20] ^= 1;
    let damages = Segment::open(bytes).expect("a sound footer").verify();
    let text = damages.first().expect("damage").to_string();
    assert_eq!(
        text,
        "row group 0: trace ids of the segment is damaged: its checksum is wrong"
    );
    let mut newer = sound;
    let version = newer.len() - 12;
    newer[version] = 9;
    let text = Segment::open(newer)
        .expect_err("another version")
        .to_string();
    assert_eq!(
        text,
        "the segment has version 9 of the format; version 1 can be read"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Damage that a checksum does not see: the content makes no sense.
    #[test]
    fn nonsense_with_good_checksums_never_panics(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(sample);
        let mut bytes = SAMPLE.clone();
        let mut frames = Vec::new();
        let mut at = 8;
        while let Some(head) = bytes.get(at..at + 8) {
            let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if at + 8 + length > bytes.len() - 20 {
                break;
            }
            frames.push((at, length));
            at += 8 + length;
        }
        for (place, byte) in changes {
            let (frame, length) = frames[place.index(frames.len())];
            if length > 0 {
                bytes[frame + 8 + place.index(length)] = byte;
                let crc = crc32c::crc32c(&bytes[frame + 8..frame + 8 + length]);
                bytes[frame + 4..frame + 8].copy_from_slice(&crc.to_le_bytes());
            }
        }
        if let Ok(segment) = Segment::open(bytes) {
            let _answers = answers(&segment);
            let _damages = segment.verify();
            let options = EncodeOptions::default().with_group_spans(8);
            let sound = Segment::open(SAMPLE.clone()).expect("sound");
            if let Ok(merged) = merge(&[sound, segment], &options, &|| false) {
                let _answers = Segment::open(merged).and_then(|merged| answers(&merged));
            }
        }
    }
}
