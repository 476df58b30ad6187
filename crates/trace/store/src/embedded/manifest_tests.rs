use super::*;
use crate::embedded::disk::{Crash, Fault, SimulatedDisk};

fn dir() -> &'static Path {
    Path::new("/")
}

fn open(disk: &SimulatedDisk) -> io::Result<Manifest> {
    Ok(Manifest::open(Arc::new(disk.clone()), dir())?.0)
}

/// Adds a segment and removes the one before.
fn edit(id: u64) -> Edit {
    Edit {
        add: vec![SegmentEntry {
            id,
            hour: 1,
            bytes: 2,
            spans: 3,
            traces: 4,
            min_start_unix_nano: 5,
            max_start_unix_nano: 6,
            level: 7,
            written_unix_nano: 8,
            merged_from: Some((id - 1, id)),
            damaged_groups: vec![9; 1_000],
            damaged: false,
        }],
        remove: vec![id - 1],
        log_file: Some(id),
        ..Edit::default()
    }
}

fn manifest_bytes(disk: &SimulatedDisk) -> u64 {
    let files = disk.files().into_iter();
    let manifests = files.filter(|path| path.to_string_lossy().contains("MANIFEST"));
    manifests
        .map(|path| {
            disk.open(&path)
                .and_then(|file| file.size())
                .expect("a file")
        })
        .sum()
}

#[test]
fn a_manifest_does_not_grow_without_end() {
    let disk = SimulatedDisk::new();
    let mut manifest = open(&disk).expect("an empty disk");
    for id in 1..1_000 {
        manifest.edit(&edit(id)).expect("a disk that works");
        assert!(manifest_bytes(&disk) < ROLL_BYTES + 10_000);
    }
    let contents = manifest.contents().clone();
    assert_eq!(contents.segments.len(), 1);
    assert_eq!(contents.log_file, Some(999));
    let found = Manifest::peek(&disk, dir()).expect("sound");
    assert_eq!(found, Some((contents, false)));
}

#[test]
fn a_crash_while_it_is_written_anew_loses_nothing() {
    let script = |disk: &SimulatedDisk| {
        let mut manifest = open(disk).ok()?;
        let mut done = 0;
        for id in 1..300 {
            if manifest.edit(&edit(id)).is_err() {
                break;
            }
            done = id;
        }
        Some(done)
    };
    let whole = SimulatedDisk::new();
    assert_eq!(script(&whole), Some(299));
    let before = whole.operations();
    // About the first time that it rolls over: an edit is two operations.
    let rolls = (0..before).filter(|operation| (230..=290).contains(operation));
    for operation in rolls {
        let disk = SimulatedDisk::new();
        disk.plan(Fault::Dead(operation));
        let done = script(&disk).expect("the start is not in question");
        for crash in [Crash::KeepAll, Crash::DropUnsynced, Crash::Tear(operation)] {
            let after = disk.after(crash);
            let context = format!("operation {operation}, {crash:?}, {done} edits");
            let found = Manifest::peek(&after, dir()).expect(&context);
            let last = found.expect(&context).0.log_file.unwrap_or_default();
            assert!(last == done || last == done + 1, "{context}: {last}");
            assert!(open(&after).is_ok(), "{context}");
        }
    }
}
