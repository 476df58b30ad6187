//! What turns tables into segments, and keeps the manifest and the segments in step.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::cache::Cache;
use super::disk::{Disk, is_full, is_out_of_files};
use super::files::{self, Files};
use super::health::Health;
use super::intake::{Sink, now_unix_nano};
use super::manifest::{Edit, EditError, Manifest, SegmentEntry};
use super::options::Options;
use super::payload::{Payload, Unfit};
use super::room::COLUMNS_SHRINK;
use super::segment::{self, Encoded, Origin, Segment};
use super::signal::Signal;
use super::state::{Frozen, State};
use super::wal::{self, AppendError, Position};
use super::{partition, table::Table};
use crate::{OtlpTaken, StoreError};

/// So much of a segment is written and synced at once, so that the log never waits for much more.
const BYTES_AT_ONCE: usize = 4 << 20;

/// Everything but the way in.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) state: State,
    pub(super) cache: Arc<Cache>,
    pub(super) files: Arc<Files>,
    pub(super) health: Arc<Health>,
    pub(super) signal: Signal,
    /// Told when a table has become segments.
    written: Notify,
    pub(super) counters: Counters,
    /// How many bytes found no room on the disk; zero if all did.
    pub(super) wanted_bytes: AtomicU64,
    /// When segments were last dropped for that, if it was not seen to help.
    pub(super) made_room: Mutex<Option<Instant>>,
    manifest: Mutex<Manifest>,
    next_segment: AtomicU64,
    /// Held by who turns tables into segments.
    flushing: Mutex<()>,
    /// Held by who merges or drops segments: the groups, by number, that could not be merged.
    pub(super) keeping: Mutex<HashSet<Vec<u64>>>,
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) flushes: AtomicU64,
    /// Spans that tables had which became segments, and those of segments that became one.
    pub(super) flushed_spans: AtomicU64,
    pub(super) merges: AtomicU64,
    pub(super) merged_spans: AtomicU64,
    pub(super) dropped_segments: AtomicU64,
    pub(super) dropped_spans: AtomicU64,
    pub(super) dropped_traces: AtomicU64,
}

impl Engine {
    pub(super) fn new(
        (disk, dir): (Arc<dyn Disk>, PathBuf),
        options: Options,
        manifest: Manifest,
        (segments, lost): (Vec<Arc<Segment>>, Vec<SegmentEntry>),
        (files, cache): (Arc<Files>, Arc<Cache>),
    ) -> Self {
        let contents = manifest.contents();
        let (next_segment, replay_from) = (contents.next_segment, contents.replay_from);
        Self {
            disk,
            dir,
            options,
            state: State::new(segments, lost, replay_from),
            cache,
            files,
            health: Arc::default(),
            signal: Signal::default(),
            written: Notify::new(),
            counters: Counters::default(),
            wanted_bytes: AtomicU64::new(0),
            made_room: Mutex::default(),
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

    /// Waits until the tables take no more memory than they may.
    pub(super) async fn room_for_spans(&self) {
        loop {
            let mut written = pin!(self.written.notified());
            // From here on nothing is missed.
            written.as_mut().enable();
            if self.state.table_bytes() <= self.options.max_table_bytes {
                return;
            }
            written.await;
        }
    }

    /// Turns all tables into segments, the active one too.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.state.rotate(|table, _| table.spans() > 0);
        self.flush_frozen()
    }

    /// Turns all tables into segments, and leaves the log as it is.
    pub(super) fn flush_during_replay(&self) -> Result<(), StoreError> {
        self.state.rotate(|table, _| table.spans() > 0);
        self.write_frozen(|_| {})
    }

    /// Turns the tables that take no more spans into segments.
    pub(super) fn flush_frozen(&self) -> Result<(), StoreError> {
        self.write_frozen(|upto| self.trim_log(upto))
    }

    fn write_frozen(&self, written: impl Fn(Position)) -> Result<(), StoreError> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let _watch = self.health.watch("writing a table");
        while let Some(frozen) = self.state.oldest_frozen() {
            self.health.check_tables()?;
            let table = &frozen.table;
            self.retain_before(table.bytes())?;
            let segments = self.name_table(&frozen).or_else(|error| {
                if !is_temporary(&error) {
                    return Err(error);
                }
                self.note_full(table.bytes() / COLUMNS_SHRINK);
                match self.make_room()?.segments {
                    0 => Err(error),
                    _ => self.name_table(&frozen),
                }
            })?;
            self.forget_full();
            self.state.replace_oldest_frozen(segments);
            self.written.notify_waiters();
            let spans = frozen.table.spans();
            (self.counters.flushed_spans).fetch_add(spans, Ordering::Relaxed);
            self.counters.flushes.fetch_add(1, Ordering::Relaxed);
            written(frozen.upto);
        }
        Ok(())
    }

