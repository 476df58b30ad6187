//! What merges must not change, and what they may cost.

use std::time::{SystemTime, UNIX_EPOCH};

use periplus_store::embedded::EmbeddedStore;
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::{SpanSink as _, SpanStore as _};

use crate::script::{open, options, runtime};
use crate::suite::build::{Draft, SECOND, batch, noon, span, trace_id};

const HOUR: u64 = 3_600 * SECOND;

/// The spans of a trace as they are read: the id of each, with its service.
fn read(store: &EmbeddedStore, trace: u64) -> Vec<(String, u64)> {
    let found = runtime().block_on(store.trace(trace_id(trace))).unwrap();
    let groups = found.map(|trace| trace.groups).unwrap_or_default();
    let spans = groups.iter().flat_map(|group| {
        let service = format!("{:?}", group.resource.attributes);
        (group.spans.iter()).map(move |span| (service.clone(), span.span_id.as_u64()))
    });
    spans.collect()
}

fn write(store: &EmbeddedStore, drafts: impl IntoIterator<Item = Draft>) {
    runtime().block_on(store.append(batch(drafts))).unwrap();
    store.flush().unwrap();
}

#[test]
fn the_order_of_arrival_outlives_merges() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    // A trace of more spans than a row group has, the last one first, of two services in turn.
    let spans = 20_000;
    let large = (0..spans).map(|n| {
        let service = if n % 3 == 0 { "a" } else { "b" };
        span(1, service, n + 1).starting(noon() + (spans - n) * 1_000)
    });
    // One that lies in each segment, with more before its earliest span as time goes on.
    let straddler = |n: u64| span(2, "s", n + 1).starting(noon() + (100 - n) * SECOND);
    write(&store, large.chain([straddler(0)]));
    for n in 1..6 {
        let other = span(10 + n, "o", 1).starting(noon() + n);
        write(&store, [straddler(2 * n - 1), other, straddler(2 * n)]);
    }
    let before = (read(&store, 1), read(&store, 2));
    let expected: Vec<u64> = (1..=spans).collect();
    assert_eq!(ids(&before.0), expected);
    assert_eq!(ids(&before.1), (1..=11).collect::<Vec<_>>());
    store.compact().unwrap();
    assert_eq!(store.segments().len(), 1, "{:?}", store.segments());
    assert_eq!((read(&store, 1), read(&store, 2)), before);
    // And once more, from what was merged.
    write(
        &store,
        [straddler(11), span(1, "a", spans + 1).starting(noon())],
    );
    store.compact().unwrap();
    assert_eq!(store.segments().len(), 1, "{:?}", store.segments());
    assert_eq!(ids(&read(&store, 1)), (1..=spans + 1).collect::<Vec<_>>());
    assert_eq!(ids(&read(&store, 2)), (1..=12).collect::<Vec<_>>());
}

fn ids(spans: &[(String, u64)]) -> Vec<u64> {
    spans.iter().map(|(_, id)| *id).collect()
}

#[test]
fn a_trace_that_goes_to_and_fro_between_hours_keeps_its_order() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    for n in 0..12 {
        // Every third part of it begins an hour earlier, and so lies in another segment.
        let start = noon() - u64::from(n % 3 == 1) * HOUR + n * SECOND;
        let own = span(100 + n, "own", 1).starting(noon() + n);
        let earlier = span(200 + n, "own", 1).starting(noon() - HOUR + n);
        let wanderer = span(1, "w", n + 1).starting(start);
        write(&store, [own, earlier, wanderer]);
    }
    let expected: Vec<u64> = (1..=12).collect();
    assert_eq!(ids(&read(&store, 1)), expected);
    let before = store.segments().len();
    store.compact().unwrap();
    let after = store.segments().len();
    assert_eq!(ids(&read(&store, 1)), expected);
    // What can be merged is: each stretch in which the trace stays in one hour.
    assert!(after < before, "{before}, {after}");
    drop(store);
    let store = open(&disk, options()).unwrap();
    assert_eq!(ids(&read(&store, 1)), expected);
}

#[test]
fn late_spans_are_not_written_again_and_again() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_nanos()).unwrap();
    // Yesterday's hour: it is closed, and more comes into it all the same.
    for n in 0..100 {
        write(&store, [span(n, "late", 1).starting(noon() + n)]);
        store.keep(now).unwrap();
    }
    let stats = store.engine_stats();
    assert_eq!(stats.flushed_spans, 100);
    // Once for each factor of four: log4(100) is 3.3.
    assert!(stats.merged_spans <= 400, "{stats:?}");
    assert!(stats.segments <= 12, "{stats:?}");
    // When it has been quiet for a while, one is left.
    store.keep(now + HOUR).unwrap();
    let stats = store.engine_stats();
    assert_eq!(stats.segments, 1, "{stats:?}");
    assert!(stats.merged_spans <= 500, "{stats:?}");
}

#[test]
fn more_attribute_keys_than_columns_are_merged() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    let keys = 600;
    let number = |part: u64, n: u64| part * keys + n;
    for part in 0..3 {
        let drafts = (0..keys).map(|n| {
            let n = number(part, n);
            // The same of all parts, and one that each has of its own.
            let start = noon() + n * 1_000;
            let own = span(n % 100, "s", n + 1).starting(start);
            own.with(&format!("key {n}"), n as i64)
        });
        write(&store, drafts);
    }
    let attributes = |store: &EmbeddedStore, trace: u64| {
        let found = runtime().block_on(store.trace(trace_id(trace))).unwrap();
        let groups = found.unwrap().groups;
        let spans = groups.iter().flat_map(|group| &group.spans);
        let attributes = spans.map(|span| format!("{:?}", span.attributes));
        attributes.collect::<Vec<_>>()
    };
    let read_all = |store| {
        (0..100)
            .map(|trace| attributes(store, trace))
            .collect::<Vec<_>>()
    };
    let before = read_all(&store);
    assert_eq!(before.iter().map(Vec::len).sum::<usize>() as u64, 3 * keys);
    store.compact().unwrap();
    assert_eq!(store.segments().len(), 1, "{:?}", store.segments());
    assert_eq!(read_all(&store), before);
}

#[test]
fn what_takes_too_much_memory_does_not_keep_the_rest_from_being_merged() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    // So many row groups of one trace, of which another segment has a span, are not put together.
    let large = (0..17 * 4_096).map(|n| span(1, "large", n + 1).starting(noon() + n));
    write(&store, large);
    write(&store, [span(1, "large", 99_999).starting(noon())]);
    for n in 0..2 {
        write(&store, [span(10 + n, "small", 1).starting(noon())]);
    }
    let before = read(&store, 1);
    store.compact().unwrap();
    let spans: Vec<u64> = store
        .segments()
        .iter()
        .map(|segment| segment.spans)
        .collect();
    assert_eq!(spans, [17 * 4_096, 1, 2]);
    assert!(read(&store, 1) == before);
}

#[test]
fn a_closed_store_merges_nothing() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    for n in 0..4 {
        write(&store, [span(n, "s", 1).starting(noon())]);
    }
    store.close().unwrap();
    assert_eq!(store.compact().unwrap().segments, 0);
    assert_eq!(store.segments().len(), 4);
}
