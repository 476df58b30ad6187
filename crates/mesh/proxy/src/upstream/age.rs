//! How long a connection to an endpoint is used.

use std::cell::Cell;
use std::time::Duration;

use crate::balance::now;
use crate::snapshot::Cluster;
use crate::stats::ClusterStats;

/// How long connections may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    /// `max_requests_per_connection`.
    requests: u32,
    /// `max_connection_duration`.
    time: Option<Duration>,
    /// Of connections; older ones are to close.
    epoch: u32,
}

/// How long a connection has been used.
#[derive(Debug)]
pub(super) struct Age {
    opened_at: u64,
    requests: Cell<u32>,
    epoch: u32,
}

impl Lifetime {
    pub(super) const ENDLESS: Self = Self {
        requests: u32::MAX,
        time: None,
        epoch: 0,
    };

    /// The limits of a cluster, for connections of the same epoch.
    pub(super) fn limited_by(self, cluster: &Cluster) -> Self {
        Self {
            requests: cluster.max_requests_per_connection.unwrap_or(u32::MAX),
            time: cluster.max_connection_duration,
            ..self
        }
    }

    /// All connections of now are to close.
    pub(super) fn next_epoch(self) -> Self {
        Self {
            epoch: self.epoch.wrapping_add(1),
            ..self
        }
    }

    /// A connection begins.
    pub(super) fn begin(self) -> Age {
        Age {
            opened_at: now(),
            requests: Cell::new(0),
            epoch: self.epoch,
        }
    }
}

impl Age {
    /// Counts a request.
    #[inline]
    pub(super) fn count(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// Whether no more requests may go over the connection.
    #[inline]
    pub(super) fn is_over(&self, lifetime: Lifetime, stats: &ClusterStats) -> bool {
        let is_over = self.requests.get() >= lifetime.requests || self.epoch != lifetime.epoch;
        if is_over || lifetime.time.is_some() {
            return self.count_end(lifetime, stats);
        }
        false
    }

    #[cold]
    fn count_end(&self, lifetime: Lifetime, stats: &ClusterStats) -> bool {
        if self.requests.get() >= lifetime.requests {
            stats.cx_max_requests.increment();
            return true;
        }
        let age = now().saturating_sub(self.opened_at);
        if lifetime
            .time
            .is_some_and(|most| age >= most.as_micros() as u64)
        {
            stats.cx_max_duration_reached.increment();
            return true;
        }
        self.epoch != lifetime.epoch
    }
}
