use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use periplus_model::Batch;
use tokio::sync::Semaphore;

use super::disk::{Disk, RealDisk};
use super::engine::{Engine, is_temporary};
use super::intake::{Answer, Intake, now_unix_nano};
use super::keep::Kept;
use super::meter::{Memory, Meter};
use super::open::{self, LogStart, Recovery};
use super::options::{Durability, Options};
use super::payload::Payload;
use super::quarantine;
use super::salvage::Salvaged;
use super::state::Snapshot;
use super::stream::{Cancel, slot};
use super::wal::{Log, LogOptions};
use crate::{AppendOtlpError, Budget, StoreError, priority};

/// For this part of the time that a batch may wait, it may wait for tables to become segments: most
/// senders would only send the same once more.
const PART_FOR_ROOM: u32 = 4;

/// How many queries compute at the same time, for each core.
const QUERIES_PER_CORE: usize = 2;

/// How often segments are looked after.
const KEEP_EVERY: Duration = Duration::from_secs(30);

/// How long to wait before a table is tried again that could not be written.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Keeps spans in a directory, safe from crashes.
///
/// * **Durability.** See [`Durability`]. An acknowledged span is found exactly once after any crash.
/// * **Limits.** When the queue or the tables are full, or the disk is, a batch is refused with
///   [`StoreError::Busy`], and it is counted; the sender should try again. After a failure that
///   leaves unknown what the disk holds nothing is taken until a restart; reads go on.
/// * **Readers** see what was stored when they began. They never wait for the disk's writes, and
///   writers wait for them no longer than a short turn: a table in memory is looked at a few rows at
///   a time. All queries share a limit of memory, and each has one of its own.
/// * Reads run on threads for blocking work of the tokio runtime in which they are polled.
/// * A batch waits for its turn no longer than [`Options::queue_timeout`], a query no longer than it may
///   take: the runtime in which they are polled needs its timer.
#[derive(Debug)]
pub struct EmbeddedStore {
    pub(super) engine: Arc<Engine>,
    pub(super) intake: Intake,
    recovery: Recovery,
    slots: Arc<Semaphore>,
    memory: Arc<Memory>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Given back last.
    _lock: Box<dyn Any + Send + Sync>,
}

/// How the engine is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Segments on the disk.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Their spans.
    pub segment_spans: u64,
    /// Bytes of the tables in memory.
    pub table_bytes: u64,
    /// Spans in tables.
    pub table_spans: u64,
    /// Tables that became segments since the start.
    pub flushes: u64,
    /// Their spans.
    pub flushed_spans: u64,
    /// Merges of segments since the start.
    pub merges: u64,
    /// The spans that they wrote: with those of the tables, how often a span is written.
    pub merged_spans: u64,
    /// Segments dropped since the start, for their age or to stay under the limit.
    pub dropped_segments: u64,
    /// Requests refused since the start because something was full.
    pub busy_requests: u64,
    /// Requests since the start that were not stored, since nobody waited for them any more.
    pub abandoned_requests: u64,
    /// Reads of segments that met damage, since the start.
    pub damages: u64,
    /// Bytes of segments that are kept decoded.
    pub cached_bytes: u64,
    /// Bytes that queries under way take.
    pub query_bytes: u64,
    /// Segments of which a part cannot be read.
    pub damaged_segments: u64,
    /// Bytes of the log, what is reserved included.
    pub log_bytes: u64,
    /// Bytes of copies of what could not be read.
    pub quarantine_bytes: u64,
    /// Whether spans are taken; if not, until a restart.
    pub healthy: bool,
}

