//! Damaged segments: answers say so, what is known of them lasts, and what can be read is saved.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use periplus_store::embedded::disk::{Disk as _, SimulatedDisk};
use periplus_store::embedded::{EmbeddedStore, check};
use periplus_store::{Incomplete, Outcome, SpanFilter, SpanSink as _, SpanStore as _, StoreError};

use crate::script::{open, options, runtime};
use crate::suite::build::{Query, Store, batch, noon, span, trace_id};

/// A segment with two row groups, since the values of two spans are large: trace 1 lies in the first,
/// trace 2 in the second. Two more segments with a trace each.
fn written() -> (SimulatedDisk, PathBuf) {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    let large = |trace| {
        let draft = span(trace, "large", 1).starting(noon() + trace);
        draft.with("large", "x".repeat(5 << 20))
    };
    write(&store, [large(1), large(2)]);
    let segment = segments(&disk).pop().unwrap();
    write(&store, [span(3, "small", 1)]);
    write(&store, [span(4, "small", 1)]);
    (disk, segment)
}

fn write(store: &EmbeddedStore, drafts: impl IntoIterator<Item = crate::suite::build::Draft>) {
    runtime().block_on(store.append(batch(drafts))).unwrap();
    store.flush().unwrap();
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    let is_segment = |path: &PathBuf| path.extension() == Some("seg".as_ref());
    files.filter(is_segment).collect()
}

fn quarantine(disk: &SimulatedDisk) -> Vec<String> {
    disk.list(Path::new("/quarantine")).unwrap()
}

fn find(store: &Store) -> (Vec<u64>, Outcome) {
    let search = Query::from(SpanFilter::True).run_to_the_end(store);
    let (found, outcome) = runtime().block_on(search);
    let mut ids: Vec<u64> = found.iter().map(|trace| trace.id.low()).collect();
    ids.sort_unstable();
    (ids, outcome)
}

#[test]
fn a_damaged_row_group_costs_its_spans_and_is_never_passed_over_in_silence() {
    let (disk, segment) = written();
    // In the ids of the first row group.
    disk.flip(&segment, 20, 1);
    let store = Arc::new(open(&disk, options()).unwrap());
    let shared: Store = store.clone();
    assert_eq!(store.damage(), None);

    let (found, outcome) = find(&shared);
    assert_eq!(found, [2, 3, 4]);
    assert!(matches!(outcome, Outcome::Partial { .. }), "{outcome:?}");
    let lost = runtime().block_on(store.trace(trace_id(1)));
    assert!(matches!(lost, Err(StoreError::Damaged { .. })), "{lost:?}");
    let whole = runtime()
        .block_on(store.trace(trace_id(2)))
        .unwrap()
        .unwrap();
    assert!(whole.incomplete.is_none());
    let absent = runtime().block_on(store.trace(trace_id(5))).unwrap();
    assert_eq!(absent, None);
    assert!(store.damage().is_some());

    // It is looked into, and that lasts.
    store.keep(noon()).unwrap();
    let damaged = |store: &EmbeddedStore| -> Vec<Vec<u32>> {
        let entries = store.segments().into_iter();
        entries
            .map(|entry| entry.damaged_groups)
            .filter(|groups| !groups.is_empty())
            .collect()
    };
    assert_eq!(damaged(&store), [[0]]);
    assert!(
        quarantine(&disk)
            .iter()
            .any(|name| name.contains("group-000000"))
    );
    drop((shared, store));
    let store = Arc::new(open(&disk, options()).unwrap());
    assert_eq!(damaged(&store), [[0]]);
    assert!(store.damage().is_some());
    // The others are merged all the same, and it is not tried with them.
    store.compact().unwrap();
    assert_eq!(store.segments().len(), 2, "{:?}", store.segments());
    assert!(segments(&disk).contains(&segment));

    let salvaged = store.salvage().unwrap();
    assert_eq!(salvaged.len(), 1);
    assert_eq!((salvaged[0].saved_spans, salvaged[0].dropped_spans), (1, 1));
    assert!(salvaged[0].copy.is_some());
    let shared: Store = store.clone();
    assert_eq!(find(&shared), (vec![2, 3, 4], Outcome::Complete));
    assert_eq!(runtime().block_on(store.trace(trace_id(1))).unwrap(), None);
    assert_eq!(store.damage(), None);
    drop((shared, store));
    assert!(!segments(&disk).contains(&segment));
    let report = check(&disk, Path::new("/")).unwrap();
    assert_eq!((report.damages, report.segment_spans), (Vec::new(), 3));
    assert!(report.quarantine_bytes > 0);
}

#[test]
fn a_segment_that_cannot_be_opened_is_missed() {
    let (disk, segment) = written();
    let size = disk.open(&segment).unwrap().size().unwrap() as usize;
    disk.flip(&segment, size - 1, 1);
    let store = Arc::new(open(&disk, options()).unwrap());
    let findings = store.recovery().findings.join("\n");
    assert!(findings.contains("2 spans are left out"), "{findings}");
    let shared: Store = store.clone();
    let (found, outcome) = find(&shared);
    assert_eq!(found, [3, 4]);
    assert!(matches!(outcome, Outcome::Partial { .. }), "{outcome:?}");
    // It may have spans of every trace.
    let partial = runtime()
        .block_on(store.trace(trace_id(3)))
        .unwrap()
        .unwrap();
    assert_eq!(partial.incomplete, Some(Incomplete::Damaged));
    let unknown = runtime().block_on(store.trace(trace_id(5)));
    assert!(
        matches!(unknown, Err(StoreError::Damaged { .. })),
        "{unknown:?}"
    );
    assert_eq!(runtime().block_on(store.services()).unwrap(), ["small"]);
    assert!(store.damage().is_some());

    let salvaged = store.salvage().unwrap();
    assert_eq!((salvaged[0].saved_spans, salvaged[0].dropped_spans), (0, 2));
    assert_eq!(find(&shared), (vec![3, 4], Outcome::Complete));
    assert_eq!(runtime().block_on(store.trace(trace_id(5))).unwrap(), None);
    assert_eq!(store.damage(), None);
    drop((shared, store));
    let store = open(&disk, options()).unwrap();
    assert_eq!(store.recovery().findings, [""; 0]);
    assert!(
        quarantine(&disk)
            .iter()
            .any(|name| name.starts_with("segment-"))
    );
}

#[test]
fn a_damaged_log_is_copied_once_and_durably() {
    use periplus_store::embedded::disk::Crash;
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    assert_eq!(crate::script::run(&store, 0..2).acknowledged, [0, 1]);
    let crashed = disk.after(Crash::DropUnsynced);
    drop(store);
    let log = (crashed.files().into_iter())
        .find(|path| path.extension() == Some("wal".as_ref()))
        .unwrap();
    crashed.flip(&log, 60, 1);
    let store = open(&crashed, options()).unwrap();
    assert_eq!(store.recovery().findings.len(), 1, "{:?}", store.recovery());
    // The power fails before anything of it becomes a segment: it is found again, and kept once.
    let again = crashed.after(Crash::DropUnsynced);
    assert_eq!(quarantine(&again).len(), 1);
    drop(store);
    let store = open(&again, options()).unwrap();
    assert_eq!(store.recovery().findings.len(), 1);
    assert_eq!(quarantine(&again).len(), 1);
}
