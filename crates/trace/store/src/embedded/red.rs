//! Rates, errors and durations, summed over tables and segments.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use super::meter::Meter;
use super::search::or_default;
use super::state::Snapshot;
use crate::{RedPoint, RedSeries, StoreError, TimeRange};

/// The series of the windows that begin in the range.
pub(super) fn series(
    snapshot: &Snapshot,
    (meter, cancelled): (&Meter, &AtomicBool),
    range: TimeRange,
) -> Result<Vec<RedSeries>, StoreError> {
    let mut all = BTreeMap::new();
    for part in snapshot.parts() {
        meter.check(cancelled)?;
        if !part.chunks().iter().any(|chunk| chunk.overlaps(range)) {
            continue;
        }
        let red = part.red().map(Some);
        let Some(red) = or_default(&*part, red) else {
            continue;
        };
        for point in red.points() {
            if !range.contains(point.start_unix_nano) {
                continue;
            }
            // The points of a series name one that is there.
            let Some(operation) = red.series.get(point.series) else {
                continue;
            };
            let windows: &mut BTreeMap<u64, RedPoint> = all.entry(operation.clone()).or_default();
            let sum = windows.entry(point.start_unix_nano).or_default();
            sum.start_unix_nano = point.start_unix_nano;
            sum.spans += point.spans();
            sum.errors += point.errors;
            for (bucket, count) in point.durations {
                *sum.durations.entry(*bucket).or_default() += u64::from(*count);
            }
        }
    }
    let series = all.into_iter().map(|(operation, windows)| RedSeries {
        service: operation.service,
        name: operation.name,
        kind: operation.kind,
        points: windows.into_values().collect(),
    });
    Ok(series.collect())
}
