use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use periplus_sampling::Strategies;
use periplus_wire::sampling::Strategy;

use super::AdaptiveSampling;

/// What clients are told. Copies share it.
#[derive(Clone, Debug)]
pub struct RemoteSampling {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    stats: RemoteStats,
}

#[derive(Debug)]
enum Source {
    Fixed(ArcSwap<Strategies>),
    Adaptive(AdaptiveSampling),
}

/// What was asked and loaded since the start.
#[derive(Debug, Default)]
pub struct RemoteStats {
    answered: AtomicU64,
    refused: AtomicU64,
    loaded: AtomicU64,
    failed: AtomicU64,
}

impl RemoteSampling {
    /// Clients are told what these strategies say.
    pub fn new(strategies: Strategies) -> Self {
        Self::of(Source::Fixed(ArcSwap::from_pointee(strategies)))
    }

    /// Clients are told what is computed from the traffic.
    pub fn adaptive(adaptive: AdaptiveSampling) -> Self {
        Self::of(Source::Adaptive(adaptive))
    }

    fn of(source: Source) -> Self {
        Self {
            inner: Arc::new(Inner {
                source,
                stats: RemoteStats::default(),
            }),
        }
    }

    /// From now on clients are told this, unless it is computed.
    pub fn replace(&self, strategies: Strategies) {
        if let Source::Fixed(fixed) = &self.inner.source {
            fixed.store(Arc::new(strategies));
        }
    }

    /// What a service is told.
    pub fn strategy(&self, service: &str) -> Strategy {
        count(&self.inner.stats.answered);
        match &self.inner.source {
            Source::Fixed(strategies) => strategies.load().of(service).clone(),
            Source::Adaptive(adaptive) => adaptive.strategy(service),
        }
    }

    /// What was asked and loaded.
    pub fn stats(&self) -> &RemoteStats {
        &self.inner.stats
    }
}

impl RemoteStats {
    /// Questions answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Questions refused, such as those that name no service.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How often a changed file of strategies was taken.
    pub fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed)
    }

    /// How often the file of strategies could not be used: the strategies before it stay in force.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        count(&self.refused);
    }

    pub(super) fn load(&self) {
        count(&self.loaded);
    }

    pub(super) fn fail(&self) {
        count(&self.failed);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
