use std::ops::Range;

use periplus_model::SpanKind;

use super::{Point, Red, ServiceOperation, WINDOW_NANO, bucket_of};
use crate::build::Builder;
use crate::facts::Facts;
use crate::numbers::Numbers;

/// Counts spans.
pub(crate) struct Collector<'b> {
    builder: &'b Builder,
    facts: Facts<'b>,
    series: Numbers,
    points: Numbers,
    errors: Vec<u32>,
    /// A point and a bucket for each span.
    samples: Vec<u64>,
}

impl<'b> Collector<'b> {
    pub(crate) fn new(builder: &'b Builder) -> Self {
        Self {
            builder,
            facts: Facts::new(builder),
            series: Numbers::default(),
            points: Numbers::default(),
            errors: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Counts the spans of these rows.
    pub(crate) fn add(&mut self, rows: impl Iterator<Item = u32>) {
        let spans = &self.builder.spans;
        for row in rows.map(|row| row as usize) {
            let service = self.facts.service(row as u32);
            let kind = u64::from(spans.kind_status[row] & 0xf);
            let key = u64::from(service) << 36 | u64::from(spans.name[row]) << 4 | kind;
            let series = self.series.of(key);
            // Ten-second windows of 64-bit times have 31 bits.
            let window = spans.start[row] / WINDOW_NANO;
            let point = self.points.of(window << 32 | u64::from(series));
            if point as usize == self.errors.len() {
                self.errors.push(0);
            }
            let failed = self.facts.failed(row as u32);
            self.errors[point as usize] += u32::from(failed);
            let duration = spans.end[row].saturating_sub(spans.start[row]);
            self.samples
                .push(u64::from(point) << 16 | u64::from(bucket_of(duration)));
        }
    }

    pub(crate) fn finish(self) -> Red {
        let names = &self.builder.names;
        let mut series: Vec<(u32, ServiceOperation)> = (0..)
            .zip(&self.series.keys)
            .map(|(number, key)| {
                let operation = ServiceOperation {
                    service: self.facts.service_name((key >> 36) as u32).to_owned(),
                    name: names.text((key >> 4) as u32).to_owned(),
                    kind: SpanKind::from_number((key & 0xf) as i32),
                };
                (number, operation)
            })
            .collect();
        series.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        let mut new = vec![0_u32; series.len()];
        for (number, (old, _)) in (0..).zip(&series) {
            new[*old as usize] = number;
        }
        let (firsts, mut buckets) = by_point(&self.samples, self.points.keys.len());
        let mut of_point: Vec<(u64, u32, usize)> = Vec::with_capacity(self.points.keys.len());
        for (point, key) in self.points.keys.iter().enumerate() {
            of_point.push((key >> 32, new[*key as u32 as usize], point));
        }
        of_point.sort_unstable();
        let mut red = Red {
            series: series.into_iter().map(|(_, operation)| operation).collect(),
            ..Red::default()
        };
        for (window, series, point) in of_point {
            let samples = &mut buckets[firsts[point] as usize..firsts[point + 1] as usize];
            samples.sort_unstable();
            for same in samples.chunk_by(|a, b| a == b) {
                red.buckets.push((same[0], same.len() as u32));
            }
            red.points.push(Point {
                window,
                series,
                errors: self.errors[point],
                end: red.buckets.len() as u32,
            });
        }
        red
    }
}

/// The buckets of samples by point, and where those of each point begin and those of the last one end.
fn by_point(samples: &[u64], points: usize) -> (Vec<u32>, Vec<u16>) {
    let mut firsts = vec![0_u32; points + 1];
    for sample in samples {
        firsts[(sample >> 16) as usize + 1] += 1;
    }
    for point in 0..points {
        firsts[point + 1] += firsts[point];
    }
    let mut next = firsts.clone();
    let mut buckets = vec![0; samples.len()];
    for sample in samples {
        let next = &mut next[(sample >> 16) as usize];
        buckets[*next as usize] = *sample as u16;
        *next += 1;
    }
    (firsts, buckets)
}

impl Builder {
    /// The rates, errors and durations of its spans.
    pub fn red(&self) -> Red {
        self.red_of(0..self.span_count())
    }

    /// The rates, errors and durations of some of its spans.
    pub fn red_of(&self, rows: Range<usize>) -> Red {
        let mut collector = Collector::new(self);
        collector.add(rows.start as u32..rows.end as u32);
        collector.finish()
    }

    /// The operations of its spans, sorted by service, name and kind. Spans without a service have
    /// an empty one.
    pub fn operations(&self) -> Vec<ServiceOperation> {
        let mut seen = Numbers::default();
        let spans = &self.spans;
        for row in 0..spans.len() {
            let kind = u64::from(spans.kind_status[row] & 0xf);
            let resource = u64::from(spans.resource[row]);
            seen.of(resource << 36 | u64::from(spans.name[row]) << 4 | kind);
        }
        let operation = |key: &u64| ServiceOperation {
            service: (self.resources.decoded[(key >> 36) as usize].service_name()).to_owned(),
            name: self.names.text((key >> 4) as u32).to_owned(),
            kind: SpanKind::from_number((key & 0xf) as i32),
        };
        let mut operations: Vec<_> = seen.keys.iter().map(operation).collect();
        operations.sort_unstable();
        operations.dedup();
        operations
    }
}
