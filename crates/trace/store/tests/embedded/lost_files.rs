//! Files that are missing, and a last line of the manifest that is damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use periplus_store::StoreError;
use periplus_store::embedded::Options;
use periplus_store::embedded::disk::{Crash, Disk as _, SimulatedDisk};

use crate::script::{open, options, present, run};
use crate::suite::build::Store;

fn logs(disk: &SimulatedDisk) -> Vec<PathBuf> {
    in_dir(disk, "wal")
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let files = disk.files();
    let is_segment = |path: &PathBuf| path.extension() == Some("seg".as_ref());
    files.into_iter().filter(is_segment).collect()
}

fn in_dir(disk: &SimulatedDisk, dir: &str) -> Vec<PathBuf> {
    let dir = Path::new("/").join(dir);
    let files = disk.files();
    let is_inside = |path: &PathBuf| path.parent() == Some(dir.as_path());
    files.into_iter().filter(is_inside).collect()
}

#[test]
fn when_the_log_is_lost_what_comes_later_is_not() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    // The third batch is followed by a flush; the next one, beside which nobody flushes, is in the log
    // only.
    run(&store, 0..3);
    run(&store, 6..7);
    let disk = disk.after(Crash::DropUnsynced);
    drop(store);
    for log in logs(&disk) {
        disk.remove(&log).unwrap();
    }
    let store = open(&disk, options()).unwrap();
    let findings = store.recovery().findings.join("\n");
    assert!(findings.contains("the file is missing"), "{findings}");
    assert_eq!(run(&store, 4..5).acknowledged, [4]);
    let disk = disk.after(Crash::DropUnsynced);
    drop(store);
    let store: Store = Arc::new(open(&disk, options()).unwrap());
    assert_eq!(present(&store, 0..7), [0, 1, 2, 4]);
}

#[test]
fn a_last_file_that_is_missing_is_missed() {
    let disk = SimulatedDisk::new();
    let small = Options {
        log_file_bytes: 300,
        ..options()
    };
    let store = open(&disk, small).unwrap();
    assert_eq!(run(&store, 0..2).acknowledged.len(), 2);
    let disk = disk.after(Crash::DropUnsynced);
    drop(store);
    let files = logs(&disk);
    assert!(files.len() > 1, "{files:?}");
    disk.remove(files.last().unwrap()).unwrap();
    let store = open(&disk, small).unwrap();
    let findings = store.recovery().findings.join("\n");
    assert!(findings.contains("the file is missing"), "{findings}");
    assert_eq!(run(&store, 2..3).acknowledged, [2]);
    let disk = disk.after(Crash::DropUnsynced);
    drop(store);
    let store: Store = Arc::new(open(&disk, small).unwrap());
    assert_eq!(present(&store, 0..3), [0, 2]);
}

/// The manifest's last line says that the log is in segments. With one of its bits flipped, it looks
/// as if it had never been finished.
fn with_damaged_last_line(options: Options) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options).unwrap();
    run(&store, 0..2);
    store.flush().unwrap();
    let disk = disk.after(Crash::KeepAll);
    drop(store);
    let manifest = (disk.files().into_iter())
        .find(|path| path.to_string_lossy().contains("MANIFEST"))
        .unwrap();
    let size = disk.open(&manifest).unwrap().size().unwrap() as usize;
    disk.flip(&manifest, size - 5, 1);
    disk
}

#[test]
fn a_damaged_last_line_of_the_manifest_costs_nothing_while_the_log_is_there() {
    let disk = with_damaged_last_line(Options {
        log_file_bytes: 1 << 20,
        ..options()
    });
    let before = segments(&disk).len();
    assert!(before > 0);
    let store = open(&disk, options()).unwrap();
    assert!(!store.recovery().findings.is_empty());
    assert_eq!(in_dir(&disk, "quarantine").len(), before);
    let store: Store = Arc::new(store);
    assert_eq!(present(&store, 0..2), [0, 1]);
}

#[test]
fn a_damaged_last_line_of_the_manifest_deletes_nothing_when_the_log_is_gone() {
    // Several files, of which the flush removes the first.
    let small = Options {
        log_file_bytes: 300,
        ..options()
    };
    let disk = with_damaged_last_line(small);
    let before = segments(&disk);
    assert!(
        logs(&disk)
            .iter()
            .all(|path| !path.ends_with("000000000000.wal"))
    );
    let refused = open(&disk, small);
    assert!(
        matches!(refused, Err(StoreError::Damaged { .. })),
        "{refused:?}"
    );
    assert_eq!(segments(&disk), before);
}

#[test]
fn the_directories_on_the_way_survive_a_power_cut() {
    let disk = SimulatedDisk::new();
    let dir = Path::new("/made/on/the way");
    let shared = Arc::new(disk.clone());
    let store = periplus_store::embedded::EmbeddedStore::open_on(shared, dir, options()).unwrap();
    assert_eq!(run(&store, 0..2).acknowledged, [0, 1]);
    let disk = Arc::new(disk.after(Crash::DropUnsynced));
    let after = periplus_store::embedded::EmbeddedStore::open_on(disk, dir, options()).unwrap();
    let after: Store = Arc::new(after);
    assert_eq!(present(&after, 0..2), [0, 1]);
}
