//! One very large trace, all the way.

use std::time::Instant;

use periplus_model::{SpanGroup, SpanId};
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{SpanSink as _, SpanStore as _};
use periplus_wire::otlp::encode_protobuf;

use crate::script::{open, options, runtime};
use crate::suite::build::{noon, span, trace_id};

const SPANS: u64 = 1_000_000;
const SPANS_AT_ONCE: u64 = 10_000;

#[test]
fn a_large_trace_comes_through_log_table_segments_and_merges() {
    let disk = SimulatedDisk::new();
    let options = Options {
        log_file_bytes: 4 << 20,
        // Nobody writes tables here until it is asked for.
        max_table_bytes: 256 << 20,
        ..options()
    };
    let store = open(&disk, options).unwrap();
    let mut lap = Instant::now();
    let mut say = |what: &str| {
        println!("{what}: {:?}", lap.elapsed());
        lap = Instant::now();
    };
    for first in (0..SPANS).step_by(SPANS_AT_ONCE as usize) {
        let request = encode_protobuf(&part(first));
        runtime()
            .block_on(store.append_otlp(request.into()))
            .unwrap();
    }
    say("log and table");
    assert_eq!(read(&store), SPANS);
    say("read from the table");
    store.flush().unwrap();
    say("flush");
    assert_eq!(read(&store), SPANS);
    say("read from the segment");
    store.compact().unwrap();
    say("compact");
    assert_eq!(read(&store), SPANS);
    drop(store);
    lap = Instant::now();
    let store = open(&disk, options).unwrap();
    assert_eq!(read(&store), SPANS);
    println!("open and read: {:?}", lap.elapsed());
}

/// Some of the spans, the last of the trace first, each below the one that comes after it.
fn part(first: u64) -> periplus_model::Batch {
    let draft = span(1, "large", 1);
    let span = |n: u64| {
        let mut span = draft.span.clone();
        span.span_id = SpanId::from_u64(n + 1);
        span.parent_span_id = Some(SpanId::from_u64(n + 2));
        span.start_unix_nano = noon() + (SPANS - n) * 1_000;
        span.end_unix_nano = span.start_unix_nano + 500;
        span
    };
    let group = SpanGroup {
        resource: draft.resource.clone().into(),
        scope: draft.scope.clone().into(),
        spans: (first..SPANS.min(first + SPANS_AT_ONCE))
            .map(span)
            .collect(),
    };
    periplus_model::Batch {
        groups: vec![group],
    }
}

/// How many spans are read, in the order in which they came.
fn read(store: &EmbeddedStore) -> u64 {
    let found = runtime()
        .block_on(store.trace(trace_id(1)))
        .unwrap()
        .unwrap();
    let mut expected = 0;
    for span in found.groups.iter().flat_map(|group| &group.spans) {
        expected += 1;
        assert_eq!(span.span_id.as_u64(), expected);
        assert_eq!(span.parent_span_id, Some(SpanId::from_u64(expected + 1)));
    }
    expected
}
