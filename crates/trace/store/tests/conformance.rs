//! Every engine gives the same answers.

#[macro_use]
mod suite;

use std::path::Path;
use std::sync::Arc;

use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{EmbeddedStore, Options};

/// An engine on a disk in memory.
fn embedded(options: Options) -> EmbeddedStore {
    let disk = Arc::new(SimulatedDisk::new());
    EmbeddedStore::open_on(disk, Path::new("/"), options).expect("an empty store")
}

/// All spans stay in the table.
fn in_a_table() -> EmbeddedStore {
    embedded(Options::default())
}

/// A segment for each group of batches, merged as they come.
fn in_segments() -> EmbeddedStore {
    embedded(Options {
        table_bytes: 1,
        ..Options::default()
    })
}

conformance!(memory, periplus_store::MemoryStore::default());
conformance!(embedded_in_a_table, crate::in_a_table());
conformance!(embedded_in_segments, crate::in_segments());
