use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use periplus_model::{SpanGroup, SpanKind, TraceId};

use super::part::{Damage, Part, Place};
use super::payload::{Payload, Unfit};
use super::rows::Rows;
use crate::{Operation, OtlpTaken, SpanFilter, TimeRange};

/// Spans in memory, until they are in a segment.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: RwLock<Rows>,
}

impl Table {
    /// Adds a payload; `None` if there is no room for it.
    pub(super) fn append(&self, payload: &Payload) -> Option<Result<OtlpTaken, Unfit>> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        Some(rows.append_payload(payload))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.rows().bytes
    }

    pub(super) fn spans(&self) -> u64 {
        self.rows().spans
    }

    pub(super) fn traces(&self) -> u64 {
        self.rows().traces.len() as u64
    }

    pub(super) fn rows(&self) -> RwLockReadGuard<'_, Rows> {
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
