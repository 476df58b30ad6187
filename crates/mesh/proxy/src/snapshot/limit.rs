//! Local rate limits: buckets of tokens, and what a route makes of a request to find its bucket.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{HeaderMatch, QueryMatch};

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
    /// Those that have one for each value.
    pub wildcards: Vec<Wildcard>,
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

/// A descriptor for any value of some keys: whatever values come have a bucket of their own.
#[derive(Debug)]
pub struct Wildcard {
    /// Without a value it is any.
    entries: Descriptor,
    bucket: TokenBucket,
    /// The most buckets: the one that nobody has asked for longest goes.
    most: usize,
    known: Mutex<Known>,
    hasher: RandomState,
}

/// The buckets that were asked for.
#[derive(Debug, Default)]
struct Known {
    /// How many questions there were.
    asked: u64,
    /// By what stands for the values, however long they are: the bucket, and the last question for it.
    buckets: HashMap<u64, (u64, Arc<TokenBucket>)>,
    /// What stands for the values, by the last question for them.
    by_age: BTreeMap<u64, u64>,
}

impl Wildcard {
    /// Each of at most so many buckets is like this one.
    pub fn new(entries: Descriptor, bucket: TokenBucket, most: usize) -> Self {
        Self {
            entries,
            bucket,
            most,
            known: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// The bucket of these values, if it is for them.
    pub(crate) fn bucket(&self, wanted: &Descriptor) -> Option<Arc<TokenBucket>> {
        let is_for = |((key, value), (other, wanted)): (&(String, String), &(String, String))| {
            key == other && (value.is_empty() || value == wanted)
        };
        if wanted.len() != self.entries.len() || !self.entries.iter().zip(wanted).all(is_for) {
            return None;
        }
        let values = self.hasher.hash_one(wanted);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        known.asked += 1;
        let entry = known.buckets.entry(values);
        let (last, bucket) = entry.or_insert_with(|| (0, Arc::new(self.bucket.clone())));
        let bucket = bucket.clone();
        known.by_age.remove(last);
        *last = known.asked;
        known.by_age.insert(known.asked, values);
        if known.buckets.len() > self.most
            && let Some((_, oldest)) = known.by_age.pop_first()
        {
            known.buckets.remove(&oldest);
        }
        Some(bucket)
    }
}

/// Whether they were configured in the same way.
impl PartialEq for Wildcard {
    fn eq(&self, other: &Self) -> bool {
        (&self.entries, &self.bucket, self.most) == (&other.entries, &other.bucket, other.most)
    }
}

impl Eq for Wildcard {}

/// One that nobody has asked.
impl Clone for Wildcard {
    fn clone(&self) -> Self {
        Self::new(self.entries.clone(), self.bucket.clone(), self.most)
    }
}

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
        conditions: Vec<QueryMatch>,
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
    fn each_value_has_a_bucket_of_its_own_while_there_is_room() {
        let of = |user: &str, path: &str| -> Descriptor {
            let part = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            vec![part("user", user), part("path", path)]
        };
        let bucket = TokenBucket::new(1, 1, Duration::from_secs(3600));
        let wildcard = Wildcard::new(of("", "/a"), bucket, 2);
        let take = |user: &str| wildcard.bucket(&of(user, "/a")).map(|one| one.take());
        assert_eq!(take("ada"), Some(true));
        assert_eq!(take("bob"), Some(true));
        assert_eq!(take("ada"), Some(false));
        // Bob's is the one that nobody has asked for longest.
        assert_eq!(take("eve"), Some(true));
        assert_eq!(take("ada"), Some(false));
        assert_eq!(take("bob"), Some(true));
        assert!(wildcard.bucket(&of("ada", "/b")).is_none());
        assert!(wildcard.bucket(&of("ada", "/a")[..1].to_vec()).is_none());
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
