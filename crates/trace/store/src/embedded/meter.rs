use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use periplus_model::{Span, SpanGroup};

use crate::memory::size;
use crate::{Budget, StoreError};

/// The memory that all queries share.
#[derive(Debug)]
pub(super) struct Memory {
    used: AtomicU64,
    /// The most that all queries take.
    all: u64,
    /// The most that one takes.
    each: u64,
}

impl Memory {
    pub(super) fn new(each: u64, all: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            all,
            each,
        }
    }

    /// What all queries take now.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// What a query has taken, and what it may. The size of its answer is looked after by
/// [`crate::TraceSearch`].
#[derive(Debug)]
pub(super) struct Meter {
    budget: Budget,
    deadline: Instant,
    cancelled: Arc<AtomicBool>,
    scanned_spans: Cell<u64>,
    scanned_bytes: Cell<u64>,
    memory: Arc<Memory>,
    held: Cell<u64>,
    /// Set when it did not get the memory that it asked for.
    refused: Cell<Option<&'static str>>,
    /// With more than this nothing is added to a trace. None is for what needs whole traces: there the query ends.
    trace_bytes: Cell<Option<u64>>,
    /// Whether something was not added to the trace that is being read.
    cut: Cell<bool>,
}

impl Meter {
    /// From now on; `most` is the time that no query may exceed. The flag ends the query.
    pub(super) fn new(
        budget: Budget,
        most: Duration,
        memory: &Arc<Memory>,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        let time = budget.time.map_or(most, |time| time.min(most));
        let now = Instant::now();
        Self {
            budget,
            // Beyond what the clock can say there is no deadline.
            deadline: now.checked_add(time).unwrap_or(now + FOR_EVER),
            cancelled,
            scanned_spans: Cell::new(0),
            scanned_bytes: Cell::new(0),
            memory: Arc::clone(memory),
            held: Cell::new(0),
            refused: Cell::new(None),
            trace_bytes: Cell::new(None),
            cut: Cell::new(false),
        }
    }

    /// When the query must be answered.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Cuts traces when this much is held, or as much as a query may take.
    pub(super) fn cut_traces_at(&self, bytes: u64) {
        self.trace_bytes.set(Some(bytes.min(self.memory.each)));
    }

    /// A trace was read and looked at; what it takes.
    pub(super) fn looked_at(&self, groups: &[Arc<SpanGroup>]) -> u64 {
        let spans: usize = groups.iter().map(|group| group.spans.len()).sum();
        let bytes = bytes_of(groups.iter().map(|group| &**group));
        self.scanned_spans.update(|sum| sum + spans as u64);
        self.scanned_bytes.update(|sum| sum + bytes);
        bytes
    }

