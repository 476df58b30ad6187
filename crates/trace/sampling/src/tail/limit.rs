//! What bounds rates: a token bucket, and the budgets of a composite policy.

use super::policies::Policy;
use super::{TraceView, Verdict};

const SECOND: u64 = 1_000_000_000;

/// A token bucket, full at first.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_unix_nano: u64,
}

impl Bucket {
    /// `burst` 0 is twice the rate.
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        let burst = match burst {
            0 => per_second.saturating_mul(2),
            burst => burst,
        };
        Self {
            per_second: per_second as f64,
            burst: burst as f64,
            tokens: burst as f64,
            filled_unix_nano: 0,
        }
    }

    /// Takes `n` tokens, if there are as many.
    pub(super) fn take(&mut self, n: u64, now_unix_nano: u64) -> bool {
        let elapsed = now_unix_nano.saturating_sub(self.filled_unix_nano);
        self.filled_unix_nano = self.filled_unix_nano.max(now_unix_nano);
        let filled = self.tokens + elapsed as f64 / SECOND as f64 * self.per_second;
        self.tokens = filled.min(self.burst);
        let enough = n as f64 <= self.tokens;
        if enough {
            self.tokens -= n as f64;
        }
        enough
    }
}

/// Policies in order, each with a number of spans per second.
#[derive(Debug)]
pub(super) struct Composite {
    pub(super) max_spans_per_second: u64,
    pub(super) parts: Vec<Part>,
    pub(super) second: u64,
}

/// A policy of a composite.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) policy: Policy,
    pub(super) spans_per_second: u64,
    /// Spans sampled in this second.
    pub(super) spans: u64,
}

impl Composite {
    /// The first policy that samples decides: if its budget is spent, no later one is asked.
    pub(super) fn judge(&mut self, trace: &TraceView<'_>, now_unix_nano: u64) -> Verdict {
        let second = now_unix_nano / SECOND;
        if second != self.second {
            self.second = second;
            for part in &mut self.parts {
                part.spans = 0;
            }
        }
        for part in &mut self.parts {
            if part.policy.judge(trace, now_unix_nano).samples() {
                let spans = part.spans + trace.spans;
                if spans > part.spans_per_second.min(self.max_spans_per_second) {
                    return Verdict::NotSampled;
                }
                part.spans = spans;
                return Verdict::Sampled;
            }
        }
        Verdict::NotSampled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_with_time() {
        let mut bucket = Bucket::new(10, 0);
        let start = 1_795_332_558 * SECOND;
        assert!(!bucket.take(21, start));
        assert!(bucket.take(20, start));
        assert!(!bucket.take(1, start));
        assert!(!bucket.take(6, start + SECOND / 2));
        assert!(bucket.take(5, start + SECOND / 2));
        assert!(bucket.take(20, start + 60 * SECOND));
        // A clock that goes back gives nothing.
        assert!(!bucket.take(1, start));
        let mut small = Bucket::new(10, 3);
        assert!(!small.take(4, start));
        assert!(small.take(3, start));
    }
}
