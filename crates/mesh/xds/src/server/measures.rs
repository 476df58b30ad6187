//! What is measured of all streams together.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::type_url;

/// How often something had which size.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Up to each bound, and beyond the last, without those of the bounds before.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty one with these bounds, which rise.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    /// Adds one.
    pub fn observe(&mut self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at] += 1;
        self.sum += value;
    }

    /// Adds a time, in seconds.
    pub fn took(&mut self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Each bound, with how many there were up to it.
    pub fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        self.bounds
            .iter()
            .zip(&self.counts)
            .map(move |(bound, count)| {
                total += count;
                (*bound, total)
            })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// Bounds of times that are short or a matter of seconds, as Istio's.
const TIMES: &[f64] = &[0.01, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
const LONGER_TIMES: &[f64] = &[0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
const SIZES: &[f64] = &[1.0, 1e4, 1e6, 4e6, 1e7, 4e7];

/// What is measured of all streams together, since the start.
#[derive(Clone, Debug)]
pub struct Measures {
    /// By type: `cds`, `eds`, `lds`, `rds`, `sds`, and `other`.
    pub types: BTreeMap<&'static str, TypeMeasures>,
    /// From a change being noticed until a proxy that it concerns has been sent all of it.
    pub convergence: Histogram,
    /// From a state being there until the stream of a proxy looks at it.
    pub queue: Histogram,
    /// How long responses waited for the transport to take them.
    pub send: Histogram,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            types: BTreeMap::new(),
            convergence: Histogram::new(LONGER_TIMES),
            queue: Histogram::new(LONGER_TIMES),
            send: Histogram::new(TIMES),
        }
    }
}

/// What is measured of one type.
#[derive(Clone, Debug)]
pub struct TypeMeasures {
    /// Responses that were sent.
    pub pushes: u64,
    /// Responses that were refused.
    pub rejects: u64,
    /// How long it took to find out what to send, and to make a response of it.
    pub push: Histogram,
    /// The sizes of responses, in bytes.
    pub size: Histogram,
}

impl Default for TypeMeasures {
    fn default() -> Self {
        Self {
            pushes: 0,
            rejects: 0,
            push: Histogram::new(TIMES),
            size: Histogram::new(SIZES),
        }
    }
}

impl Measures {
    /// Those of a type.
    pub(super) fn of(&mut self, type_url: &str) -> &mut TypeMeasures {
        self.types.entry(type_url::label(type_url)).or_default()
    }
}
