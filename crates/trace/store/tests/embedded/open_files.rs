//! A process that may have few files open.

use std::process::Command;
use std::sync::Arc;

use periplus_store::SpanSink as _;
use periplus_store::embedded::{EmbeddedStore, Options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::script::{drafts, options, present, runtime};
use crate::suite::build::{Store, batch};

const DIR: &str = "PERIPLUS_TEST_OPEN_FILES";

/// Limits are of a whole process: the test runs once more, in one of its own.
#[test]
fn more_segments_than_files_may_be_open() {
    if let Some(dir) = std::env::var_os(DIR) {
        return with_few_files(dir.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "open_files::more_segments_than_files_may_be_open",
        ])
        .args(["--nocapture", "--test-threads", "1"])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

fn with_few_files(dir: &std::path::Path) {
    let limit = Rlimit {
        current: Some(64),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let options = Options {
        table_bytes: 1,
        ..options()
    };
    let store = EmbeddedStore::open(dir, options).unwrap();
    for number in 0..100 {
        let written = runtime().block_on(store.append(batch(drafts(number))));
        written.unwrap();
        store.flush().unwrap();
    }
    assert!(store.segments().len() >= 100);
    drop(store);
    let store = Arc::new(EmbeddedStore::open(dir, options).unwrap());
    assert_eq!(store.recovery().findings, [""; 0]);
    assert!(store.segments().len() >= 100);
    let shared: Store = store.clone();
    assert_eq!(present(&shared, 0..100).len(), 100);
    store.compact().unwrap();
    assert_eq!(present(&shared, 0..100).len(), 100);
    assert_eq!(store.engine_stats().damages, 0);
    // What has to do with the limit is said, and not taken for damage.
    drop(shared);
    drop(store);
    let hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    let refused = EmbeddedStore::open(dir, options);
    drop(hoard);
    assert!(refused.is_err());
    let store: Store = Arc::new(EmbeddedStore::open(dir, options).unwrap());
    assert_eq!(present(&store, 0..100).len(), 100);
}
