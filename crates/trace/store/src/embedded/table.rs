use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use periplus_model::TraceId;
use periplus_segment::{BuildError, Builder, OtlpError, Turns};

use super::payload::{Payload, Unfit};
use super::seen::Seen;
use super::segment::{self, Encoded};
use super::view::Known;
use crate::OtlpTaken;

/// Spans in memory, until they are in a segment.
///
/// Queries read it through a [`super::view::View`], which lets the lock go often.
#[derive(Debug)]
pub(super) struct Table {
    builder: RwLock<Builder>,
    /// How many rows and traces it has of whole payloads: rows above, traces below. What is behind them
    /// is being added, and may be taken back.
    whole: AtomicU64,
    /// Its traces of whole payloads.
    seen: Seen,
    /// What queries have found out about it.
    pub(super) known: Mutex<Known>,
    /// Its size after the last payload, so that nobody has to wait for it.
    bytes: AtomicU64,
    /// The start of its earliest span, and of its latest.
    first: AtomicU64,
    last: AtomicU64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            builder: RwLock::default(),
            whole: AtomicU64::new(0),
            seen: Seen::default(),
            known: Mutex::default(),
            bytes: AtomicU64::new(0),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
        }
    }
}

impl Table {
    /// Adds a payload; `None` if there is no room for it.
    pub(super) fn append(&self, payload: &Payload) -> Option<Result<OtlpTaken, Unfit>> {
        let (before, traces_before) = self.whole();
        let mut writing = Writing {
            table: self,
            turn: None,
        };
        let outcome = match payload {
            Payload::Batch(batch) => Builder::append_groups_by(&mut writing, &batch.groups)
                .map(|()| Default::default())
                .map_err(Into::into),
            Payload::Otlp(body) => Builder::append_otlp_by(&mut writing, body),
        };
        let builder = writing.builder();
        if let Some((first, last)) = builder.starts(before..builder.span_count()) {
            self.first.fetch_min(first, Ordering::Relaxed);
            self.last.fetch_max(last, Ordering::Relaxed);
        }
        self.bytes
            .store(builder.heap_bytes() as u64, Ordering::Relaxed);
        let (rows, traces) = (builder.span_count() as u64, builder.trace_count() as u64);
        for trace in traces_before..builder.trace_count() {
            self.seen.add(builder.trace_at(trace).1);
        }
        // Whoever sees these rows sees their starts and traces.
        self.whole.store(rows << 32 | traces, Ordering::Release);
        Some(match outcome {
            Ok(refused) => Ok(OtlpTaken {
                spans: (builder.span_count() - before) as u64,
                refused,
            }),
            Err(OtlpError::Decode(error)) => Err(Unfit::Decode(error)),
            Err(OtlpError::Build(BuildError::TooDeep)) => Err(Unfit::TooDeep),
            Err(_) => return None,
        })
    }

    /// Writes its spans as segments, one per hour.
    pub(super) fn encode(&self, hour_of: impl Fn(u64) -> u64) -> Vec<Encoded> {
        segment::encode(&self.builder(), hour_of)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn spans(&self) -> u64 {
        self.whole().0 as u64
    }

    pub(super) fn traces(&self) -> u64 {
        self.whole().1 as u64
    }

    /// The rows and traces of whole payloads.
    pub(super) fn whole(&self) -> (usize, usize) {
        let whole = self.whole.load(Ordering::Acquire);
        ((whole >> 32) as usize, whole as u32 as usize)
    }

    /// Whether it may have spans of a trace among those of whole payloads. Nobody waits for that.
    pub(super) fn may_have(&self, id: TraceId) -> bool {
        self.seen.may_have(id)
    }

    /// The start of its earliest span, and of its latest.
    pub(super) fn starts(&self) -> (u64, u64) {
        let last = self.last.load(Ordering::Relaxed);
        (self.first.load(Ordering::Relaxed).min(last), last)
    }

    /// For a short look: a writer waits meanwhile.
    pub(super) fn builder(&self) -> RwLockReadGuard<'_, Builder> {
        self.builder.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Payloads on their way into a table: who reads it gets a turn now and then.
struct Writing<'t> {
    table: &'t Table,
    turn: Option<RwLockWriteGuard<'t, Builder>>,
}

impl Turns for Writing<'_> {
    fn builder(&mut self) -> &mut Builder {
        let table = self.table;
        self.turn.get_or_insert_with(|| {
            let locked = table.builder.write();
            locked.unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// Who waits for the table, or for the processor, may have it.
    fn pause(&mut self) {
        self.turn = None;
        thread::yield_now();
    }
}