    /// Writes a table, and says so in the manifest.
    fn name_table(&self, frozen: &Frozen) -> Result<Vec<Arc<Segment>>, StoreError> {
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
        Ok(segments)
    }

    /// Notes that the log has a file of this number, before there is anything in it.
    pub(super) fn announce_log_file(&self, number: u64) -> Result<(), AppendError> {
        let edit = Edit {
            log_file: Some(number),
            ..Edit::default()
        };
        self.edit(&edit).map_err(|error| match error {
            StoreError::Io { source, .. } if is_full(&source) => AppendError::Full(source),
            error => AppendError::Broken {
                action: "naming a file of the log",
                source: io::Error::other(error),
            },
        })
    }

    /// Changes the manifest.
    pub(super) fn edit(&self, edit: &Edit) -> Result<(), StoreError> {
        let action = "changing the manifest";
        let mut manifest = self.manifest();
        let edited = manifest.edit(edit).or_else(|error| match error {
            // What frees room must find some.
            EditError::Full(full) if edit.frees_room() && self.release_reserve(&full) => {
                manifest.edit(edit)
            }
            error => Err(error),
        });
        edited.map_err(|error| match error {
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
        origin: Origin,
    ) -> Result<Arc<Segment>, StoreError> {
        let id = self.next_segment.fetch_add(1, Ordering::Relaxed);
        let entry = encoded.entry(id, origin, now_unix_nano());
        let entry = entry.map_err(|error| StoreError::Io {
            action: "writing a segment",
            source: io::Error::other(error),
        })?;
        let written = self
            .write_file(&entry, &encoded.bytes)
            .and_then(|()| Segment::open(&self.files, &self.dir, entry.clone(), &self.cache));
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
        let encoded = table.encode(|start| partition::hour_of(start, now, self.options.retention));
        let mut written = Vec::with_capacity(encoded.len());
        for encoded in encoded {
            match self.write_segment(&encoded, Origin::default()) {
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
        let path = segment::path(&self.dir, entry);
        self.disk.create_dir(&dir)?;
        self.disk.sync_dir(&self.dir)?;
        let file = match self.disk.create(&path) {
            // The last segment in it was just removed, and the directory with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.create_dir(&dir)?;
                self.disk.sync_dir(&self.dir)?;
                self.disk.create(&path)?
            }
            created => created?,
        };
        let mut offset = 0;
        for piece in bytes.chunks(BYTES_AT_ONCE) {
            file.write_at(piece, offset)?;
            file.sync()?;
            offset += piece.len() as u64;
        }
        self.disk.sync_dir(&dir)
    }

    pub(super) fn remove_file(&self, entry: &SegmentEntry) {
        files::remove(&*self.disk, &segment::path(&self.dir, entry));
    }

    /// Removes the files of the log of which all is in segments.
    pub(super) fn trim_log(&self, upto: Position) {
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

    fn out_of_room(&self, bytes: u64) {
        self.note_full(bytes.max(self.options.log_file_bytes));
    }

    fn found_room(&self) {
        self.forget_full();
    }
}

/// Whether trying again later may help.
pub(super) fn is_temporary(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if is_full(source) || is_out_of_files(source))
}
