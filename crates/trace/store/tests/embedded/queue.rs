//! A disk that is slow: what is refused is not stored, and what is stored is not refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use periplus_store::embedded::disk::Crash;
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{SpanSink as _, StoreError};

use crate::gate::GatedDisk;
use crate::script::{drafts, open, options, present};
use crate::suite::build::{Store, batch};

#[test]
fn what_is_refused_for_the_time_it_takes_is_not_stored_and_the_rest_is_waited_for() {
    let disk = GatedDisk::new();
    let options = Options {
        queue_timeout: Duration::from_millis(50),
        ..options()
    };
    let store = EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new("/"), options).unwrap();
    let store = Arc::new(store);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let append = |number| {
        let store = Arc::clone(&store);
        runtime.spawn(async move { store.append(batch(drafts(number))).await })
    };
    runtime.block_on(append(0)).unwrap().unwrap();

    disk.shut();
    let being_written = append(1);
    disk.until_waiting(1);
    let given_up = append(2);
    let refused = runtime.block_on(append(3)).unwrap();
    assert!(
        matches!(refused, Err(StoreError::Busy { .. })),
        "{refused:?}"
    );
    given_up.abort();
    assert!(
        runtime.block_on(given_up).is_err_and(|e| e.is_cancelled())
            || store.engine_stats().busy_requests == 2
    );
    // It may be on the disk already: only the disk knows what to tell its sender.
    assert!(!being_written.is_finished());
    disk.open_gate();
    runtime.block_on(being_written).unwrap().unwrap();
    runtime.block_on(append(4)).unwrap().unwrap();

    let shared: Store = store.clone();
    assert_eq!(present(&shared, 0..5), [0, 1, 4]);
    assert_eq!(store.engine_stats().abandoned_requests, 2);
    drop(shared);
    let after = open(&disk.below.after(Crash::DropUnsynced), options).unwrap();
    let after: Store = Arc::new(after);
    assert_eq!(present(&after, 0..5), [0, 1, 4]);
}
