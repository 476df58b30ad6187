use std::collections::BTreeMap;

use super::{Point, Red, ServiceOperation};

impl Red {
    /// What the spans of all of these together are like.
    pub(crate) fn sum<'r>(all: impl Iterator<Item = &'r Self> + Clone) -> Self {
        let mut series: Vec<&ServiceOperation> = all.clone().flat_map(|red| &red.series).collect();
        series.sort_unstable();
        series.dedup();
        let mut points: BTreeMap<(u64, u32), Sum> = BTreeMap::new();
        for red in all {
            let number = |it| series.partition_point(|other| *other < it) as u32;
            let new: Vec<u32> = red.series.iter().map(number).collect();
            for (point, told) in red.points.iter().zip(red.points()) {
                let key = (point.window, new[point.series as usize]);
                points
                    .entry(key)
                    .or_default()
                    .add(point.errors, told.durations);
            }
        }
        let mut sum = Self {
            series: series.into_iter().cloned().collect(),
            ..Self::default()
        };
        for ((window, series), point) in points {
            sum.buckets.extend(point.buckets);
            sum.points.push(Point {
                window,
                series,
                errors: point.errors,
                end: sum.buckets.len() as u32,
            });
        }
        sum
    }
}

#[derive(Default)]
struct Sum {
    errors: u32,
    /// By ascending bucket.
    buckets: Vec<(u16, u32)>,
}

impl Sum {
    fn add(&mut self, errors: u32, buckets: &[(u16, u32)]) {
        self.errors = self.errors.saturating_add(errors);
        if self.buckets.is_empty() {
            self.buckets.extend_from_slice(buckets);
            return;
        }
        let before = std::mem::take(&mut self.buckets);
        let (mut a, mut b) = (&before[..], buckets);
        while let (Some((x, rest_of_a)), Some((y, rest_of_b))) = (a.split_first(), b.split_first())
        {
            let count = match x.0.cmp(&y.0) {
                std::cmp::Ordering::Less => x.1,
                std::cmp::Ordering::Greater => y.1,
                std::cmp::Ordering::Equal => x.1.saturating_add(y.1),
            };
            self.buckets.push((x.0.min(y.0), count));
            if x.0 <= y.0 {
                a = rest_of_a;
            }
            if y.0 <= x.0 {
                b = rest_of_b;
            }
        }
        self.buckets.extend_from_slice(a);
        self.buckets.extend_from_slice(b);
    }
}
