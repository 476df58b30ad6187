//! What to do when the disk is full, or as full as it may be.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::disk::is_full;
use super::engine::Engine;
use super::intake::now_unix_nano;
use super::keep::Kept;
use super::manifest::SegmentEntry;
use super::reserve;
use crate::StoreError;

/// A table takes about so many times the bytes of its segment.
pub(super) const COLUMNS_SHRINK: u64 = 4;

/// When to drop what is there did not help, somebody else fills the disk: this long nothing is dropped.
const PATIENCE: Duration = Duration::from_secs(60);

impl Engine {
    /// The bytes of all segments and of the log.
    pub(super) fn disk_bytes(&self) -> u64 {
        let segments: u64 = {
            let manifest = self.manifest();
            let entries = manifest.contents().segments.values();
            entries.map(|entry| entry.bytes).sum()
        };
        segments + self.log_bytes()
    }

    /// The bytes of the log, what is reserved included.
    pub(super) fn log_bytes(&self) -> u64 {
        let dir = self.wal_dir();
        let names = self.disk.list(&dir).unwrap_or_default();
        let size = |name| self.disk.open(&dir.join(name)).and_then(|file| file.size());
        names.iter().filter_map(|name| size(name).ok()).sum()
    }

    /// Makes room for a segment of this table before it is written.
    pub(super) fn retain_before(&self, table_bytes: u64) -> Result<(), StoreError> {
        let Some(max) = self.options.max_disk_bytes else {
            return Ok(());
        };
        let more = table_bytes / COLUMNS_SHRINK;
        if self.disk_bytes() + more > max {
            self.retain(now_unix_nano(), more)?;
        }
        Ok(())
    }

    /// Notes that the disk is full, for [`Self::make_room`].
    pub(super) fn note_full(&self, wanted_bytes: u64) {
        self.wanted_bytes
            .fetch_max(wanted_bytes.max(1), Ordering::Relaxed);
        self.signal.keep();
    }

    /// If the disk is full: drops the oldest segments, of about as many bytes as are wanted. They
    /// would go anyway when there is too much; that the disk has less room than was said changes when.
    pub(super) fn make_room(&self) -> Result<Kept, StoreError> {
        let wanted_bytes = self.wanted_bytes.swap(0, Ordering::Relaxed);
        if self.options.max_disk_bytes.is_none() || wanted_bytes == 0 {
            return Ok(Kept::default());
        }
        let mut last = self
            .made_room
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < PATIENCE) {
            return Ok(Kept::default());
        }
        *last = Some(Instant::now());
        drop(last);
        let mut entries: Vec<SegmentEntry> = {
            let manifest = self.manifest();
            manifest.contents().segments.values().cloned().collect()
        };
        entries.sort_by_key(|entry| (entry.hour, entry.id));
        let mut bytes = 0;
        let count = (entries.iter())
            .take_while(|entry| {
                let wanted = bytes < wanted_bytes;
                bytes += entry.bytes;
                wanted
            })
            .count();
        entries.truncate(count);
        if count > 0 {
            tracing::warn!(segments = count, "the disk is full: the oldest segments go");
        }
        let _turn = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_segments(&entries)
    }

    /// Room was found: to drop something helps.
    pub(super) fn forget_full(&self) {
        let mut last = self
            .made_room
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = None;
    }

    /// Takes the room that is to be there when the disk is full.
    pub(super) fn fill_reserve(&self) {
        let filled = reserve::fill(&*self.disk, &self.dir, self.options.reserve_bytes);
        if let Err(error) = filled
            && !is_full(&error)
        {
            tracing::warn!(%error, "no room is kept for a full disk");
        }
    }

    /// Whether there was some.
    pub(super) fn release_reserve(&self, error: &io::Error) -> bool {
        is_full(error) && reserve::release(&*self.disk, &self.dir)
    }
}
