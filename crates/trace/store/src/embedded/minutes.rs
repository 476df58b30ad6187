//! Rates, errors and durations by one minute and by ten: summed once over the segments of an hour, and
//! kept.
//!
//! The footers of an hour's segments say for every ten seconds what their spans took, which is a lot to
//! read for each answer. Segments do not change, and a merge changes no sum: what was summed
//! stays true until segments are dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use periplus_segment::{MINUTE_NANO, Red, RedPoint, ServiceOperation};

use super::meter::Meter;
use super::part::Damage;
use super::segment::Segment;
use super::state::Snapshot;
use crate::durations::Compact;
use crate::{StoreError, TimeRange};

/// The lengths of time that are summed, the longest first.
pub(super) const SPACES_NANO: [u64; 2] = [10 * MINUTE_NANO, MINUTE_NANO];

/// What is kept of hours.
#[derive(Debug)]
pub(super) struct Minutes {
    hours: Mutex<Hours>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Hours {
    /// By the hour of their segments.
    sums: HashMap<u64, Entry>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    sums: Arc<Mutex<HourSums>>,
    bytes: usize,
    used: u64,
}

/// The sums over some segments of an hour.
#[derive(Debug, Default)]
pub(super) struct HourSums {
    /// Sorted.
    segments: Vec<u64>,
    numbers: HashMap<Arc<ServiceOperation>, usize>,
    series: Vec<Series>,
    bytes: usize,
}

/// Of one operation.
#[derive(Debug)]
struct Series {
    operation: Arc<ServiceOperation>,
    /// For each of [`SPACES_NANO`], by time.
    sums: [Vec<Sum>; 2],
}

/// The spans that start in one space of time.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) start_unix_nano: u64,
    pub(super) spans: u64,
    pub(super) errors: u64,
    pub(super) durations: Compact,
}

impl Minutes {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            hours: Mutex::default(),
            max_bytes,
        }
    }

    /// Calls `see` with the sums of each hour of which segments have spans in the range.
    pub(super) fn sums(
        &self,
        snapshot: &Snapshot,
        range: TimeRange,
        meter: &Meter,
        mut see: impl FnMut(&HourSums),
    ) -> Result<(), StoreError> {
        let mut hours: HashMap<u64, (Vec<u64>, Vec<&Segment>)> = HashMap::new();
        for segment in snapshot.segments.iter() {
            let (there, wanted) = hours.entry(segment.entry().hour).or_default();
            there.push(segment.entry().id);
            if segment.entry().overlaps(range) {
                wanted.push(segment);
            }
        }
        for (hour, (mut there, wanted)) in hours {
            if wanted.is_empty() {
                continue;
            }
            there.sort_unstable();
            let sums = self.hour(hour);
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            // Some segments came or went since the query has begun.
            if sums
                .segments
                .iter()
                .any(|id| there.binary_search(id).is_err())
            {
                *sums = HourSums::default();
            }
            for segment in wanted {
                meter.check()?;
                if let Err(damage) = sums.add(segment) {
                    snapshot.damaged(segment, &damage);
                }
            }
            see(&sums);
            let bytes = sums.bytes;
            drop(sums);
            self.weigh(hour, bytes);
        }
        Ok(())
    }

    fn hour(&self, hour: u64) -> Arc<Mutex<HourSums>> {
        let mut hours = self.hours();
        hours.clock += 1;
        let used = hours.clock;
        let entry = hours.sums.entry(hour).or_insert_with(|| Entry {
            sums: Arc::default(),
            bytes: 0,
            used,
        });
        entry.used = used;
        Arc::clone(&entry.sums)
    }

    /// Drops what was not used for the longest time while there is too much.
    fn weigh(&self, hour: u64, bytes: usize) {
        let mut hours = self.hours();
        if let Some(entry) = hours.sums.get_mut(&hour) {
            entry.bytes = bytes;
        }
        while hours.bytes() > self.max_bytes {
            let oldest = hours.sums.iter().min_by_key(|(_, entry)| entry.used);
            let Some(hour) = oldest.map(|(hour, _)| *hour) else {
                return;
            };
            hours.sums.remove(&hour);
        }
    }

    /// The bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.hours().bytes()
    }

    /// Other segments, or none, stand for these.
    pub(super) fn replace(&self, old: &[u64], new: Option<u64>) {
        let all: Vec<(u64, Arc<Mutex<HourSums>>)> = (self.hours().sums.iter())
            .map(|(hour, entry)| (*hour, Arc::clone(&entry.sums)))
            .collect();
        for (hour, sums) in all {
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            if !sums.replace(old, new) {
                *sums = HourSums::default();
                drop(sums);
                self.hours().sums.remove(&hour);
            }
        }
    }

    fn hours(&self) -> MutexGuard<'_, Hours> {
        self.hours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hours {
    fn bytes(&self) -> usize {
        self.sums.values().map(|entry| entry.bytes).sum()
    }
}

