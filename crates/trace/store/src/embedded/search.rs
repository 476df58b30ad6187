//! Newest first over parts that overlap in time and share traces.
//!
//! A heap holds, by a start that nothing in it exceeds: parts' chunks that were not searched yet,
//! places of traces as one part knows them, and places of which it is known that no part has an
//! earlier span. What comes up is taken one step further, until a trace of the last kind is on top:
//! no other can be newer. So only as many chunks are searched as the limit needs.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use periplus_model::{SpanGroup, SpanId, TraceId};

use super::meter::{Meter, bytes_of};
use super::part::{Damage, Part, Place, Prepared, earlier};
use super::state::Snapshot;
use super::stream::Work;
use crate::{
    Cursor, Detail, Incomplete, SpanFilter, StoreError, StoredTrace, TimeRange, TraceFilter,
    TraceQuery, matches,
};

/// The bytes of an entry of the heap, and of one of the set.
const ITEM_BYTES: u64 = size_of::<Item>() as u64;
const SEEN_BYTES: u64 = 2 * size_of::<TraceId>() as u64;

/// A search under way.
pub(super) struct Search {
    parts: Vec<Arc<dyn Part>>,
    query: TraceQuery,
    /// What some span of every trace that matches matches.
    necessary: SpanFilter,
    /// Whether that is all that is asked: what has such a span matches.
    exact: bool,
    /// That, as each part has prepared it.
    prepared: Vec<Option<Prepared>>,
    heap: BinaryHeap<Item>,
    /// What was taken when the search began.
    snapshot: Snapshot,
    /// Whether the reader was told of damage.
    told: bool,
    /// What the reader gets after that.
    late: Option<StoredTrace>,
    /// The traces whose place among all is known and in the heap. One that has come up from there
    /// does not come again: all parts of it begin no earlier, and were taken a step further before.
    seen: HashSet<TraceId>,
    found: usize,
    meter: Meter,
    /// What heap and set take of the memory.
    held: u64,
    /// What the trace takes that was answered last.
    answered: u64,
}

#[derive(Debug)]
struct Item {
    start: u64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The place is that of the whole trace.
    Whole(TraceId),
    /// The place is that of a part of the trace.
    Partial(TraceId),
    /// A chunk, with an upper bound of its places.
    Chunk { part: usize, chunk: usize },
}

impl Search {
    pub(super) fn new(snapshot: &Snapshot, query: TraceQuery, meter: Meter) -> Self {
        let parts: Vec<_> = snapshot.parts().collect();
        let necessary = necessary(&query.filter.local_bound()).unwrap_or(SpanFilter::True);
        let exact = matches!(&query.filter, TraceFilter::AnySpan(filter) if filter.is_local());
        // What is answered as it is needs no more of a trace than an answer may have.
        meter.cut_traces_at(match exact {
            true => query.budget.answer_bytes,
            false => u64::MAX,
        });
        let mut search = Self {
            exact,
            prepared: vec![None; parts.len()],
            parts,
            query,
            necessary,
            heap: BinaryHeap::new(),
            snapshot: snapshot.clone(),
            told: false,
            late: None,
            seen: HashSet::new(),
            found: 0,
            meter,
            held: 0,
            answered: 0,
        };
        if search.query.limit > 0 {
            search.plan();
        }
        search
    }

    fn plan(&mut self) {
        let range = self.query.range;
        for (part, chunks) in self.parts.iter().map(|part| part.chunks()).enumerate() {
            for (number, chunk) in chunks.into_iter().enumerate() {
                if chunk.overlaps(range) {
                    // A span without a start says nothing of where its trace belongs.
                    let start = if chunk.first == 0 {
                        u64::MAX
                    } else {
                        chunk.last
                    };
                    let step = Step::Chunk {
                        part,
                        chunk: number,
                    };
                    self.heap.push(Item { start, step });
                }
            }
        }
    }

