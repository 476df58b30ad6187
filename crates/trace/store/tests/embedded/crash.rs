//! At every moment: what was acknowledged is there exactly once, what was not is there as a whole or
//! not at all.

use std::sync::Arc;

use periplus_store::embedded::disk::{Crash, Fault, SimulatedDisk};
use periplus_store::embedded::{Durability, Options};
use periplus_store::{SpanSink as _, StoreError};

use crate::script::{
    Log, Old, check_old, drafts, durability, moments, old_goes, open, options, present, run,
    run_with_retention, runtime,
};
use crate::suite::build::{Store, batch};

const BATCHES: u64 = 17;

/// How many operations the script takes when nothing fails.
fn operations() -> u64 {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    let log = run_with_retention(&store, 0..BATCHES);
    assert_eq!(log.acknowledged.len() as u64, BATCHES);
    assert_eq!(log.old, Old::Dropped);
    let stats = store.engine_stats();
    assert!(stats.flushes >= 5 && stats.merges >= 2, "{stats:?}");
    disk.operations()
}

/// A disk on which the script meets this fault, and what became of its batches.
fn interrupted(fault: Fault) -> (SimulatedDisk, Log) {
    let disk = SimulatedDisk::new();
    disk.plan(fault);
    let log = match open(&disk, options()) {
        Ok(store) => run_with_retention(&store, 0..BATCHES),
        Err(_) => Log::default(),
    };
    (disk, log)
}

/// Opens what a crash left, looks at it, writes on, and opens it once more.
fn check(disk: &SimulatedDisk, log: &Log, context: &str) {
    let opened = open(disk, options()).unwrap_or_else(|error| panic!("{context}: {error}"));
    let opened = Arc::new(opened);
    // What was not acknowledged may be there, as a whole.
    let store: Store = opened.clone();
    let found = present(&store, 0..BATCHES);
    let acknowledged = &log.acknowledged;
    assert!(
        acknowledged.iter().all(|number| found.contains(number)),
        "{context}: {acknowledged:?} in {found:?}"
    );
    check_old(&store, log.old, context);
    let runtime = runtime();
    runtime
        .block_on(store.append(batch(drafts(BATCHES))))
        .unwrap();
    // What is in memory becomes segments: only those can be dropped.
    let closed = opened.close();
    closed.unwrap_or_else(|error| panic!("{context}: {error}"));
    drop((opened, store));
    let again = Arc::new(open(&disk.after(Crash::DropUnsynced), options()).unwrap());
    let shared: Store = again.clone();
    let mut expected = found;
    expected.push(BATCHES);
    assert_eq!(present(&shared, 0..BATCHES + 1), expected, "{context}");
    check_old(&shared, log.old, context);
    // It can still go, and only it.
    again.retain(old_goes()).unwrap();
    check_old(&shared, Old::Dropped, context);
    assert_eq!(present(&shared, 0..BATCHES + 1), expected, "{context}");
}

#[test]
fn power_cuts_at_every_moment() {
    for operation in moments(operations(), 3) {
        let (disk, log) = interrupted(Fault::Dead(operation));
        for crash in [
            Crash::KeepAll,
            Crash::DropUnsynced,
            Crash::Tear(operation),
            Crash::Tear(operation + 10_000),
        ] {
            let context = format!("operation {operation}, {crash:?}");
            check(&disk.after(crash), &log, &context);
        }
    }
}

#[test]
fn power_cuts_at_every_moment_of_a_start_after_a_power_cut() {
    let mut starts = 0;
    for operation in moments(operations(), 32) {
        let (disk, log) = interrupted(Fault::Dead(operation));
        for crash in [Crash::DropUnsynced, Crash::Tear(operation)] {
            let left = disk.after(crash);
            let counted = left.after(Crash::KeepAll);
            drop(open(&counted, options()).unwrap());
            // An orderly end, too: it writes what the log had as segments.
            for second in 0..counted.operations() {
                let disk = left.after(Crash::KeepAll);
                disk.plan(Fault::Dead(second));
                drop(open(&disk, options()));
                for crash in [Crash::DropUnsynced, Crash::Tear(second)] {
                    let context = format!("operation {operation}, then {second}, {crash:?}");
                    check(&disk.after(crash), &log, &context);
                    starts += 1;
                }
            }
        }
    }
    assert!(starts > 50, "{starts}");
}

