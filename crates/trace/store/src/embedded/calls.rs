//! Who called whom: summed over the footers of segments, minute by minute.
//!
//! A part knows the calls of its traces as if they had no spans elsewhere. That is wrong for a trace
//! of which several parts have spans, and says nothing of a trace that its spans alone do not settle
//! (see [`periplus_segment::Calls`]). So the sums are mended: for each such trace the calls of the
//! whole trace are added, and those that the parts have counted are taken off. Traces that parts
//! share are found by comparing the sorted hashes of their ids. Segments do not change: what was
//! found out about two of them, and about a trace that lies in some of them, is kept.
//!
//! Where the range ends within a minute, the traces with spans in that part of the minute are looked
//! at whole too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use periplus_insight::{Trace, dependencies_where};
use periplus_model::TraceId;
use periplus_segment::{Calls, MINUTE_NANO};

use super::cache::Cache;
use super::meter::Meter;
use super::part::{Part, overlaps};
use super::search::{collect, or_default, traces_in};
use super::state::Snapshot;
use crate::{DependencyEdge, Detail, StoreError, TimeRange};

/// Parts of a trace that lie further than this outside of the range are not looked for.
const HORIZON_NANO: u64 = 3_600_000_000_000;

/// Traces over more minutes than this are not kept.
const MAX_MINUTES: usize = 8;

/// What is kept about traces and pairs of segments takes this many bytes at most, about.
const MAX_SETTLED_BYTES: usize = 8 << 20;

/// Sums over the minutes that count.
#[derive(Default)]
struct Sums(HashMap<String, HashMap<String, (i64, i64)>>);

impl Sums {
    fn add(&mut self, parent: &str, child: &str, (calls, errors): (i64, i64)) {
        if !self.0.contains_key(parent) {
            self.0.insert(parent.to_owned(), HashMap::new());
        }
        let Some(of_parent) = self.0.get_mut(parent) else {
            return;
        };
        match of_parent.get_mut(child) {
            Some(sum) => *sum = (sum.0 + calls, sum.1 + errors),
            None => {
                of_parent.insert(child.to_owned(), (calls, errors));
            }
        }
    }

    fn into_edges(self) -> Vec<DependencyEdge> {
        let mut edges = Vec::new();
        for (parent, children) in self.0 {
            for (child, (calls, errors)) in children {
                // Of a damaged part more may be taken off than it has counted.
                if let call_count @ 1.. = u64::try_from(calls).unwrap_or_default() {
                    edges.push(DependencyEdge {
                        parent: parent.clone(),
                        child,
                        call_count,
                        error_count: u64::try_from(errors).unwrap_or_default(),
                    });
                }
            }
        }
        edges.sort_unstable();
        edges
    }
}

/// Which minutes are counted as a whole: those inside the range. An end of the range behind which
/// there are no spans is none.
struct Minutes {
    range: TimeRange,
    from: u64,
    until: u64,
}

impl Minutes {
    fn of(range: TimeRange, parts: &[Arc<dyn Part>]) -> Self {
        let starts = || parts.iter().map(|part| part.starts());
        let from = match starts().all(|(first, _)| first >= range.start_unix_nano) {
            true => 0,
            false => range.start_unix_nano,
        };
        let until = match starts().all(|(_, last)| last < range.end_unix_nano) {
            true => u64::MAX,
            false => range.end_unix_nano,
        };
        Self { range, from, until }
    }

    /// Whether the minute that begins then is counted as a whole.
    fn has(&self, start: u64) -> bool {
        let end = start.saturating_add(MINUTE_NANO);
        start >= self.from && (end <= self.until || self.until == u64::MAX)
    }

    /// The parts of minutes at the ends of the range.
    fn rests(&self) -> Vec<TimeRange> {
        let mut rests = Vec::new();
        let mut add = |start: u64, end: u64| {
            let rest = TimeRange {
                start_unix_nano: start.max(self.range.start_unix_nano),
                end_unix_nano: end.min(self.range.end_unix_nano),
            };
            if rest.start_unix_nano < rest.end_unix_nano {
                rests.push(rest);
            }
        };
        if !self.from.is_multiple_of(MINUTE_NANO) {
            add(self.from, self.from.next_multiple_of(MINUTE_NANO));
        }
        if self.until != u64::MAX && !self.until.is_multiple_of(MINUTE_NANO) {
            add(self.until - self.until % MINUTE_NANO, self.until);
        }
        rests
    }
}

