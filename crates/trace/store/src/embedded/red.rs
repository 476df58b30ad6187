//! Rates, errors and durations, summed over tables and segments.

use std::collections::HashMap;
use std::sync::Arc;

use periplus_segment::{Red, ServiceOperation};

use super::meter::Meter;
use super::minutes::{HourSums, Minutes, SPACES_NANO};
use super::part::{Part, overlaps};
use super::search::or_default;
use super::state::Snapshot;
use crate::{RED_WINDOW_NANO, RedPoint, RedQuery, RedSeries, StoreError, TimeRange};

/// The sums of all series that are asked for.
#[derive(Default)]
struct Sums {
    numbers: HashMap<ServiceOperation, usize>,
    /// For each number its points, by time.
    points: Vec<Vec<RedPoint>>,
}

/// The series that are asked for.
pub(super) fn series(
    snapshot: &Snapshot,
    meter: &Meter,
    query: &RedQuery,
    minutes: &Minutes,
) -> Result<Vec<RedSeries>, StoreError> {
    let mut sums = Sums::default();
    let mut rest = vec![query.range];
    for (number, space) in SPACES_NANO.into_iter().enumerate() {
        if !query.is_multiple_of(space) {
            continue;
        }
        for range in std::mem::take(&mut rest) {
            let whole = whole(snapshot, range, space);
            minutes.sums(snapshot, whole, meter, |hour| {
                sums.add_hour(hour, (number, whole), query, meter);
            })?;
            let pairs = [
                (range.start_unix_nano, whole.start_unix_nano),
                (whole.end_unix_nano, range.end_unix_nano),
            ];
            rest.extend(pairs.into_iter().filter_map(between));
        }
    }
    for range in rest {
        sums.add_parts(snapshot.readings(), range, query, meter)?;
    }
    sums.add_parts(snapshot.others(), query.range, query, meter)?;
    meter.check()?;
    let Sums {
        numbers,
        mut points,
    } = sums;
    let mut series: Vec<RedSeries> = numbers
        .into_iter()
        .map(|(operation, number)| RedSeries {
            service: operation.service,
            name: operation.name,
            kind: operation.kind,
            points: std::mem::take(&mut points[number]),
        })
        .collect();
    series.sort_unstable_by(|a, b| {
        let of_a = (&a.service, &a.name, a.kind);
        of_a.cmp(&(&b.service, &b.name, b.kind))
    });
    Ok(series)
}

/// The part of a range that is one of whole spaces of time. An end of the range behind which no segment
/// has spans is none.
fn whole(snapshot: &Snapshot, range: TimeRange, space: u64) -> TimeRange {
    let entries = || snapshot.segments.iter().map(|segment| segment.entry());
    let TimeRange {
        start_unix_nano: start,
        end_unix_nano: end,
    } = range;
    let window = |time: u64| time - time % RED_WINDOW_NANO;
    let first = match entries().all(|entry| window(entry.min_start_unix_nano) >= start) {
        true => start - start % space,
        false => start.checked_next_multiple_of(space).unwrap_or(end),
    };
    let last = match entries().all(|entry| entry.max_start_unix_nano < end) {
        true => end.checked_next_multiple_of(space).unwrap_or(end),
        false => end - end % space,
    };
    TimeRange {
        start_unix_nano: first.min(end),
        end_unix_nano: last.max(first.min(end)),
    }
}

fn between((start, end): (u64, u64)) -> Option<TimeRange> {
    (start < end).then_some(TimeRange {
        start_unix_nano: start,
        end_unix_nano: end,
    })
}

impl Sums {
    fn add_parts(
        &mut self,
        parts: impl Iterator<Item = Arc<dyn Part>>,
        range: TimeRange,
        query: &RedQuery,
        meter: &Meter,
    ) -> Result<(), StoreError> {
        // A window that begins in the range has spans beyond its end.
        let spans = TimeRange {
            end_unix_nano: range.end_unix_nano.saturating_add(RED_WINDOW_NANO),
            ..range
        };
        for part in parts {
            meter.check()?;
            if !overlaps(&*part, spans) {
                continue;
            }
            for red in or_default(&*part, part.red(meter)) {
                self.add(&red, range, query, meter);
            }
        }
        Ok(())
    }

