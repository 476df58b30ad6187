//! What cannot be read: an answer that lacks it must say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use periplus_filter::Scalar;
use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{Calls, Red, ServiceOperation};

use super::manifest::SegmentEntry;
use super::meter::Meter;
use super::part::{Chunk, Damage, Part, Place, Prepared};
use crate::{Detail, Scope, SpanFilter, TimeRange};

/// A segment that cannot be opened: nobody knows which of its spans an answer lacks.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) entry: SegmentEntry,
    /// Set when a query has needed it.
    pub(super) damage: Arc<AtomicBool>,
}

impl Lost {
    fn damage(&self) -> Damage {
        Damage {
            reason: format!("segment {} cannot be opened", self.entry.id),
            lasting: true,
        }
    }
}

impl Part for Lost {
    fn segment(&self) -> Option<u64> {
        Some(self.entry.id)
    }

    fn starts(&self) -> (u64, u64) {
        (
            self.entry.min_start_unix_nano,
            self.entry.max_start_unix_nano,
        )
    }

    fn chunks(&self) -> Vec<Chunk> {
        let (first, last) = self.starts();
        vec![Chunk { first, last }]
    }

    fn prepare(&self, _: &SpanFilter) -> Result<Prepared, Damage> {
        Err(self.damage())
    }

    fn hits(&self, _: usize, _: &Prepared, _: TimeRange, _: &Meter) -> Result<Vec<Place>, Damage> {
        Err(self.damage())
    }

    fn count(&self, _: usize, _: &Prepared, _: TimeRange, _: &Meter) -> Result<u64, Damage> {
        Err(self.damage())
    }

    fn spans(
        &self,
        _: (usize, usize),
        _: &Prepared,
        _: TimeRange,
        _: &Meter,
    ) -> Result<(Vec<SpanGroup>, Option<usize>), Damage> {
        Err(self.damage())
    }

    fn trace(&self, _: TraceId, _: Detail, _: &Meter) -> Result<Vec<SpanGroup>, Damage> {
        Err(self.damage())
    }

    fn trace_start(&self, _: TraceId) -> Result<Option<u64>, Damage> {
        Err(self.damage())
    }

    fn operations(&self, _: &Meter) -> Result<Arc<Vec<ServiceOperation>>, Damage> {
        Err(self.damage())
    }

    fn red(&self, _: &Meter) -> Result<Vec<Arc<Red>>, Damage> {
        Err(self.damage())
    }

    fn calls(&self, _: &Meter) -> Result<Arc<Calls>, Damage> {
        Err(self.damage())
    }

    fn calls_of(&self, _: TraceId, _: &Meter) -> Result<Calls, Damage> {
        Err(self.damage())
    }

    fn trace_hashes(&self, _: &Meter) -> Result<Arc<Vec<u64>>, Damage> {
        Err(self.damage())
    }

    fn id_of(&self, _: u32) -> Result<Option<TraceId>, Damage> {
        Err(self.damage())
    }

    fn attribute_keys(&self, _: Scope, _: &Meter, _: &mut dyn FnMut(&str)) -> Result<(), Damage> {
        Err(self.damage())
    }

    fn attribute_values(
        &self,
        _: (Scope, &str),
        _: (&str, usize),
        _: &Meter,
        _: &mut dyn FnMut(Scalar<'_>),
    ) -> Result<(), Damage> {
        Err(self.damage())
    }

    /// The start has told the log of it.
    fn damaged(&self, _: &Damage) {
        self.damage.store(true, Ordering::Relaxed);
    }
}
