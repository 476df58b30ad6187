//! A disk without room: it is left behind by dropping the oldest, if that was allowed.

use std::sync::Arc;
use std::time::Duration;

use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{Options, inventory};
use periplus_store::{SpanFilter, SpanSink as _, SpanStore as _, StoreError};

use crate::script::{self, open, runtime};
use crate::suite::build::{Draft, Query, SECOND, Store, batch, noon, span};

const HOUR: u64 = 3_600 * SECOND;

/// With room for a manifest.
fn options() -> Options {
    Options {
        reserve_bytes: 8_192,
        ..script::options()
    }
}

fn draft(hour: u64) -> Draft {
    let noise: String = (0..30_000).map(|_| fastrand::alphanumeric()).collect();
    span(hour, "a", 1)
        .starting(noon() + hour * HOUR)
        .with("noise", noise)
}

/// Ten hours of spans, and no room for more.
fn full_disk(options: Options) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options).unwrap();
    for hour in 0..10 {
        let written = runtime().block_on(store.append(batch([draft(hour)])));
        written.unwrap();
        store.flush().unwrap();
    }
    drop(store);
    disk.limit(disk.used_bytes());
    disk
}

#[test]
fn the_oldest_make_room_for_the_newest() {
    let options = Options {
        max_disk_bytes: Some(1 << 30),
        ..options()
    };
    let disk = full_disk(options);
    let store = open(&disk, options).unwrap();
    let mut refused = 0;
    for hour in 10..16 {
        for _ in 0..5 {
            match runtime().block_on(store.append(batch([draft(hour)]))) {
                Ok(()) => break,
                Err(StoreError::Busy { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            // What the engine's threads do at once then.
            store.keep(noon()).unwrap();
        }
        store.flush().unwrap();
    }
    assert!(refused > 0);
    let stats = store.stats();
    assert!(stats.evicted_spans > 0, "{stats:?}");
    let store: Store = Arc::new(store);
    let found = runtime().block_on(Query::from(SpanFilter::True).ids(&store));
    assert_eq!(found[..6], [15, 14, 13, 12, 11, 10], "{found:?}");
}

#[test]
fn without_a_limit_of_bytes_nothing_is_dropped() {
    let options = Options {
        max_disk_bytes: None,
        ..options()
    };
    let disk = full_disk(options);
    let store = open(&disk, options).unwrap();
    for _ in 0..3 {
        let refused = runtime().block_on(store.append(batch([draft(10)])));
        assert!(
            matches!(refused, Err(StoreError::Busy { .. })),
            "{refused:?}"
        );
        store.keep(noon()).unwrap();
    }
    assert_eq!(store.stats().spans, 10);
    assert!(store.health().is_ok());
}

#[test]
fn the_reserve_is_what_a_start_and_a_drop_need() {
    let without = Options {
        reserve_bytes: 0,
        ..options()
    };
    let disk = full_disk(without);
    assert!(
        open(&disk, without).is_err(),
        "there is no room for a manifest"
    );

    let with = Options {
        retention: Some(Duration::from_secs(100 * 3_600)),
        ..options()
    };
    let disk = full_disk(with);
    let store = open(&disk, with).unwrap();
    assert_eq!(store.segments().len(), 10);
    disk.limit(disk.used_bytes());
    assert_eq!(store.retain(noon() + 104 * HOUR).unwrap().segments, 4);
    assert_eq!(store.segments().len(), 6);
    drop(store);
    assert_eq!(open(&disk, with).unwrap().segments().len(), 6);
}

#[test]
fn the_log_counts_and_what_is_about_to_be_written_too() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    for hour in 0..10 {
        let written = runtime().block_on(store.append(batch([draft(hour)])));
        written.unwrap();
        store.flush().unwrap();
    }
    let segments: u64 = store.segments().iter().map(|entry| entry.bytes).sum();
    drop(store);
    let log = inventory(&disk, "/".as_ref()).unwrap().log_bytes;
    assert!(log > 0);
    let max = segments + log / 2;
    let limited = Options {
        max_disk_bytes: Some(max),
        ..options()
    };
    let store = open(&disk, limited).unwrap();
    // By itself, before the flush.
    runtime()
        .block_on(store.append(batch([draft(10)])))
        .unwrap();
    store.flush().unwrap();
    let stats = store.engine_stats();
    assert!(stats.dropped_segments > 0, "{stats:?}");
    assert!(
        stats.segment_bytes + stats.log_bytes <= max,
        "{stats:?} of {max}"
    );
}
