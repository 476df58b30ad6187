//! Rates, errors and durations: for each service, span name and kind, every ten seconds.

mod collect;
mod format;
mod histogram;
mod sum;

use std::ops::Range;

use periplus_filter::TimeRange;
use periplus_model::SpanKind;

pub(crate) use collect::Collector;
pub use histogram::{bucket_bounds, bucket_of};

/// The length of a window.
pub const WINDOW_NANO: u64 = 10_000_000_000;

/// A span name of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceOperation {
    /// `service.name` of the resource; empty if it has none.
    pub service: String,
    /// The span's name.
    pub name: String,
    /// The span's kind.
    pub kind: SpanKind,
}

/// The rates, errors and durations of all spans of a builder or of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Red {
    /// What is counted, sorted.
    pub series: Vec<ServiceOperation>,
    /// Sorted by time, then by series; those that would be zero are left out.
    points: Vec<Point>,
    /// The histograms of all points, one after the other.
    buckets: Vec<(u16, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    window: u64,
    series: u32,
    errors: u32,
    /// Where its histogram ends.
    end: u32,
}

/// The spans of one series that start in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedPoint<'a> {
    /// When the window begins: a multiple of [`WINDOW_NANO`].
    pub start_unix_nano: u64,
    /// The number of the series in [`Red::series`].
    pub series: usize,
    /// How many of the spans failed: by their status, or by the attribute `error`.
    pub errors: u64,
    /// How many durations lie in which bucket ([`bucket_of`]), by ascending bucket.
    pub durations: &'a [(u16, u32)],
}

impl RedPoint<'_> {
    /// How many spans there are.
    pub fn spans(&self) -> u64 {
        self.durations
            .iter()
            .map(|(_, count)| u64::from(*count))
            .sum()
    }
}

impl Red {
    /// The points of the windows that begin in a range.
    pub fn points_in(&self, range: TimeRange) -> impl Iterator<Item = RedPoint<'_>> {
        let before = |end: u64| {
            // Where a window begins at the end or behind it.
            let window = end.div_ceil(WINDOW_NANO);
            self.points.partition_point(|point| point.window < window)
        };
        let first = before(range.start_unix_nano);
        let last = before(range.end_unix_nano).max(first);
        self.points_of(first..last)
    }

    /// All points, by time, then by series.
    pub fn points(&self) -> impl Iterator<Item = RedPoint<'_>> {
        self.points_of(0..self.points.len())
    }

    fn points_of(&self, points: Range<usize>) -> impl Iterator<Item = RedPoint<'_>> {
        let mut begin = match points.start.checked_sub(1) {
            Some(before) => self.points[before].end as usize,
            None => 0,
        };
        self.points[points].iter().map(move |point| {
            let end = point.end as usize;
            let durations = &self.buckets[begin..end];
            begin = end;
            RedPoint {
                start_unix_nano: point.window.saturating_mul(WINDOW_NANO),
                series: point.series as usize,
                errors: u64::from(point.errors),
                durations,
            }
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let texts = self
            .series
            .iter()
            .map(|it| it.service.len() + it.name.len());
        texts.sum::<usize>()
            + self.series.capacity() * size_of::<ServiceOperation>()
            + self.points.capacity() * size_of::<Point>()
            + self.buckets.capacity() * size_of::<(u16, u32)>()
    }
}
