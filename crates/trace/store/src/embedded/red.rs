//! Rates, errors and durations, summed over tables and segments.

use std::collections::{BTreeMap, HashMap};

use periplus_segment::ServiceOperation;

use super::meter::Meter;
use super::part::overlaps;
use super::search::or_default;
use super::state::Snapshot;
use crate::{RED_WINDOW_NANO, RedPoint, RedQuery, RedSeries, StoreError, TimeRange};

/// So many buckets are kept one by one; more are summed.
const FEW_BUCKETS: usize = 128;

/// Buckets that there are: those of all 64-bit durations.
const BUCKETS: usize = 1_920;

#[derive(Default)]
struct Sum {
    spans: u64,
    errors: u64,
    /// Some buckets more than once, until there are too many.
    few: Vec<(u16, u64)>,
    /// A count for each bucket, or nothing yet.
    all: Vec<u64>,
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
        let counts = || durations.iter().map(|(_, count)| u64::from(*count));
        self.spans += counts().sum::<u64>();
        if self.all.is_empty() && self.few.len() + durations.len() <= FEW_BUCKETS {
            // In the answer, each takes about twice as much.
            meter.take(48 * durations.len() as u64);
            let buckets = durations.iter().map(|(bucket, _)| *bucket);
            self.few.extend(buckets.zip(counts()));
            return;
        }
        if self.all.is_empty() {
            meter.take(48 * BUCKETS as u64);
            self.all = vec![0; BUCKETS];
            for (bucket, count) in std::mem::take(&mut self.few) {
                self.put(bucket, count);
            }
        }
        for (bucket, count) in durations {
            self.put(*bucket, u64::from(*count));
        }
    }

    fn put(&mut self, bucket: u16, count: u64) {
        // What is not a bucket of any duration is none that was written by us.
        if let Some(sum) = self.all.get_mut(usize::from(bucket)) {
            *sum += count;
        }
    }

    fn into_point(mut self, start_unix_nano: u64) -> RedPoint {
        let mut durations: BTreeMap<u16, u64> = BTreeMap::new();
        for (bucket, count) in self.few.drain(..) {
            *durations.entry(bucket).or_default() += count;
        }
        let all = (0..).zip(&self.all).filter(|(_, count)| **count > 0);
        durations.extend(all.map(|(bucket, count)| (bucket, *count)));
        RedPoint {
            start_unix_nano,
            spans: self.spans,
            errors: self.errors,
            durations,
        }
    }
}
