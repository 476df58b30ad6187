//! Bits that flip: never a wrong answer, and always a message.

use std::sync::Arc;

use periplus_store::StoreError;
use periplus_store::embedded::disk::{Crash, Disk as _, SimulatedDisk};

use crate::script::{Wrong, examine, open, options, run};
use crate::suite::build::Store;

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    let log = run(&store, 0..10);
    assert_eq!(log.acknowledged.len(), 10);
    // As after a crash: with a log.
    let disk = disk.after(Crash::DropUnsynced);
    drop(store);
    let mut noticed = 0;
    for path in disk.files() {
        let size = disk.open(&path).unwrap().size().unwrap() as usize;
        // Of what everything depends on each byte, of the rest some.
        let truth = path.parent() == Some("/".as_ref());
        let step = if truth { 1 } else { size / 40 + 1 };
        for offset in (0..size).step_by(step) {
            let damaged = disk.after(Crash::KeepAll);
            damaged.flip(&path, offset, 1 << (offset % 8));
            let context = format!("byte {offset} of {}", path.display());
            let store = match open(&damaged, options()) {
                Ok(store) => store,
                Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => {
                    noticed += 1;
                    continue;
                }
                Err(error) => panic!("{context}: {error}"),
            };
            let store = Arc::new(store);
            let shared: Store = store.clone();
            // In part, or not at all: then somebody must have been told.
            match examine(&shared, 0..10) {
                Ok(found) if found.len() == 10 => {}
                Ok(_) | Err(Wrong::Content(_)) => {
                    let told =
                        !store.recovery().findings.is_empty() || store.engine_stats().damages > 0;
                    assert!(told, "{context}: {:?}", store.recovery());
                    noticed += 1;
                }
                Err(Wrong::Refused(_)) => noticed += 1,
            }
        }
    }
    assert!(noticed > 500, "{noticed}");
}

#[test]
fn a_directory_without_its_manifest_is_not_taken_for_an_empty_one() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    run(&store, 0..5);
    drop(store);
    disk.remove("/CURRENT".as_ref()).unwrap();
    let refused = open(&disk, options());
    assert!(
        matches!(refused, Err(StoreError::Damaged { .. })),
        "{refused:?}"
    );
}
