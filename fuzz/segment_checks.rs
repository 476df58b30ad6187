//! What must hold of the door into columns and of the reader of segments, shared by the fuzz targets and
//! by the test that replays their corpora (`crates/trace/segment/tests/fuzz_corpus.rs`). Each function
//! panics if it does not.

use std::collections::BTreeMap;

use periplus_filter::{
    Comparison, Field, Intrinsic, Literal, Pattern, Scope, SpanFilter, TimeRange,
};
use periplus_model::{Batch, SpanGroup, TraceId};
use periplus_segment::{Builder, EncodeOptions, OtlpError, ReadError, Segment, merge};
use periplus_wire::otlp::{decode_protobuf, encode_protobuf};

/// The walk takes what the decoder takes, refuses what it refuses, and a segment gives it back.
pub(crate) fn otlp_walk(input: &[u8]) {
    let mut builder = Builder::new();
    match (builder.append_otlp(input), decode_protobuf(input)) {
        (Ok(refused), Ok(decoded)) => {
            assert_eq!(refused, decoded.refused);
            let expected = by_trace(&decoded.batch);
            for (id, expected) in &expected {
                let found = builder.trace(*id).expect("a trace");
                assert_eq!(&written(&found), expected, "{id} in the builder");
            }
            assert_eq!(builder.trace_count(), expected.len());
            // So much fits in the usual inputs, and groups of few spans have more to go wrong.
            let options = EncodeOptions::default().with_group_spans(5);
            let segment = Segment::open(builder.encode(&options)).expect("a sound segment");
            assert_eq!(segment.info().traces, expected.len() as u64);
            for (id, expected) in &expected {
                let found = segment
                    .trace(*id)
                    .expect("a sound segment")
                    .expect("a trace");
                assert_eq!(&written(&found), expected, "{id} in the segment");
            }
            assert!(segment.verify().is_empty());
        }
        (Err(OtlpError::Decode(_)), Err(_)) => assert!(builder.is_empty()),
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

/// Reading damaged bytes is an error, not a panic, and not a use of memory without end. Then the same
/// with checksums that fit, so that what is behind them is reached.
pub(crate) fn segment(input: &[u8]) {
    let ask = |bytes: Vec<u8>| {
        if let Ok(segment) = Segment::open(bytes) {
            let _answers = read(&segment);
            let _damages = segment.verify();
            if segment.group_count() <= 64 {
                let options = EncodeOptions::default().with_group_spans(5);
                let twice = [segment.clone(), segment];
                if let Ok(merged) = merge(&twice, &options, &|| false) {
                    let merged = Segment::open(merged).expect("a segment");
                    let _answers = read(&merged);
                }
            }
        }
    };
    ask(input.to_vec());
    ask(repaired(input));
}

/// With checksums that fit the bytes of chunks and footer, as far as there are any.
fn repaired(input: &[u8]) -> Vec<u8> {
    const TAIL: usize = 20;
    let mut bytes = input.to_vec();
    let Some(tail) = bytes.len().checked_sub(TAIL) else {
        return bytes;
    };
    let word = |bytes: &[u8], at: usize| {
        bytes
            .get(at..at + 4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    };
    let footer = word(&bytes, tail).and_then(|length| tail.checked_sub(length as usize));
    if let Some(footer) = footer {
        let crc = crc32c::crc32c(&bytes[footer..tail]);
        bytes[tail + 4..tail + 8].copy_from_slice(&crc.to_le_bytes());
    }
    let end = footer.unwrap_or(tail);
    let mut at = 8;
    while let Some(length) = word(&bytes, at) {
        let Some(payload) = (at + 8)
            .checked_add(length as usize)
            .filter(|next| *next <= end)
        else {
            break;
        };
        let crc = crc32c::crc32c(&bytes[at + 8..payload]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = payload;
    }
    bytes
}

/// Everything that a segment can be asked.
fn read(segment: &Segment) -> Result<(), ReadError> {
    // Each of them, also where another one fails.
    let lists = [
        segment.operations().map(drop),
        segment.red().map(drop),
        segment.calls().map(drop),
        segment.attribute_keys(Scope::Any, |_| {}),
        segment.may_contain(TraceId::from_halves(0, 1)).map(drop),
        segment.trace(TraceId::from_halves(0, 1)).map(drop),
    ];
    let searches: Vec<_> = filters()
        .iter()
        .map(|filter| segment.search(filter))
        .collect();
    // A footer may speak of very many groups.
    for number in 0..segment.group_count().min(64) {
        let group = segment.group(number);
        let _spans = group.all();
        let Ok(traces) = group.traces() else { continue };
        for (at, (id, _)) in traces.enumerate().take(64) {
            let _trace = group.trace(at);
            let _start = segment.trace_start(id);
            let _places = segment.find(id);
        }
        for search in searches.iter().flatten() {
            let _hits = group.hits(search, TimeRange::ALL);
        }
    }
    lists.into_iter().collect()
}

/// One for each way through the columns.
fn filters() -> Vec<SpanFilter> {
    let attribute = |scope, key: &str| Field::Attribute {
        scope,
        key: key.to_owned(),
    };
    let compare = |field, comparison, literal| SpanFilter::Compare {
        field,
        comparison,
        literal,
    };
    let text = |text: &str| Literal::String(text.to_owned());
    let pattern = Literal::Pattern(Pattern::new("[a-z]+.*").expect("a pattern"));
    vec![
        SpanFilter::True,
        SpanFilter::Exists(attribute(Scope::Any, "a")),
        compare(
            attribute(Scope::Any, "a"),
            Comparison::Equal,
            Literal::Untyped("7".to_owned()),
        ),
        compare(attribute(Scope::Span, "b"), Comparison::Contains, text("b")),
        compare(
            attribute(Scope::Event, "a"),
            Comparison::Greater,
            Literal::Int(0),
        ),
        compare(
            attribute(Scope::Link, "c"),
            Comparison::NotEqual,
            Literal::Double(0.5),
        ),
        compare(
            attribute(Scope::Resource, "a"),
            Comparison::Matches,
            pattern.clone(),
        ),
        compare(
            Field::Intrinsic(Intrinsic::Service),
            Comparison::Equal,
            text("a"),
        ),
        compare(
            Field::Intrinsic(Intrinsic::Name),
            Comparison::Matches,
            pattern,
        ),
        compare(
            Field::Intrinsic(Intrinsic::Duration),
            Comparison::GreaterOrEqual,
            Literal::Int(9),
        ),
        compare(
            Field::Intrinsic(Intrinsic::StatusMessage),
            Comparison::Contains,
            text("a"),
        ),
        compare(
            Field::Intrinsic(Intrinsic::EventName),
            Comparison::Equal,
            text("a"),
        ),
        SpanFilter::Not(Box::new(compare(
            Field::Intrinsic(Intrinsic::ParentId),
            Comparison::Equal,
            text("0000000000000001"),
        ))),
    ]
}

/// Of each trace its spans in the order of arrival, as bytes, as NaN differs from itself.
fn by_trace(batch: &Batch) -> BTreeMap<TraceId, Vec<Vec<u8>>> {
    let mut traces: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for group in &batch.groups {
        for span in &group.spans {
            let one = SpanGroup {
                spans: vec![span.clone()],
                ..group.clone()
            };
            traces
                .entry(span.trace_id)
                .or_default()
                .extend(written(&[one]));
        }
    }
    traces
}

fn written(groups: &[SpanGroup]) -> Vec<Vec<u8>> {
    let one = |group: &SpanGroup, span| {
        let group = SpanGroup {
            spans: vec![span],
            ..group.clone()
        };
        encode_protobuf(&Batch {
            groups: vec![group],
        })
    };
    let spans = groups
        .iter()
        .flat_map(|group| group.spans.iter().map(move |span| (group, span)));
    spans
        .map(|(group, span)| one(group, span.clone()))
        .collect()
}