impl HourSums {
    /// The operations, each with its sums over spaces of this number that begin in a range.
    pub(super) fn within(
        &self,
        space: usize,
        range: TimeRange,
    ) -> impl Iterator<Item = (&ServiceOperation, &[Sum])> {
        self.series.iter().filter_map(move |series| {
            let sums = &series.sums[space];
            let before = |time: u64| sums.partition_point(|sum| sum.start_unix_nano < time);
            let (first, last) = (before(range.start_unix_nano), before(range.end_unix_nano));
            let sums = sums.get(first..last)?;
            (!sums.is_empty()).then_some((&*series.operation, sums))
        })
    }

    /// Adds what a segment has counted, once.
    fn add(&mut self, segment: &Segment) -> Result<(), Damage> {
        let id = segment.entry().id;
        let Err(place) = self.segments.binary_search(&id) else {
            return Ok(());
        };
        self.add_all(&*segment.red_once()?);
        self.segments.insert(place, id);
        Ok(())
    }

    fn add_all(&mut self, red: &Red) {
        let numbers: Vec<usize> = red.series.iter().map(|one| self.number(one)).collect();
        for point in red.points() {
            let series = &mut self.series[numbers[point.series]];
            for (sums, space) in series.sums.iter_mut().zip(SPACES_NANO) {
                let start = point.start_unix_nano - point.start_unix_nano % space;
                self.bytes += add(sums, start, &point);
            }
        }
    }

    fn number(&mut self, operation: &ServiceOperation) -> usize {
        if let Some(number) = self.numbers.get(operation) {
            return *number;
        }
        let operation = Arc::new(operation.clone());
        let number = self.series.len();
        self.bytes += operation.service.len() + operation.name.len() + 256;
        self.numbers.insert(Arc::clone(&operation), number);
        self.series.push(Series {
            operation,
            sums: Default::default(),
        });
        number
    }

    /// Whether the sums are those without the old segments and with the new one.
    fn replace(&mut self, old: &[u64], new: Option<u64>) -> bool {
        let is_old = |id: &u64| old.contains(id);
        match self.segments.iter().filter(|id| is_old(id)).count() {
            0 => return true,
            some if some < old.len() => return false,
            _ => {}
        }
        let Some(new) = new else {
            return false;
        };
        self.segments.retain(|id| !is_old(id));
        let place = self.segments.partition_point(|id| *id < new);
        self.segments.insert(place, new);
        true
    }
}

/// Adds what was counted in a window; how many bytes more it takes now.
fn add(sums: &mut Vec<Sum>, start_unix_nano: u64, window: &RedPoint<'_>) -> usize {
    let at = sums.partition_point(|sum| sum.start_unix_nano < start_unix_nano);
    let mut more = 0;
    if (sums.get(at)).is_none_or(|sum| sum.start_unix_nano != start_unix_nano) {
        let sum = Sum {
            start_unix_nano,
            spans: 0,
            errors: 0,
            durations: Compact::default(),
        };
        sums.insert(at, sum);
        more += size_of::<Sum>();
    }
    let sum = &mut sums[at];
    let before = sum.durations.heap_bytes();
    sum.spans += window.spans();
    sum.errors += window.errors;
    sum.durations.add(window.durations);
    more + sum.durations.heap_bytes() - before
}
