//! Opening, closing, merging, dropping.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{SpanFilter, SpanSink as _, SpanStore as _, StoreError};

use crate::script::{drafts, open, options, present, run, runtime};
use crate::suite::build::{Query, SECOND, Store, batch, noon, service_is, span};

const HOUR: u64 = 3_600 * SECOND;

#[test]
fn a_real_directory_is_held_by_one_and_read_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/on the way");
    let store = EmbeddedStore::open(&data, Options::default()).unwrap();
    let refused = EmbeddedStore::open(&data, Options::default());
    assert!(
        matches!(refused, Err(StoreError::InUse { .. })),
        "{refused:?}"
    );
    assert_eq!(run(&store, 0..10).acknowledged.len(), 10);
    drop(store);
    for _ in 0..3 {
        let store = EmbeddedStore::open(&data, Options::default()).unwrap();
        assert_eq!(store.recovery().findings, [""; 0]);
        // What was in memory at the end became a segment.
        assert_eq!(store.recovery().replayed_spans, 0);
        let store: Store = Arc::new(store);
        assert_eq!(present(&store, 0..10).len(), 10);
    }
}

#[test]
fn tables_become_segments_by_themselves() {
    let disk = SimulatedDisk::new();
    let options = Options {
        table_age: Duration::from_millis(10),
        ..Options::default()
    };
    let store = open(&disk, options).unwrap();
    runtime().block_on(store.append(batch(drafts(0)))).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.engine_stats().segments == 0 {
        assert!(Instant::now() < deadline, "{:?}", store.engine_stats());
        std::thread::yield_now();
    }
    let store: Store = Arc::new(store);
    assert_eq!(present(&store, 0..1), [0]);
}

#[test]
fn small_segments_of_an_hour_become_one() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    for number in 0..12 {
        let written = runtime().block_on(store.append(batch(drafts(number))));
        written.unwrap();
        store.flush().unwrap();
    }
    let before = store.segments();
    store.compact().unwrap();
    let after = store.segments();
    assert_eq!(after.len(), 2, "{after:?}");
    assert!(before.len() > 12, "{before:?}");
    let spans = |entries: &[periplus_store::embedded::SegmentEntry]| {
        entries.iter().map(|entry| entry.spans).sum::<u64>()
    };
    assert_eq!(spans(&after), spans(&before));
    // Only the files that are named are there.
    let files = disk.files();
    let segments = files
        .iter()
        .filter(|path| path.extension() == Some("seg".as_ref()));
    assert_eq!(segments.count(), 2, "{files:?}");
    let store: Store = Arc::new(store);
    assert_eq!(present(&store, 0..12).len(), 12);
}

#[test]
fn what_is_older_than_the_retention_goes() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    let runtime = runtime();
    for hour in 0..5 {
        let draft = span(hour, "a", 1).starting(noon() + hour * HOUR);
        runtime.block_on(store.append(batch([draft]))).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(store.segments().len(), 5);
    // The retention is 100 hours; an hour goes when its end is as old as that.
    assert_eq!(store.retain(noon() + 101 * HOUR - 1).unwrap().segments, 0);
    assert_eq!(store.retain(noon() + 103 * HOUR).unwrap().segments, 3);
    let stats = store.stats();
    assert_eq!((stats.spans, stats.evicted_spans), (2, 3));
    let store: Store = Arc::new(store);
    let found = runtime.block_on(Query::from(SpanFilter::True).ids(&store));
    assert_eq!(found, [4, 3]);
    drop(store);
    assert_eq!(open(&disk, options()).unwrap().segments().len(), 2);
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let disk = SimulatedDisk::new();
    let limited = |max_disk_bytes| Options {
        max_disk_bytes: Some(max_disk_bytes),
        ..options()
    };
    let store = open(&disk, limited(u64::MAX)).unwrap();
    let runtime = runtime();
    for hour in 0..10 {
        let draft = span(hour, "a", 1).starting(noon() + hour * HOUR);
        runtime.block_on(store.append(batch([draft]))).unwrap();
    }
    store.flush().unwrap();
    let bytes: u64 = store.segments().iter().map(|entry| entry.bytes).sum();
    drop(store);
    // A start cuts off what was reserved and not used.
    let store = open(&disk, limited(u64::MAX)).unwrap();
    let log = store.engine_stats().log_bytes;
    drop(store);
    let store = open(&disk, limited(log + bytes / 2)).unwrap();
    store.retain(noon()).unwrap();
    let left: u64 = store.segments().iter().map(|entry| entry.bytes).sum();
    assert!(left <= bytes / 2 && left > bytes / 4, "{left} of {bytes}");
    let store: Store = Arc::new(store);
    let found = runtime.block_on(Query::from(service_is("a")).ids(&store));
    assert_eq!(found[0], 9);
    assert!(!found.contains(&0));
}

#[test]
fn too_much_at_once_is_refused_and_counted() {
    let disk = SimulatedDisk::new();
    let store = open(
        &disk,
        Options {
            queue_bytes: 20_000,
            ..options()
        },
    )
    .unwrap();
    let large = |bytes: usize| batch([span(1, "a", 1).with("k", "x".repeat(bytes))]);
    let too_large = runtime().block_on(store.append(large(6_000)));
    assert!(
        matches!(too_large, Err(StoreError::TooLarge { .. })),
        "{too_large:?}"
    );

    // One at a time there is room; of many at once some must come again, and then they are taken.
    let requests = 64;
    let together = join_all((0..requests).map(|_| store.append(large(4_000))));
    let answers = runtime().block_on(together);
    let busy = |answer: &Result<(), StoreError>| matches!(answer, Err(StoreError::Busy { .. }));
    let refused = answers.iter().filter(|answer| busy(answer)).count() as u64;
    let taken = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
    assert_eq!(refused + taken, requests, "{answers:?}");
    assert!(
        refused > 0 && taken > 0,
        "{refused} of {requests} are refused"
    );
    assert_eq!(store.engine_stats().busy_requests, refused);
    assert_eq!(store.stats().spans, taken);
    runtime().block_on(store.append(large(4_000))).unwrap();

    let store = open(
        &SimulatedDisk::new(),
        Options {
            max_table_bytes: 1,
            ..options()
        },
    )
    .unwrap();
    let log = run(&store, 0..2);
    assert_eq!((log.acknowledged, log.refused), (vec![0], vec![1]));
    assert_eq!(store.engine_stats().busy_requests, 1);
    store.flush().unwrap();
    assert_eq!(run(&store, 2..3).acknowledged, [2]);
}