pub(super) fn dependencies(
    snapshot: &Snapshot,
    range: TimeRange,
    meter: &Meter,
    cache: &Cache,
) -> Result<Vec<DependencyEdge>, StoreError> {
    let near = TimeRange {
        start_unix_nano: range.start_unix_nano.saturating_sub(HORIZON_NANO),
        end_unix_nano: range.end_unix_nano.saturating_add(HORIZON_NANO),
    };
    let parts: Vec<Arc<dyn Part>> = (snapshot.parts())
        .filter(|part| overlaps(&**part, near))
        .collect();
    let minutes = Minutes::of(range, &parts);
    let mut sums = Sums::default();
    // The parts that are known to have spans of a trace that must be looked at whole.
    let mut odd: HashMap<TraceId, Vec<usize>> = HashMap::new();
    for (number, part) in parts.iter().enumerate() {
        meter.check()?;
        if !overlaps(&**part, range) {
            continue;
        }
        let calls = or_default(&**part, part.calls(meter));
        let edges = &calls.edges;
        let first = edges.partition_point(|edge| edge.start_unix_nano < minutes.from);
        for edge in &edges[first..] {
            if minutes.has(edge.start_unix_nano) {
                let count = (edge.calls as i64, edge.errors as i64);
                sums.add(&edge.parent, &edge.child, count);
            }
        }
        for id in &calls.unsettled {
            odd.entry(*id).or_default().push(number);
        }
        for (other, beside) in parts.iter().enumerate() {
            // Of two parts in the range, one looks for what both have.
            if other == number || other < number && overlaps(&**beside, range) {
                continue;
            }
            meter.check()?;
            let shared = (cache.settled).shared((&**part, &**beside), snapshot, meter);
            for id in shared.iter() {
                odd.entry(*id).or_default().extend([number, other]);
            }
        }
    }
    let mut at_ends: HashSet<TraceId> = HashSet::new();
    for rest in minutes.rests() {
        at_ends.extend(traces_in(&parts, rest, meter)?);
    }
    for id in &at_ends {
        odd.entry(*id).or_default();
    }
    if !meter.take((odd.len() * 80) as u64) {
        meter.check()?;
    }
    for (id, mut numbers) in odd {
        meter.check()?;
        numbers.sort_unstable();
        numbers.dedup();
        let segments = numbers.iter().map(|number| parts[*number].segment());
        let segments: Option<Box<[u64]>> = segments.collect();
        let segments = segments.filter(|_| !at_ends.contains(&id));
        if let Some(segments) = &segments
            && cache.settled.mend(id, segments, &minutes, &mut sums)
        {
            continue;
        }
        let of_trace: Vec<Arc<dyn Part>> = match numbers[..] {
            // Where its spans lie was not looked for.
            _ if at_ends.contains(&id) => parts.clone(),
            _ => numbers.iter().map(|n| Arc::clone(&parts[*n])).collect(),
        };
        let keep = mend(
            id,
            &of_trace,
            (&minutes, meter),
            segments.is_some(),
            &mut sums,
        );
        // What lacks something is not true the next time.
        if let (Some(segments), Some(change)) = (segments, keep)
            && !meter.is_over()
            && !snapshot.met_damage()
        {
            cache.settled.keep(id, segments, change);
        }
    }
    meter.check()?;
    Ok(sums.into_edges())
}

/// Looks at a trace whole; what was mended, if that is to be kept and is not too much.
fn mend(
    id: TraceId,
    parts: &[Arc<dyn Part>],
    (minutes, meter): (&Minutes, &Meter),
    keep: bool,
    sums: &mut Sums,
) -> Option<Vec<Change>> {
    let counted: Vec<Calls> = (parts.iter())
        .map(|part| or_default(&**part, part.calls_of(id, meter)))
        .collect();
    let groups = collect(parts, id, Detail::Full, meter);
    let bytes = meter.looked_at(&groups);
    let trace = Trace::assemble(&groups);
    let spans = groups.iter().flat_map(|group| &group.spans);
    let starts: std::collections::BTreeSet<u64> = spans
        .map(|span| span.start_unix_nano / MINUTE_NANO)
        .collect();
    let mut change: BTreeMap<(u64, String, String), (i64, i64)> = BTreeMap::new();
    for edge in counted.into_iter().flat_map(|calls| calls.edges) {
        let key = (edge.start_unix_nano, edge.parent, edge.child);
        let sum = change.entry(key).or_default();
        *sum = (sum.0 - edge.calls as i64, sum.1 - edge.errors as i64);
    }
    let mut kept = None;
    if keep && starts.len() <= MAX_MINUTES {
        for minute in starts {
            let inside = |start: u64| start / MINUTE_NANO == minute;
            for edge in dependencies_where(&trace, |span| inside(span.start_unix_nano)) {
                let key = (minute * MINUTE_NANO, edge.parent, edge.child);
                let sum = change.entry(key).or_default();
                *sum = (sum.0 + edge.calls as i64, sum.1 + edge.errors as i64);
            }
        }
        change.retain(|_, count| *count != (0, 0));
        let change: Vec<Change> = change
            .into_iter()
            .map(|((minute, parent, child), count)| Change {
                minute,
                parent: parent.into(),
                child: child.into(),
                count,
            })
            .collect();
        add(&change, minutes, sums);
        kept = Some(change);
    } else {
        for ((minute, parent, child), count) in change {
            if minutes.has(minute) {
                sums.add(&parent, &child, count);
            }
        }
        let range = minutes.range;
        for edge in dependencies_where(&trace, |span| range.contains(span.start_unix_nano)) {
            let count = (edge.calls as i64, edge.errors as i64);
            sums.add(&edge.parent, &edge.child, count);
        }
    }
    drop(groups);
    meter.give_back(bytes);
    kept
}

