//! What cannot be read: an answer that lacks it must say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{Red, ServiceOperation};

use super::manifest::SegmentEntry;
use super::part::{Chunk, Damage, Part, Place, Prepared};
use crate::{Scope, SpanFilter, TimeRange};

/// A part, and who wants to know when something of it cannot be read.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) part: Arc<dyn Part>,
    pub(super) damage: Arc<AtomicBool>,
}

impl Part for Watched {
    fn chunks(&self) -> Vec<Chunk> {
        self.part.chunks()
    }

    fn prepare(&self, filter: &SpanFilter) -> Result<Prepared, Damage> {
        self.part.prepare(filter)
    }

    fn hits(
        &self,
        chunk: usize,
        filter: &Prepared,
        range: TimeRange,
    ) -> Result<Vec<Place>, Damage> {
        self.part.hits(chunk, filter, range)
    }

    fn trace(&self, id: TraceId) -> Result<Vec<SpanGroup>, Damage> {
        self.part.trace(id)
    }

    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage> {
        self.part.trace_start(id)
    }

    fn operations(&self) -> Result<Arc<Vec<ServiceOperation>>, Damage> {
        self.part.operations()
    }

    fn red(&self) -> Result<Red, Damage> {
        self.part.red()
    }

    fn attribute_keys(&self, scope: Scope) -> Result<Option<Vec<String>>, Damage> {
        self.part.attribute_keys(scope)
    }

    fn damaged(&self, damage: &Damage) {
        self.damage.store(true, Ordering::Relaxed);
        self.part.damaged(damage);
    }
}

/// A segment that cannot be opened: nobody knows which of its spans an answer lacks.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) entry: SegmentEntry,
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
    fn chunks(&self) -> Vec<Chunk> {
        vec![Chunk {
            first: self.entry.min_start_unix_nano,
            last: self.entry.max_start_unix_nano,
        }]
    }

    fn prepare(&self, _: &SpanFilter) -> Result<Prepared, Damage> {
        Err(self.damage())
    }

    fn hits(&self, _: usize, _: &Prepared, _: TimeRange) -> Result<Vec<Place>, Damage> {
        Err(self.damage())
    }

    fn trace(&self, _: TraceId) -> Result<Vec<SpanGroup>, Damage> {
        Err(self.damage())
    }

    fn trace_start(&self, _: TraceId) -> Result<Option<u64>, Damage> {
        Err(self.damage())
    }

    fn operations(&self) -> Result<Arc<Vec<ServiceOperation>>, Damage> {
        Err(self.damage())
    }

    fn red(&self) -> Result<Red, Damage> {
        Err(self.damage())
    }

    fn attribute_keys(&self, _: Scope) -> Result<Option<Vec<String>>, Damage> {
        Err(self.damage())
    }

    /// The start has told of it.
    fn damaged(&self, _: &Damage) {}
}
