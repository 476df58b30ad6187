//! What turns tables into segments, and keeps the manifest and the segments in step.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cache::GroupCache;
use super::disk::{Disk, is_full};
use super::health::Health;
use super::intake::{Sink, now_unix_nano};
use super::manifest::{Edit, EditError, Manifest, SegmentEntry};
use super::options::Options;
use super::payload::{Payload, Unfit};
use super::segment::{self, Encoded, Segment};
use super::signal::Signal;
use super::state::State;
use super::wal::{self, Position};
use super::{partition, table::Table};
use crate::{OtlpTaken, StoreError};

/// Everything but the way in.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) state: State,
    pub(super) cache: Arc<GroupCache>,
    pub(super) health: Arc<Health>,
    pub(super) signal: Signal,
    pub(super) counters: Counters,
    manifest: Mutex<Manifest>,
    next_segment: AtomicU64,
    /// Held by who turns tables into segments.
    flushing: Mutex<()>,
    /// Held by who merges or drops segments.
    pub(super) keeping: Mutex<()>,
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) flushes: AtomicU64,
    pub(super) merges: AtomicU64,
    pub(super) dropped_segments: AtomicU64,
    pub(super) dropped_spans: AtomicU64,
    pub(super) dropped_traces: AtomicU64,
}

impl Engine {
    pub(super) fn new(
        (disk, dir): (Arc<dyn Disk>, PathBuf),
        options: Options,
        manifest: Manifest,
        (segments, cache): (Vec<Arc<Segment>>, Arc<GroupCache>),
    ) -> Self {
        let contents = manifest.contents();
        let (next_segment, replay_from) = (contents.next_segment, contents.replay_from);
        Self {
            disk,
            dir,
            options,
            state: State::new(segments, replay_from),
            cache,
            health: Arc::default(),
            signal: Signal::default(),
            counters: Counters::default(),
            manifest: Mutex::new(manifest),
            next_segment: AtomicU64::new(next_segment),
            flushing: Mutex::default(),
            keeping: Mutex::default(),
        }
    }

    pub(super) fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }

    pub(super) fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns all tables into segments, the active one too.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.state.rotate(|table, _| table.spans() > 0);
        self.flush_frozen()
    }

    /// Turns the tables that take no more spans into segments.
    pub(super) fn flush_frozen(&self) -> Result<(), StoreError> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(frozen) = self.state.oldest_frozen() {
            let segments = self.write_table(&frozen.table)?;
            let edit = Edit {
                add: segments.iter().map(|s| s.entry().clone()).collect(),
                replay_from: Some(frozen.upto),
                ..Edit::default()
            };
            if let Err(error) = self.edit(&edit) {
                self.discard(&segments);
                return Err(error);
            }
            self.state.replace_oldest_frozen(segments);
            self.counters.flushes.fetch_add(1, Ordering::Relaxed);
            self.trim_log(frozen.upto);
        }
        Ok(())
    }

    /// Changes the manifest.
    pub(super) fn edit(&self, edit: &Edit) -> Result<(), StoreError> {
        let action = "changing the manifest";
        self.manifest().edit(edit).map_err(|error| match error {
            EditError::Full(source) => StoreError::Io { action, source },
            EditError::Broken(source) => {
                self.health.fail(action, &source);
                StoreError::Io { action, source }
            }
        })
    }

    /// Writes a segment, durably. It counts only once the manifest names it.
    pub(super) fn write_segment(
        &self,
        encoded: &Encoded,
        level: u32,
    ) -> Result<Arc<Segment>, StoreError> {
        let id = self.next_segment.fetch_add(1, Ordering::Relaxed);
        let entry = encoded.entry(id, level).map_err(|error| StoreError::Io {
            action: "writing a segment",
            source: io::Error::other(error),
        })?;
        let written = self
            .write_file(&entry, &encoded.bytes)
            .and_then(|()| Segment::open(&*self.disk, &self.dir, entry.clone(), &self.cache));
        written.map(Arc::new).map_err(|source| {
            self.remove_file(&entry);
            StoreError::Io {
                action: "writing a segment",
                source,
            }
        })
    }

    /// Removes the files of segments that the manifest does not name. After an edit of which nobody
    /// knows whether it is on the disk they stay: the next start knows.
    pub(super) fn discard(&self, segments: &[Arc<Segment>]) {
        if self.health.check().is_err() {
            return;
        }
        for segment in segments {
            self.remove_file(segment.entry());
        }
    }

    fn write_table(&self, table: &Table) -> Result<Vec<Arc<Segment>>, StoreError> {
        let now = now_unix_nano();
        let encoded = table.encode(|start| partition::hour_of(start, now));
        let mut written = Vec::with_capacity(encoded.len());
        for encoded in encoded {
            match self.write_segment(&encoded, 0) {
                Ok(segment) => written.push(segment),
                Err(error) => {
                    self.discard(&written);
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    fn write_file(&self, entry: &SegmentEntry, bytes: &[u8]) -> io::Result<()> {
        let dir = partition::dir(&self.dir, entry.hour);
        self.disk.create_dir(&dir)?;
        self.disk.sync_dir(&self.dir)?;
        let file = self.disk.create(&segment::path(&self.dir, entry))?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        self.disk.sync_dir(&dir)
    }

    /// A file that stays behind is swept away at the next start.
    fn remove_file(&self, entry: &SegmentEntry) {
        let path = segment::path(&self.dir, entry);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "cannot remove a segment");
            }
            _ => {}
        }
    }

    /// Removes the files of segments that the manifest no longer names, and directories that are
    /// empty then.
    pub(super) fn remove_files(&self, entries: &[SegmentEntry]) {
        for entry in entries {
            self.remove_file(entry);
        }
        let mut hours: Vec<u64> = entries.iter().map(|entry| entry.hour).collect();
        hours.dedup();
        for hour in hours {
            // Fails while there is anything in it, as it should.
            let _ = self.disk.remove_dir(&partition::dir(&self.dir, hour));
        }
    }

    /// Removes the files of the log of which all is in segments.
    fn trim_log(&self, upto: Position) {
        let dir = self.wal_dir();
        let names = self.disk.list(&dir).unwrap_or_default();
        for number in names.iter().filter_map(|name| wal::number(name)) {
            if number < upto.file
                && let Err(error) = self.disk.remove(&wal::path(&dir, number))
            {
                tracing::warn!(%error, number, "cannot remove a file of the log");
            }
        }
    }
}

impl Sink for Engine {
    fn apply(&self, payload: &Payload, upto: Position) -> Result<OtlpTaken, Unfit> {
        let applied = self.state.apply(payload, upto);
        let full = applied.table_bytes >= self.options.table_bytes;
        if applied.frozen || (full && self.state.rotate(|_, _| true)) {
            self.signal.flush();
        }
        applied.outcome
    }
}

/// Whether trying again later may help.
pub(super) fn is_temporary(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if is_full(source))
}
