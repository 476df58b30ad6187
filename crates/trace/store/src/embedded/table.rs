use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{BuildError, Builder, OtlpError, Red, ServiceOperation};

use super::part::{Chunk, Damage, Part, Place, Prepared};
use super::payload::{Payload, Unfit};
use super::segment::{self, Encoded};
use crate::{OtlpTaken, Scope, SpanFilter, TimeRange};

/// Spans in memory, until they are in a segment.
#[derive(Debug, Default)]
pub(super) struct Table {
    builder: RwLock<Builder>,
    /// The operations of so many spans.
    operations: Mutex<(usize, Arc<Vec<ServiceOperation>>)>,
    /// Its size after the last payload, so that nobody has to wait for it.
    bytes: AtomicU64,
}

impl Table {
    /// Adds a payload; `None` if there is no room for it.
    pub(super) fn append(&self, payload: &Payload) -> Option<Result<OtlpTaken, Unfit>> {
        let mut builder = self.builder.write().unwrap_or_else(PoisonError::into_inner);
        let before = builder.span_count();
        let outcome = match payload {
            Payload::Batch(batch) => match builder.append(batch) {
                Ok(()) => Ok(Default::default()),
                Err(error) => Err(error.into()),
            },
            Payload::Otlp(body) => builder.append_otlp(body),
        };
        self.bytes
            .store(builder.heap_bytes() as u64, Ordering::Relaxed);
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
        self.builder().span_count() as u64
    }

    pub(super) fn traces(&self) -> u64 {
        self.builder().trace_count() as u64
    }

    fn builder(&self) -> RwLockReadGuard<'_, Builder> {
        self.builder.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part for Table {
    /// One: what comes now may start at any time, and is looked at first.
    fn chunks(&self) -> Vec<Chunk> {
        vec![Chunk {
            first: 0,
            last: u64::MAX,
        }]
    }

    fn prepare(&self, filter: &SpanFilter) -> Result<Prepared, Damage> {
        Ok(Prepared::Table(filter.clone()))
    }

    fn hits(&self, _: usize, filter: &Prepared, range: TimeRange) -> Result<Vec<Place>, Damage> {
        let Prepared::Table(filter) = filter else {
            return Ok(Vec::new());
        };
        let hits = self.builder().hits(filter, range);
        Ok(hits
            .iter()
            .map(|hit| (hit.start_unix_nano, hit.id))
            .collect())
    }

    fn trace(&self, id: TraceId) -> Result<Vec<SpanGroup>, Damage> {
        Ok(self.builder().trace(id).unwrap_or_default())
    }

    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage> {
        Ok(self.builder().trace_start(id))
    }

    fn operations(&self) -> Result<Arc<Vec<ServiceOperation>>, Damage> {
        let mut known = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let builder = self.builder();
        if known.0 != builder.span_count() {
            *known = (builder.span_count(), Arc::new(builder.operations()));
        }
        Ok(Arc::clone(&known.1))
    }

    fn red(&self) -> Result<Red, Damage> {
        Ok(self.builder().red())
    }

    fn attribute_keys(&self, _: Scope) -> Result<Option<Vec<String>>, Damage> {
        Ok(None)
    }

    /// Memory is not damaged.
    fn damaged(&self, _: &Damage) {}
}
