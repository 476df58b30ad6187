//! How long things take: two decimal digits of each value, as Envoy keeps them.

use std::sync::OnceLock;

use super::value::Count;
use super::{Bounds, Show, Shown, Value};

/// Envoy's bounds for Prometheus.
pub(crate) const BOUNDS: [(&str, u64); 19] = [
    ("0.5", 0),
    ("1", 1),
    ("5", 5),
    ("10", 10),
    ("25", 25),
    ("50", 50),
    ("100", 100),
    ("250", 250),
    ("500", 500),
    ("1000", 1000),
    ("2500", 2500),
    ("5000", 5000),
    ("10000", 10_000),
    ("30000", 30_000),
    ("60000", 60_000),
    ("300000", 300_000),
    ("600000", 600_000),
    ("1800000", 1_800_000),
    ("3600000", 3_600_000),
];

/// Envoy's quantiles, in thousandths.
pub(crate) const QUANTILES: [u64; 10] = [0, 250, 500, 750, 900, 950, 990, 995, 999, 1000];

/// Numbers below this have a bucket each.
const SMALL: u64 = 100;
/// Larger ones are cut to two digits, in so many powers of ten.
const DECADES: usize = 6;
/// What is larger than the last bucket stands in that.
const MOST: u64 = SMALL * 10_u64.pow(DECADES as u32);
/// One for zero, one for each number up to 100, and 90 for each power of ten.
const BUCKETS: usize = 1 + SMALL as usize + 90 * DECADES;

/// A distribution of whole numbers that one thread writes. It takes room once there is one.
///
/// A bucket ends with its last number, so that the counts below Envoy's bounds are exact.
#[derive(Debug, Default)]
pub(crate) struct Histogram(OnceLock<Box<Buckets>>);

#[derive(Debug)]
struct Buckets {
    counts: [Count; BUCKETS],
    sum: Count,
}

impl Histogram {
    #[inline]
    pub(crate) fn add(&self, value: u64) {
        let buckets = match self.0.get() {
            Some(buckets) => buckets,
            None => self.begin(),
        };
        buckets.counts[bucket_of(value)].increment();
        buckets.sum.add(value);
    }

    #[cold]
    fn begin(&self) -> &Buckets {
        self.0.get_or_init(|| {
            Box::new(Buckets {
                counts: std::array::from_fn(|_| Count::default()),
                sum: Count::default(),
            })
        })
    }
}

impl Shown for Histogram {
    fn show(&self, name: &str, show: Show<'_>) {
        let distribution = self.0.get().map(|buckets| Distribution {
            counts: buckets.counts.iter().map(Count::get).collect(),
            sum: buckets.sum.get(),
        });
        show(name, Value::Histogram(distribution.unwrap_or_default()));
    }
}

/// The bucket of a number: 0 is alone, and each other one stands with those that have the same two digits after
/// one was taken away.
#[inline]
fn bucket_of(value: u64) -> usize {
    let Some(less) = value.min(MOST).checked_sub(1) else {
        return 0;
    };
    if less < SMALL {
        return 1 + less as usize;
    }
    let mut decade = 1;
    let mut unit = 10;
    while less >= SMALL * unit {
        unit *= 10;
        decade += 1;
    }
    1 + SMALL as usize + 90 * (decade - 1) + (less / unit) as usize - 10
}

/// The numbers of a bucket: the first one, and the last one.
fn numbers_of(bucket: usize) -> (u64, u64) {
    let Some(at) = bucket.checked_sub(1) else {
        return (0, 0);
    };
    let at = at as u64;
    if at < SMALL {
        return (at + 1, at + 1);
    }
    let unit = 10_u64.pow(((at - SMALL) / 90) as u32 + 1);
    let digits = 10 + (at - SMALL) % 90;
    (digits * unit + 1, (digits + 1) * unit)
}

/// The values of all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    counts: Vec<u64>,
    pub(crate) sum: u64,
}

impl Distribution {
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many are not above each of the bounds; those of a bucket that a bound goes through count as above it.
    pub(crate) fn cumulative(&self, bounds: &Bounds) -> Vec<u64> {
        let below = |limit: u64| {
            // Nobody knows how large those of the last one are.
            let buckets = (0..BUCKETS - 1).zip(&self.counts);
            let below = buckets.take_while(|(bucket, _)| numbers_of(*bucket).1 <= limit);
            below.map(|(_, count)| count).sum()
        };
        bounds.iter().map(|bound| below(bound.limit)).collect()
    }

    /// A quantile, in thousandths; none without a value.
    pub(crate) fn quantile(&self, thousandths: u64) -> Option<u64> {
        let all = self.count();
        let rank = (u128::from(all) * u128::from(thousandths)).div_ceil(1000);
        let rank = u64::try_from(rank).unwrap_or(all).max(1);
        let mut before = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            if *count > 0 && before + count >= rank {
                let (first, last) = numbers_of(bucket);
                // As if they were spread evenly.
                let within = u128::from(last - first) * u128::from(rank - before);
                let within = within / u128::from(*count);
                return Some(first + u64::try_from(within).unwrap_or(last - first));
            }
            before += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::USUAL;
    use super::*;

    #[test]
    fn each_number_stands_in_the_bucket_that_says_so() {
        let mut values: Vec<u64> = (0..2000).collect();
        for decade in 0..8 {
            for digits in 1..100 {
                let value = digits * 10_u64.pow(decade);
                values.extend([value - 1, value, value + 1]);
            }
        }
        for value in values.into_iter().filter(|value| *value <= MOST) {
            let (first, last) = numbers_of(bucket_of(value));
            assert!(
                (first..=last).contains(&value),
                "{value} is not in {first}..={last}"
            );
            // Two digits: an error of a tenth at the most.
            assert!(last - first <= value / 10, "{first}..={last}");
        }
        assert_eq!(bucket_of(MOST), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        for (_, bound) in BOUNDS {
            assert_eq!(numbers_of(bucket_of(bound)).1, bound);
        }
    }

    fn shown(values: impl IntoIterator<Item = u64>) -> Distribution {
        let histogram = Histogram::default();
        for value in values {
            histogram.add(value);
        }
        let mut all = Distribution::default();
        histogram.show("a", &mut |_, value| {
            if let Value::Histogram(distribution) = value {
                all.merge(&distribution);
            }
        });
        all
    }

    #[test]
    fn counts_below_bounds() {
        let half = shown(1..=1000);
        let mut all = half.clone();
        all.merge(&half);
        assert_eq!((all.count(), all.sum), (2000, 2 * 500_500));
        let expected = [
            0, 2, 10, 20, 50, 100, 200, 500, 1000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000,
            2000, 2000,
        ];
        assert_eq!(all.cumulative(&USUAL), expected);
        // One through the middle of a bucket: that ends with 130.
        let others = Bounds::new(vec![7.5, 129.0, 130.0]);
        assert_eq!(all.cumulative(&others), [14, 2 * 120, 2 * 130]);
        // Nobody knows which of the largest are below a bound.
        let all = shown((1..=1000).chain([MOST + 1]));
        let beyond = Bounds::new(vec![MOST as f64, 10.0 * MOST as f64]);
        assert_eq!(
            (all.count(), all.cumulative(&beyond)),
            (1001, vec![1000; 2])
        );
    }

    #[test]
    fn quantiles() {
        let all = shown(1..=1000);
        let quantiles = QUANTILES.map(|quantile| all.quantile(quantile).expect("values"));
        assert_eq!(quantiles, [1, 250, 500, 750, 900, 950, 990, 995, 999, 1000]);
        assert_eq!(Distribution::default().quantile(500), None);
    }
}