fn add(change: &[Change], minutes: &Minutes, sums: &mut Sums) {
    for change in change {
        if minutes.has(change.minute) {
            sums.add(&change.parent, &change.child, change.count);
        }
    }
}

/// What is known about segments that share traces.
#[derive(Debug, Default)]
pub(super) struct Settled(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    shared: HashMap<(u64, u64), Arc<Vec<TraceId>>>,
    traces: HashMap<TraceId, Mended>,
    bytes: usize,
}

/// A trace, and how the sums over the segments that have spans of it are mended.
#[derive(Debug)]
struct Mended {
    segments: Box<[u64]>,
    change: Box<[Change]>,
}

#[derive(Debug)]
struct Change {
    /// When it begins.
    minute: u64,
    parent: Box<str>,
    child: Box<str>,
    /// How many calls and errors more, or less.
    count: (i64, i64),
}

impl Settled {
    /// The traces of which both parts have spans, each once.
    fn shared(
        &self,
        (a, b): (&dyn Part, &dyn Part),
        snapshot: &Snapshot,
        meter: &Meter,
    ) -> Arc<Vec<TraceId>> {
        let pair = match (a.segment(), b.segment()) {
            (Some(a), Some(b)) => Some((a.min(b), a.max(b))),
            _ => None,
        };
        if let Some(pair) = pair
            && let Some(known) = self.facts().shared.get(&pair)
        {
            return Arc::clone(known);
        }
        let shared = Arc::new(shared(a, b, meter));
        if let Some(pair) = pair
            && !meter.is_over()
            && !snapshot.met_damage()
        {
            let bytes = shared.len() * size_of::<TraceId>() + 64;
            let mut facts = self.facts();
            facts.make_room(bytes);
            facts.shared.insert(pair, Arc::clone(&shared));
        }
        shared
    }

    /// Mends the sums for a trace, if it is known how.
    fn mend(&self, id: TraceId, segments: &[u64], minutes: &Minutes, sums: &mut Sums) -> bool {
        let facts = self.facts();
        match facts.traces.get(&id) {
            Some(known) if *known.segments == *segments => {
                add(&known.change, minutes, sums);
                true
            }
            _ => false,
        }
    }

    fn keep(&self, id: TraceId, segments: Box<[u64]>, change: Vec<Change>) {
        let texts = change.iter().map(|it| it.parent.len() + it.child.len());
        let bytes = texts.sum::<usize>() + change.len() * size_of::<Change>() + 96;
        let change = change.into();
        let mut facts = self.facts();
        facts.make_room(bytes);
        facts.traces.insert(id, Mended { segments, change });
    }

    pub(super) fn forget(&self, segments: &[u64]) {
        let mut facts = self.facts();
        let gone = |segment: &u64| segments.contains(segment);
        (facts.shared).retain(|(a, b), _| !gone(a) && !gone(b));
        (facts.traces).retain(|_, known| !known.segments.iter().any(gone));
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// When there is too much, all of it is found out again.
    fn make_room(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes > MAX_SETTLED_BYTES {
            *self = Self {
                bytes,
                ..Self::default()
            };
        }
    }
}

fn shared(a: &dyn Part, b: &dyn Part, meter: &Meter) -> Vec<TraceId> {
    let hashes_of_a = or_default(a, a.trace_hashes(meter));
    let hashes_of_b = or_default(b, b.trace_hashes(meter));
    let (mut of_a, mut of_b) = (&hashes_of_a[..], &hashes_of_b[..]);
    let mut found: HashSet<TraceId> = HashSet::new();
    while let (Some(x), Some(y)) = (of_a.first(), of_b.first()) {
        match (x >> 32).cmp(&(y >> 32)) {
            std::cmp::Ordering::Less => of_a = &of_a[1..],
            std::cmp::Ordering::Greater => of_b = &of_b[1..],
            std::cmp::Ordering::Equal => {
                let hash = x >> 32;
                let ids = |part: &dyn Part, of: &[u64]| -> Vec<TraceId> {
                    let same = of.iter().take_while(|entry| **entry >> 32 == hash);
                    let id = |entry: &u64| or_default(part, part.id_of(*entry as u32));
                    same.filter_map(id).collect()
                };
                let (ids_of_a, ids_of_b) = (ids(a, of_a), ids(b, of_b));
                found.extend(ids_of_a.iter().filter(|id| ids_of_b.contains(id)));
                let behind = |of: &[u64]| of.partition_point(|entry| entry >> 32 <= hash);
                (of_a, of_b) = (&of_a[behind(of_a)..], &of_b[behind(of_b)..]);
            }
        }
    }
    found.into_iter().collect()
}
