use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use periplus_model::SpanGroup;

use crate::memory::size;
use crate::{Budget, StoreError};

/// What a query has taken, and what it may. The size of its answer is looked after by
/// [`crate::TraceSearch`].
#[derive(Debug)]
pub(super) struct Meter {
    budget: Budget,
    deadline: Instant,
    scanned_spans: u64,
    scanned_bytes: u64,
}

impl Meter {
    /// From now on; `most` is the time that no query may exceed.
    pub(super) fn new(budget: Budget, most: Duration) -> Self {
        let time = budget.time.map_or(most, |time| time.min(most));
        Self {
            budget,
            deadline: Instant::now() + time,
            scanned_spans: 0,
            scanned_bytes: 0,
        }
    }

    /// A trace was read and looked at.
    pub(super) fn looked_at(&mut self, groups: &[Arc<SpanGroup>]) {
        for group in groups {
            self.scanned_spans += group.spans.len() as u64;
            self.scanned_bytes += size::group(&group.spans, group.spans.len()) as u64;
        }
    }

    /// An error if more was taken than the query may; `cancelled` ends it too.
    pub(super) fn check(&self, cancelled: &AtomicBool) -> Result<(), StoreError> {
        let limits = [
            (
                Instant::now() > self.deadline,
                "it took too long; ask for a shorter time or more precisely",
            ),
            (
                self.scanned_spans > self.budget.scanned_spans,
                "it looks at too many spans; ask for a shorter time or for one service",
            ),
            (
                self.scanned_bytes > self.budget.scanned_bytes,
                "it looks at too many bytes; ask for a shorter time or for one service",
            ),
            (
                cancelled.load(Ordering::Relaxed),
                "nobody waits for its answer any more",
            ),
        ];
        match limits.into_iter().find(|(exceeded, _)| *exceeded) {
            Some((_, reason)) => Err(StoreError::QueryLimit { reason }),
            None => Ok(()),
        }
    }
}
