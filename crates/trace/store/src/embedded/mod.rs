//! The engine with a disk.

mod batch;
pub mod disk;
mod manifest;
mod wal;

pub use manifest::SegmentEntry;
