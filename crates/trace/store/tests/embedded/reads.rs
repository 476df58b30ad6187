//! Reads that fail: an answer is complete, or somebody is told that it is not; and nothing is lost that
//! can be read again later.

use std::sync::Arc;

use periplus_store::StoreError;
use periplus_store::embedded::disk::{Crash, Fault, SimulatedDisk};

use crate::script::{Wrong, examine, moments, open, options, present, run};
use crate::suite::build::Store;

const BATCHES: u64 = 11;

/// A directory with segments and a log, as after a crash.
fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    assert_eq!(run(&store, 0..BATCHES).acknowledged.len() as u64, BATCHES);
    disk.after(Crash::DropUnsynced)
}

/// How many reads a start takes, and how many it takes to look at all.
fn reads(disk: &SimulatedDisk) -> (u64, u64) {
    let disk = disk.after(Crash::KeepAll);
    let store: Store = Arc::new(open(&disk, options()).unwrap());
    let start = disk.reads();
    assert_eq!(present(&store, 0..BATCHES).len() as u64, BATCHES);
    (start, disk.reads())
}

#[test]
fn reads_that_fail_lose_nothing() {
    let sound = disk();
    let (start, all) = reads(&sound);
    assert!(start > 5 && all > start + 20, "{start} {all}");
    let mut refused = 0;
    let mut in_part = 0;
    for read in moments(all, 2) {
        let range = || read..read + 1;
        for fault in [
            Fault::FailedRead(range()),
            Fault::ShortRead(range()),
            Fault::FailedRead(read..read + 5),
        ] {
            let context = format!("{fault:?} of {start} and {all}");
            let disk = sound.after(Crash::KeepAll);
            disk.plan(fault);
            match open(&disk, options()) {
                Err(StoreError::Io { .. } | StoreError::Damaged { .. }) => refused += 1,
                Err(error) => panic!("{context}: {error}"),
                Ok(store) => {
                    let store = Arc::new(store);
                    let shared: Store = store.clone();
                    match examine(&shared, 0..BATCHES) {
                        Ok(found) if found.len() as u64 == BATCHES => {}
                        Err(Wrong::Refused(_)) => refused += 1,
                        Ok(_) | Err(Wrong::Content(_)) => {
                            in_part += 1;
                            let findings = &store.recovery().findings;
                            let told = !findings.is_empty() || store.engine_stats().damages > 0;
                            assert!(told, "{context}");
                        }
                    }
                }
            }
            // The disk is well again: nothing was thrown away for what could not be read once.
            disk.heal();
            let store: Store = Arc::new(open(&disk, options()).unwrap());
            assert_eq!(
                present(&store, 0..BATCHES).len() as u64,
                BATCHES,
                "{context}"
            );
        }
    }
    assert!(refused > 0 && in_part > 0, "{refused} {in_part}");
}