    /// Takes memory; where there is none left, it is false, and so says [`Self::check`] from then on.
    pub(super) fn take(&self, bytes: u64) -> bool {
        if self.held.get().saturating_add(bytes) > self.memory.each {
            self.refused.set(Some(
                "it takes too much memory; ask for a shorter time or more precisely",
            ));
            return false;
        }
        let all = self.memory.all;
        let taken = (self.memory.used).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= all)
        });
        if taken.is_err() {
            self.refused.set(Some(
                "other queries take the memory that there is; ask again, or for a shorter time",
            ));
            return false;
        }
        self.held.update(|held| held + bytes);
        true
    }

    /// Another trace is read from now on.
    pub(super) fn begin_trace(&self) {
        self.cut.set(false);
    }

    /// Whether the trace that was read last was cut, which does not end the query.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.get()
    }

    /// Gives memory back.
    pub(super) fn give_back(&self, bytes: u64) {
        let bytes = bytes.min(self.held.get());
        self.held.update(|held| held - bytes);
        self.memory.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes or gives back so that it holds this much more than `held` of before.
    pub(super) fn resize(&self, before: u64, now: u64) -> bool {
        match now.checked_sub(before) {
            Some(more) => self.take(more),
            None => {
                self.give_back(before - now);
                true
            }
        }
    }

    /// Whether to go on is of no use: whoever computes leaves what it has, [`Self::check`] says why.
    pub(super) fn is_over(&self) -> bool {
        self.refused.get().is_some()
            || self.cancelled.load(Ordering::Relaxed)
            || Instant::now() > self.deadline
    }

    /// An error if more was taken than the query may, or nobody waits for it any more.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if let Some(reason) = self.refused.get() {
            return Err(StoreError::QueryLimit { reason });
        }
        let limits = [
            (
                Instant::now() > self.deadline,
                "it took too long; ask for a shorter time or more precisely",
            ),
            (
                self.scanned_spans.get() > self.budget.scanned_spans,
                "it looks at too many spans; ask for a shorter time or for one service",
            ),
            (
                self.scanned_bytes.get() > self.budget.scanned_bytes,
                "it looks at too many bytes; ask for a shorter time or for one service",
            ),
            (
                self.cancelled.load(Ordering::Relaxed),
                "nobody waits for its answer any more",
            ),
        ];
        match limits.into_iter().find(|(exceeded, _)| *exceeded) {
            Some((_, reason)) => Err(StoreError::QueryLimit { reason }),
            None => Ok(()),
        }
    }
}

/// What a trace takes that is read span by span.
#[derive(Debug)]
pub(super) struct Room<'a> {
    meter: &'a Meter,
    taken: u64,
    /// What is to be taken of the memory that all share.
    due: u64,
}

impl<'a> Room<'a> {
    pub(super) fn of(meter: &'a Meter) -> Self {
        Self {
            meter,
            taken: 0,
            due: 0,
        }
    }

    /// Whether there is room for the span too; where there is not, the trace is cut.
    pub(super) fn take(&mut self, span: &Span) -> bool {
        const AT_ONCE: u64 = 64 << 10;
        let due = self.due + size::one_span(span);
        let meter = self.meter;
        let held = meter.held.get().saturating_add(due);
        if meter.cut.get() || meter.trace_bytes.get().is_some_and(|most| held > most) {
            meter.cut.set(true);
            return false;
        }
        self.due = due;
        if due < AT_ONCE {
            return true;
        }
        self.due = 0;
        let is_taken = meter.take(due);
        self.taken += if is_taken { due } else { 0 };
        is_taken
    }

    /// Holds what these take that were read.
    pub(super) fn settle(self, groups: &[SpanGroup]) {
        let bytes = bytes_of(groups.iter());
        match bytes.checked_sub(self.taken) {
            // It is there: to refuse it now is too late.
            Some(more) => {
                self.meter.held.update(|held| held + more);
                self.meter.memory.used.fetch_add(more, Ordering::Relaxed);
            }
            None => self.meter.give_back(self.taken - bytes),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.give_back(self.held.get());
    }
}

/// A time that no query reaches.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// The bytes of heap that spans take.
pub(super) fn bytes_of<'a>(groups: impl Iterator<Item = &'a SpanGroup>) -> u64 {
    groups
        .map(|group| size::group(&group.spans, group.spans.len()) as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_limited_for_each_query_and_for_all() {
        let memory = Arc::new(Memory::new(100, 150));
        let meter = || {
            Meter::new(
                Budget::UNLIMITED,
                Duration::from_secs(60),
                &memory,
                Arc::default(),
            )
        };
        let (a, b) = (meter(), meter());
        assert!(a.take(90) && b.take(60));
        assert!(!a.is_over() && !b.is_over());
        assert!(!a.take(11), "more than one may take");
        assert!(a.is_over() && a.check().is_err());
        assert!(!b.take(1), "more than all may take");
        drop(a);
        assert_eq!(memory.used(), 60);
        let c = meter();
        assert!(c.take(50) && c.resize(50, 20) && c.resize(20, 80));
        assert!(c.check().is_ok());
        drop((b, c));
        assert_eq!(memory.used(), 0);
    }
}