impl EmbeddedStore {
    /// Opens the store in a directory, or makes one.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(RealDisk), dir, options)
    }

    /// Opens the store in a directory of some disk, or makes one.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Self, StoreError> {
        make_dir(&*disk, dir).map_err(|source| StoreError::Io {
            action: "making the directory",
            source,
        })?;
        let lock = disk
            .lock(&dir.join("LOCK"))
            .map_err(|source| match source.kind() {
                io::ErrorKind::WouldBlock => StoreError::InUse {
                    path: dir.display().to_string(),
                },
                _ => StoreError::Io {
                    action: "locking the directory",
                    source,
                },
            })?;
        let (engine, start, recovery) = open::open(disk, dir, options.fitted())?;
        let engine = Arc::new(engine);
        let intake = start_intake(&engine, &start)?;
        let store = Self {
            intake,
            recovery,
            slots: Arc::new(Semaphore::new(slots())),
            memory: Arc::new(Memory::new(options.query_bytes, options.max_query_bytes)),
            threads: Mutex::default(),
            engine,
            _lock: lock,
        };
        if options.background {
            store.start_threads()?;
        }
        Ok(store)
    }

    /// What the start found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// An error, with the reason, if spans are no longer taken until a restart.
    pub fn health(&self) -> Result<(), StoreError> {
        self.engine.health.check()
    }

    /// Turns what is in memory into segments.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.engine.flush()
    }

    /// Merges all small segments.
    pub fn compact(&self) -> Result<Kept, StoreError> {
        self.engine.compact(now_unix_nano(), true)
    }

    /// What the engine's own threads do every now and then: drops what is too old at this time, or too
    /// much, and merges segments where that pays.
    pub fn keep(&self, now_unix_nano: u64) -> Result<(), StoreError> {
        self.engine.keep(now_unix_nano)
    }

    /// Saves what can be read of segments that are damaged, and drops the rest of them. Their bytes are
    /// copied to `quarantine/` first.
    pub fn salvage(&self) -> Result<Vec<Salvaged>, StoreError> {
        self.engine.salvage()
    }

    /// Drops segments that are too old at this time, or too many.
    pub fn retain(&self, now_unix_nano: u64) -> Result<Kept, StoreError> {
        self.engine.retain(now_unix_nano, 0)
    }

    /// The segments that there are, the oldest number first.
    pub fn segments(&self) -> Vec<super::SegmentEntry> {
        let snapshot = self.engine.state.snapshot();
        snapshot
            .segments
            .iter()
            .map(|s| s.entry().clone())
            .collect()
    }

    /// How the engine is doing.
    pub fn engine_stats(&self) -> EngineStats {
        let snapshot = self.engine.state.snapshot();
        let counters = &self.engine.counters;
        let mut stats = EngineStats {
            segments: snapshot.segments.len() as u64,
            flushes: counters.flushes.load(Ordering::Relaxed),
            flushed_spans: counters.flushed_spans.load(Ordering::Relaxed),
            merges: counters.merges.load(Ordering::Relaxed),
            merged_spans: counters.merged_spans.load(Ordering::Relaxed),
            dropped_segments: counters.dropped_segments.load(Ordering::Relaxed),
            busy_requests: self.intake.busy_requests(),
            cached_bytes: self.engine.cache.bytes() as u64,
            query_bytes: self.memory.used(),
            abandoned_requests: self.intake.abandoned_requests(),
            damaged_segments: snapshot.lost.len() as u64,
            log_bytes: self.engine.log_bytes(),
            quarantine_bytes: quarantine::used_bytes(&*self.engine.disk, &self.engine.dir)
                .unwrap_or_default(),
            healthy: self.engine.health.check().is_ok(),
            ..EngineStats::default()
        };
        for segment in snapshot.segments.iter() {
            stats.segment_bytes += segment.entry().bytes;
            stats.segment_spans += segment.entry().spans;
            stats.damages += segment.damages();
            stats.damaged_segments += u64::from(segment.is_damaged());
        }
        for table in &snapshot.tables {
            stats.table_bytes += table.bytes();
            stats.table_spans += table.spans();
        }
        stats
    }

    /// Stores what waits, and ends the engine's threads. Later batches are refused. What is in
    /// memory becomes segments, so that the next start has nothing to replay.
    pub fn close(&self) -> Result<(), StoreError> {
        self.intake.close();
        self.engine.signal.stop();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store has crashed");
            }
        }
        self.engine.flush()
    }

    fn start_threads(&self) -> Result<(), StoreError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let engine = Arc::clone(&self.engine);
        let flusher = named("store-flush").spawn(move || {
            priority::lower(priority::INTAKE);
            flush(&engine);
        });
        threads.push(flusher.map_err(cannot_start)?);
        let engine = Arc::clone(&self.engine);
        let keeper = named("store-keep").spawn(move || {
            priority::lower(priority::LATER);
            keep(&engine);
        });
        threads.push(keeper.map_err(cannot_start)?);
        Ok(())
    }

    pub(super) async fn take(&self, batch: Batch) -> Result<(), StoreError> {
        let spans = batch.span_count() as u64;
        if spans == 0 {
            return Ok(());
        }
        match self.submit(Payload::Batch(batch)).await {
            Ok(_) => Ok(()),
            Err(AppendOtlpError::Store(error)) => Err(error),
            // Spans of the model are not decoded.
            Err(AppendOtlpError::Decode(error)) => Err(StoreError::Io {
                action: "storing a batch",
                source: io::Error::other(error),
            }),
        }
    }

    /// For a query with this budget, which ends with `cancel`.
    pub(super) fn meter(&self, budget: Budget, cancel: &Cancel) -> Meter {
        let most = self.engine.options.query_timeout;
        Meter::new(budget, most, &self.memory, cancel.flag())
    }

    /// Where a stream with this meter waits for its turns, and until when.
    pub(super) fn turns(&self, meter: &Meter) -> (Arc<Semaphore>, Instant) {
        (Arc::clone(&self.slots), meter.deadline())
    }

    pub(super) async fn submit(&self, payload: Payload) -> Answer {
        let patience = self.engine.options.queue_timeout;
        let reserved = self.intake.reserve(payload)?;
        let room = self.engine.room_for_spans();
        if tokio::time::timeout(patience / PART_FOR_ROOM, room)
            .await
            .is_err()
        {
            return Err(self.intake.busy("too much waits to become segments").into());
        }
        let pending = self.intake.submit(reserved)?;
        match pending.answer(patience).await {
            Some(answer) => answer,
            None => Err(self.intake.busy("its turn did not come in time").into()),
        }
    }

    /// Computes an answer on a thread for blocking work.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Snapshot, &Meter) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read_within(Budget::UNLIMITED, move |snapshot, meter| {
            read(snapshot, &meter)
        })
        .await
    }

    /// The same, for a query with this budget.
    pub(super) async fn read_within<T: Send + 'static>(
        &self,
        budget: Budget,
        read: impl FnOnce(&Snapshot, Meter) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let cancel = Cancel::default();
        let meter = self.meter(budget, &cancel);
        let slot = slot(&self.slots, meter.deadline()).await?;
        let snapshot = self.engine.state.snapshot();
        let answer = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            read(&snapshot, meter)
        });
        answer.await.unwrap_or_else(|error| {
            Err(StoreError::Io {
                action: "reading",
                source: io::Error::other(error),
            })
        })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "closing the store");
        }
    }
}

