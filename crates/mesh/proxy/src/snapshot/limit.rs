//! Local rate limits: buckets of tokens, and what a route makes of a request to find its bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{HeaderMatch, ValueMatch};

/// `LocalRateLimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// `stat_prefix`.
    pub stat_prefix: String,
    /// The status of the answer.
    pub status: u16,
    /// gRPC clients are told RESOURCE_EXHAUSTED.
    pub is_exhausted: bool,
    /// The bucket of requests that have none of their own; without one, these are not limited.
    pub bucket: Option<TokenBucket>,
    /// Requests that have a bucket of their own take from that one too.
    pub takes_from_both: bool,
    /// Of so many of a million requests,
    pub enabled: u32,
    /// and so many of them are refused if there are no tokens.
    pub enforced: u32,
    /// Fields of answers to those that are refused.
    pub response: Vec<LimitField>,
    /// Fields of requests that are not refused though there are no tokens.
    pub request: Vec<LimitField>,
    /// `descriptors`: those that have a bucket of their own.
    pub descriptors: Vec<(Descriptor, TokenBucket)>,
    /// `rate_limits`: in place of those of routes.
    pub rules: Vec<LimitRule>,
    /// `stage`: of the rules of routes, only those of this one count.
    pub stage: u32,
    /// `enable_x_ratelimit_headers`: clients are told how much is left.
    pub tells: bool,
    /// `vh_rate_limits`: whether the rules of the virtual host count.
    pub of_host: OfHost,
}

/// Keys and values, in their order.
pub type Descriptor = Vec<(String, String)>;

/// A field with a fixed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitField {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: String,
    /// It stands in place of what is there.
    pub replaces: bool,
}

/// `VhRateLimitsOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfHost {
    /// They count if the route has none.
    #[default]
    Override,
    /// They count besides.
    Include,
    /// They do not.
    Ignore,
}

/// `rate_limits` of a route and of its virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// The route's.
    pub own: Vec<LimitRule>,
    /// Those of the virtual host.
    pub of_host: Arc<[LimitRule]>,
    /// `include_vh_rate_limits`.
    pub includes_host: bool,
}

/// `RateLimit` of a route: how a descriptor is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// `stage`.
    pub stage: u32,
    /// One for each part; without one of them there is no descriptor.
    pub actions: Vec<LimitAction>,
}

/// A part of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// `generic_key`: a fixed key and value.
    Fixed(String, String),
    /// `source_cluster`: the proxy's own.
    SourceCluster,
    /// `destination_cluster`: the route's.
    DestinationCluster,
    /// `remote_address`: the client's.
    RemoteAddress,
    /// `request_headers`: the value of a field.
    Header {
        /// The field.
        name: String,
        /// The key.
        key: String,
        /// Without it, only this part is left out.
        skips: bool,
    },
    /// `query_parameters`: the value of a parameter.
    Query {
        /// The parameter.
        name: String,
        /// The key.
        key: String,
        /// Without it, only this part is left out.
        skips: bool,
    },
    /// `header_value_match`: a fixed value for requests that meet conditions, or do not.
    Headers {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// They must be met.
        expected: bool,
        /// The conditions: all of them.
        conditions: Vec<HeaderMatch>,
    },
    /// `query_parameter_value_match`, the same.
    Queries {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// They must be met.
        expected: bool,
        /// The conditions: all of them.
        conditions: Vec<(String, ValueMatch)>,
    },
}

/// `TokenBucket`, one for all workers. It fills all the time, and not once in an interval.
#[derive(Debug)]
pub struct TokenBucket {
    most: u32,
    per_fill: u32,
    interval: Duration,
    base: Instant,
    /// When it would have been empty, in seconds since `base`: the bits of a number.
    empty_at: AtomicU64,
}

/// What a rounding error may be.
const EPSILON: f64 = 1e-6;

impl TokenBucket {
    /// A full one; the numbers are not zero.
    pub fn new(most: u32, per_fill: u32, interval: Duration) -> Self {
        let bucket = Self {
            most,
            per_fill,
            interval,
            base: Instant::now(),
            empty_at: AtomicU64::new(0),
        };
        let empty_at = -f64::from(most) / bucket.rate();
        bucket.empty_at.store(empty_at.to_bits(), Ordering::Relaxed);
        bucket
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self) -> bool {
        self.take_at(self.base.elapsed().as_secs_f64())
    }

    fn take_at(&self, now: f64) -> bool {
        let took = |before: u64| {
            let tokens = self.tokens(before, now);
            let left = tokens - 1.0;
            (left > -EPSILON).then(|| (now - left / self.rate()).to_bits())
        };
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.empty_at.fetch_update(set, fetch, took).is_ok()
    }

    /// The most tokens, how many there are, and how many seconds it takes until there is one.
    pub(crate) fn state(&self) -> [u64; 3] {
        let now = self.base.elapsed().as_secs_f64();
        let tokens = self.tokens(self.empty_at.load(Ordering::Relaxed), now) + EPSILON;
        let missing = (1.0 - tokens).max(0.0);
        [
            u64::from(self.most),
            tokens as u64,
            (missing / self.rate()) as u64,
        ]
    }

    fn tokens(&self, empty_at: u64, now: f64) -> f64 {
        let since = now - f64::from_bits(empty_at);
        (since * self.rate()).clamp(0.0, f64::from(self.most))
    }

    /// Tokens in a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.per_fill) / self.interval.as_secs_f64()
    }
}

/// Whether they were configured in the same way.
impl PartialEq for TokenBucket {
    fn eq(&self, other: &Self) -> bool {
        (self.most, self.per_fill, self.interval) == (other.most, other.per_fill, other.interval)
    }
}

impl Eq for TokenBucket {}

/// A full one.
impl Clone for TokenBucket {
    fn clone(&self) -> Self {
        Self::new(self.most, self.per_fill, self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_all_the_time() {
        let bucket = TokenBucket::new(3, 2, Duration::from_secs(10));
        let taken = |now: f64| (0..10).filter(|_| bucket.take_at(now)).count();
        assert_eq!(taken(0.0), 3);
        assert_eq!(taken(4.9), 0);
        assert_eq!(taken(5.0), 1);
        assert_eq!(taken(5.1), 0);
        assert_eq!(taken(15.0), 2);
        // It is never more than full.
        assert_eq!(taken(1000.0), 3);
    }

    #[test]
    fn threads_share_it() {
        let bucket = TokenBucket::new(1000, 1, Duration::from_secs(3600));
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..500).filter(|_| bucket.take()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|one| one.join().expect("no panic"))
                .sum()
        });
        assert_eq!(taken, 1000);
        let [most, left, seconds] = bucket.state();
        assert_eq!((most, left), (1000, 0));
        assert!((3500..=3600).contains(&seconds), "{seconds}");
    }
}