    fn search_chunk(&mut self, at: usize, chunk: usize) {
        let part = Arc::clone(&self.parts[at]);
        let prepared = self.prepared[at].get_or_insert_with(|| {
            let prepared = part.prepare(&self.necessary);
            prepared.unwrap_or_else(|damage| {
                part.damaged(&damage);
                Prepared::Nothing
            })
        });
        let hits = part.hits(chunk, prepared, self.query.range, &self.meter);
        for (start, id) in or_default(&*part, hits) {
            if start == 0 {
                self.complete(id);
            } else {
                let step = Step::Partial(id);
                self.heap.push(Item { start, step });
            }
        }
    }

    /// Finds out where the trace belongs, now that nothing newer than this part of it is left.
    fn complete(&mut self, id: TraceId) {
        if self.seen.contains(&id) {
            return;
        }
        let start = start_of(&self.parts, id);
        // What stands on earlier pages was answered before.
        let behind = |after: Cursor| (start, id) < (after.start_unix_nano, after.trace_id);
        if self.query.after.is_none_or(behind) {
            self.seen.insert(id);
            let step = Step::Whole(id);
            self.heap.push(Item { start, step });
        }
    }

    fn look_at(&mut self, id: TraceId) -> Option<StoredTrace> {
        self.seen.remove(&id);
        let wanted = if self.exact {
            self.query.detail
        } else {
            Detail::Full
        };
        let mut groups = collect(&self.parts, id, wanted, &self.meter);
        if wanted != Detail::Full && ids_repeat(&groups) {
            (self.meter).give_back(bytes_of(groups.iter().map(|group| &**group)));
            groups = collect(&self.parts, id, Detail::Full, &self.meter);
        }
        let bytes = self.meter.looked_at(&groups);
        let incomplete = incomplete(&self.parts, id, &self.snapshot, &self.meter);
        if self.exact
            || matches!(incomplete, Some(Incomplete::TooLarge { .. }))
            || matches(&self.query.filter, &groups, self.query.range)
        {
            self.answered = bytes;
            return Some(StoredTrace {
                id,
                groups,
                incomplete,
            });
        }
        drop(groups);
        self.meter.give_back(bytes);
        None
    }

    fn check_limits(&mut self) -> Result<(), StoreError> {
        let held =
            self.heap.capacity() as u64 * ITEM_BYTES + self.seen.capacity() as u64 * SEEN_BYTES;
        if held != self.held {
            self.meter.resize(self.held, held);
            self.held = held;
        }
        self.meter.check()
    }
}

impl Work for Search {
    type Item = StoredTrace;

    /// The next trace; `None` when there is none. Stops early, with an error, when it takes too long
    /// or too much, and without one when it is `cancelled`.
    fn next(&mut self) -> Option<Result<StoredTrace, StoreError>> {
        if let Some(trace) = self.late.take() {
            return Some(Ok(trace));
        }
        // Whoever got it looks after it now.
        self.meter.give_back(std::mem::take(&mut self.answered));
        while self.found < self.query.limit {
            let Some(item) = self.heap.pop() else {
                let tell = self.snapshot.met_damage() && !self.told;
                self.told |= tell;
                return tell.then(|| Err(damaged()));
            };
            let outcome = match item.step {
                Step::Chunk { part, chunk } => {
                    self.search_chunk(part, chunk);
                    None
                }
                Step::Partial(id) => {
                    self.complete(id);
                    None
                }
                Step::Whole(id) => self.look_at(id),
            };
            if let Err(error) = self.check_limits() {
                self.found = self.query.limit;
                return Some(Err(error));
            }
            if let Some(trace) = outcome {
                self.found += 1;
                if self.snapshot.met_damage() && !self.told {
                    self.told = true;
                    self.late = Some(trace);
                    return Some(Err(damaged()));
                }
                return Some(Ok(trace));
            }
        }
        None
    }
}

pub(super) fn damaged() -> StoreError {
    StoreError::Damaged {
        reason: "a part of it cannot be read".to_owned(),
    }
}

/// All groups of a trace, the oldest part first. Where one part ends and the next begins does not show:
/// a merge between two answers does not change them.
pub(super) fn collect(
    parts: &[Arc<dyn Part>],
    id: TraceId,
    detail: Detail,
    meter: &Meter,
) -> Vec<Arc<SpanGroup>> {
    let mut groups: Vec<SpanGroup> = Vec::new();
    meter.begin_trace();
    for part in parts {
        if meter.is_over() {
            break;
        }
        let mut more = or_default(&**part, part.trace(id, detail, meter)).into_iter();
        if let (Some(last), Some(first)) = (groups.last_mut(), more.as_slice().first())
            && last.resource == first.resource
            && last.scope == first.scope
            && let Some(first) = more.next()
        {
            last.spans.extend(first.spans);
        }
        groups.extend(more);
    }
    groups.into_iter().map(Arc::new).collect()
}

