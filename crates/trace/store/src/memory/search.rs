use std::collections::{BTreeMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use periplus_insight::{Trace, dependencies_where};
use periplus_model::TraceId;

use super::MemoryStore;
use super::index::{Candidate, Place};
use crate::{DependencyEdge, StoreError, StoredTrace, TimeRange, TraceQuery, matches};

/// How many traces are looked at before others get a turn.
const TRACES_AT_ONCE: usize = 64;

/// How many spans are looked at before others get a turn.
pub(super) const SPANS_AT_ONCE: usize = 20_000;

/// A search under way: a cursor into the order by start, newest first.
pub(super) struct Search<'a> {
    cursor: Cursor<'a>,
    query: TraceQuery,
    /// What was answered. A trace to which an earlier span arrives meanwhile moves down and comes
    /// by again.
    found: HashSet<TraceId>,
}

impl<'a> Search<'a> {
    pub(super) fn new(store: &'a MemoryStore, query: TraceQuery) -> Self {
        let service = query.filter.pinned_service().map(str::to_owned);
        let mut cursor = Cursor::new(store, query.range, service);
        if let Some(after) = query.after {
            cursor.below = cursor.below.min((after.start_unix_nano, after.trace_id));
        }
        Self {
            cursor,
            query,
            found: HashSet::new(),
        }
    }

    /// Takes what it costs to look at a trace from what is left of the budget.
    fn pay(&mut self, candidate: &Candidate) -> Result<(), StoreError> {
        let budget = &mut self.query.budget;
        let spans = budget.scanned_spans.checked_sub(candidate.spans() as u64);
        budget.scanned_spans = spans.ok_or(StoreError::QueryLimit {
            reason: "it looks at too many spans; ask for a shorter time or for one service",
        })?;
        let bytes = budget.scanned_bytes.checked_sub(candidate.bytes);
        budget.scanned_bytes = bytes.ok_or(StoreError::QueryLimit {
            reason: "it looks at too many bytes; ask for a shorter time or for one service",
        })?;
        Ok(())
    }
}

impl Stream for Search<'_> {
    type Item = Result<StoredTrace, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.found.len() >= this.query.limit {
            return Poll::Ready(None);
        }
        let mut spans = 0;
        while spans < SPANS_AT_ONCE {
            let (candidate, last_of_chunk) = match this.cursor.next() {
                Some(next) => next,
                None => return Poll::Ready(None),
            };
            spans += candidate.spans();
            if let Err(error) = this.pay(&candidate) {
                // Nothing comes after an error.
                this.query.limit = 0;
                return Poll::Ready(Some(Err(error)));
            }
            let id = candidate.place.1;
            if matches(&this.query.filter, &candidate.groups, this.query.range)
                && this.found.insert(id)
            {
                return Poll::Ready(Some(Ok(StoredTrace {
                    id,
                    groups: candidate.groups.to_vec(),
                    incomplete: None,
                })));
            }
            if last_of_chunk {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Sums up the calls of all traces with a span in the range.
pub(super) async fn dependencies(
    store: &MemoryStore,
    range: TimeRange,
) -> Result<Vec<DependencyEdge>, StoreError> {
    let mut cursor = Cursor::new(store, range, None);
    let mut seen = HashSet::new();
    let mut edges: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    let mut spans = 0;
    while let Some((candidate, last_of_chunk)) = cursor.next() {
        spans += candidate.spans();
        if seen.insert(candidate.place.1) {
            let trace = Trace::assemble(&candidate.groups);
            for edge in dependencies_where(&trace, |span| range.contains(span.start_unix_nano)) {
                let (calls, errors) = edges.entry((edge.parent, edge.child)).or_default();
                *calls += edge.calls;
                *errors += edge.errors;
            }
        }
        if last_of_chunk || spans >= SPANS_AT_ONCE {
            spans = 0;
            let_others_run().await;
        }
    }
    let edge = |((parent, child), (call_count, error_count))| DependencyEdge {
        parent,
        child,
        call_count,
        error_count,
    };
    Ok(edges.into_iter().map(edge).collect())
}

/// Walks all traces that may have a span in the range, newest first, fetching a few at a time.
pub(super) struct Cursor<'a> {
    store: &'a MemoryStore,
    range: TimeRange,
    service: Option<String>,
    below: Place,
    fetched: VecDeque<Candidate>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(store: &'a MemoryStore, range: TimeRange, service: Option<String>) -> Self {
        Self {
            store,
            range,
            service,
            // A trace that starts at the end of the range has no span inside it.
            below: (range.end_unix_nano, TraceId::ZERO),
            fetched: VecDeque::new(),
        }
    }

    /// The next trace, and whether it is the last one before the lock is taken again.
    pub(super) fn next(&mut self) -> Option<(Candidate, bool)> {
        while self.fetched.is_empty() {
            let service = self.service.as_deref();
            let chunk = self.store.read().below(self.below, service, TRACES_AT_ONCE);
            self.below = chunk.last()?.place;
            let in_range =
                |candidate: &Candidate| candidate.last_start >= self.range.start_unix_nano;
            self.fetched.extend(chunk.into_iter().filter(in_range));
        }
        let next = self.fetched.pop_front()?;
        Some((next, self.fetched.is_empty()))
    }
}

impl Candidate {
    pub(super) fn spans(&self) -> usize {
        self.groups.iter().map(|group| group.spans.len()).sum()
    }
}

pub(super) async fn let_others_run() {
    let mut ran = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut ran, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
