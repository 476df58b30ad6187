//! Circuit breakers: how much of a cluster all workers of the proxy use together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::names::Names;
use crate::snapshot::NameCache;
use crate::stats::Registry;

/// Envoy's largest threshold, and Istio's default: no limit, so nothing is counted.
const UNLIMITED: u32 = u32::MAX;

/// What all workers use of one cluster, by the priority of the requests.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) default: Used,
    pub(crate) high: Used,
}

impl Usage {
    pub(crate) fn of(&self, is_high: bool) -> &Used {
        if is_high { &self.high } else { &self.default }
    }
}

/// Connections, waiting and active requests.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) connections: AtomicU32,
    pub(crate) pending: AtomicU32,
    pub(crate) requests: AtomicU32,
    pub(crate) retries: AtomicU32,
}

impl Used {
    /// The requests that are under way or wait, if they are counted.
    pub(crate) fn active(&self) -> u32 {
        let [requests, pending] = [&self.requests, &self.pending];
        let [requests, pending] = [requests, pending].map(|count| count.load(Ordering::Relaxed));
        requests.saturating_add(pending)
    }
}

/// What all workers share: the usage of clusters, by name, the active faults of connection managers, by their prefix, and
/// the addresses of names.
#[derive(Debug, Default)]
pub(crate) struct Usages {
    clusters: ByName<Usage>,
    faults: ByName<AtomicU32>,
    names: Mutex<HashMap<Arc<NameCache>, Weak<Names>>>,
}

#[derive(Debug, Default)]
struct ByName<T>(Mutex<HashMap<String, Arc<T>>>);

impl Usages {
    /// The usage of a cluster.
    pub(crate) fn of(&self, cluster: &str) -> Arc<Usage> {
        self.clusters.of(cluster)
    }

    /// What is found for such a cache of names: caches of one name that are otherwise configured are others.
    pub(crate) fn names(&self, cache: &Arc<NameCache>, registry: &Registry) -> Arc<Names> {
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = known.get(cache).and_then(Weak::upgrade) {
            return names;
        }
        known.retain(|_, names| names.strong_count() > 0);
        let names = Arc::new(Names::new(cache.clone(), registry.names(&cache.name)));
        known.insert(cache.clone(), Arc::downgrade(&names));
        names
    }

    /// The active faults of the connection managers with this `stat_prefix`.
    pub(crate) fn faults(&self, prefix: &str) -> Arc<AtomicU32> {
        self.faults.of(prefix)
    }
}

impl<T: Default> ByName<T> {
    fn of(&self, name: &str) -> Arc<T> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = known.get(name) {
            return usage.clone();
        }
        known.retain(|_, usage| Arc::strong_count(usage) > 1);
        let usage = Arc::<T>::default();
        known.insert(name.to_owned(), usage.clone());
        usage
    }
}

/// One of the things that a limit counts; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    /// `None` if the limit is off.
    usage: Option<Arc<Usage>>,
    counter: Counter,
    /// When its holder has begun, in milliseconds of this process, which begin anew after 49 days.
    begun_ms: u32,
}

/// Which of the counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    Connections { is_high: bool },
    Pending { is_high: bool },
    Retries { is_high: bool },
    Requests { is_high: bool },
}

impl Counter {
    pub(crate) fn connections(is_high: bool) -> Self {
        Self::Connections { is_high }
    }

    pub(crate) fn pending(is_high: bool) -> Self {
        Self::Pending { is_high }
    }

    pub(crate) fn retries(is_high: bool) -> Self {
        Self::Retries { is_high }
    }

    #[inline]
    pub(crate) fn requests(is_high: bool) -> Self {
        Self::Requests { is_high }
    }

    #[inline]
    fn of(self, usage: &Usage) -> &AtomicU32 {
        let of = |is_high| if is_high { &usage.high } else { &usage.default };
        match self {
            Self::Connections { is_high } => &of(is_high).connections,
            Self::Pending { is_high } => &of(is_high).pending,
            Self::Retries { is_high } => &of(is_high).retries,
            Self::Requests { is_high } => &of(is_high).requests,
        }
    }
}

impl Permit {
    fn new(usage: Option<Arc<Usage>>, counter: Counter) -> Self {
        Self {
            usage,
            counter,
            begun_ms: 0,
        }
    }

    /// Takes one, unless the limit is reached.
    #[inline]
    pub(crate) fn take(usage: &Arc<Usage>, counter: Counter, limit: u32) -> Option<Self> {
        if limit == UNLIMITED {
            return Some(Self::new(None, counter));
        }
        let taken = counter
            .of(usage)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now < limit).then_some(now + 1)
            })
            .is_ok();
        taken.then(|| Self::new(Some(usage.clone()), counter))
    }

    /// Takes one even if the limit is reached.
    pub(crate) fn force(usage: &Arc<Usage>, counter: Counter, limit: u32) -> Self {
        if limit == UNLIMITED {
            return Self::new(None, counter);
        }
        counter.of(usage).fetch_add(1, Ordering::Relaxed);
        Self::new(Some(usage.clone()), counter)
    }

    /// Notes that its holder begins.
    pub(super) fn begin(mut self) -> Self {
        self.begun_ms = now_ms();
        self
    }

    /// For how long its holder has been there.
    pub(super) fn age_ms(&self) -> u64 {
        now_ms().wrapping_sub(self.begun_ms).into()
    }
}

fn now_ms() -> u32 {
    (crate::balance::now() / 1000) as u32
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(usage) = &self.usage {
            self.counter.of(usage).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_over_all_and_is_given_back() {
        let usages = Usages::default();
        let usage = usages.of("a");
        assert!(Arc::ptr_eq(&usage, &usages.of("a")));
        let take = |is_high, limit| Permit::take(&usage, Counter::requests(is_high), limit);
        let first = take(false, 1);
        assert!(first.is_some());
        assert!(take(false, 1).is_none());
        assert!(take(true, 1).is_some(), "another priority");
        let forced = Permit::force(&usage, Counter::requests(false), 1);
        drop(first);
        assert!(take(false, 1).is_none());
        drop(forced);
        assert!(take(false, 1).is_some());
        assert!(take(false, u32::MAX).is_some());
    }
}
