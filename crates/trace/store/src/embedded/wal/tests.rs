use std::io;
use std::sync::Arc;

use super::*;
use crate::embedded::disk::{Crash, Disk, Fault, SimulatedDisk, read_file};

const STORE: u64 = 0xfeed;

fn dir() -> &'static Path {
    Path::new("/")
}

fn log(disk: &SimulatedDisk, next: (u64, u64)) -> Log {
    log_of(disk, next, 1_000)
}

fn log_of(disk: &SimulatedDisk, next: (u64, u64), file_bytes: u64) -> Log {
    let options = LogOptions {
        file_bytes,
        sync: true,
    };
    Log::new(
        Arc::new(disk.clone()),
        dir().to_owned(),
        STORE,
        options,
        next,
    )
}

/// The body with this number: 100 bytes or so.
fn body(n: u32) -> Vec<u8> {
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.resize(90 + n as usize % 20, n as u8);
    bytes
}

fn append(log: &mut Log, numbers: &[u32]) -> Result<Vec<Position>, AppendError> {
    let bodies: Vec<Vec<u8>> = numbers.iter().map(|n| body(*n)).collect();
    log.append(7, bodies.iter().map(|body| (Kind::Batch, body.as_slice())))
}

fn replay_all(disk: &dyn Disk, from: Position) -> (Vec<u32>, Recovered) {
    let mut numbers = Vec::new();
    let from = ReplayFrom {
        store_id: STORE,
        position: from,
        last_file: None,
        repair: true,
    };
    let recovered = replay(disk, dir(), from, |kind, received, bytes: &[u8], _| {
        assert_eq!((kind, received), (Kind::Batch, 7));
        let number = u32::from_le_bytes(*bytes.first_chunk().expect("a number"));
        assert_eq!(bytes, body(number));
        numbers.push(number);
        Ok(Ok(()))
    });
    (numbers, recovered.expect("it can be read"))
}

#[test]
fn what_is_appended_is_replayed_from_any_place() {
    let disk = SimulatedDisk::new();
    let mut log = log(&disk, (0, 0));
    let mut ends = Vec::new();
    for n in 0..50 {
        ends.extend(append(&mut log, &[2 * n, 2 * n + 1]).expect("room"));
    }
    assert!(disk.files().len() > 5, "{:?}", disk.files());
    for (i, from) in [
        (0, Position::default()),
        (1, ends[0]),
        (31, ends[30]),
        (100, ends[99]),
    ] {
        let (numbers, recovered) = replay_all(&disk.after(Crash::DropUnsynced), from);
        assert_eq!(numbers, (i..100).collect::<Vec<u32>>());
        assert_eq!(recovered.gaps, []);
        assert_eq!(recovered.end, ends[99]);
        assert_eq!(recovered.next_file, ends[99].file + 1);
        assert_eq!(recovered.old_files, (0..from.file).collect::<Vec<_>>());
    }
}

/// Disks with a size for the log's files: of less than a block, of several blocks of which the last one
/// is written again and again, and on a file system that takes no direct writes.
const DISKS: [(fn() -> SimulatedDisk, u64); 3] = [
    (SimulatedDisk::new, 1_000),
    (SimulatedDisk::new, 10_000),
    (SimulatedDisk::cached, 1_000),
];

#[test]
fn after_a_crash_at_any_moment_what_was_acknowledged_is_there() {
    for (new_disk, file_bytes) in DISKS {
        crash_at_any_moment(new_disk, file_bytes);
    }
}

