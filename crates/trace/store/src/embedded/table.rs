use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use periplus_model::{SpanGroup, SpanKind, TraceId};
use periplus_segment::{BuildError, Builder, OtlpError};

use super::part::{Damage, Part, Place};
use super::payload::{Payload, Unfit};
use super::rows::Rows;
use super::segment::{self, Encoded};
use crate::{Operation, OtlpTaken, SpanFilter, TimeRange};

/// Spans in memory, until they are in a segment.
#[derive(Debug, Default)]
pub(super) struct Table {
    builder: RwLock<Builder>,
    rows: RwLock<Rows>,
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
        if outcome.is_ok() {
            let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
            let _ = rows.append_payload(payload);
        }
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

    fn rows(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part for Table {
    fn chunks(&self) -> Vec<(u64, u64)> {
        self.rows().chunks()
    }

    fn hits(&self, _: usize, filter: &SpanFilter, range: TimeRange) -> Result<Vec<Place>, Damage> {
        Ok(self.rows().hits(filter, range))
    }

    fn trace(&self, id: TraceId) -> Result<Vec<SpanGroup>, Damage> {
        Ok(self.rows().trace(id))
    }

    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage> {
        Ok(self.rows().trace_start(id))
    }

    fn services(&self, found: &mut BTreeSet<String>) -> Result<(), Damage> {
        self.rows().services(found);
        Ok(())
    }

    fn operations(
        &self,
        service: &str,
        kind: Option<SpanKind>,
        found: &mut BTreeSet<Operation>,
    ) -> Result<(), Damage> {
        self.rows().operations(service, kind, found);
        Ok(())
    }

    /// Memory is not damaged.
    fn damaged(&self, _: &Damage) {}
}