fn start_intake(engine: &Arc<Engine>, start: &LogStart) -> Result<Intake, StoreError> {
    let options = &engine.options;
    let store_id = engine.manifest().contents().store_id;
    let log = (options.durability != Durability::Memory).then(|| {
        let announcer = Arc::clone(engine);
        let log_options = LogOptions {
            file_bytes: options.log_file_bytes,
            sync: options.durability == Durability::Fsync,
        };
        let next = (start.next_file, start.next_sequence);
        let disk = Arc::clone(&engine.disk);
        Log::new(disk, engine.wal_dir(), store_id, log_options, next)
            .announced_to(Box::new(move |number| announcer.announce_log_file(number)))
    });
    let (sink, health) = (Arc::clone(engine), Arc::clone(&engine.health));
    let intake = Intake::start(log, start.at, sink, health, options.queue_bytes);
    intake.map_err(cannot_start)
}

/// Makes a directory, and those above it that are not there, so that their names survive a power cut.
fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if disk.list(dir).is_ok() {
        return Ok(());
    }
    let Some(parent) = dir.parent() else {
        return disk.create_dir(dir);
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    make_dir(disk, parent)?;
    disk.create_dir(dir)?;
    disk.sync_dir(parent)
}

fn cannot_start(source: io::Error) -> StoreError {
    StoreError::Io {
        action: "starting a thread",
        source,
    }
}

/// Writes tables that are full or old, until it is time to end.
fn flush(engine: &Engine) {
    let age = engine.options.table_age;
    let mut wait = age / 4;
    let _watch = engine.health.watch("writing tables");
    while engine.signal.wait_for_flush(wait) {
        engine
            .state
            .rotate(|table, since| table.spans() > 0 && since.elapsed() >= age);
        wait = match engine.flush_frozen() {
            Ok(()) => {
                engine.signal.keep();
                age / 4
            }
            Err(error) => {
                tracing::error!(%error, "a table cannot be written, it is tried again");
                RETRY_AFTER
            }
        };
    }
}

/// Looks after segments, until it is time to end.
fn keep(engine: &Engine) {
    while engine.signal.wait_for_keep(KEEP_EVERY) {
        if let Err(error) = engine.keep(now_unix_nano()) {
            if is_temporary(&error) {
                tracing::warn!(%error, "segments are not merged: the disk is full");
            } else {
                tracing::error!(%error, "segments are not looked after");
            }
        }
    }
}

fn slots() -> usize {
    QUERIES_PER_CORE * thread::available_parallelism().map_or(1, usize::from)
}