    fn add_hour(
        &mut self,
        hour: &HourSums,
        (space, range): (usize, TimeRange),
        query: &RedQuery,
        meter: &Meter,
    ) {
        for (operation, spaces) in hour.within(space, range) {
            let Some(number) = self.number(operation, query, meter) else {
                continue;
            };
            for space in spaces {
                let sum = self.point(number, query.point_of(space.start_unix_nano));
                let before = sum.durations.heap_bytes();
                sum.spans += space.spans;
                sum.errors += space.errors;
                sum.durations.add_all(&space.durations);
                meter.take((sum.durations.heap_bytes() - before) as u64);
            }
        }
    }

    fn add(&mut self, red: &Red, range: TimeRange, query: &RedQuery, meter: &Meter) {
        // Each operation is looked up once, when its first point comes; `None` is not wanted.
        let mut of_series: Vec<Option<Option<usize>>> = vec![None; red.series.len()];
        for point in red.points_in(range) {
            let number = match of_series.get(point.series) {
                None => continue,
                Some(Some(number)) => *number,
                Some(None) => {
                    let number = self.number(&red.series[point.series], query, meter);
                    of_series[point.series] = Some(number);
                    number
                }
            };
            if let Some(number) = number {
                let start = query.point_of(point.start_unix_nano);
                add(self.point(number, start), &point, meter);
            }
        }
    }

    fn number(
        &mut self,
        operation: &ServiceOperation,
        query: &RedQuery,
        meter: &Meter,
    ) -> Option<usize> {
        if !query.wants(&operation.service, &operation.name, operation.kind) {
            return None;
        }
        if let Some(number) = self.numbers.get(operation) {
            return Some(*number);
        }
        let bytes = operation.service.len() + operation.name.len() + 128;
        meter.take(bytes as u64);
        let number = self.points.len();
        self.numbers.insert(operation.clone(), number);
        self.points.push(Vec::new());
        Some(number)
    }

    fn point(&mut self, number: usize, start_unix_nano: u64) -> &mut RedPoint {
        let points = &mut self.points[number];
        let at = points.partition_point(|point| point.start_unix_nano < start_unix_nano);
        if (points.get(at)).is_none_or(|point| point.start_unix_nano != start_unix_nano) {
            let point = RedPoint {
                start_unix_nano,
                ..RedPoint::default()
            };
            points.insert(at, point);
        }
        &mut points[at]
    }
}

/// Adds what was counted in one window.
fn add(sum: &mut RedPoint, window: &periplus_segment::RedPoint<'_>, meter: &Meter) {
    let before = sum.durations.heap_bytes();
    sum.spans += window.spans();
    sum.errors += window.errors;
    sum.durations.add(window.durations);
    meter.take((sum.durations.heap_bytes() - before) as u64);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::Budget;
    use crate::embedded::meter::Memory;

    #[test]
    fn windows_are_summed_in_whatever_order_their_buckets_come() {
        let memory = Arc::new(Memory::new(1 << 20, 1 << 20));
        let time = Duration::from_secs(60);
        let meter = Meter::new(Budget::UNLIMITED, time, &memory, Arc::default());
        let mut sum = RedPoint::default();
        for (errors, durations) in [
            (1, &[(700, 2), (703, 1)][..]),
            (0, &[(5, 4), (700, 1), (1_919, 1)]),
            (2, &[(1_920, 9), (u16::MAX, 9)]),
        ] {
            let window = periplus_segment::RedPoint {
                start_unix_nano: 0,
                series: 0,
                errors,
                durations,
            };
            add(&mut sum, &window, &meter);
        }
        assert_eq!(memory.used(), sum.durations.heap_bytes() as u64);
        assert_eq!((sum.spans, sum.errors), (27, 3));
        let durations: Vec<(u16, u64)> = sum.durations.iter().collect();
        assert_eq!(durations, [(5, 4), (700, 3), (703, 1), (1_919, 1)]);
    }
}