fn crash_at_any_moment(new_disk: fn() -> SimulatedDisk, file_bytes: u64) {
    let script = |disk: &SimulatedDisk, next| {
        let mut log = log_of(disk, next, file_bytes);
        let mut acknowledged = 0;
        for n in 0..12 {
            if append(&mut log, &[3 * n, 3 * n + 1, 3 * n + 2]).is_err() {
                return acknowledged;
            }
            acknowledged = 3 * n + 3;
        }
        acknowledged
    };
    let whole = new_disk();
    assert_eq!(script(&whole, (0, 0)), 36);
    for operation in 0..whole.operations() {
        let disk = new_disk();
        disk.plan(Fault::Dead(operation));
        let acknowledged = script(&disk, (0, 0));
        let crashes = (0..8).map(Crash::Tear);
        for crash in crashes.chain([Crash::KeepAll, Crash::DropUnsynced]) {
            let disk = disk.after(crash);
            let (numbers, recovered) = replay_all(&disk, Position::default());
            let context = format!("operation {operation}, {crash:?}: {recovered:?}");
            // In order and once each; behind what was acknowledged, any of the last group.
            assert!(numbers.is_sorted_by(|a, b| a < b), "{context} {numbers:?}");
            let whole: Vec<u32> = (0..acknowledged).collect();
            assert!(numbers.starts_with(&whole), "{context} {numbers:?}");
            assert!(numbers.iter().all(|n| *n < acknowledged + 3), "{context}");
            // What was dropped once is not found again, and the log can go on.
            let (again, second) = replay_all(&disk, Position::default());
            assert_eq!(again, numbers, "{context}");
            assert!(second.gaps.iter().all(|gap| !gap.torn), "{context}");
            let next = (second.next_file, second.next_sequence);
            let mut log = log_of(&disk, next, file_bytes);
            append(&mut log, &[1_000]).expect("room");
            let (numbers, _) = replay_all(&disk.after(Crash::DropUnsynced), Position::default());
            assert_eq!(numbers.last(), Some(&1_000), "{context}");
        }
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind_and_is_no_end() {
    for (new_disk, file_bytes) in DISKS {
        full_at_any_moment(new_disk, file_bytes);
    }
}

fn full_at_any_moment(new_disk: fn() -> SimulatedDisk, file_bytes: u64) {
    let whole = new_disk();
    let script = |disk: &SimulatedDisk| {
        let mut log = log_of(disk, (0, 0), file_bytes);
        let mut taken = Vec::new();
        for n in 0..30 {
            match append(&mut log, &[3 * n, 3 * n + 1, 3 * n + 2]) {
                Ok(_) => taken.extend([3 * n, 3 * n + 1, 3 * n + 2]),
                Err(AppendError::Full(_)) => {}
                Err(AppendError::Broken { .. }) => return None,
            }
        }
        Some(taken)
    };
    assert_eq!(script(&whole).expect("no failure").len(), 90);
    let mut recovered_from = 0;
    for operation in 0..whole.operations() {
        for width in 1..4 {
            let disk = new_disk();
            disk.plan(Fault::Full(operation..operation + width));
            // Where even the clean-up finds no room, the log gives up, which is fine too.
            let Some(taken) = script(&disk) else { continue };
            recovered_from += 1;
            assert!(taken.len() >= 84, "operation {operation}: {taken:?}");
            for crash in [Crash::KeepAll, Crash::DropUnsynced, Crash::Tear(operation)] {
                let (numbers, recovered) = replay_all(&disk.after(crash), Position::default());
                assert_eq!(numbers, taken, "operation {operation}");
                assert_eq!(recovered.gaps, [], "operation {operation}");
            }
        }
    }
    assert!(recovered_from > 30, "{recovered_from}");
}

#[test]
fn a_failed_sync_is_the_end() {
    let disk = SimulatedDisk::new();
    let mut log = log(&disk, (0, 0));
    append(&mut log, &[1]).expect("room");
    disk.plan(Fault::FailedSync(disk.operations()));
    let failed = append(&mut log, &[2]);
    assert!(
        matches!(failed, Err(AppendError::Broken { .. })),
        "{failed:?}"
    );
    let (numbers, _) = replay_all(&disk.after(Crash::DropUnsynced), Position::default());
    assert_eq!(numbers, [1]);
}

#[test]
fn every_flipped_bit_is_noticed_and_costs_one_record() {
    let disk = SimulatedDisk::new();
    let mut log = log(&disk, (0, 0));
    append(&mut log, &[0, 1, 2, 3, 4]).expect("room");
    append(&mut log, &[5, 6, 7, 8, 9]).expect("room");
    let file = path(dir(), 0);
    let end = {
        let bytes = read_file(&disk, &file).expect("a file");
        bytes.iter().rposition(|byte| *byte != 0).expect("records")
    };
    for offset in 0..=end {
        let disk = disk.after(Crash::KeepAll);
        disk.flip(&file, offset, 1 << (offset % 8));
        let (numbers, recovered) = replay_all(&disk, Position::default());
        // A bit of the padding between records may flip without harm.
        let lost = 10 - numbers.len();
        assert!(lost <= 1, "byte {offset}: {numbers:?}");
        assert_eq!(recovered.gaps.len(), lost, "byte {offset}: {recovered:?}");
        if let [gap] = &recovered.gaps[..] {
            assert!(
                gap.bytes.contains(&(offset as u64)),
                "byte {offset}: {gap:?}"
            );
        }
    }
}

#[test]
fn bytes_inside_a_record_do_not_pass_for_one() {
    let disk = SimulatedDisk::new();
    let mut forger = log(&disk, (0, 0));
    append(&mut forger, &[1]).expect("room");
    let forged = read_file(&disk, &path(dir(), 0)).expect("a file")[..200].to_vec();
    // The same bytes, at the same place modulo the alignment, in the body of another store's log.
    let disk = SimulatedDisk::new();
    let options = LogOptions {
        file_bytes: 4_000,
        sync: true,
    };
    let mut victim = Log::new(Arc::new(disk.clone()), dir().to_owned(), 1, options, (0, 0));
    let bodies = [forged];
    let written = victim.append(7, bodies.iter().map(|body| (Kind::Batch, body.as_slice())));
    written.expect("room");
    disk.flip(&path(dir(), 0), 41, 1);
    let from = ReplayFrom {
        store_id: 1,
        position: Position::default(),
        last_file: None,
        repair: true,
    };
    let recovered = replay(&disk, dir(), from, |_, _, _: &[u8], _| {
        Err(io::Error::other("a forged record was read"))
    });
    assert_eq!(recovered.expect("no record").gaps.len(), 1);
}

#[test]
fn a_missing_file_is_reported() {
    let disk = SimulatedDisk::new();
    let mut log = log(&disk, (0, 0));
    for n in 0..40 {
        append(&mut log, &[n]).expect("room");
    }
    disk.remove(&path(dir(), 1)).expect("a file");
    let (numbers, recovered) = replay_all(&disk, Position::default());
    assert!(numbers.len() < 40);
    assert_eq!(recovered.gaps.len(), 1);
    assert_eq!(recovered.gaps[0].file, 1);
    assert_eq!(recovered.gaps[0].reason, "the file is missing");
}

#[test]
fn a_stray_file_makes_one_gap_of_all_that_are_missing() {
    let disk = SimulatedDisk::new();
    let mut log = log(&disk, (0, 0));
    append(&mut log, &[1]).expect("room");
    for stray in [1_000_000_000_000, u64::MAX] {
        disk.create(&path(dir(), stray)).expect("a new file");
    }
    let (numbers, recovered) = replay_all(&disk, Position::default());
    assert_eq!(numbers, [1]);
    assert_eq!(recovered.gaps.len(), 1);
    assert_eq!(recovered.gaps[0].file, 1);
    assert_eq!(
        recovered.gaps[0].reason,
        "the files up to 999999999999 are missing"
    );
    assert_eq!(recovered.next_file, 1_000_000_000_001);
}
