use super::{Judgement, Verdict};

/// What a sampler has done since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TailStats {
    /// By policy, in the order of the configuration.
    pub policies: Vec<PolicyCounts>,
    /// Traces kept.
    pub kept_traces: u64,
    /// Traces dropped.
    pub dropped_traces: u64,
    /// Spans of kept traces, late ones included.
    pub kept_spans: u64,
    /// Spans of dropped traces, late ones included.
    pub dropped_spans: u64,
    /// Traces seen for the first time.
    pub new_traces: u64,
    /// Traces decided before they were due because there was no room.
    pub early_traces: u64,
    /// Traces dropped because they were too large.
    pub too_large_traces: u64,
    /// Undecided traces dropped at the end, as configured.
    pub abandoned_traces: u64,
    /// Requests refused because there was no room.
    pub refused_requests: u64,
    /// Spans that came after the decision to keep their trace.
    pub late_kept_spans: u64,
    /// Spans that came after the decision to drop their trace.
    pub late_dropped_spans: u64,
    /// Undecided traces in memory.
    pub pending_traces: u64,
    /// Bytes of undecided traces, and of kept ones on the way to the store.
    pub bytes: u64,
    /// The most bytes.
    pub max_bytes: u64,
    /// How long decided traces had been in memory, in seconds.
    pub removal_age: Histogram,
    /// How long after the decision late spans came, in seconds.
    pub late_age: Histogram,
}

/// Traces by what one policy said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyCounts {
    /// It wanted them.
    pub sampled: u64,
    /// It did not want them.
    pub not_sampled: u64,
    /// It kept them out.
    pub dropped: u64,
}

impl TailStats {
    pub(super) fn judged(&mut self, judgement: &Judgement) {
        for (counts, verdict) in self.policies.iter_mut().zip(&judgement.verdicts) {
            match verdict {
                Verdict::Skipped => {}
                Verdict::Sampled | Verdict::InvertSampled => counts.sampled += 1,
                Verdict::NotSampled | Verdict::InvertNotSampled => counts.not_sampled += 1,
                Verdict::Dropped => counts.dropped += 1,
            }
        }
    }
}

/// A histogram of times in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many values are at most the bound of the same place in [`Self::BOUNDS`] (and above the
    /// one before); those above all bounds are the last.
    pub buckets: [u64; Self::BOUNDS.len() + 1],
    /// The sum of all values.
    pub sum: f64,
}

impl Histogram {
    /// The bounds, in seconds.
    pub const BOUNDS: [f64; 10] = [0.1, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

    pub(super) fn record(&mut self, nano: u64) {
        let seconds = nano as f64 / 1e9;
        let at = Self::BOUNDS.iter().position(|bound| seconds <= *bound);
        self.buckets[at.unwrap_or(Self::BOUNDS.len())] += 1;
        self.sum += seconds;
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}
