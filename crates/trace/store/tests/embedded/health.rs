//! A thread that crashes: nothing is acknowledged any more, and everybody can see it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_store::embedded::disk::{Crash, Fault, SimulatedDisk};
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{SpanSink as _, StoreError};

use crate::gate::GatedDisk;
use crate::script::{drafts, open, options, present, run, runtime};
use crate::suite::build::{Store, batch};

#[test]
fn a_crash_of_a_thread_ends_the_taking_of_spans() {
    let disk = GatedDisk::new();
    let options = Options {
        table_age: Duration::from_millis(10),
        background: true,
        ..options()
    };
    let store = EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new("/"), options).unwrap();
    assert!(store.health().is_ok() && store.engine_stats().healthy);
    disk.panic_at_segments();
    runtime().block_on(store.append(batch(drafts(0)))).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.health().is_ok() {
        assert!(Instant::now() < deadline, "{:?}", store.engine_stats());
        std::thread::yield_now();
    }
    assert!(!store.engine_stats().healthy);
    let refused = runtime().block_on(store.append(batch(drafts(1))));
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    drop(store);
    // What was acknowledged before is in the log.
    let after: Store = Arc::new(open(&disk.below.after(Crash::DropUnsynced), options).unwrap());
    assert_eq!(present(&after, 0..2), [0]);
}

#[test]
fn a_failed_sync_is_seen_from_outside() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    assert_eq!(run(&store, 0..1).acknowledged, [0]);
    assert!(store.health().is_ok());
    disk.plan(Fault::FailedSync(disk.operations()));
    assert_eq!(run(&store, 1..2).refused, [1]);
    let reason = store.health().unwrap_err();
    assert!(reason.to_string().contains("syncing the log"), "{reason}");
}
