//! The engine with a disk.
//!
//! A batch goes into the log, and when that is on stable storage into a table in memory; then it is
//! acknowledged. A table that is large or old becomes segments, a file for each hour; then the
//! manifest names them in the place of that part of the log. Small segments are merged, old ones
//! dropped. A query sees the segments and the tables of one moment.
//!
//! ```text
//! LOCK                        held by the process that has the store open
//! CURRENT, MANIFEST-000007    which segments there are: [`manifest`]
//! wal/000000000012.wal        what is in no segment yet: [`wal`]
//! p=2026-11-22T08/*.seg       segments, by the hour in which their traces began
//! quarantine/                 copies of what could not be read
//! RESERVE                     room for when the disk is full
//! ```

mod batch;
mod cache;
mod calls;
mod check;
mod contract;
mod damaged;
pub mod disk;
mod engine;
mod files;
mod health;
mod intake;
mod keep;
mod lists;
mod manifest;
mod merge;
mod meter;
mod minutes;
mod open;
mod options;
mod part;
mod partition;
mod payload;
mod quarantine;
mod reading;
mod red;
mod reserve;
mod room;
mod salvage;
mod scan;
mod search;
mod seen;
mod segment;
mod signal;
mod state;
mod store;
mod stream;
mod table;
mod view;
mod wal;

pub use check::{Inventory, Report, check, inventory};
pub use keep::Kept;
pub use manifest::SegmentEntry;
pub use open::Recovery;
pub use options::{Durability, Options};
pub use salvage::Salvaged;
pub use store::{EmbeddedStore, EngineStats};
