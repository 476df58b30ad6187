//! Bits that flip: never a wrong answer, and always a message.

use std::sync::Arc;

use periplus_store::StoreError;
use periplus_store::embedded::disk::{Crash, Disk as _, SimulatedDisk};

use crate::script::{examine, open, options, run};
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
    for path in disk.files() {
        let size = disk.open(&path).unwrap().size().unwrap() as usize;
        for offset in (0..size).step_by(size / 40 + 1) {
            let damaged = disk.after(Crash::KeepAll);
            damaged.flip(&path, offset, 1 << (offset % 8));
            let context = format!("byte {offset} of {}", path.display());
            let store = match open(&damaged, options()) {
                Ok(store) => store,
                Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => continue,
                Err(error) => panic!("{context}: {error}"),
            };
            let store = Arc::new(store);
            let shared: Store = store.clone();
            // In part, or not at all: then somebody must have been told.
            if examine(&shared, 0..10).map(|found| found.len()) != Ok(10) {
                let told =
                    !store.recovery().findings.is_empty() || store.engine_stats().damages > 0;
                assert!(told, "{context}: {:?}", store.recovery());
            }
        }
    }
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