/// The start of the earliest span that any part has of a trace; zero if none is known.
fn start_of(parts: &[Arc<dyn Part>], id: TraceId) -> u64 {
    let starts = (parts.iter()).filter_map(|part| or_default(&**part, part.trace_start(id)));
    starts.fold(0, earlier)
}

/// Why the trace that was read last may lack spans.
pub(super) fn incomplete(
    parts: &[Arc<dyn Part>],
    id: TraceId,
    snapshot: &Snapshot,
    meter: &Meter,
) -> Option<Incomplete> {
    if meter.was_cut() {
        let start_unix_nano = start_of(parts, id);
        return Some(Incomplete::TooLarge { start_unix_nano });
    }
    snapshot.met_damage().then_some(Incomplete::Damaged)
}

/// Whether two spans have the same id.
fn ids_repeat(groups: &[Arc<SpanGroup>]) -> bool {
    let spans = groups.iter().flat_map(|group| &group.spans);
    let mut ids: Vec<SpanId> = spans.map(|span| span.span_id).collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| pair[0] == pair[1])
}

/// What was read, or, from a part that cannot be read, nothing and a message.
pub(super) fn or_default<T: Default>(part: &dyn Part, read: Result<T, Damage>) -> T {
    read.unwrap_or_else(|damage| {
        part.damaged(&damage);
        T::default()
    })
}

/// A condition on single spans which some span in the range meets in every trace that matches.
fn necessary(filter: &TraceFilter) -> Option<SpanFilter> {
    match filter {
        TraceFilter::AnySpan(filter) => Some(filter.clone()),
        TraceFilter::And(filters) => filters.iter().filter_map(necessary).max_by_key(precision),
        TraceFilter::Or(filters) => {
            let all: Option<Vec<SpanFilter>> = filters.iter().map(necessary).collect();
            all.map(SpanFilter::Or)
        }
        TraceFilter::Not(_) => None,
    }
}

/// A guess of which condition leaves the fewest traces.
fn precision(filter: &SpanFilter) -> usize {
    match filter {
        SpanFilter::True | SpanFilter::Not(_) => 0,
        SpanFilter::Exists(_) => 1,
        SpanFilter::Compare { comparison, .. } => match comparison {
            crate::Comparison::Equal => 3,
            _ => 2,
        },
        SpanFilter::And(filters) => filters.iter().map(precision).sum(),
        SpanFilter::Or(filters) => filters.iter().map(precision).min().unwrap_or(9),
    }
}

/// The newest first; of the same start, what is to be taken a step further first, so that a whole
/// trace comes up only when no other can stand before it.
impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.start, &self.step).cmp(&(other.start, &other.step))
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item {}

/// Every trace with a span in the range, in any order, some more than once.
pub(super) fn traces_in(
    parts: &[Arc<dyn Part>],
    range: TimeRange,
    meter: &Meter,
) -> Result<Vec<TraceId>, StoreError> {
    let mut ids: Vec<TraceId> = Vec::new();
    for part in parts {
        let chunks = part.chunks().into_iter().enumerate();
        let mut chunks = chunks.filter(|(_, chunk)| chunk.overlaps(range)).peekable();
        if chunks.peek().is_none() {
            continue;
        }
        let prepared = match part.prepare(&SpanFilter::True) {
            Ok(prepared) => prepared,
            Err(damage) => {
                part.damaged(&damage);
                continue;
            }
        };
        for (chunk, _) in chunks {
            let hits: Vec<Place> = or_default(&**part, part.hits(chunk, &prepared, range, meter));
            meter.take((hits.len() * size_of::<TraceId>()) as u64);
            meter.check()?;
            ids.extend(hits.into_iter().map(|(_, id)| id));
        }
    }
    Ok(ids)
}
