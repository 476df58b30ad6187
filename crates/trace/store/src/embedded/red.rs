//! Rates, errors and durations, summed over tables and segments.

use std::collections::{BTreeMap, HashMap};

use periplus_segment::ServiceOperation;

use super::meter::Meter;
use super::part::overlaps;
use super::search::or_default;
use super::state::Snapshot;
use crate::{RED_WINDOW_NANO, RedPoint, RedQuery, RedSeries, StoreError, TimeRange};

/// Buckets that there are: those of all 64-bit durations.
const BUCKETS: usize = 1_920;

/// Counts are kept for so many neighbouring buckets at once.
const STRIDE: usize = 32;

/// What a bucket takes, in the sum or in the answer.
const BUCKET_BYTES: u64 = 16;

#[derive(Default)]
struct Sum {
    spans: u64,
    errors: u64,
    /// The bucket of the first count, a multiple of [`STRIDE`].
    first: usize,
    /// A count for each bucket from the shortest duration to the longest, which lie close together.
    counts: Vec<u64>,
}

/// The series that are asked for.
pub(super) fn series(
    snapshot: &Snapshot,
    meter: &Meter,
    query: &RedQuery,
) -> Result<Vec<RedSeries>, StoreError> {
    let mut numbers: HashMap<ServiceOperation, usize> = HashMap::new();
    let mut sums: Vec<BTreeMap<u64, Sum>> = Vec::new();
    // A window that begins in the range has spans beyond its end.
    let TimeRange { end_unix_nano, .. } = query.range;
    let spans = TimeRange {
        end_unix_nano: end_unix_nano.saturating_add(RED_WINDOW_NANO),
        ..query.range
    };
    for part in snapshot.parts() {
        meter.check()?;
        if !overlaps(&*part, spans) {
            continue;
        }
        let seen = part.red(query.range, meter, &mut |operation, point| {
            if !query.wants(&operation.service, &operation.name, operation.kind) {
                return;
            }
            let number = match numbers.get(operation) {
                Some(number) => *number,
                None => {
                    let bytes = operation.service.len() + operation.name.len() + 128;
                    meter.take(bytes as u64);
                    numbers.insert(operation.clone(), sums.len());
                    sums.push(BTreeMap::new());
                    sums.len() - 1
                }
            };
            let start = query.point_of(point.start_unix_nano);
            let sum = sums[number].entry(start).or_default();
            sum.add(point.errors, point.durations, meter);
        });
        or_default(&*part, seen);
    }
    meter.check()?;
    let mut series: Vec<RedSeries> = numbers
        .into_iter()
        .map(|(operation, number)| RedSeries {
            service: operation.service,
            name: operation.name,
            kind: operation.kind,
            points: std::mem::take(&mut sums[number])
                .into_iter()
                .map(|(start, sum)| sum.into_point(start))
                .collect(),
        })
        .collect();
    let order = |series: &RedSeries| (series.service.clone(), series.name.clone(), series.kind);
    series.sort_by_cached_key(order);
    Ok(series)
}

impl Sum {
    fn add(&mut self, errors: u64, durations: &[(u16, u32)], meter: &Meter) {
        self.errors += errors;
        let before = self.counts.len();
        for &(bucket, count) in durations {
            self.spans += u64::from(count);
            self.put(usize::from(bucket), u64::from(count));
        }
        meter.take((self.counts.len() - before) as u64 * BUCKET_BYTES);
    }

    fn put(&mut self, bucket: usize, count: u64) {
        // What is not a bucket of any duration is none that was written by us.
        if bucket >= BUCKETS {
            return;
        }
        if self.counts.is_empty() {
            self.first = bucket / STRIDE * STRIDE;
        }
        if bucket < self.first {
            let first = bucket / STRIDE * STRIDE;
            let more = std::iter::repeat_n(0, self.first - first);
            self.counts.splice(0..0, more);
            self.first = first;
        }
        let at = bucket - self.first;
        if at >= self.counts.len() {
            self.counts.resize((at / STRIDE + 1) * STRIDE, 0);
        }
        self.counts[at] += count;
    }

    fn into_point(self, start_unix_nano: u64) -> RedPoint {
        let counts = (self.first..).zip(&self.counts);
        RedPoint {
            start_unix_nano,
            spans: self.spans,
            errors: self.errors,
            durations: counts
                .filter(|(_, count)| **count > 0)
                .map(|(bucket, count)| (bucket as u16, *count))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::Budget;
    use crate::embedded::meter::Memory;

    #[test]
    fn buckets_are_summed_in_whatever_order_they_come() {
        let memory = Arc::new(Memory::new(1 << 20, 1 << 20));
        let never = Arc::new(AtomicBool::new(false));
        let meter = Meter::new(Budget::UNLIMITED, Duration::from_secs(60), &memory, never);
        let mut sum = Sum::default();
        sum.add(1, &[(700, 2), (703, 1)], &meter);
        sum.add(0, &[(5, 4), (700, 1), (1_919, 1)], &meter);
        sum.add(2, &[(1_920, 9), (u16::MAX, 9)], &meter);
        assert_eq!(memory.used(), BUCKETS as u64 * BUCKET_BYTES);
        let point = sum.into_point(7);
        assert_eq!(
            (point.start_unix_nano, point.spans, point.errors),
            (7, 27, 3)
        );
        let durations: Vec<(u16, u64)> = point.durations.into_iter().collect();
        assert_eq!(durations, [(5, 4), (700, 3), (703, 1), (1_919, 1)]);
    }
}