#[test]
fn a_disk_that_is_full_at_a_start_loses_nothing() {
    // Where nothing may be dropped to make room.
    let options = || Options {
        max_disk_bytes: None,
        ..options()
    };
    let mut refused = 0;
    for operation in moments(operations(), 12) {
        let (disk, log) = interrupted(Fault::Dead(operation));
        let left = disk.after(Crash::Tear(operation));
        let counted = left.after(Crash::KeepAll);
        drop(open(&counted, options()).unwrap());
        for full in moments(counted.operations(), 2) {
            let disk = left.after(Crash::KeepAll);
            disk.plan(Fault::Full(full..full + 4));
            refused += u64::from(open(&disk, options()).is_err());
            disk.heal();
            let context = format!("operation {operation}, then full at {full}");
            check(&disk, &log, &context);
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_crash_of_the_process_loses_nothing_that_the_system_has() {
    for operation in moments(operations(), 6) {
        let disk = SimulatedDisk::new();
        disk.plan(Fault::Dead(operation));
        let log = match open(&disk, durability(Durability::Os)) {
            Ok(store) => run_with_retention(&store, 0..BATCHES),
            Err(_) => Log::default(),
        };
        let context = format!("operation {operation}");
        check(&disk.after(Crash::KeepAll), &log, &context);
    }
}

#[test]
fn without_a_log_what_is_in_segments_survives() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, durability(Durability::Memory)).unwrap();
    assert_eq!(run(&store, 0..8).acknowledged.len(), 8);
    let after = disk.after(Crash::DropUnsynced);
    let reopened: Store = Arc::new(open(&after, options()).unwrap());
    // All but the last were flushed; of that one there was no log.
    assert_eq!(present(&reopened, 0..8), [0, 1, 2, 3, 4, 5, 6]);
    // An orderly end loses nothing.
    drop(store);
    let after = disk.after(Crash::DropUnsynced);
    let reopened: Store = Arc::new(open(&after, options()).unwrap());
    assert_eq!(present(&reopened, 0..8).len(), 8);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    // Where nothing may be dropped to make room.
    let options = || Options {
        max_disk_bytes: None,
        ..options()
    };
    let mut refusals = 0;
    for operation in moments(operations(), 3) {
        let disk = SimulatedDisk::new();
        disk.plan(Fault::Full(operation..operation + 6));
        let Ok(store) = open(&disk, options()) else {
            continue;
        };
        let store = Arc::new(store);
        let log = run_with_retention(&store, 0..BATCHES);
        refusals += log.refused.len();
        let context = format!("operation {operation}");
        let shared: Store = store.clone();
        assert_eq!(present(&shared, 0..BATCHES), log.acknowledged, "{context}");
        check_old(&shared, log.old, &context);
        let works = runtime().block_on(store.append(batch(drafts(BATCHES))));
        let mut acknowledged = log.acknowledged.clone();
        // Where not even what was half written could be taken back, it may still be there.
        let stuck = match works {
            Ok(()) => {
                acknowledged.push(BATCHES);
                false
            }
            Err(StoreError::Io { .. }) => true,
            Err(error) => panic!("{context}: {error}"),
        };
        for crash in [Crash::KeepAll, Crash::DropUnsynced, Crash::Tear(operation)] {
            let after: Store = Arc::new(open(&disk.after(crash), options()).unwrap());
            let mut found = present(&after, 0..BATCHES + 1);
            let context = format!("{context}, {crash:?}");
            found.retain(|number| !stuck || acknowledged.contains(number));
            // A refusal for want of room leaves nothing behind.
            assert_eq!(found, acknowledged, "{context}");
            check_old(&after, log.old, &context);
        }
    }
    assert!(refusals > 10, "{refusals}");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let mut refusals = 0;
    for operation in moments(operations(), 2) {
        let disk = SimulatedDisk::new();
        disk.plan(Fault::FailedSync(operation));
        let Ok(store) = open(&disk, options()) else {
            continue;
        };
        let log = run_with_retention(&store, 0..BATCHES);
        if let Some(first) = log.refused.first() {
            refusals += 1;
            let after = log.acknowledged.iter().any(|number| number > first);
            assert!(!after, "operation {operation}: {log:?}");
            let refused = runtime().block_on(store.append(batch(drafts(BATCHES))));
            assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
        }
        let after: Store = Arc::new(open(&disk.after(Crash::DropUnsynced), options()).unwrap());
        let context = format!("operation {operation}");
        assert_eq!(present(&after, 0..BATCHES), log.acknowledged, "{context}");
        check_old(&after, log.old, &context);
    }
    assert!(refusals > 5, "{refusals}");
}

#[test]
fn a_failed_sync_of_a_directory_loses_nothing() {
    let mut failures = 0;
    for operation in moments(operations(), 4) {
        let (disk, log) = interrupted(Fault::FailedDirSync(operation));
        failures += u64::from(!log.refused.is_empty() || log.acknowledged.is_empty());
        for crash in [Crash::KeepAll, Crash::DropUnsynced, Crash::Tear(operation)] {
            let context = format!("operation {operation}, {crash:?}");
            check(&disk.after(crash), &log, &context);
        }
    }
    assert!(failures > 0);
}
